"""What is built of a source distribution runs where nothing but it is installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dtfc
from tests.support.live import free_port
from tests.support.programs import require_program
from tests.support.twistd import CHECKOUT, wait_for

# Nothing of this environment: the one that is tested has its own.
BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    told = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env={**BARE, **more},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    copy = folder / "checkout"
    left_out = shutil.ignore_patterns(
        *(".git", ".venv", "*.egg-info", "__pycache__", "build", "dist", "var", ".*_cache")
    )
    shutil.copytree(CHECKOUT, copy, ignore=left_out)
    run(sys.executable, "setup.py", "--quiet", "sdist", cwd=copy)
    [made] = (copy / "dist").glob("*.tar.gz")
    with tarfile.open(made) as archive:
        archive.extractall(folder, filter="data")
    return folder / made.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The wheel that is made of it."""
    run(sys.executable, "setup.py", "--quiet", "bdist_wheel", cwd=source)
    [made] = (source / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    cache = {name: os.environ[name] for name in ("HOME", "PIP_CACHE_DIR") if name in os.environ}
    proxies = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
    pip = (folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, wheel, cwd=folder.parent, **cache, **proxies, **_index())
    return folder


def _index() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "REQUESTS_"))}


def test_the_source_distribution_has_every_file_of_the_program(source: Path) -> None:
    here = {str(each.relative_to(CHECKOUT)) for each in _files(CHECKOUT / "dtfc")}
    there = {str(each.relative_to(source)) for each in _files(source / "dtfc")}
    assert here - there == set(), "MANIFEST.in"


def test_the_wheel_has_every_file_of_the_program(wheel: Path) -> None:
    here = {str(each.relative_to(CHECKOUT)) for each in _files(CHECKOUT / "dtfc")}
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    assert here - there == set(), "packages or package_data in setup.cfg"


def _files(folder: Path) -> Iterator[Path]:
    for each in folder.rglob("*"):
        if each.is_file() and "__pycache__" not in each.parts:
            yield each


def test_what_the_source_distribution_has_beside_it(source: Path) -> None:
    wanted = ["etc/dtfc.service", "man/dtfc.8", "docs/running.md", "tests/test_tap.py", "Makefile"]
    assert [name for name in wanted if not (source / name).exists()] == []


def test_the_command(environment: Path) -> None:
    told = run(environment / "bin/dtfc", "--version", cwd=environment)
    assert told == f"dtfc {dtfc.__version__}\n"


@pytest.fixture
def node(environment: Path, tmp_path: Path) -> Iterator[str]:
    """A daemon of that environment; its address."""
    port = free_port()
    root = ["--allow-root"] if os.geteuid() == 0 else []
    flags = ["--port", str(port), "--interface", "127.0.0.1", "--basedir", str(tmp_path / "store")]
    output = tmp_path / "output"
    with output.open("wb") as file:
        daemon = subprocess.Popen(
            [str(environment / "bin/twistd"), "-n", "--pidfile=", "dtfc", *flags, *root],
            cwd=tmp_path,
            env=BARE,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: "ready: " in output.read_text() or daemon.poll() is not None, "the node")
        assert daemon.poll() is None, output.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
        assert "Traceback" not in output.read_text()


def test_the_first_steps_of_the_readme(environment: Path, node: str, tmp_path: Path) -> None:
    curl = (require_program("curl"), "-sSf")
    photo = os.urandom(3_158_073)
    (tmp_path / "photo.jpg").write_bytes(photo)
    digest = hashlib.sha512(photo).hexdigest()

    assert digest in run(*curl, "-T", "photo.jpg", f"{node}/photo.jpg", cwd=tmp_path)
    run(*curl, "-o", "back.jpg", f"{node}/{digest}", cwd=tmp_path)
    assert (tmp_path / "back.jpg").read_bytes() == photo
    run(*curl, "-r", "0-99", "-o", "part", f"{node}/{digest}", cwd=tmp_path)
    assert (tmp_path / "part").read_bytes() == photo[:100]
    (tmp_path / "part.jpg").write_bytes(photo[:1_000_000])
    run(*curl, "-C", "-", "-o", "part.jpg", f"{node}/{digest}", cwd=tmp_path)
    assert (tmp_path / "part.jpg").read_bytes() == photo
    assert digest in run(*curl, f"{node}/files.json?name=photo.jpg", cwd=tmp_path)
    verified = run(environment / "bin/dtfc", "verify", "--basedir", "store", cwd=tmp_path)
    assert "1 blobs, 3.0 MiB read; damaged or missing: 0" in verified
    assert '"deleted": true' in run(*curl, "-X", "DELETE", f"{node}/{digest}", cwd=tmp_path)

"""The Dockerfile claims what is so, as far as that can be seen without Docker.

Its entry point runs where nothing but the store can be written, as its user, with the
least of a file system around it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.live import CHECKOUT, free_port
from tests.support.programs import require_program
from tests.support.waiting import until

STORE = "/var/lib/dtfc"


def instructions() -> list[tuple[str, str]]:
    """Return every instruction of the Dockerfile, and what stands behind it."""
    text = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def last(wanted: str) -> str:
    """Return what stands behind the last instruction of a kind."""
    return [rest for word, rest in instructions() if word == wanted][-1]


def copied() -> list[str]:
    """Return what is copied from the checkout."""
    found: list[str] = []
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from="):
            found += rest.split()[:-1]
    return found


def test_what_is_copied_is_there() -> None:
    assert [name for name in copied() if not (CHECKOUT / name).exists()] == []


def test_what_is_copied_is_not_ignored() -> None:
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert set(copied()) == let_in


def test_what_the_build_needs_is_copied() -> None:
    """Everything of a wheel comes from these."""
    wanted = ["setup.py", "setup.cfg", "README.md", "LICENSE", "dtfc", "twisted"]
    assert [name for name in wanted if name not in copied()] == []


def test_it_is_not_root_that_runs() -> None:
    user, _, group = last("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_the_store_is_a_volume() -> None:
    assert last("VOLUME") == STORE
    assert f"STATE_DIRECTORY={STORE}" in last("ENV")


def test_nothing_secret_is_copied() -> None:
    assert [name for name in copied() if fnmatch(name, "*secret*") or name == "."] == []


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def container(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The entry point, in a root that has what the image has, and can be read only."""
    entry = [each.replace("/opt/dtfc/bin/", "") for each in json.loads(last("ENTRYPOINT"))]
    assert entry[0] == "twistd"
    run = "from twisted.scripts.twistd import run; run()"
    command = [sys.executable, "-c", run, *entry[1:]]
    command += ["--port", str(port), "--interface", "127.0.0.1"]
    store = tmp_path / "store"
    store.mkdir()
    user, _, group = last("USER").partition(":")
    output = (tmp_path / "output").open("wb")
    with output:
        inside = subprocess.Popen(
            [*walls(store, user, group), *command], stdout=output, stderr=subprocess.STDOUT
        )
    yield inside
    if inside.poll() is None:
        inside.kill()
        inside.wait()


def walls(store: Path, user: str, group: str) -> list[str]:
    """Return what bubblewrap needs to make that root."""
    seen = {"/usr", str(CHECKOUT), *map(os.path.realpath, (sys.prefix, sys.base_prefix))}
    bound: list[str] = []
    for path in (*sorted(seen), "/bin", "/lib", "/lib64"):
        if os.path.islink(path):
            bound += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            bound += ["--ro-bind", path, path]
    environment: list[str] = []
    for pair in last("ENV").split():
        environment += ["--setenv", *pair.split("=", 1)]
    return [
        *(require_program("bwrap"), "--unshare-user", "--unshare-pid", "--unshare-ipc"),
        *("--as-pid-1", "--die-with-parent", "--clearenv", "--uid", user, "--gid", group),
        # A checkout may lie in /tmp.
        *("--tmpfs", "/", "--tmpfs", "/tmp", *bound, "--proc", "/proc", "--dev", "/dev"),  # noqa: S108
        *("--ro-bind", str(CHECKOUT / "etc/dtfc.toml"), "/etc/dtfc/dtfc.toml"),
        *("--bind", str(store), STORE, "--remount-ro", "/", "--chdir", "/"),
        *(*environment, "--setenv", "PYTHONPATH", str(CHECKOUT)),
    ]


def test_it_runs_on_a_root_that_can_only_be_read(
    container: subprocess.Popen[bytes], port: int, tmp_path: Path
) -> None:
    said = tmp_path / "output"

    def healthy() -> bool:
        assert container.poll() is None, said.read_text()
        return health(port) == 0

    until(healthy, said.read_text, seconds=60)
    curl = [require_program("curl"), "-sSf"]
    url = f"http://127.0.0.1:{port}"
    told = subprocess.run(
        [*curl, "-T", "-", f"{url}/x"], input=b"x" * 100_000, capture_output=True, check=True
    )
    digest = json.loads(told.stdout)["sha512"]
    got = subprocess.run([*curl, f"{url}/{digest}"], capture_output=True, check=True)
    assert got.stdout == b"x" * 100_000
    assert "Traceback" not in said.read_text()


def test_nobody_is_healthy_where_nobody_is(port: int) -> None:
    assert health(port) != 0


def health(port: int) -> int:
    """Return the exit code of the health check, for another port."""
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert command[0] == "/opt/dtfc/bin/python"
    checked = [sys.executable, *(each.replace(":8080/", f":{port}/") for each in command[1:])]
    return subprocess.run(checked, capture_output=True, check=False).returncode

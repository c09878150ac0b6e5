"""The command line, through a real twistd."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.twistd import CHECKOUT, PATIENCE, Foreground, command, environment

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
Start = Callable[..., Foreground]


def run(folder: Path, *flags: str, before: tuple[str, ...] = ("-n",)) -> tuple[int, str, str]:
    """Run twistd to its end; return exit code, output and errors."""
    done = subprocess.run(
        command(before, flags),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_good_configuration(tmp_path: Path) -> None:
    config = tmp_path / "dtfc.toml"
    config.write_text("port = 8080\n")
    assert run(tmp_path, "--check-config", "--config", "dtfc.toml") == (
        0,
        "configuration is fine\n",
        "",
    )


def test_a_bad_configuration_is_told_line_by_line(tmp_path: Path) -> None:
    config = tmp_path / "dtfc.toml"
    config.write_text("port = 99999\nprot = 1\n")
    code, output, errors = run(tmp_path, "--check-config", "--config", "dtfc.toml", "--me", "?")
    assert (code, output) == (2, "")
    assert errors.splitlines() == [
        f"dtfc: {config}:2: there is no setting 'prot'; is port meant?",
        f"dtfc: {config}:1: port: 99999 is not between 0 and 65535",
        "dtfc: --me: '?' is not a node's URL such as http://files1.example:8080/",
    ]


def test_checking_makes_nothing(tmp_path: Path) -> None:
    run(tmp_path, "--check-config", "--basedir", "store", "--log", "log")
    assert os.listdir(tmp_path) == []


def test_checking_beside_a_running_daemon(tmp_path: Path) -> None:
    (tmp_path / "twistd.pid").write_text(str(os.getpid()))
    assert run(tmp_path, "--check-config")[0] == 0


def test_a_start_with_a_bad_flag(tmp_path: Path) -> None:
    code, _, errors = run(tmp_path, "--provider", "s3", "--basedir", "store")
    assert code == 2
    assert errors == "dtfc: --provider: 's3' is not built into this version; fs (a folder) is\n"


@needs_root
def test_root_is_refused(tmp_path: Path) -> None:
    arguments = [each for each in command(["-n"], []) if each != "--allow-root"]
    done = subprocess.run(
        arguments, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--uid nobody" in done.stderr
    assert "--allow-root" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_one_line_and_1(twistd: Start) -> None:
    first = twistd("--port", "0", "--interface", "127.0.0.1").ready()
    [port] = first.ports()
    second = twistd("--port", str(port), "--interface", "127.0.0.1")
    assert second.process.wait(PATIENCE) == 1
    assert f"dtfc: cannot listen on 127.0.0.1:{port}: Address already in use" in second.said


def test_a_port_that_is_taken_as_a_daemon(twistd: Start, tmp_path: Path) -> None:
    first = twistd("--port", "0", "--interface", "127.0.0.1").ready()
    [port] = first.ports()
    flags = ("--basedir", "store", "--port", str(port), "--interface", "127.0.0.1")
    code, _, errors = run(tmp_path, *flags, before=("--logfile", "log", "--pidfile", "pid"))
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in errors
    assert not (tmp_path / "pid").exists()


def test_help_names_every_group_of_flags(tmp_path: Path) -> None:
    code, output, _ = run(tmp_path, "--help")
    assert code == 0
    for flag in ("--port", "--peerlist", "--max-body", "--allow-root", "--listen"):
        assert flag in output


def test_the_plugin_does_not_load_dtfc_for_other_services(tmp_path: Path) -> None:
    source = (
        "import sys; from twisted.plugin import getPlugins; "
        "from twisted.application.service import IServiceMaker; "
        "names = [each.tapname for each in getPlugins(IServiceMaker)]; "
        "print('dtfc' in names, [each for each in sys.modules if each.startswith('dtfc.')])"
    )
    done = subprocess.run(
        [command([], [])[0], "-c", source],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True []\n"


def test_the_checkouts_twisted_folder_hides_nothing() -> None:
    assert not (CHECKOUT / "twisted/__init__.py").exists()
    assert not (CHECKOUT / "twisted/plugins/__init__.py").exists()
    done = subprocess.run(
        [command([], [])[0], "-c", "import twisted; print(twisted.__file__)"],
        cwd=CHECKOUT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stdout.startswith(f"{CHECKOUT}/twisted/")

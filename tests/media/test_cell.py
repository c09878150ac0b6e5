"""What can be done inside the cell, tried by shells: next to nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dtfc.media import cell
from tests.support.programs import require_program

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the walls are made of what Linux has"
)

MEMORY = 512 * 1024 * 1024


def inside(script: str, target: Path, seconds: int = 5) -> subprocess.CompletedProcess[str]:
    """Run a script of bash's inside, with a file as its standard input."""
    bash = require_program("bash")
    with target.open("rb") as file:
        return subprocess.run(
            [
                *(sys.executable, "-I", "-S", cell.__file__),
                *(bash, str(MEMORY), str(seconds), "-c", script),
            ],
            stdin=file,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_text("the target\n")
    return path


def walls(target: Path) -> set[str]:
    return set(inside("true", target).stderr.splitlines()[0].split()[1:])


def test_it_says_which_walls_stand(target: Path) -> None:
    assert inside("true", target).stderr.startswith("walls ")


def test_the_target_can_be_opened_by_the_name_that_ffprobe_gets(target: Path) -> None:
    assert inside("read line </proc/self/fd/0; echo $line", target).stdout == "the target\n"


def test_nothing_else_can(target: Path, tmp_path: Path) -> None:
    if "landlock" not in walls(target):
        pytest.skip(reason="this kernel has no Landlock")
    other = tmp_path / "other"
    other.write_text("secret\n")
    for path in ("/etc/passwd", str(other), "/proc/self/environ", "/proc/1/cmdline"):
        tried = inside(f"read -r line <{path} && echo got it", target)
        assert "got it" not in tried.stdout, path


def test_nothing_can_be_written(target: Path, tmp_path: Path) -> None:
    tried = inside(f"echo x >{tmp_path}/new; echo x >>/proc/self/fd/0; echo over", target)
    assert tried.stdout == "over\n"
    assert not (tmp_path / "new").exists()
    assert target.read_text() == "the target\n"


def test_nobody_can_be_connected_to(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        server.settimeout(0.2)
        tried = inside(f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected", target)
        assert "connected" not in tried.stdout
        with pytest.raises(TimeoutError):
            server.accept()


def test_limits_hold(target: Path) -> None:
    told = inside("ulimit -Hv; ulimit -Ht; ulimit -Hf; ulimit -Hn; ulimit -Hc", target).stdout
    assert told.split() == [str(MEMORY // 1024), "5", "0", "32", "0"]


def test_a_loop_without_end_has_one(target: Path) -> None:
    assert inside("while :; do :; done", target, seconds=1).returncode < 0


def test_nothing_is_inherited(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    told = inside("echo ${SECRET:-none} $PWD; compgen -e | sort | tr '\\n' ' '", target).stdout
    assert told.splitlines()[0] == "none /"
    assert "SECRET" not in told


def test_it_leads_a_group_of_its_own(target: Path) -> None:
    bash = require_program("bash")
    command = [sys.executable, "-I", "-S", cell.__file__, bash, str(MEMORY), "5", "-c"]
    with (
        target.open("rb") as file,
        subprocess.Popen(
            [*command, "while :; do :; done"], stdin=file, stderr=subprocess.PIPE
        ) as running,
    ):
        assert running.stderr is not None
        running.stderr.readline()
        group = os.getpgid(running.pid)
        running.kill()
    assert group == running.pid


def test_calls_that_lead_out_are_refused(target: Path) -> None:
    if "seccomp" not in walls(target):
        pytest.skip(reason="this kernel or machine has no filter of calls here")
    unshare = require_program("unshare")
    assert inside(f"{unshare} --user true || echo refused", target).stdout == "refused\n"


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("bash", "-c 'kill -0 $PPID'"),
        ("prlimit", "--pid $PPID --nofile"),
        ("setsid", "--wait true"),
    ],
)
def test_no_other_process_can_be_reached(target: Path, program: str, arguments: str) -> None:
    if "seccomp" not in walls(target):
        pytest.skip(reason="this kernel or machine has no filter of calls here")
    path = require_program(program)
    tried = inside(f"{path} {arguments} && echo possible", target)
    assert "possible" not in tried.stdout

"""The life of a real daemon: ports, signals, identity, systemd."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.twistd import (
    CHECKOUT,
    PATIENCE,
    Foreground,
    command,
    environment,
    get,
    refuses,
    wait_for,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
Start = Callable[..., Foreground]


def test_both_versions_of_ip_on_a_port_that_was_free(twistd: Start) -> None:
    daemon = twistd("--port", "0").ready()
    first, second = daemon.ports()
    assert first == second
    assert get(first)[0] == 200
    assert get(first, address="::1")[0] == 200


def test_a_unix_socket_alone(twistd: Start, tmp_path: Path) -> None:
    daemon = twistd("--listen", f"unix:{tmp_path}/http.sock").ready()
    assert daemon.ports() == []
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(f"{tmp_path}/http.sock")
        client.sendall(b"GET /health.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_socket_that_systemd_hands_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        flags = ["--listen", "systemd:domain=INET:index=0", "--basedir", str(tmp_path / "store")]
        # LISTEN_PID is the process that systemd starts: what sets it becomes twistd.
        become = (
            "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
        )
        arguments = command(["-n", "--pidfile="], flags)
        with (tmp_path / "output").open("wb") as output:
            daemon = subprocess.Popen(
                [sys.executable, "-c", become, str(server.fileno()), *arguments],
                pass_fds=[server.fileno()],
                env=environment(LISTEN_FDS="1", LISTEN_FDNAMES="http"),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    try:
        assert get(port)[0] == 200
    finally:
        daemon.terminate()
        assert daemon.wait(PATIENCE) == 0


def test_an_end_that_nothing_holds_up(twistd: Start) -> None:
    daemon = twistd("--port", "0", "--interface", "127.0.0.1").ready()
    [port] = daemon.ports()
    assert daemon.end(signal.SIGTERM) == 0
    assert refuses(port)


def test_an_interrupt_ends_it_as_well(twistd: Start) -> None:
    assert twistd("--port", "0").ready().end(signal.SIGINT) == 0


def slow_upload(port: int) -> socket.socket:
    """Begin a PUT of ten bytes; when this returns, the daemon waits for the body."""
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    client.sendall(
        b"PUT /slow HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    )
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return client


def test_what_is_in_flight_is_finished(twistd: Start) -> None:
    daemon = twistd("--port", "0", "--interface", "127.0.0.1").ready()
    [port] = daemon.ports()
    with slow_upload(port) as client:
        daemon.send(signal.SIGTERM)
        wait_for(lambda: refuses(port), "the port to close")
        client.sendall(b"0123456789")
        assert client.recv(12) == b"HTTP/1.1 201"
    assert daemon.process.wait(PATIENCE) == 0


def test_a_second_signal_cuts_what_is_in_flight(twistd: Start) -> None:
    daemon = twistd("--port", "0", "--interface", "127.0.0.1").ready()
    [port] = daemon.ports()
    with slow_upload(port):
        daemon.send(signal.SIGTERM)
        wait_for(lambda: refuses(port), "the port to close")
        assert daemon.end(signal.SIGTERM) == 0
    assert "told to stop again" in daemon.said


def test_the_drains_time_runs_out(twistd: Start) -> None:
    daemon = twistd("--port", "0", "--interface", "127.0.0.1", "--drain-timeout", "200ms").ready()
    [port] = daemon.ports()
    with slow_upload(port):
        assert daemon.end(signal.SIGTERM) == 0
    assert "not everything was done in 0.2 s" in daemon.said


def test_a_reload_takes_the_new_limit(twistd: Start, tmp_path: Path) -> None:
    config = tmp_path / "dtfc.toml"
    config.write_text("")
    daemon = twistd("--port", "0", "--config", str(config)).ready()
    config.write_text('max-body = "1KiB"\n')
    daemon.send(signal.SIGHUP)
    daemon.wait_until_said("reloaded; changed: max-body")
    port = daemon.ports()[0]
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 413"


def test_a_bad_reload_leaves_it_serving(twistd: Start, tmp_path: Path) -> None:
    config = tmp_path / "dtfc.toml"
    config.write_text("")
    daemon = twistd("--port", "0", "--config", str(config)).ready()
    config.write_text("max-body = 1\nmax-head = nonsense\n")
    daemon.send(signal.SIGHUP)
    daemon.wait_until_said(f"not reloaded: {config}:2")
    assert get(daemon.ports()[0])[0] == 200


def test_the_log_file_and_its_rotation(twistd: Start, tmp_path: Path) -> None:
    log = tmp_path / "log/dtfc.log"
    daemon = twistd("--port", "0", "--log", str(log)).ready()
    port = daemon.ports()[0]
    get(port)
    wait_for(lambda: "GET /health.html" in log.read_text(), "the request in the log")
    log.rename(f"{log}.1")
    daemon.send(signal.SIGUSR1)
    wait_for(log.exists, "a new log")
    get(port)
    wait_for(lambda: "GET /health.html" in log.read_text(), "the request in the new log")


def test_systemd_is_told(twistd: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{tmp_path}")
        systemd.settimeout(PATIENCE)
        daemon = twistd("--port", "0", NOTIFY_SOCKET=f"@{tmp_path}", WATCHDOG_USEC="400000")
        assert systemd.recv(1000).startswith(b"READY=1\nSTATUS=")
        assert systemd.recv(1000).startswith(b"WATCHDOG=1")
        daemon.send(signal.SIGHUP)
        assert next_but_watchdog(systemd) == b"RELOADING=1"
        assert next_but_watchdog(systemd) == b"READY=1"
        daemon.send(signal.SIGTERM)
        assert next_but_watchdog(systemd) == b"STOPPING=1"
        assert daemon.process.wait(PATIENCE) == 0


def next_but_watchdog(systemd: socket.socket) -> bytes:
    """Return the first line of the next message that is no sign of life."""
    while True:
        line = systemd.recv(1000).split(b"\n")[0]
        if line != b"WATCHDOG=1":
            return line


def started_as_nobody(folder: Path, python: str, *flags: str) -> int:
    """Start a daemon by root for nobody; return its process id."""
    arguments = command(
        ["--pidfile", str(folder / "pid"), "--logfile", str(folder / "twistd.log")],
        ["--uid", "nobody", "--basedir", str(folder / "store"), *flags],
    )
    done = subprocess.run(
        [python, *arguments[1:]],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int((folder / "pid").read_text())


def ids_of(pid: int) -> dict[str, list[int]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: [int(each) for each in fields[name].split()] for name in ("Uid", "Gid", "Groups")}


def end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the daemon's end")


@needs_root
def test_a_daemon_of_nobody_on_a_low_port(passable: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    log = passable / "log/dtfc.log"
    where = ("--port", "81", "--interface", "127.0.0.1")
    pid = started_as_nobody(passable, sys.executable, *where, "--log", str(log))
    try:
        assert get(81)[0] == 200
        ids = ids_of(pid)
        assert set(ids["Uid"]) == {nobody.pw_uid}
        assert set(ids["Gid"]) == {nobody.pw_gid}
        assert 0 not in ids["Groups"]
        with socket.create_connection(("127.0.0.1", 81), timeout=PATIENCE) as client:
            client.sendall(b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            assert client.recv(12) == b"HTTP/1.1 201"
        [data] = (passable / "store").rglob("data")
        assert data.stat().st_uid == nobody.pw_uid
        log.rename(f"{log}.1")
        os.kill(pid, signal.SIGHUP)
        wait_for(log.exists, "a new log")
        assert log.stat().st_uid == nobody.pw_uid
    finally:
        end(pid)


@needs_root
def test_a_checkout_that_the_user_cannot_read(passable: Path) -> None:
    """Everything is imported before privileges are shed."""
    private = passable / "private"
    private.mkdir(mode=0o700)
    for name in ("dtfc", "twisted"):
        shutil.copytree(
            CHECKOUT / name, private / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    arguments = command(
        ["--pidfile", str(passable / "pid"), "--logfile", str(passable / "twistd.log")],
        [
            *("--uid", "nobody", "--basedir", str(passable / "store")),
            *("--port", "82", "--interface", "127.0.0.1"),
        ],
    )
    subprocess.run(
        arguments, cwd=passable, env=environment(PYTHONPATH=str(private)), timeout=30, check=True
    )
    pid = int((passable / "pid").read_text())
    try:
        assert get(82)[0] == 200
        assert get(82, "/" + "0" * 128)[0] == 404
    finally:
        end(pid)
    assert "Traceback" not in (passable / "twistd.log").read_text()

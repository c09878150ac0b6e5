"""SIGUSR2: another process takes over, and nobody is refused."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from prove.supervisor import await_end, runs
from tests.support.live import free_port
from tests.support.programs import require_program
from tests.support.twistd import PATIENCE, Foreground, command, environment, get, wait_for

Start = Callable[..., Foreground]


@pytest.fixture
def successors() -> Iterator[list[int]]:
    """Processes that have taken over; ended with the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if runs(pid):
            os.kill(pid, signal.SIGKILL)


def hand_over(daemon: Foreground, pids: list[int]) -> int:
    """Have a daemon succeeded; return the process id of the new one."""
    number = daemon.said.count("has taken over")
    daemon.send(signal.SIGUSR2)
    wait_for(lambda: daemon.said.count("has taken over") > number, "the successor")
    pids.append(int(re.findall(r"process ([0-9]+) has taken over", daemon.said)[-1]))
    wait_for(lambda: daemon.said.count("ready: ") > 1, "its word")
    return pids[-1]


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    await_end(pid, PATIENCE)


def test_the_port_stays_and_the_process_goes(twistd: Start, successors: list[int]) -> None:
    daemon = twistd("--port", "0").ready()
    port = daemon.ports()[0]
    new = hand_over(daemon, successors)
    assert daemon.process.wait(PATIENCE) == 0
    assert get(port)[0] == 200
    assert get(port, address="::1")[0] == 200
    stop(new)


def test_what_is_in_flight_stays_with_the_old_one(twistd: Start, successors: list[int]) -> None:
    daemon = twistd("--port", "0", "--interface", "127.0.0.1").ready()
    [port] = daemon.ports()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(
            b"PUT /slow HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        hand_over(daemon, successors)
        assert get(port)[0] == 200
        assert daemon.process.poll() is None
        client.sendall(b"0123456789")
        assert client.recv(12) == b"HTTP/1.1 201"
    assert daemon.process.wait(PATIENCE) == 0


def test_one_that_cannot_start_changes_nothing(
    twistd: Start, tmp_path: Path, successors: list[int]
) -> None:
    config = tmp_path / "dtfc.toml"
    config.write_text("")
    daemon = twistd("--port", "0", "--config", str(config)).ready()
    config.write_text("max-body = nonsense\n")
    daemon.send(signal.SIGUSR2)
    daemon.wait_until_said("not handed over: the new process ended before it served")
    assert f"{config}:1" in daemon.said
    assert get(daemon.ports()[0])[0] == 200
    config.write_text("")
    stop(hand_over(daemon, successors))


def test_a_port_that_twisted_has_opened(twistd: Start, successors: list[int]) -> None:
    port = free_port()
    daemon = twistd("--listen", f"tcp:{port}:interface=127.0.0.1").ready()
    new = hand_over(daemon, successors)
    assert daemon.process.wait(PATIENCE) == 0
    assert get(port)[0] == 200
    stop(new)


def test_a_unix_socket_stays_as_it_is(twistd: Start, tmp_path: Path, successors: list[int]) -> None:
    path = tmp_path / "http.sock"
    daemon = twistd("--listen", f"unix:{path}:mode=600").ready()
    new = hand_over(daemon, successors)
    assert daemon.process.wait(PATIENCE) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"GET /health.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    stop(new)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    """An ``ssl:`` endpoint on a free port."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *(require_program("openssl"), "req", "-x509", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return f"ssl:{free_port()}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tls(twistd: Start, endpoint: str, workers: str, successors: list[int]) -> None:
    daemon = twistd("--listen", endpoint, "--workers", workers).ready()
    new = hand_over(daemon, successors)
    assert daemon.process.wait(PATIENCE) == 0
    context = ssl.create_default_context(cafile=endpoint.partition("certKey=")[2].split(":")[0])
    context.check_hostname = False
    port = int(endpoint.split(":")[1])
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    connection.request("GET", "/health.html")
    answer = connection.getresponse()
    assert (answer.status, len(answer.read()) > 0) == (200, True)
    connection.close()
    stop(new)


def test_several_workers(twistd: Start, successors: list[int]) -> None:
    daemon = twistd("--port", "0", "--workers", "2").ready()
    port = daemon.ports()[0]
    new = hand_over(daemon, successors)
    assert daemon.process.wait(PATIENCE) == 0
    assert get(port)[0] == 200
    stop(new)


def test_the_pid_file_of_a_daemon(tmp_path: Path, successors: list[int]) -> None:
    pid_file, log = tmp_path / "pid", tmp_path / "log"
    arguments = command(
        ["--pidfile", str(pid_file), "--logfile", str(log)],
        ["--basedir", str(tmp_path / "store"), "--port", "0", "--interface", "127.0.0.1"],
    )
    subprocess.run(arguments, cwd=tmp_path, env=environment(), timeout=PATIENCE, check=True)
    old = int(pid_file.read_text())
    successors.append(old)
    wait_for(lambda: "ready: " in log.read_text(), "the first one")
    os.kill(old, signal.SIGUSR2)
    wait_for(lambda: not runs(old), "its end")
    new = int(pid_file.read_text())
    successors.append(new)
    assert new != old
    assert not (tmp_path / "pid.old").exists()
    port = int(re.findall(r"listening on http://127.0.0.1:([0-9]+)/", log.read_text())[-1])
    assert get(port)[0] == 200
    stop(new)


def tus(port: int, method: str, path: str, body: bytes = b"", **fields: str) -> Any:
    """Make one request of tus 1.0; return its answer, read to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    try:
        connection.request(method, path, body, {"Tus-Resumable": "1.0.0", **headers})
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


PART = "application/offset+octet-stream"


def test_an_upload_that_hangs_in_the_old_one_goes_on_in_the_new_one(
    twistd: Start, successors: list[int]
) -> None:
    body = os.urandom(400_000)
    daemon = twistd("--port", "0", "--interface", "127.0.0.1").ready()
    [port] = daemon.ports()
    made = tus(port, "POST", "/uploads/", Upload_Length=str(len(body)))
    where = urlsplit(made.getheader("Location")).path
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        head = (
            f"PATCH {where} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\n"
            f"Upload-Offset: 0\r\nContent-Type: {PART}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body[:150_000])
        new = hand_over(daemon, successors)
        offset = int(tus(port, "HEAD", where).getheader("Upload-Offset"))
        assert offset == 150_000
        done = tus(
            port, "PATCH", where, body[offset:], Upload_Offset=str(offset), Content_Type=PART
        )
    assert done.status == 204
    assert get(port, f"/{hashlib.sha512(body).hexdigest()}") == (200, body)
    stop(new)

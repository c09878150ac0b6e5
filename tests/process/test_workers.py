"""``--workers``: real processes, killed, told to reload, drained."""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.crew import (
    answer,
    ask,
    connection_to,
    digest_of_rest,
    holder,
    lives,
    metrics,
    received,
    settled,
    workers,
)
from tests.support.live import free_port
from tests.support.programs import require_program
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
needs_proc = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="looks into /proc for who has which socket"
)
Start = Callable[..., Foreground]
HERE = ("--port", "0", "--interface", "127.0.0.1")
TWO = (*HERE, "--workers", "2")
MIB = 1 << 20


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Connections to close."""
    with ExitStack() as stack:
        yield stack


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


@needs_proc
def test_a_killed_worker_breaks_no_other_connection(twistd: Start, clients: ExitStack) -> None:
    daemon = twistd(*TWO).ready()
    [port] = daemon.ports()
    status, told = ask(clients.enter_context(connect(port)), "PUT /large", os.urandom(MIB) * 64)
    assert status == 201
    digest = told.decode().split('"sha512": "')[1][:128]
    getting = clients.enter_context(connect(port))
    getting.sendall(f"GET /{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, _, begin = received(getting).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    serving = holder(daemon, getting)
    load = [clients.enter_context(connect(port)) for _ in range(8)]
    held = [client for client in load if holder(daemon, client) == serving]
    os.kill(workers(daemon)[1 - serving], signal.SIGKILL)
    for _ in range(20):
        assert [ask(client, "GET /health.html")[0] for client in held] == [200] * len(held)
    assert digest_of_rest(getting, begin, 64 * MIB) == digest
    settled(daemon, 3)
    assert "killed by SIGKILL; a new one takes its place" in daemon.said
    with connection_to(daemon, port, 1 - serving) as fresh:
        assert ask(fresh, "GET /health.html")[0] == 200


def test_a_worker_that_crashes_again_and_again(twistd: Start) -> None:
    daemon = twistd(*TWO).ready()
    for start in (3, 4):
        os.kill(workers(daemon)[0], signal.SIGSEGV)
        settled(daemon, start)
    assert "killed by SIGSEGV; a new one takes its place" in daemon.said
    assert "killed by SIGSEGV; a new one is started in 0.5 s" in daemon.said
    assert get(daemon.ports()[0])[0] == 200


def test_counters_never_go_back(twistd: Start) -> None:
    daemon = twistd(*TWO).ready()
    [port] = daemon.ports()
    for _ in range(20):
        get(port)
    before = metrics(port)
    assert before['dtfc_http_requests_total{code="200",method="GET",route="node"}'] == 20
    assert before['dtfc_worker_up{worker="1"}'] == 1
    os.kill(workers(daemon)[0], signal.SIGKILL)
    settled(daemon, 3)
    after = metrics(port)
    counters = [name for name in before if "_total" in name]
    assert [name for name in counters if after[name] < before[name]] == []
    # What a killed worker had answered since it was heard last is lost: here the
    # first scrape, if that was its own.
    assert after['dtfc_http_requests_total{code="200",method="GET",route="node"}'] in {20, 21}
    assert after['dtfc_worker_starts_total{worker="0"}'] == 2


def test_no_orphan_keeps_the_port(twistd: Start, clients: ExitStack) -> None:
    daemon = twistd(*TWO).ready()
    [port] = daemon.ports()
    idle = clients.enter_context(connect(port))
    assert ask(idle, "GET /health.html")[0] == 200
    pids = list(workers(daemon).values())
    daemon.process.kill()
    wait_for(lambda: refuses(port), "the port to be free")
    wait_for(lambda: not any(map(lives, pids)), "the workers' end")


def test_signals_to_the_whole_group_end_it_once(twistd: Start, clients: ExitStack) -> None:
    """As systemd and a terminal send them: to parent and workers alike."""
    daemon = twistd(*TWO).ready()
    [port] = daemon.ports()
    upload = clients.enter_context(connect(port))
    begin_upload(upload)
    for pid in (*workers(daemon).values(), daemon.process.pid):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: refuses(port), "the port to close")
    upload.sendall(b"0123456789")
    assert answer(upload)[0] == 201
    upload.close()
    assert daemon.process.wait(PATIENCE) == 0
    assert "has ended" not in daemon.said


def begin_upload(client: socket.socket) -> None:
    """Begin a PUT of ten bytes; when this returns, the daemon waits for the body."""
    client.sendall(
        b"PUT /slow HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    )
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_second_signal_cuts_what_is_in_flight(twistd: Start, clients: ExitStack) -> None:
    daemon = twistd(*TWO).ready()
    [port] = daemon.ports()
    begin_upload(clients.enter_context(connect(port)))
    pids = list(workers(daemon).values())
    daemon.send(signal.SIGTERM)
    wait_for(lambda: refuses(port), "the port to close")
    assert daemon.end(signal.SIGTERM) == 0
    assert not any(map(lives, pids))


@needs_proc
def test_a_reload_reaches_every_worker_and_those_to_come(
    twistd: Start, tmp_path: Path, clients: ExitStack
) -> None:
    config = tmp_path / "dtfc.toml"
    config.write_text("")
    daemon = twistd(*TWO, "--config", str(config)).ready()
    [port] = daemon.ports()
    config.write_text('max-body = "1KiB"\n')
    daemon.send(signal.SIGHUP)
    daemon.wait_until_said("reloaded; changed: max-body")
    config.write_text("max-body = nonsense\n")
    daemon.send(signal.SIGHUP)
    daemon.wait_until_said("not reloaded")
    for index in (0, 1):
        client = clients.enter_context(connection_to(daemon, port, index))
        assert ask(client, "PUT /x", bytes(2000))[0] == 413
    os.kill(workers(daemon)[0], signal.SIGKILL)
    settled(daemon, 3)
    client = clients.enter_context(connection_to(daemon, port, 0))
    assert ask(client, "PUT /x", bytes(2000))[0] == 413


@needs_proc
def test_one_log_for_all_and_its_rotation(
    twistd: Start, tmp_path: Path, clients: ExitStack
) -> None:
    log = tmp_path / "log/dtfc.log"
    daemon = twistd(*TWO, "--log", str(log)).ready()
    [port] = daemon.ports()
    both = [clients.enter_context(connection_to(daemon, port, index)) for index in (0, 1)]

    def noted(path: Path) -> int:
        return path.read_text().count('"GET /health.html') if path.exists() else 0

    for client in both:
        ask(client, "GET /health.html")
    wait_for(lambda: noted(log) == 2, "both requests in the log")
    assert log.read_text().count("worker 0 serves") == 1
    log.rename(f"{log}.1")
    daemon.send(signal.SIGUSR1)
    wait_for(log.exists, "a new log")
    for client in both:
        ask(client, "GET /health.html")
    wait_for(lambda: noted(log) + noted(tmp_path / "log/dtfc.log.1") == 4, "all in the logs")
    ask(both[0], "GET /health.html")
    ask(both[1], "GET /health.html")
    wait_for(lambda: noted(log) >= 2, "later requests in the new log")


@needs_proc
def test_of_many_connections_each_worker_gets_its_share(twistd: Start, clients: ExitStack) -> None:
    daemon = twistd(*TWO).ready()
    [port] = daemon.ports()
    opened = []
    for _ in range(64):
        client = clients.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        opened.append(client)
    for client in opened:
        client.settimeout(PATIENCE)
    holders = [holder(daemon, client) for client in opened]
    shares = sorted(holders.count(index) for index in (0, 1))
    print(f"64 connections at once, 2 workers: {shares}")
    assert shares[0] >= 8, holders


def test_a_broken_store_ends_it_as_it_ends_one_process(tmp_path: Path) -> None:
    said = set()
    for flags in ((), ("--workers", "2")):
        store = tmp_path / "store"
        (store / ".dtfc").mkdir(parents=True, exist_ok=True)
        (store / ".dtfc/format").write_text("nonsense")
        done = subprocess.run(
            command(["-n", "--pidfile="], ["--basedir", str(store), *HERE, *flags]),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 1
        said.add(done.stdout.splitlines()[-1].split("]", 1)[1])
    [line] = said
    assert line.startswith(f" dtfc: {tmp_path}/store")


def test_workers_that_cannot_start_end_it(twistd: Start, tmp_path: Path) -> None:
    """The store can be opened, but a worker finds its Python broken."""
    module = tmp_path / "sitecustomize.py"
    module.write_text(
        "import os, sys\n"
        "if '-P' in sys.orig_argv: os.write(2, b'this Python is broken'); os._exit(3)\n"
    )
    path = f"{tmp_path}:{environment()['PYTHONPATH']}"
    daemon = twistd(*TWO, PYTHONPATH=path)
    assert daemon.process.wait(PATIENCE) == 1
    why = "workers end before they serve: exit code 3 (this Python is broken)"
    assert f"\ndtfc: {why}\n" in daemon.said


def test_a_unix_socket_outlives_a_worker(twistd: Start, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    daemon = twistd("--workers", "2", "--listen", f"unix:{path}").ready()

    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            return ask(client, "GET /health.html")[0] == 200

    assert answers()
    os.kill(workers(daemon)[0], signal.SIGKILL)
    settled(daemon, 3)
    assert answers()
    assert daemon.end() == 0
    assert not path.exists()


def test_a_socket_that_systemd_hands_over_and_what_it_is_told(tmp_path: Path) -> None:
    flags = ["--workers", "2", "--listen", "systemd:domain=INET:index=0"]
    become = (
        "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
        "os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        (tmp_path / "output").open("wb") as output,
    ):
        systemd.bind(f"\0{tmp_path}")
        systemd.settimeout(PATIENCE)
        port = server.getsockname()[1]
        arguments = command(["-n", "--pidfile="], [*flags, "--basedir", str(tmp_path / "store")])
        more = {"NOTIFY_SOCKET": f"@{tmp_path}", "WATCHDOG_USEC": "400000"}
        daemon = subprocess.Popen(
            [sys.executable, "-c", become, str(server.fileno()), *arguments],
            pass_fds=[server.fileno()],
            env=environment(LISTEN_FDS="1", LISTEN_FDNAMES="http", **more),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            first = systemd.recv(1000)
            assert first.startswith(b"READY=1\n")
            assert b"2 of 2 workers" in first
            assert systemd.recv(1000).startswith(b"WATCHDOG=1")
            assert get(port)[0] == 200
        finally:
            daemon.terminate()
            assert daemon.wait(PATIENCE) == 0


def test_the_watchdog_is_silent_when_no_worker_is_left(twistd: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{tmp_path}")
        systemd.settimeout(PATIENCE)
        daemon = twistd(*TWO, NOTIFY_SOCKET=f"@{tmp_path}", WATCHDOG_USEC="100000").ready()
        assert systemd.recv(1000).startswith(b"READY=1")
        # The third in a row waits for 0.5 s: meanwhile nobody serves.
        for start in (4, 6):
            for pid in workers(daemon).values():
                os.kill(pid, signal.SIGKILL)
            settled(daemon, start)
        for pid in workers(daemon).values():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: daemon.said.count("is started in 1 s") == 2, "a pause")
        systemd.settimeout(0.05)
        while b"WATCHDOG" in _next(systemd):
            pass
        systemd.settimeout(0.5)
        assert _next(systemd) == b""


def _next(systemd: socket.socket) -> bytes:
    try:
        return systemd.recv(1000)
    except TimeoutError:
        return b""


def make_certificate(folder: Path) -> None:
    """Write a key that root alone can read, and its certificate."""
    subprocess.run(
        [
            *(require_program("openssl"), "req", "-x509", "-newkey", "ec", "-subj", "/CN=dtfc"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    os.chmod(folder / "key.pem", 0o600)


def test_a_certificate_read_again_reaches_every_worker(twistd: Start, tmp_path: Path) -> None:
    make_certificate(tmp_path)
    where = f"ssl:0:interface=127.0.0.1:privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem"
    daemon = twistd("--workers", "2", "--listen", where).ready()
    address = ("127.0.0.1", daemon.ports()[0])
    old = (tmp_path / "cert.pem").read_text()
    assert {ssl.get_server_certificate(address) for _ in range(8)} == {old}
    make_certificate(tmp_path)
    new = (tmp_path / "cert.pem").read_text()
    daemon.send(signal.SIGHUP)
    wait_for(
        lambda: {ssl.get_server_certificate(address) for _ in range(8)} == {new},
        "the new certificate",
    )
    os.kill(workers(daemon)[1], signal.SIGKILL)
    settled(daemon, 3)
    assert {ssl.get_server_certificate(address) for _ in range(8)} == {new}


def may_run_python(user: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", "import twisted"], user=user, check=False, capture_output=True
    )
    return done.returncode == 0


@needs_root
def test_a_user_that_cannot_run_python_is_told_so(passable: Path) -> None:
    private = passable / "private"
    private.mkdir(mode=0o700)
    for name in ("dtfc", "twisted"):
        shutil.copytree(
            CHECKOUT / name, private / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    flags = ["--uid", "nobody", "--basedir", str(passable / "store"), *TWO]
    done = subprocess.run(
        command(["-n", "--pidfile="], flags),
        cwd=passable,
        env=environment(PYTHONPATH=str(private)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "dtfc: --workers: user " in done.stdout


@needs_root
def test_nobodys_workers_with_a_key_of_roots(passable: Path) -> None:
    try:
        python_runs = may_run_python("nobody")
    except PermissionError:
        python_runs = False
    if not python_runs:
        pytest.skip(reason="nobody may not run this Python")
    folder = passable / "keys"
    folder.mkdir(mode=0o700)
    make_certificate(folder)
    output = passable / "twistd.log"
    nobody = pwd.getpwnam("nobody")
    port = free_port()
    where = f"ssl:{port}:interface=127.0.0.1:privateKey={folder}/key.pem:certKey={folder}/cert.pem"
    arguments = command(
        ["--pidfile", str(passable / "pid"), "--logfile", str(output)],
        [
            *("--uid", "nobody", "--basedir", str(passable / "store"), "--workers", "2"),
            *("--listen", where, "--log", str(passable / "log/dtfc.log")),
        ],
    )
    subprocess.run(arguments, cwd=passable, env=environment(), timeout=PATIENCE, check=True)
    pid = int((passable / "pid").read_text())
    trusting = ssl.create_default_context(cafile=str(folder / "cert.pem"))
    trusting.check_hostname = False

    def answers() -> int:
        client = http.client.HTTPSConnection("127.0.0.1", port, timeout=9, context=trusting)
        try:
            client.request("PUT", "/x", b"y")
            return client.getresponse().status
        finally:
            client.close()

    try:
        assert answers() in {200, 201}
        wait_for(lambda: output.read_text().count(" serves (process ") == 2, "both workers")
        pids = [int(each.split(")")[0]) for each in output.read_text().split("(process ")[1:]]
        for each in (pid, *pids):
            owner = os.stat(f"/proc/{each}").st_uid
            assert owner == nobody.pw_uid
        os.kill(pids[0], signal.SIGKILL)
        wait_for(lambda: output.read_text().count(" serves (process ") == 3, "a new one")
        assert {answers() for _ in range(8)} == {200}
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not lives(pid), "the daemon's end")
    assert "Traceback" not in output.read_text()

"""All that a node does, it does behind the walls of its own unit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prove.supervisor import await_end
from tests.support.confined import calls_of, confine
from tests.support.live import CHECKOUT, LiveNode, free_port
from tests.support.programs import require_program
from tests.support.waiting import until

UNIT = CHECKOUT / "etc/dtfc.service"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture
def confined(tmp_path: Path) -> Iterator[LiveNode]:
    """A node that is about to start behind the walls."""
    node = LiveNode(tmp_path / "confined", [])
    node.folder.mkdir(exist_ok=True)
    confine(node, UNIT)
    yield node
    node.end(signal.SIGKILL)
    assert "Traceback" not in node.log()


def kernel_says(node: LiveNode, name: str) -> str:
    for line in Path(f"/proc/{node.pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split(":")[1].strip()
    raise AssertionError(name)


def test_the_walls_stand(confined: LiveNode) -> None:
    confined.start()
    assert int(kernel_says(confined, "CapEff"), 16) == 0
    assert int(kernel_says(confined, "CapBnd"), 16) == 0
    assert kernel_says(confined, "NoNewPrivs") == "1"
    assert kernel_says(confined, "Seccomp") == "2"
    assert _is_read_only(confined)


def _is_read_only(node: LiveNode) -> bool:
    for line in Path(f"/proc/{node.pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == "/":
            return "ro" in fields[5].split(",")
    return False


def test_calls_that_nobody_needs_are_not_there() -> None:
    calls = calls_of(["@system-service", "~@privileged @resources"])
    assert {"read", "openat", "sendfile", "linkat", "fsync"} <= calls
    assert not {"mount", "ptrace", "setuid", "chroot", "bpf", "reboot", "setpriority"} & calls


def test_blobs(confined: LiveNode) -> None:
    confined.start()
    large = os.urandom(3_000_000)
    digest = confined.put("large", large)
    assert confined.request("GET", f"/{digest}")[2] == large
    assert confined.request("GET", f"/{digest}", Range="bytes=5-9")[2] == large[5:10]
    small = confined.put("small", b"small")
    assert confined.request("GET", f"/{small}/info")[0] == 200
    assert confined.request("GET", f"/{digest}/chunks")[0] == 200
    assert confined.request("GET", "/metrics")[0] == 200
    assert json.loads(confined.request("GET", "/readyz?verbose")[2])["store"] == "writable"
    assert confined.request("DELETE", f"/{digest}")[0] == 200
    assert confined.end(signal.SIGTERM) == 0
    confined.start()
    assert confined.request("GET", f"/{small}")[2] == b"small"


def _wait_for(lines: Callable[[], str], wanted: str) -> None:
    """Wait for what is written a moment later."""
    until(lambda: wanted in lines(), lines, seconds=10)


def test_peers_workers_and_signals(confined: LiveNode, tmp_path: Path) -> None:
    other = LiveNode(tmp_path / "other", []).start()
    try:
        content = os.urandom(2_000_000)
        digest = other.put("a", content)
        peers = confined.folder / "peers"
        peers.write_text(f"http://localhost:{other.port}/\n")
        audit = confined.folder / "audit"
        confined.flags = ["--peerlist", str(peers), "--workers", "2", "--audit-log", str(audit)]
        confined.start()
        assert confined.request("GET", f"/{digest}")[2] == content
        confined.put("b", b"b")
        os.kill(confined.pid, signal.SIGHUP)
        _wait_for(confined.log, "reloaded; changed")
        assert confined.request("GET", f"/{digest}", Range="bytes=0-3")[2] == content[:4]
        _wait_for(audit.read_text, '"action": "stored"')
        assert confined.end(signal.SIGTERM) == 0
    finally:
        other.end(signal.SIGKILL)


def test_another_process_takes_over(confined: LiveNode) -> None:
    confined.start()
    digest = confined.put("a", b"a" * 100_000)
    old = confined.pid
    os.kill(old, signal.SIGUSR2)
    _wait_for(confined.log, "has taken over")
    new = int(confined.log().rpartition("process ")[2].split()[0])
    try:
        await_end(old)
        assert confined.request("GET", f"/{digest}")[2] == b"a" * 100_000
        assert confined.request("PUT", "/b", b"b" * 100_000)[0] == 201
    finally:
        os.kill(new, signal.SIGTERM)
        await_end(new)


def test_tls(confined: LiveNode) -> None:
    key, certificate = confined.folder / "key.pem", confined.folder / "cert.pem"
    subprocess.run(
        [
            *(require_program("openssl"), "req", "-x509", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    secure = free_port()
    endpoint = f"ssl:{secure}:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
    confined.flags = ["--listen", endpoint]
    confined.start()
    told = subprocess.run(
        [require_program("curl"), "-sS", "-k", f"https://127.0.0.1:{secure}/livez"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout)["status"] == "ok"


def test_what_a_media_file_is(confined: LiveNode) -> None:
    require_program("ffprobe")
    confined.start()
    # The smallest WAV there is.
    wav = (
        b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"
        b"data\x08\0\0\0" + bytes(8)
    )
    digest = confined.put("a.wav", wav)
    status, _, body = confined.request("GET", f"/{digest}/ffmetadata")
    assert (status, json.loads(body)["format"]["format_name"]) == (200, "wav")
    # Namespaces are forbidden by the unit; what else the kernel has stands.
    assert "ffprobe runs behind limits and: landlock, seccomp; not allowed here:" in confined.log()

"""A node that is told that its system has nothing of what Linux alone has."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live import MIB, LiveNode
from tests.support.waiting import until

# What a store's own tests take away (tests/store/conftest.py), for a process.
BARE = """
import os
from dtfc.store import capabilities, syscalls
capabilities.switch_off()
for name in ("O_TMPFILE", "fdatasync", "pwritev"):
    delattr(os, name)
syscalls.sysctl = {b"kern.boot_id": b"16 bytes, random"}.get
"""
SMALL = b"small" * 200
LARGE = hashlib.shake_256(b"large").digest(3 * MIB + 1)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    made = LiveNode(tmp_path / "node", ["--fan-out", "2"])
    made.prelude = BARE
    made.start()
    yield made
    made.end(signal.SIGKILL)
    assert "Traceback" not in made.log()


def temporary(node: LiveNode) -> list[str]:
    return os.listdir(node.basedir / ".dtfc" / "tmp")


def begin_upload(node: LiveNode) -> socket.socket:
    """Send half of a body, and wait until it is in the store's folder."""
    client = socket.create_connection(("127.0.0.1", node.port), timeout=20)
    head = f"PUT /cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(LARGE)}\r\n\r\n"
    client.sendall(head.encode() + LARGE[: 2 * MIB])
    until(lambda: temporary(node), node.log, seconds=20)
    return client


def test_what_it_stores_is_served_and_deleted(node: LiveNode) -> None:
    digests = [node.put("small", SMALL), node.put("large", LARGE)]
    for digest, content in zip(digests, (SMALL, LARGE), strict=True):
        assert node.request("GET", f"/{digest}")[::2] == (200, content)
    status, fields, part = node.request("GET", f"/{digests[1]}", Range="bytes=1048570-1048590")
    assert (status, part) == (206, LARGE[1048570:1048591])
    assert fields["content-range"] == f"bytes 1048570-1048590/{len(LARGE)}"
    assert node.request("DELETE", f"/{digests[0]}")[0] == 200
    assert node.request("GET", f"/{digests[0]}")[0] == 404
    assert "small PUTs are stored one by one" in node.log()
    assert os.listdir(node.basedir / ".dtfc" / "log") == ["lock"]


def test_what_it_acknowledged_outlives_a_kill(node: LiveNode) -> None:
    kept, gone = node.put("kept", SMALL), node.put("gone", b"gone")
    large = node.put("large", LARGE)
    assert node.request("DELETE", f"/{gone}")[0] == 200
    with begin_upload(node):
        node.end(signal.SIGKILL)
    [litter] = temporary(node)
    assert litter.startswith("dtfc-")

    node.start()
    assert temporary(node) == []
    assert node.request("GET", f"/{kept}")[::2] == (200, SMALL)
    assert node.request("GET", f"/{large}")[::2] == (200, LARGE)
    assert node.request("GET", f"/{gone}")[0] == 404
    # The machine has not been booted in between: nothing has to be made anew.
    assert not (node.basedir / ".dtfc" / "catalog" / "reindex").exists()
    assert node.put("cut", LARGE) == large


def test_it_ends_and_comes_back(node: LiveNode) -> None:
    digest = node.put("name", SMALL)
    assert node.end() == 0
    assert not (node.basedir / ".dtfc" / "running").exists()
    node.start()
    assert node.request("GET", f"/{digest}")[::2] == (200, SMALL)
    node.prelude = ""
    assert node.end() == 0
    # The same store, where all is there again.
    node.start()
    assert node.request("GET", f"/{digest}")[::2] == (200, SMALL)
    assert node.put("more", b"more") == hashlib.sha512(b"more").hexdigest()
    assert node.end() == 0

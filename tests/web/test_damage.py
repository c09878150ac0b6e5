"""A damaged blob, as those who ask for it see it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail

from dtfc.access.decisions import Policy
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, PeersUnreached
from dtfc.peers.roster import Roster
from dtfc.store.blobs import open_store
from dtfc.store.chunkmap import CHUNK
from dtfc.web.blobs import Blobs, Terms
from dtfc.web.gate import Gate
from dtfc.web.hotblobs import HotBlobs
from dtfc.web.routes import Routes
from dtfc.web.status import Status
from tests.support.alone import upkeep_alone

LARGE = os.urandom(2 * CHUNK + 77)
DIGEST = Digest.of(LARGE)


class Peers:
    """What a test lets the peers have."""

    def __init__(self) -> None:
        self.content = b""
        self.asked = 0

    async def fetch(
        self,
        digest: Digest,
        _length: int,
        start: int,
        count: int,
        is_right: Callable[[bytes], bool],
    ) -> bytes:
        self.asked += 1
        piece = self.content[start : start + count]
        if not is_right(piece):
            raise PeersUnreached(digest.hex, {"http://peer:1": "no connection"}, 5)
        return piece


class NoLoads:
    """A loader that finds nobody."""

    class _Load:
        def sized(self) -> Deferred[Any]:
            return self.finished()

        def finished(self) -> Deferred[Any]:
            return fail(Absent(DIGEST.hex, everywhere=True))

        def __enter__(self) -> NoLoads._Load:
            return self

        def __exit__(self, *exc_info: object) -> None:
            pass

    def ensure(self, _digest: Digest) -> NoLoads._Load:
        return self._Load()

    async def probe(self, _digest: Digest) -> Any:
        raise Absent(DIGEST.hex, everywhere=True)

    def stored(self, _digest: Digest) -> None:
        pass


class Node:
    """A node with one large blob."""

    def __init__(self, folder: Path, new_wire: Callable[..., Any]) -> None:
        self.store = open_store(str(folder / "store"), fan_out=2, reserve=0)
        intake = self.store.intake(None)
        intake.write([LARGE])
        intake.commit("photo.jpg")
        self.peers = Peers()
        disk = InlineDisk()
        self.upkeep = upkeep_alone(self.store, disk, self.peers)
        gate = Gate(Policy(anonymous=frozenset(Verb)))
        loader: Any = NoLoads()
        blobs = Blobs(self.store, disk, loader, self.upkeep, gate, terms=Terms(), hot=HotBlobs(0))
        status: Any = Status(
            self.store,
            disk,
            Roster(None),
            gate,
            draining=lambda: False,
            metrics=lambda _node: b"",
            clock=self.upkeep.clock,
        )
        self._resource = Routes(blobs, status).app.resource()
        self._new_wire = new_wire

    @property
    def data(self) -> Path:
        return Path(self.store.layout.basedir) / self.store.layout.relative(DIGEST) / "data"

    def flip(self, at: int) -> None:
        self.data.chmod(0o644)
        with self.data.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
        self.data.chmod(0o444)

    def ask(self, path: str = f"/{DIGEST.hex}", **fields: str) -> tuple[int, bytes, Any]:
        """Return status and body of the answer, and the connection."""
        wire = self._new_wire()
        wire.site.resource = self._resource
        lines = [f"GET {path} HTTP/1.1", "Host: a", *(f"{k}: {v}" for k, v in fields.items())]
        wire.send("\r\n".join([*lines, "", ""]).encode())
        head, _, body = wire.got.partition(b"\r\n\r\n")
        return int(head.split()[1]), body, wire


@pytest.fixture
def node(tmp_path: Path, new_wire: Callable[..., Any]) -> Iterator[Node]:
    """Start a node."""
    made = Node(tmp_path, new_wire)
    yield made
    made.store.close()


@pytest.mark.parametrize("at", [0, CHUNK - 1, CHUNK, len(LARGE) - 1])
def test_with_a_peer_the_same_answer_is_right(node: Node, at: int) -> None:
    node.flip(at)
    node.peers.content = LARGE
    status, body, _ = node.ask()
    assert (status, body == LARGE) == (200, True)


def test_with_a_peer_the_blob_is_whole_afterwards(node: Node) -> None:
    node.flip(CHUNK + 5)
    node.peers.content = LARGE
    node.ask()
    assert node.data.read_bytes() == LARGE
    assert node.ask()[1] == LARGE
    assert node.peers.asked == 1


def test_a_range_that_is_sound_is_served_although_the_rest_is_not(node: Node) -> None:
    node.flip(CHUNK + 5)
    assert node.ask(Range="bytes=0-99")[:2] == (206, LARGE[:100])
    assert node.data.exists()


def test_a_range_that_is_damaged_is_healed(node: Node) -> None:
    node.flip(CHUNK + 5)
    node.peers.content = LARGE
    status, body, _ = node.ask(Range=f"bytes={CHUNK}-{CHUNK + 99}")
    assert (status, body) == (206, LARGE[CHUNK : CHUNK + 100])


def test_several_ranges_are_healed(node: Node) -> None:
    node.flip(CHUNK + 5)
    node.flip(2 * CHUNK + 1)
    node.peers.content = LARGE
    status, body, _ = node.ask(Range=f"bytes=0-9,{CHUNK}-{CHUNK + 9},-5")
    assert status == 206
    for piece in (LARGE[:10], LARGE[CHUNK : CHUNK + 10], LARGE[-5:]):
        assert piece in body


def test_without_a_peer_it_is_cut_before_the_damaged_chunk(node: Node) -> None:
    node.flip(2 * CHUNK + 1)
    status, body, wire = node.ask()
    assert status == 200
    assert body == LARGE[: 2 * CHUNK]
    assert wire.transport.aborted


def test_without_a_peer_and_before_anything_left_the_answer_says_why(node: Node) -> None:
    node.flip(7)
    status, body, wire = node.ask()
    assert status == 503
    assert json.loads(body)["title"] == "Damaged here"
    assert b"Retry-After: 60" in wire.got


def test_what_is_in_quarantine_is_not_called_absent(node: Node) -> None:
    node.flip(7)
    node.ask()
    assert node.store.repair.is_quarantined(DIGEST)
    assert node.ask()[0] == 503


def test_what_was_cut_off_to_nothing_is_not_sent_as_an_empty_blob(node: Node) -> None:
    node.data.chmod(0o644)
    os.truncate(node.data, 0)
    assert node.ask()[0] == 503
    assert node.store.repair.is_quarantined(DIGEST)


def test_an_empty_blob_is_sent(node: Node) -> None:
    node.store.intake(0).commit(None)
    assert node.ask(f"/{Digest.of(b'').hex}")[:2] == (200, b"")


def test_a_range_behind_the_end_of_what_was_cut_off_is_not_called_impossible(node: Node) -> None:
    node.data.chmod(0o644)
    os.truncate(node.data, 5)
    assert node.ask(Range="bytes=100-199")[0] == 503


def test_a_peer_is_sent_elsewhere_and_asks_nobody_in_turn(node: Node) -> None:
    node.flip(7)
    status, _, _ = node.ask(f"/{DIGEST.hex}/nopeerload")
    assert status == 503


def test_what_a_peer_found_damaged_is_mended_behind_its_back(node: Node) -> None:
    node.flip(7)
    node.peers.content = LARGE
    assert node.ask(f"/{DIGEST.hex}/nopeerload")[0] == 503
    assert node.ask(f"/{DIGEST.hex}/nopeerload")[1] == LARGE


def test_the_state_of_the_node_tells(node: Node) -> None:
    node.flip(7)
    node.ask()
    _, body, _ = node.ask("/readyz?verbose")
    assert json.loads(body)["quarantine"] == 1


def head(node: Node) -> bytes:
    wire = node._new_wire()
    wire.site.resource = node._resource
    wire.send(f"HEAD /{DIGEST.hex} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    got: bytes = wire.got
    return got


@pytest.mark.parametrize("left", [len(LARGE) - 1, CHUNK, 5])
def test_a_head_does_not_tell_the_length_of_what_is_left(node: Node, left: int) -> None:
    node.data.chmod(0o644)
    os.truncate(node.data, left)
    assert head(node).startswith(b"HTTP/1.1 503")
    assert node.store.repair.is_quarantined(DIGEST)


def test_a_catalog_that_knows_another_length_puts_nothing_aside(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.store.catalog, "length_of", lambda _digest: 5)
    assert head(node).startswith(b"HTTP/1.1 200")
    assert node.data.exists()


def test_a_head_reads_nothing(node: Node) -> None:
    node.flip(7)
    assert head(node).startswith(b"HTTP/1.1 200")
    assert node.upkeep.checks.chunks == 0

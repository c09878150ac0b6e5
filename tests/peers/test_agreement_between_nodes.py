"""Nodes that cannot talk, delete and store, and talk again: what comes of it.

Real stores, real messages, clocks that are an hour off. The expected outcome is
worked out from the records alone: of all that were ever made of a digest, the
one with the highest rank.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.store import durable
from dtfc.store.records import Record
from tests.peers.deleting import HOUR, Node, Wire, mesh

BLOBS = (b"a", b"b")
MANY = 2000 if os.environ.get("DTFC_HYPOTHESIS") == "big" else 250

node_ = st.integers(0, 2)
blob_ = st.sampled_from(BLOBS)
step = st.one_of(
    st.tuples(st.just("put"), node_, blob_),
    st.tuples(st.just("everywhere"), node_, blob_),
    st.tuples(st.just("delete"), node_, blob_),
    st.tuples(st.just("copy"), node_, blob_),
    st.tuples(st.just("load"), node_, blob_),
    st.tuples(st.just("cut"), st.integers(0, 2), st.none()),
    st.tuples(st.just("mend"), st.none(), st.none()),
    st.tuples(st.just("compare"), node_, st.none()),
    st.tuples(st.just("clock"), node_, st.sampled_from([-HOUR, HOUR])),
    st.tuples(st.just("marker"), node_, blob_),
)


class Story:
    """Three nodes, what happened to them, and what should have come of it."""

    def __init__(self, folder: Path) -> None:
        self.wire = Wire()
        self.nodes = mesh(self.wire, folder, 3)
        self.made: dict[bytes, list[Record]] = {data: [] for data in BLOBS}
        self.deleted_here: set[tuple[int, bytes]] = set()
        self.marked: set[tuple[int, bytes]] = set()
        self.stored: set[tuple[int, bytes]] = set()

    def close(self) -> None:
        for node in self.nodes:
            node.store.close()

    def do(self, what: str, number: int, more: object) -> None:
        getattr(self, f"do_{what}")(number, more)

    def do_put(self, number: int, data: bytes) -> None:
        if (number, data) in self.marked:
            return
        stored = self.nodes[number].put(data)
        assert stored is not None
        self.stored.add((number, data))
        self.deleted_here.discard((number, data))
        if stored.revival is not None:
            self.made[data].append(stored.revival)

    def do_everywhere(self, number: int, data: bytes) -> None:
        node = self.nodes[number]
        node.everywhere(data)
        found = node.store.memory.get(Digest.of(data))
        assert found is not None
        self.made[data].append(found)

    def do_delete(self, number: int, data: bytes) -> None:
        self.nodes[number].store.delete(Digest.of(data))
        self.stored.discard((number, data))
        self.deleted_here.add((number, data))

    def do_copy(self, number: int, data: bytes) -> None:
        if (number, data) not in self.marked:
            self.nodes[number].put(data, deliberate=False)

    def do_load(self, number: int, data: bytes) -> None:
        for peer in self.nodes:
            if (
                peer is not self.nodes[number]
                and frozenset((peer.name, self.nodes[number].name)) not in self.wire.cut
                and (number, data) not in self.marked
            ):
                self.nodes[number].load(data, peer)

    def do_cut(self, number: int, _more: object) -> None:
        one, other = list(combinations(self.nodes, 2))[number]
        self.wire.cut.add(frozenset((one.name, other.name)))

    def do_mend(self, _number: int, _more: object) -> None:
        self.wire.cut.clear()

    def do_compare(self, number: int, _more: object) -> None:
        for peer in self.nodes:
            if peer is not self.nodes[number]:
                self.nodes[number].compare(peer)

    def do_clock(self, number: int, seconds: float) -> None:
        # Twisted's does not go back; so does the time of day of a machine.
        self.nodes[number].clock.rightNow += seconds

    def do_marker(self, number: int, data: bytes) -> None:
        layout = self.nodes[number].store.layout
        os.makedirs(layout.folder(Digest.of(data)), exist_ok=True)
        Path(layout.marker(Digest.of(data), 403)).touch()
        self.marked.add((number, data))

    def meet_again(self) -> list[int]:
        """Mend everything; return after each round on how many nodes they do not agree."""
        self.wire.cut.clear()
        apart = []
        for _ in range(2):
            for node in self.nodes:
                for peer in node.roster.urls:
                    node.compare(self.wire.nodes[peer])
            hashes = {node.store.memory.range("").hash for node in self.nodes}
            apart.append(len(hashes) - 1)
        return apart

    def check(self) -> None:
        for data in BLOBS:
            counts = max(self.made[data], key=lambda each: each.rank, default=None)
            for number, node in enumerate(self.nodes):
                known = node.store.memory.get(Digest.of(data))
                assert (known and known.rank) == (counts and counts.rank)
                self.check_node(number, node, data, counts)

    def check_node(self, number: int, node: Node, data: bytes, counts: Record | None) -> None:
        if (number, data) in self.marked:
            # An operator's marker wins, and is still there.
            assert not node.has(data)
            assert os.path.exists(node.store.layout.marker(Digest.of(data), 403))
        elif counts is None:
            # Nobody deleted it everywhere: what was stored here is here.
            assert node.has(data) or (number, data) not in self.stored
        elif counts.deleted:
            assert not node.has(data), "it came back"
            assert node.put(data, deliberate=False) is None, "it would be loaded again"
        elif counts.node == node.store.node_id and (number, data) not in self.deleted_here:
            assert node.has(data), "a PUT is lost"
        elif (number, data) not in self.deleted_here:
            assert node.has(data) or node.put(data, deliberate=False), "it cannot come back"


@settings(
    max_examples=MANY,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(step, max_size=30))
def test_they_agree_within_two_rounds(
    steps: list[tuple[str, int, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing here is about a loss of power.
    monkeypatch.setattr(durable, "sync", lambda _fd: None)
    folder = Path(tempfile.mkdtemp(prefix="dtfc-story-", dir=_in_memory()))
    story = Story(folder)
    try:
        for each in steps:
            story.do(*each)
        apart = story.meet_again()
        assert apart[-1] == 0
        story.check()
    finally:
        story.close()
        shutil.rmtree(folder)


def _in_memory() -> str | None:
    """Return where files cost no disk, if there is such a place."""
    place = "/dev/shm"  # noqa: S108 - a folder of its own is made there
    return place if os.path.isdir(place) else None

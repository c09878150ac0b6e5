"""Nodes that delete everywhere, in one process: real stores, no sockets, clocks that are wrong."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, Denied, DtfcError
from dtfc.peers.agreement import Heard, parse_heard, records_body
from dtfc.peers.correspondence import Reply, Unversed
from dtfc.peers.deletions import Deletions, DeletionTerms
from dtfc.peers.failure import PeerFailure
from dtfc.peers.listing import Peer
from dtfc.store.blobs import Store, open_store
from dtfc.store.facts import Stored
from dtfc.store.records import Record

HOUR = 3600.0
T = TypeVar("T")


class Listed:
    """A peer list that says what it is told."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    def current(self) -> tuple[Peer, ...]:
        return tuple(Peer(url) for url in self.urls)


class Wire:
    """Carries messages between nodes, as text, and counts their bytes."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.cut: set[frozenset[str]] = set()
        self.down: set[str] = set()
        self.messages = 0
        self.bytes = 0

    def reach(self, one: str, other: str) -> Node:
        """Return a node that can be reached."""
        if other in self.down or frozenset((one, other)) in self.cut:
            raise PeerFailure("no connection: it is down")
        return self.nodes[other]

    def count(self, *bodies: bytes) -> None:
        self.messages += 1
        self.bytes += sum(map(len, bodies))


class Letters:
    """What one node sends: in the place of ``Correspondence``."""

    def __init__(self, wire: Wire, own: str) -> None:
        self._wire = wire
        self._own = own

    async def ask(self, peer: str, question: bytes) -> bytes:
        node = self._wire.reach(self._own, peer)
        if node.old:
            raise Unversed
        said = await node.deletions.answer(question)
        self._wire.count(question, said)
        return said

    async def tell(self, peer: str, records: Sequence[Record]) -> Reply:
        node = self._wire.reach(self._own, peer)
        if node.old:
            raise Unversed
        body = records_body(records)
        try:
            heard, wait = await node.deletions.hear(body, self._own)
        except Denied as error:
            raise PeerFailure(str(error)) from error
        said = heard.body()
        self._wire.count(body, said)
        parsed: Heard = parse_heard(said, records)
        return Reply(parsed, wait, len(body), len(said))

    async def delete(self, peer: str, digest_hex: str) -> None:
        node = self._wire.reach(self._own, peer)
        node.store.delete(Digest.from_hex(digest_hex))


class Node:
    """One node.

    Args:
        wire: to the others.
        folder: of its store.
        name: its URL.
        skew: seconds that its clock is wrong.
        terms: of its deletions.

    Attributes:
        old: whether it knows nothing but DELETE.
        gone: what its deletions have said to be gone, in order.
    """

    def __init__(
        self,
        wire: Wire,
        folder: Path,
        name: str,
        *,
        skew: float = 0.0,
        terms: DeletionTerms | None = None,
    ) -> None:
        self.name = name
        self.old = False
        self.clock = Clock()
        self.clock.advance(1_800_000_000 + skew)
        self.store: Store = open_store(str(folder), fan_out=2, reserve=0)
        self.roster = Listed()
        self._tokens = itertools.count(1)
        self.deletions = Deletions(
            self.store,
            InlineDisk(),
            self.roster,  # type: ignore[arg-type]  # as much of one as is needed
            Letters(wire, name),  # type: ignore[arg-type]
            self.clock,
            ticks=self.clock.seconds,
            chance=lambda: 0.5,
            token=lambda: f"{next(self._tokens):016x}{self.store.node_id[:16]}",
            terms=terms,
            gone=self._note_gone,
        )
        self.gone: list[Digest] = []
        wire.nodes[name] = self

    async def _note_gone(self, digest: Digest) -> None:
        self.gone.append(digest)

    def put(self, data: bytes, *, deliberate: bool = True) -> Stored | None:
        """Store bytes; a copy that is refused is None."""
        intake = self.store.intake(len(data))
        intake.write([data])
        try:
            stored = intake.commit("name", deliberate=deliberate)
        except Absent:
            return None
        if stored.revival is not None:
            self.deletions.revived(stored.revival)
        return stored

    def load(self, data: bytes, peer: Node) -> bool:
        """Load from a peer, as a GET does; whether it is here then."""
        digest = Digest.of(data)
        try:
            self.store.stat(digest)
        except Absent as absent:
            if absent.deleted or not peer.has(data):
                return False
            return self.put(data, deliberate=False) is not None
        return True

    def has(self, data: bytes) -> bool:
        try:
            self.store.stat(Digest.of(data))
        except DtfcError:
            return False
        return True

    def rank(self, data: bytes) -> tuple[int, bool] | None:
        found = self.store.memory.get(Digest.of(data))
        return None if found is None else found.rank

    def everywhere(self, data: bytes) -> str:
        """Delete everywhere; return the receipt's id."""
        running = Deferred.fromCoroutine(self.deletions.everywhere(Digest.of(data)))
        self.clock.advance(1)
        _, receipt = now(running)
        return receipt.id

    def states(self, receipt: str) -> dict[str, str]:
        found = self.store.memory.receipt(receipt)
        assert found is not None
        return {each.peer: each.state for each in found.deliveries}

    def compare(self, peer: Node) -> None:
        now(Deferred.fromCoroutine(self.deletions.compare_with(peer.name)))


def now(running: Deferred[T]) -> T:
    """Return what a coroutine that never waits has come to."""
    found: list[T] = []
    failed: list[BaseException] = []
    running.addCallbacks(found.append, lambda failure: failed.append(failure.value))
    if failed:
        raise failed[0]
    assert found, "it waits for something"
    return found[0]


def mesh(wire: Wire, folder: Path, count: int, *, terms: DeletionTerms | None = None) -> list[Node]:
    """Make nodes that all know one another, with clocks an hour early, right, an hour late."""
    nodes = [
        Node(
            wire,
            folder / str(number),
            f"http://n{number}",
            skew=HOUR * ((number % 3) - 1),
            terms=terms,
        )
        for number in range(count)
    ]
    for node in nodes:
        node.roster.urls = [each.name for each in nodes if each is not node]
    return nodes

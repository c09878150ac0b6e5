"""Copies that are owed, on a false clock, by peers that do as they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.peers.failure import PeerFailure
from dtfc.peers.listing import Peer
from dtfc.peers.sending import Refused
from dtfc.replicas.copyfilter import CopyFilter
from dtfc.replicas.copying import CopyTerms
from dtfc.replicas.courier import Delivered
from dtfc.replicas.owed import Replicas
from dtfc.replicas.placement import choose
from dtfc.store.blobs import BlobInfo
from dtfc.store.outbox import Outbox


class FalseRoster:
    """A list that a test writes."""

    def __init__(self, *urls: str) -> None:
        self.generation = 0
        self.peers = tuple(Peer(url) for url in urls)

    def current(self) -> tuple[Peer, ...]:
        return self.peers

    def change(self, *urls: str) -> None:
        self.peers = tuple(Peer(url) for url in urls)
        self.generation += 1


@dataclass
class FalsePeers:
    """Peers that hold what they are given, unless told otherwise."""

    held: dict[str, set[Digest]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    refusing: dict[str, int] = field(default_factory=dict)
    broken: dict[Digest, Exception] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    asked: list[tuple[str, Digest]] = field(default_factory=list)
    probed: list[str] = field(default_factory=list)
    waiting: list[tuple[str, Deferred[None]]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def deliver(self, digest: Digest, peer: str) -> Delivered:
        self.asked.append((peer, digest))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if peer in self.slow:
                turn: Deferred[None] = Deferred()
                self.waiting.append((peer, turn))
                await turn
            if digest in self.broken:
                raise self.broken[digest]
            if peer in self.down:
                raise PeerFailure("no connection")
            if peer in self.refusing:
                raise Refused(self.refusing[peer])
        finally:
            self.running -= 1
        there = self.held.setdefault(peer, set())
        if digest in there:
            return Delivered(None)
        there.add(digest)
        return Delivered(100)

    async def probe(self, peer: str) -> None:
        self.probed.append(peer)
        if peer in self.down:
            raise PeerFailure("no connection")

    def let(self, count: int = 1000) -> None:
        """Let slow deliveries end."""
        now, self.waiting = self.waiting[:count], self.waiting[count:]
        for _, turn in now:
            turn.callback(None)

    def holders(self, digest: Digest) -> set[str]:
        return {peer for peer, there in self.held.items() if digest in there}


URLS = tuple(f"http://p{number}:80" for number in range(5))


class Owing:
    """A node that owes copies."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.clock = Clock()
        self.clock.advance(1_000_000)
        self.roster = FalseRoster(*URLS)
        self.peers = FalsePeers()
        self.replicas: Replicas
        self.begun: list[Replicas] = []

    def start(self, chores: bool = True, **terms: Any) -> Replicas:  # noqa: FBT001, FBT002 -- a test's
        """One more process of the node."""
        usual: dict[str, Any] = {"replicas": 3, "patience": 100.0, "retry": 50.0}
        self.replicas = Replicas(
            Outbox(self.folder),
            InlineDisk(),
            self.roster,  # type: ignore[arg-type] # a stand-in
            self.peers,
            self.clock,
            terms=CopyTerms(**{**usual, **terms}),
            wants=CopyFilter(),
            random=lambda: 0.0,
        )
        self.begun.append(self.replicas)
        self.replicas.start(chores=chores)
        return self.replicas

    def stop(self, replicas: Replicas | None = None) -> None:
        """End a process, as SIGTERM does."""
        which = replicas or self.replicas
        self.begun.remove(which)
        Deferred.fromCoroutine(which.stop())

    def owe(self, content: bytes = b"x", name: str | None = "a.bin") -> Digest:
        """A client stores something, and waits for no copy."""
        info = info_of(content, name)
        done = Deferred.fromCoroutine(self.replicas.owe(info))
        assert done.called
        return info.digest

    def put(self, content: bytes = b"x") -> Outcome:
        """A client stores something, and waits for as many copies as it must."""
        return Outcome(self.replicas, info_of(content, "a.bin"))

    def places(self, digest: Digest, copies: int = 2) -> list[str]:
        """Where its copies belong."""
        return [peer.url for peer in choose(digest, self.roster.current(), copies)]

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def queue(self) -> int:
        return self.replicas._outbox.length().entries


class Outcome:
    """What becomes of a client that waits."""

    def __init__(self, replicas: Replicas, info: BlobInfo) -> None:
        self.digest = info.digest
        self.copies: int | None = None
        self.error: BaseException | None = None
        self.done = False

        async def settle() -> None:
            own = await replicas.owe(info)
            assert own is not None
            self.copies = await replicas.enough(info.digest, own=own)

        self._waiting = Deferred.fromCoroutine(settle())
        self._waiting.addErrback(self._failed).addCallback(self._ended)

    def _failed(self, failure: Any) -> None:
        self.error = failure.value

    def _ended(self, _result: None) -> None:
        self.done = True

    def leave(self) -> None:
        self._waiting.cancel()


def info_of(content: bytes, name: str | None) -> BlobInfo:
    names = () if name is None else (name,)
    return BlobInfo(Digest.of(content), len(content), 0.0, name, names)


@pytest.fixture
def owing(tmp_path: Path) -> Iterator[Owing]:
    made = Owing(tmp_path / "replicas")
    yield made
    for replicas in list(made.begun):
        made.stop(replicas)
    assert made.clock.getDelayedCalls() == []


@pytest.fixture
def contents() -> Callable[[int], list[bytes]]:
    return lambda count: [str(number).encode() for number in range(count)]

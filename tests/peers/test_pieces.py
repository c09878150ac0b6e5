"""Stretches of a blob from peers in the picker's order, and what the picker hears of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from dtfc.digest import Digest
from dtfc.errors import Absent, PeersUnreached
from dtfc.peers.client import open_peer_http
from dtfc.peers.listing import Peer
from dtfc.peers.picker import PeerStatus, Picker
from dtfc.peers.pieces import Pieces
from tests.peers.conftest import QUICK
from tests.peers.hostile import Behaviour, Exchange, HostilePeer, closes, status

reactor: Any = _reactor
DATA = bytes(range(256)) * 16
DIGEST = Digest.of(DATA)


def gives(data: bytes, count: int = 50) -> Behaviour:
    """Answer with the stretch that is asked for, or as much of it as ``count`` says."""

    def behave(exchange: Exchange) -> None:
        assert exchange.fields["range"] == "bytes=100-149"
        exchange.head(206, "Content-Length: 50", f"Content-Range: bytes 100-149/{len(data)}")
        exchange.send(data[100 : 100 + count])
        if count < 50:
            exchange.close()

    return behave


class Bench:
    """A healing node's view of its peers."""

    def __init__(self) -> None:
        self.http = open_peer_http(reactor, QUICK)
        self.running: list[HostilePeer] = []
        self.listed: tuple[Peer, ...] = ()
        self.me: str | None = None
        self.picker = Picker(self, lambda: 1.0)
        self.pieces = Pieces(self.http, self.picker, reactor)

    def current(self) -> tuple[Peer, ...]:
        return self.listed

    def peer(self, behaviour: Behaviour) -> HostilePeer:
        peer = HostilePeer(behaviour)
        peer.listen()
        self.running.append(peer)
        self.listed = (*self.listed, Peer(peer.url))
        return peer

    def first(self, peer: HostilePeer) -> None:
        """Let a peer be the first to be asked."""
        self.picker.has(peer.url, DIGEST, reactor.seconds())

    async def fetch(self) -> bytes:
        return await self.pieces.fetch(
            DIGEST, len(DATA), 100, 50, lambda found: found == DATA[100:150]
        )

    def status(self, peer: HostilePeer) -> PeerStatus:
        found = {each.url: each for each in self.picker.snapshot(reactor.seconds())}
        return found[peer.url]

    async def close(self) -> None:
        await self.http.close()
        for peer in self.running:
            await peer.close()


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()


@pytest_twisted.ensureDeferred
async def test_who_has_it_is_asked_first_and_is_measured(bench: Bench) -> None:
    others = [bench.peer(gives(DATA)) for _ in range(3)]
    holder = bench.peer(gives(DATA))
    bench.first(holder)

    assert await bench.fetch() == DATA[100:150]

    assert bench.status(holder).received == 50
    assert bench.status(holder).first_byte is not None
    assert [bench.status(each).first_byte for each in others] == [None] * 3


@pytest_twisted.ensureDeferred
async def test_who_lies_rests(bench: Bench) -> None:
    liar, other = bench.peer(gives(DATA[::-1])), bench.peer(gives(DATA))
    bench.first(liar)

    assert await bench.fetch() == DATA[100:150]

    assert bench.status(liar).lying
    assert bench.picker.order(DIGEST, reactor.seconds()) == (other.url, liar.url)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("behaviour", [closes, gives(DATA, 20), status(500)])
async def test_who_fails_rests(bench: Bench, behaviour: Behaviour) -> None:
    failing, _ = bench.peer(behaviour), bench.peer(gives(DATA))
    bench.first(failing)

    assert await bench.fetch() == DATA[100:150]

    assert bench.status(failing).failures == 1
    assert bench.status(failing).rests > 0


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("code", [404, 503, 403])
async def test_who_cannot_give_it_is_asked_later_and_does_not_rest(bench: Bench, code: int) -> None:
    without, other = bench.peer(status(code)), bench.peer(gives(DATA))
    bench.first(without)

    assert await bench.fetch() == DATA[100:150]

    assert bench.status(without).rests == 0
    assert bench.picker.order(DIGEST, reactor.seconds()) == (other.url, without.url)


@pytest_twisted.ensureDeferred
async def test_nobody_has_it(bench: Bench) -> None:
    bench.peer(status(404))

    with pytest.raises(Absent):
        await bench.fetch()


@pytest_twisted.ensureDeferred
async def test_somebody_could_not_be_asked(bench: Bench) -> None:
    bench.peer(status(404))
    bench.peer(closes)

    with pytest.raises(PeersUnreached):
        await bench.fetch()

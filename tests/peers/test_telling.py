"""Short messages to a peer, and what is believed of its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from dtfc.digest import Digest
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import PeerHTTP, Said, open_peer_http
from dtfc.peers.correspondence import Correspondence, Unversed
from dtfc.peers.failure import PeerFailure
from dtfc.store.records import Record
from tests.peers.hostile import Behaviour, Exchange, HostilePeer

reactor: Any = _reactor
RECORD = Record(Digest.of(b"x"), 1, deleted=True, id="ab" * 16, at="2026", node="cd" * 16)


class Bench:
    """A client and one peer."""

    def __init__(self) -> None:
        limits = PeerLimits(connect=2, first_byte=0.4, stall=0.4)
        self.client: PeerHTTP = open_peer_http(reactor, limits)
        self.peer: HostilePeer

    def behave(self, behaviour: Behaviour) -> str:
        self.peer = HostilePeer(behaviour)
        self.peer.listen()
        return self.peer.url

    async def tell(self, behaviour: Behaviour) -> Said:
        return await self.client.tell("POST", f"{self.behave(behaviour)}/x", b"{}", 100)

    async def close(self) -> None:
        await self.client.close()
        await self.peer.close()


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()


def saying(status: int, body: bytes, *lines: str) -> Behaviour:
    def behave(exchange: Exchange) -> None:
        # The body of the message stands before the next head.
        exchange.buffer = b""
        exchange.head(status, f"Content-Length: {len(body)}", *lines)
        exchange.send(body)

    return behave


@pytest_twisted.ensureDeferred
async def test_an_answer(bench: Bench) -> None:
    assert await bench.tell(saying(200, b"{}")) == Said(200, b"{}")


@pytest_twisted.ensureDeferred
async def test_too_many_requests_say_when(bench: Bench) -> None:
    said = await bench.tell(saying(429, b"{}", "Retry-After: 7"))
    assert said == Said(429, b"{}", 7)


@pytest_twisted.ensureDeferred
async def test_the_body_of_a_refusal_is_not_read(bench: Bench) -> None:
    assert await bench.tell(saying(403, b"no")) == Said(403, b"")


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_too_long(bench: Bench) -> None:
    with pytest.raises(PeerFailure, match="too long"):
        await bench.tell(saying(200, b" " * 101))


@pytest_twisted.ensureDeferred
async def test_an_answer_that_does_not_say_how_long_it_is(bench: Bench) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.head(200, "Transfer-Encoding: chunked")
        exchange.send(b"2\r\n{}\r\n0\r\n\r\n")

    with pytest.raises(PeerFailure, match="how long"):
        await bench.tell(behave)


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_cut_off(bench: Bench) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.head(200, "Content-Length: 10")
        exchange.send(b"{")
        exchange.close()

    with pytest.raises(PeerFailure, match="too early"):
        await bench.tell(behave)


@pytest_twisted.ensureDeferred
async def test_no_answer(bench: Bench) -> None:
    with pytest.raises(PeerFailure, match="within"):
        await bench.tell(lambda _exchange: None)


@pytest_twisted.ensureDeferred
async def test_a_connection_that_was_closed_meanwhile(bench: Bench) -> None:
    """What is sent on a connection that was kept, and is gone, is sent once more."""

    def behave(exchange: Exchange) -> None:
        exchange.buffer = b""
        if len(bench.peer.requests) == 2:
            exchange.reset()
        else:
            saying(200, b"{}")(exchange)

    await bench.tell(behave)
    again = await bench.client.tell("POST", f"{bench.peer.url}/x", b"{}", 100)
    assert again == Said(200, b"{}")
    assert len(bench.peer.requests) == 3


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_node_that_knows_nothing_of_it(bench: Bench, status: int) -> None:
    url = bench.behave(saying(status, b"what?"))
    letters = Correspondence(bench.client)
    with pytest.raises(Unversed):
        await letters.tell(url, [RECORD])
    with pytest.raises(Unversed):
        await letters.ask(url, b"{}")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("status", "words"), [(401, "signature"), (403, "403"), (500, "answered 500"), (507, "507")]
)
async def test_a_refusal_says_why(bench: Bench, status: int, words: str) -> None:
    with pytest.raises(PeerFailure, match=words):
        await Correspondence(bench.client).tell(bench.behave(saying(status, b"")), [RECORD])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("status", [200, 204, 404, 410])
async def test_a_plain_delete(bench: Bench, status: int) -> None:
    url = bench.behave(saying(status, b"" if status == 204 else b"ok"))
    await Correspondence(bench.client).delete(url, RECORD.digest.hex)
    assert bench.peer.requests == [f"DELETE /{RECORD.digest.hex}"]


@pytest_twisted.ensureDeferred
async def test_a_plain_delete_that_is_refused(bench: Bench) -> None:
    with pytest.raises(PeerFailure):
        await Correspondence(bench.client).delete(bench.behave(saying(403, b"")), "00" * 64)


@pytest_twisted.ensureDeferred
async def test_more_than_it_takes(bench: Bench) -> None:
    body = b'{"status": 429, "taken": 1, "newer": []}'
    url = bench.behave(saying(429, body, "Retry-After: 3"))
    reply = await Correspondence(bench.client).tell(url, [RECORD])
    assert (reply.heard.taken, reply.retry_after) == (1, 3)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("body", [b"", b"x", b'{"taken": 5}', b'{"taken": "all"}'])
async def test_nonsense(bench: Bench, body: bytes) -> None:
    with pytest.raises(PeerFailure):
        await Correspondence(bench.client).tell(bench.behave(saying(200, body)), [RECORD])

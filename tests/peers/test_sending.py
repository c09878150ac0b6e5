"""A body to a peer: taken, refused before it came, at the peer's pace, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from dtfc.access.signatures import Secrets
from dtfc.errors import Corrupt
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import PeerHTTP, Upload, open_peer_http
from dtfc.peers.failure import PeerFailure
from dtfc.peers.sending import Refused
from dtfc.peers.signing import Signer
from tests.peers.hostile import Behaviour, Exchange, HostilePeer

reactor: Any = _reactor
KIB = 1024
MIB = 1024 * KIB
Until = Callable[[Callable[[], bool]], Any]


class Blocks:
    """A body of blocks, and how many of them were asked for."""

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = list(blocks)
        self.asked = 0
        self.error: Exception | None = None

    async def read(self) -> bytes:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.blocks.pop(0)

    def upload(self, *, ask_first: bool = False) -> Upload:
        return Upload(sum(map(len, self.blocks)), self.read, ask_first=ask_first)


class Bench:
    """A client and one peer."""

    def __init__(self) -> None:
        self.client = self.open()
        self.peer: HostilePeer | None = None

    def open(self, **limits: Any) -> PeerHTTP:
        usual = {"connect": 2, "first_byte": 0.5, "stall": 0.4}
        signer = Signer(Secrets((b"0123456789abcdef0123456789abcdef",)), "0" * 16, reactor)
        self.client = open_peer_http(reactor, PeerLimits(**{**usual, **limits}), signer=signer)
        return self.client

    def url(self, behaviour: Behaviour) -> str:
        self.peer = HostilePeer(behaviour)
        self.peer.listen()
        return f"{self.peer.url}/{'0' * 128}/a"

    @property
    def got(self) -> bytes:
        """What came of the body, on the only connection."""
        assert self.peer is not None
        return b"".join(each.buffer for each in self.peer.connections)

    async def close(self) -> None:
        await self.client.close()
        if self.peer is not None:
            await self.peer.close()


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()


def whole(length: int, then: Behaviour, *, first: str = "") -> Behaviour:
    """Wait for so many bytes of the body, perhaps after a word, and go on."""

    def behave(exchange: Exchange) -> None:
        if first:
            exchange.transport.write(first.encode())

        def look() -> None:
            if len(exchange.buffer) >= length:
                then(exchange)
            else:
                exchange.later(0.01, look)

        look()

    return behave


def stored(exchange: Exchange) -> None:
    exchange.head(201, "Content-Length: 0", 'ETag: "x"')


GO_ON = "HTTP/1.1 100 Continue\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_a_body_goes_whole(bench: Bench) -> None:
    blocks = [bytes([each]) * MIB for each in range(5)]
    url = bench.url(whole(5 * MIB, stored))

    reply = await bench.client.send(url, Blocks(*blocks).upload())
    reply.drop()

    assert (reply.status, list(reply.fields("etag"))) == (201, ['"x"'])
    assert bench.got == b"".join(blocks)
    assert bench.peer is not None
    assert bench.peer.seen[0]["content-length"] == str(5 * MIB)
    assert "expect" not in bench.peer.seen[0]


@pytest_twisted.ensureDeferred
async def test_an_empty_body_goes(bench: Bench) -> None:
    url = bench.url(stored)
    reply = await bench.client.send(url, Blocks().upload())
    reply.drop()
    assert reply.status == 201


@pytest_twisted.ensureDeferred
async def test_a_body_is_signed(bench: Bench) -> None:
    url = bench.url(whole(3, stored))
    (await bench.client.send(url, Blocks(b"abc").upload())).drop()
    assert bench.peer is not None
    assert '"content-digest"' in bench.peer.seen[0]["signature-input"]


@pytest_twisted.ensureDeferred
async def test_the_connection_is_used_again(bench: Bench) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.buffer = exchange.buffer[3:]
        stored(exchange)

    url = bench.url(behave)
    for _ in range(3):
        (await bench.client.send(url, Blocks(b"abc").upload())).drop()
    assert bench.peer is not None
    assert bench.peer.connects == 1


@pytest_twisted.ensureDeferred
async def test_nothing_leaves_before_the_peer_says_go_on(bench: Bench) -> None:
    url = bench.url(whole(MIB, stored, first=GO_ON))
    reply = await bench.client.send(url, Blocks(bytes(MIB)).upload(ask_first=True))
    reply.drop()
    assert reply.status == 201
    assert bench.peer is not None
    assert bench.peer.seen[0]["expect"] == "100-continue"


@pytest_twisted.ensureDeferred
async def test_a_peer_that_does_not_know_how_gets_it_after_a_second(bench: Bench) -> None:
    url = bench.url(whole(MIB, stored))
    before = reactor.seconds()
    reply = await bench.client.send(url, Blocks(bytes(MIB)).upload(ask_first=True))
    reply.drop()
    assert reply.status == 201
    assert reactor.seconds() - before >= 1


@pytest.mark.parametrize("status", [403, 409, 410, 413, 507])
@pytest_twisted.ensureDeferred
async def test_a_refusal_is_heard_before_a_byte_is_sent(bench: Bench, status: int) -> None:
    blocks = Blocks(bytes(MIB))
    url = bench.url(lambda exchange: exchange.head(status, "Content-Length: 5"))
    with pytest.raises(Refused) as caught:
        await bench.client.send(url, blocks.upload(ask_first=True))
    assert caught.value.status == status
    assert (blocks.asked, bench.got) == (0, b"")


@pytest_twisted.ensureDeferred
async def test_a_refusal_while_it_is_sent_ends_it(bench: Bench) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.transport.pauseProducing()
        exchange.later(0.1, exchange.head, 507, "Content-Length: 0")

    blocks = Blocks(*[bytes(MIB)] * 64)
    with pytest.raises(Refused) as caught:
        await bench.client.send(bench.url(behave), blocks.upload())
    assert caught.value.status == 507
    assert blocks.asked < 60


@pytest_twisted.ensureDeferred
async def test_a_refusal_in_pieces_is_heard(bench: Bench) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.transport.write(b"HTTP/1.1 102 Wait\r\nX: y\r\n\r\nHTTP/1.")
        exchange.later(0.1, exchange.transport.write, b"1 41")
        exchange.later(0.2, exchange.transport.write, b"3 Too large\r\n")

    with pytest.raises(Refused) as caught:
        await bench.client.send(bench.url(behave), Blocks(bytes(MIB)).upload(ask_first=True))
    assert caught.value.status == 413


@pytest_twisted.ensureDeferred
async def test_a_slow_peer_is_given_no_more_than_it_takes(bench: Bench, until: Until) -> None:
    blocks = Blocks(*[bytes(MIB)] * 64)
    url = bench.url(lambda exchange: exchange.transport.pauseProducing())
    client = bench.open(stall=30)
    sending = Deferred.fromCoroutine(client.send(url, blocks.upload()))
    await until(lambda: blocks.asked > 0)
    await deferLater(reactor, 0.3)
    # What the kernel's buffers take, and a block.
    assert blocks.asked < 20
    sending.cancel()
    with pytest.raises(CancelledError):
        await sending


@pytest_twisted.ensureDeferred
async def test_a_peer_that_takes_nothing_is_given_up(bench: Bench) -> None:
    url = bench.url(lambda exchange: exchange.transport.pauseProducing())
    with pytest.raises(PeerFailure, match=r"took nothing for 0\.4 seconds"):
        await bench.client.send(url, Blocks(*[bytes(MIB)] * 64).upload())


@pytest_twisted.ensureDeferred
async def test_a_peer_that_does_not_answer_is_given_up(bench: Bench) -> None:
    url = bench.url(lambda _exchange: None)
    with pytest.raises(PeerFailure, match=r"no answer within 0\.5"):
        await bench.client.send(url, Blocks(b"abc").upload())


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-x\r\n", b"x" * 100, b"HTTP/1.1 100 \r\n" + b"a" * 20000]
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_http_is_given_up(bench: Bench, said: bytes) -> None:
    url = bench.url(lambda exchange: exchange.transport.write(said))
    with pytest.raises(PeerFailure, match="answered with"):
        await bench.client.send(url, Blocks(bytes(MIB)).upload(ask_first=True))


@pytest_twisted.ensureDeferred
async def test_a_peer_that_closes_is_a_failure(bench: Bench) -> None:
    url = bench.url(lambda exchange: exchange.reset())
    with pytest.raises(PeerFailure, match="closed the connection"):
        await bench.client.send(url, Blocks(*[bytes(MIB)] * 64).upload())


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_read_here_ends_it(bench: Bench, until: Until) -> None:
    blocks = Blocks(bytes(MIB), bytes(MIB))
    upload = blocks.upload()
    blocks.error = Corrupt("00", 1)
    with pytest.raises(Corrupt):
        await bench.client.send(bench.url(lambda _exchange: None), upload)
    # The peer has an unfinished body, so it stores nothing.
    assert bench.peer is not None
    peer = bench.peer
    await until(lambda: not peer.connections)


@pytest_twisted.ensureDeferred
async def test_closing_the_client_ends_it(bench: Bench, until: Until) -> None:
    blocks = Blocks(*[bytes(MIB)] * 64)
    url = bench.url(lambda exchange: exchange.transport.pauseProducing())
    client = bench.open(stall=30)
    sending = Deferred.fromCoroutine(client.send(url, blocks.upload()))
    await until(lambda: blocks.asked > 0)
    await client.close()
    with pytest.raises(PeerFailure, match="shutting down"):
        await sending

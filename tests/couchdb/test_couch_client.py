"""Requests to CouchDB, whole and as a stream, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from dtfc.couchdb.client import Couch
from dtfc.errors import CouchUnreached, NoSpace

reactor: Any = _reactor


class Server(Resource):
    """Says what a test tells it to, and remembers what it was asked."""

    isLeaf = True  # noqa: N815 -- Twisted's name

    def __init__(self) -> None:
        Resource.__init__(self)
        self.asked: list[tuple[bytes, bytes, bytes, str | None]] = []
        self.status = 200
        self.blocks: list[bytes] = []
        self.ends = "well"
        self.sent = 0

    def render(self, request: Any) -> Any:
        condition = request.getHeader("If-Match")
        self.asked.append((request.method, request.uri, request.content.read(), condition))
        request.setResponseCode(self.status)
        for block in self.blocks:
            request.write(block)
        if self.ends == "cut":
            request.transport.abortConnection()
        elif self.ends == "well":
            request.finish()
        request.notifyFinish().addErrback(lambda _gone: None)
        return NOT_DONE_YET


@pytest.fixture
def server() -> Server:
    return Server()


@pytest_twisted.async_yield_fixture
async def couch(server: Server) -> Any:
    site = Site(server)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    couch = Couch(reactor, f"http://127.0.0.1:{port.getHost().port}", 2.0)
    yield couch
    await couch.close()
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_any_status_is_an_answer(server: Server, couch: Couch) -> None:
    server.status, server.blocks = 409, [b'{"error":"conflict"}']
    answer = await couch.ask(
        "PUT", "/db/a", None, 1000, content=b'{"a":1}', fields={"If-Match": "1-x"}
    )
    assert (answer.status, json.loads(answer.body)) == (409, {"error": "conflict"})
    assert server.asked == [(b"PUT", b"/db/a", b'{"a":1}', "1-x")]


@pytest_twisted.ensureDeferred
async def test_a_stream_is_handed_on_whole(server: Server, couch: Couch) -> None:
    server.blocks = [b"a" * 100_000, b"b", b"c" * 3_000_000]
    came: list[bytes] = []
    assert await couch.stream("/db", None, came.append, silence=2) == 200
    assert b"".join(came) == b"".join(server.blocks)


@pytest_twisted.ensureDeferred
async def test_a_stream_comes_no_faster_than_it_is_taken(server: Server, couch: Couch) -> None:
    server.blocks = [b"x" * 10_000_000]
    came = []
    busy = 0

    def take(block: bytes) -> Deferred[None]:
        nonlocal busy
        assert not busy
        busy = 1
        came.append(len(block))

        def done() -> None:
            nonlocal busy
            busy = 0

        return deferLater(reactor, 0.001, done)

    assert await couch.stream("/db", None, take, silence=0.5) == 200
    assert sum(came) == 10_000_000


@pytest_twisted.ensureDeferred
async def test_of_a_refusal_nothing_is_handed_on(server: Server, couch: Couch) -> None:
    server.status, server.blocks = 404, [b'{"error":"not_found"}']
    came: list[bytes] = []
    assert await couch.stream("/db", None, came.append, silence=2) == 404
    assert came == []


@pytest_twisted.ensureDeferred
async def test_what_is_silent_is_given_up(server: Server, couch: Couch) -> None:
    server.blocks, server.ends = [b"\n"], "never"
    with pytest.raises(CouchUnreached, match=r"nothing came for 0\.2 seconds"):
        await couch.stream("/db", None, lambda _block: None, silence=0.2)


@pytest_twisted.ensureDeferred
async def test_what_breaks_off_is_no_end(server: Server, couch: Couch) -> None:
    server.blocks, server.ends = [b"half"], "cut"
    with pytest.raises(CouchUnreached):
        await couch.stream("/db", None, lambda _block: None, silence=2)


@pytest_twisted.ensureDeferred
async def test_the_taker_s_failure_comes_back(server: Server, couch: Couch) -> None:
    server.blocks, server.ends = [b"a"], "never"

    def fails(_block: bytes) -> None:
        raise NoSpace(1, 0, 0)

    with pytest.raises(NoSpace):
        await couch.stream("/db", None, fails, silence=2)


@pytest_twisted.ensureDeferred
async def test_a_closed_client_gives_a_stream_up(server: Server, couch: Couch) -> None:
    server.blocks, server.ends = [b"a"], "never"
    heard: Deferred[bytes] = Deferred()

    def hear(block: bytes) -> None:
        if not heard.called:
            heard.callback(block)

    streaming = Deferred.fromCoroutine(couch.stream("/db", None, hear, silence=5))
    ended: list[object] = []
    streaming.addBoth(ended.append)
    assert await heard == b"a"
    await couch.close()
    assert len(ended) == 1

"""Connections that wait in an epoll of their own are read as the reactor would read them."""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from dtfc.web.transmit import FileServer
from dtfc.web.wakeups import MOST_AT_ONCE, Wakeups, wakeups_of

reactor: Any = _reactor

pytestmark = pytest.mark.skipif(
    not hasattr(select, "epoll") or type(reactor).__name__ != "EPollReactor",
    reason="this reactor does not use epoll",
)


class Echo(Protocol):
    """Sends back what comes, and remembers how it ended."""

    def __init__(self) -> None:
        self.ended: Any = None

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        if data == b"stop reading":
            self.transport.pauseProducing()  # type: ignore[union-attr]  # it is connected
            reactor.callLater(0.1, self.transport.resumeProducing)  # type: ignore[union-attr]  # as above
        self.transport.write(data)  # type: ignore[union-attr]  # as above

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802 -- Twisted's name
        self.ended = reason


@implementer(IHalfCloseableProtocol)
class HalfEcho(Echo):
    """Says that the client sends no more."""

    def readConnectionLost(self) -> None:  # noqa: N802 -- Twisted's name
        self.transport.write(b"bye")  # type: ignore[union-attr]  # it is connected
        self.transport.loseConnection()  # type: ignore[union-attr]  # as above

    def writeConnectionLost(self) -> None:  # noqa: N802 -- Twisted's name
        """Nothing to do."""


class Port:
    """A port whose connections wait in an epoll."""

    def __init__(self, protocol: type[Echo]) -> None:
        self.protocols: list[Echo] = []

        def build() -> Echo:
            made = protocol()
            self.protocols.append(made)
            return made

        factory: Any = Factory.forProtocol(build)
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port.transport = FileServer
        self.port.wakeups = self.wakeups = Wakeups(reactor)

    async def client(self, talk: Callable[[socket.socket], Any]) -> Any:
        def run() -> Any:
            address = ("127.0.0.1", self.port.getHost().port)
            with socket.create_connection(address, timeout=10) as connection:
                return talk(connection)

        return await deferToThread(run)

    async def stop(self) -> None:
        await self.port.stopListening()
        for each in self.protocols:
            transport: Any = each.transport
            if each.ended is None and transport is not None:
                transport.abortConnection()
        await deferLater(reactor, 0.02)
        self.wakeups.close()


@pytest_twisted.async_yield_fixture
async def port(request: pytest.FixtureRequest) -> AsyncIterator[Port]:
    """Open a port; its protocol may be a parameter."""
    made = Port(getattr(request, "param", Echo))
    yield made
    await made.stop()


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    got = b""
    while len(got) < len(data):
        got += connection.recv(65536)
    return got


@pytest_twisted.ensureDeferred
async def test_what_comes_is_read(port: Port) -> None:
    assert await port.client(lambda c: [echoed(c, b"one"), echoed(c, b"two")]) == [b"one", b"two"]


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_connection_is_seen(port: Port) -> None:
    await port.client(lambda c: echoed(c, b"x"))
    await deferLater(reactor, 0.05)
    assert port.protocols[0].ended.check(ConnectionDone)
    assert not port.wakeups._waiting


@pytest_twisted.ensureDeferred
async def test_a_reset_is_seen(port: Port) -> None:
    def reset(connection: socket.socket) -> None:
        echoed(connection, b"x")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    await port.client(reset)
    await deferLater(reactor, 0.05)
    assert port.protocols[0].ended.check(ConnectionLost, ConnectionDone)
    assert not port.wakeups._waiting


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("port", [HalfEcho], indirect=True)
async def test_half_an_end_is_told_as_such(port: Port) -> None:
    def talk(connection: socket.socket) -> bytes:
        echoed(connection, b"x")
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(10)

    assert await port.client(talk) == b"bye"


@pytest_twisted.ensureDeferred
async def test_who_does_not_read_is_not_woken_and_goes_on_later(port: Port) -> None:
    def talk(connection: socket.socket) -> bytes:
        echoed(connection, b"stop reading")
        return echoed(connection, b"later")

    assert await port.client(talk) == b"later"


@pytest_twisted.ensureDeferred
async def test_more_connections_than_one_turn_takes(port: Port) -> None:
    many = MOST_AT_ONCE + 10

    def talk(first: socket.socket) -> int:
        address = first.getpeername()
        others = [socket.create_connection(address, timeout=10) for _ in range(many)]
        try:
            for number, each in enumerate(others):
                each.sendall(b"%d" % number)
            return sum(each.recv(10) == b"%d" % number for number, each in enumerate(others))
        finally:
            for each in others:
                each.close()

    assert await port.client(talk) == many


@pytest_twisted.ensureDeferred
async def test_a_connection_that_another_one_closes_in_the_same_turn() -> None:
    class Closer(Echo):
        def dataReceived(self, _data: bytes) -> None:  # noqa: N802 -- Twisted's name
            for each in made.protocols:
                if each is not self and each.ended is None:
                    each.transport.abortConnection()  # type: ignore[union-attr]  # it is connected

    made = Port(Closer)

    def talk(first: socket.socket) -> None:
        with socket.create_connection(first.getpeername(), timeout=10) as second:
            first.sendall(b"x")
            second.sendall(b"x")

    await made.client(talk)
    await deferLater(reactor, 0.05)
    assert not made.wakeups._waiting
    await made.stop()


def test_a_reactor_without_epoll_tells_itself() -> None:
    assert wakeups_of(Clock()) is None


@pytest_twisted.ensureDeferred
async def test_closing_it_twice_does_no_harm() -> None:
    wakeups = Wakeups(reactor)
    wakeups.close()
    wakeups.close()
    done: Deferred[None] = deferLater(reactor, 0)
    await done
    assert wakeups.fileno() == -1

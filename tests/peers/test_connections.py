"""Connections to peers that are kept, and what the request before left of itself."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from dtfc.peers.body import PeerLimits
from dtfc.peers.connections import CLOSING_SECONDS, Connections, _Guard


class Kept(FileDescriptor):
    """A connection, with Twisted's own account of who was paused."""

    connected = True

    def __init__(self) -> None:
        reactor: Any = Clock()
        reactor.addWriter = reactor.removeWriter = lambda _self: None
        FileDescriptor.__init__(self, reactor)
        self.full = False

    def writeSomeData(self, data: bytes) -> int:  # noqa: N802 - Twisted's name
        return 0 if self.full else len(data)


class Producer:
    """Sends what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.asked.append("pause")

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.asked.append("resume")

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.asked.append("stop")


def test_a_producer_is_not_resumed_because_the_one_before_was_paused() -> None:
    connections = Connections(Clock(), PeerLimits(), None)
    transport = Kept()
    guard = _Guard(Protocol(), connections)
    guard.makeConnection(transport)
    first, second = Producer(), Producer()
    guard.registerProducer(first, True)
    # Its last block fills the buffer, and then it is over.
    guard.write(bytes(transport.bufferSize + 1))
    guard.unregisterProducer()
    transport.doWrite()
    guard.registerProducer(second, True)
    guard.write(b"a message")
    transport.doWrite()
    assert (first.asked, second.asked) == (["pause"], [])
    guard.write(bytes(transport.bufferSize + 1))
    transport.doWrite()
    assert second.asked == ["pause", "resume"]


class Closing(Kept):
    """A connection that ends when all that was written is out, or when it is aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[str] = []

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.ends.append("close")

    def abortConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.ends.append("abort")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def closing(clock: Clock) -> tuple[_Guard, Closing]:
    transport = Closing()
    guard = _Guard(Protocol(), Connections(clock, PeerLimits(), None))
    guard.makeConnection(transport)
    return guard, transport


def test_what_is_closed_is_cut_when_its_last_bytes_do_not_leave(
    clock: Clock, closing: tuple[_Guard, Closing]
) -> None:
    guard, transport = closing
    guard.loseConnection()
    clock.advance(CLOSING_SECONDS - 0.1)
    guard.loseConnection()
    assert transport.ends == ["close", "close"]
    clock.advance(0.1)
    assert transport.ends == ["close", "close", "abort"]


def test_nothing_is_left_when_they_do(clock: Clock, closing: tuple[_Guard, Closing]) -> None:
    guard, _ = closing
    guard.loseConnection()
    guard.connectionLost()
    assert clock.getDelayedCalls() == []


def test_what_is_lost_already_needs_no_cut(clock: Clock, closing: tuple[_Guard, Closing]) -> None:
    guard, _ = closing
    guard.connectionLost()
    guard.loseConnection()
    assert clock.getDelayedCalls() == []

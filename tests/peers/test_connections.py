"""Connections to peers that are kept, and what the request before left of itself."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from dtfc.peers.body import PeerLimits
from dtfc.peers.connections import Connections, _Guard


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

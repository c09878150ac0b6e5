"""One end of a connection in memory: what a protocol takes for its transport.

Rules of this file: it behaves as Twisted's TCP transports do where a protocol can
tell: a window bounds what is under way; a close arrives behind the bytes, a reset
at once; who reads nothing stops who writes; a producer is asked to wait, and is
asked again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from simulate.world import World

#: The port that every machine listens on.
PORT = 8080

#: Bytes that may be under way in one direction of a connection.
WINDOW = 64 * 1024

#: Bytes that arrive in one event.
SEGMENT = 16 * 1024

#: Bytes that a transport buffers before it asks who writes to wait.
BUFFER = 64 * 1024

_END = None


@dataclass(slots=True)
class Link:
    """How one machine reaches another; a direction of its own.

    Args:
        latency: seconds.
        rate: bytes per second.
        blocked: whether nothing arrives.
    """

    latency: float
    rate: float
    blocked: bool = False


@dataclass(slots=True)
class Doom:
    """What will befall a connection.

    Args:
        after: once so many bytes were sent by one side ...
        silent: ... nothing of it comes any more; else the connection is cut.
        asker: whether that side is who asked; else who was asked.
    """

    after: int
    silent: bool
    asker: bool = False


class Carrier(Protocol):
    """What lies between two ends."""

    world: World

    def link(self, source: str, target: str) -> Link:
        """Return the link from one address to another."""

    def carry(
        self,
        source: str,
        target: str,
        arrive: Callable[[], None],
        leaves: float = 0.0,
        behind: float = 0.0,
    ) -> float:
        """Let something arrive there."""

    def opened(self, end: End) -> None:
        """An end has its protocol."""

    def gone(self, end: End) -> None:
        """An end is closed for good."""


@implementer(ITCPTransport, IPushProducer)
class End:
    """One end of a connection: the transport of the protocol there.

    Args:
        network: carries what is written.
        host: the address here.
        peer: the address there.
        owner: the machine here.
    """

    TLS = False
    patient = False
    """Whether who is here has no deadline, but asks now and then whether the other is alive."""

    bufferSize = SEGMENT  # noqa: N815 -- Twisted's name

    def __init__(self, network: Carrier, host: str, peer: str, owner: Any) -> None:
        self.network = network
        self.world = network.world
        self.host = host
        self.peer = peer
        self.owner = owner
        self.other: End | None = None
        self.protocol: Any = None
        self.doom: Doom | None = None
        self.bytes_out = 0
        self.busy_at = self.world.now
        """When bytes were last sent or read here."""
        self.disconnected = False
        self.disconnecting = False
        self.producer: Any = None
        self._streaming = False
        self._paused = False
        self._out = bytearray()
        self._under_way = 0
        self._free_at = 0.0
        self._arrives = 0.0
        self._inbox: deque[bytes | None] = deque()
        self._reading = True
        self._closing_half = False
        self._end_sent = False
        self._end_seen = False

    @property
    def bytes_taken(self) -> int:
        """Bytes that the other end has taken: what is on its way counts, as nothing is lost."""
        return self.bytes_out

    def begin(self, protocol: Any) -> None:
        """Give the connection to its protocol."""
        self.protocol = protocol
        self.network.opened(self)
        protocol.makeConnection(self)
        self._deliver()

    # -- writing --------------------------------------------------------------

    @property
    def unsent(self) -> bool:
        """Whether bytes wait to leave."""
        return bool(self._out)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self.disconnected or self._end_sent or not data:
            return
        self._out += data
        if self._streaming and len(self._out) > BUFFER and self.producer is not None:
            self._paused = True
            self.producer.pauseProducing()
        self._send()

    def writeSequence(self, data: Any) -> None:
        """Send bytes."""
        self.write(b"".join(data))

    def _send(self) -> None:
        link = self.network.link(self.host, self.peer)
        while self._out and self._under_way < WINDOW:
            size = min(len(self._out), SEGMENT)
            if self.doom is not None:
                if self.doom.after <= 0:
                    self._doomed()
                    return
                size = min(size, self.doom.after)
                self.doom.after -= size
            piece = bytes(self._out[:size])
            del self._out[:size]
            self._under_way += size
            self.bytes_out += size
            self.busy_at = self.world.now
            start = max(self._free_at, self.world.now)
            self._free_at = start + size / link.rate
            self._carry_behind(partial(self._theirs().arrived, piece))
        if not self._out:
            self._drained()

    def _doomed(self) -> None:
        doom, self.doom = self.doom, None
        if doom is not None and doom.silent:
            # What is left is never sent, and nobody is told.
            self.doom = doom
            return
        self._carry_behind(self._theirs().reset)
        self.world.after(0, self.reset)

    def _theirs(self) -> End:
        if self.other is None:
            raise RuntimeError("this end has no other")
        return self.other

    def _carry_behind(self, arrive: Callable[[], None]) -> None:
        """Let something arrive behind all that was sent before."""
        self._arrives = self.network.carry(
            self.host, self.peer, arrive, self._free_at, self._arrives
        )

    def _carry(self, arrive: Callable[[], None]) -> None:
        self.network.carry(self.host, self.peer, arrive)

    def _drained(self) -> None:
        if self.disconnected:
            return
        if self.producer is not None and (self._paused or not self._streaming):
            self._paused = False
            self.producer.resumeProducing()
        elif self.disconnecting or self._closing_half:
            # As Twisted does: whoever wants to go on writing had to be paused.
            self._send_end()

    def _send_end(self) -> None:
        if self._end_sent and not self.disconnecting:
            return
        if not self._end_sent:
            self._end_sent = True
            self._carry_behind(partial(self._theirs().arrived, _END))
        if self.disconnecting:
            self.world.after(0, self._lost, ConnectionDone(), owner=self.owner)
        elif IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()
            if self._end_seen:
                self.world.after(0, self._lost, ConnectionDone(), owner=self.owner)

    def acknowledged(self, size: int) -> None:
        """The other side has read so many bytes."""
        if self.disconnected:
            return
        self._under_way -= size
        self.world.current = self.owner
        if self._out:
            self._send()

    # -- reading --------------------------------------------------------------

    def arrived(self, piece: bytes | None) -> None:
        """Bytes have come, or the end of them."""
        if self.disconnected:
            if piece is not None:
                # As a kernel answers who writes to a socket that was closed.
                self._carry(self._theirs().reset)
            return
        self._inbox.append(piece)
        if self.protocol is not None:
            self.world.current = self.owner
            self._deliver()

    def _deliver(self) -> None:
        while self._inbox and self._reading and not self.disconnected:
            piece = self._inbox.popleft()
            if piece is None:
                self._end_came()
                return
            self._carry(partial(self._theirs().acknowledged, len(piece)))
            self.busy_at = self.world.now
            try:
                self.protocol.dataReceived(piece)
            except Exception as error:
                # As a reactor does: it is logged, and the connection ends.
                self._lost(error)
                raise

    def _end_came(self) -> None:
        self._end_seen = True
        if IHalfCloseableProtocol.providedBy(self.protocol) and not self._end_sent:
            self.protocol.readConnectionLost()
        else:
            self._lost(ConnectionDone())

    def reset(self) -> None:
        """The other side, or something between, has cut the connection."""
        if not self.owner.alive:
            self.die()
            return
        self.world.current = self.owner
        if self.protocol is None:
            self.die()
        else:
            self._lost(ConnectionLost())

    def die(self) -> None:
        """End without telling the protocol: its process is gone, or there is none yet."""
        self.disconnected = True
        self._inbox.clear()
        self._out.clear()
        self.network.gone(self)

    def _lost(self, why: Exception) -> None:
        if self.disconnected:
            return
        unread = bool(self._inbox) and any(piece is not None for piece in self._inbox)
        self.die()
        if unread:
            self._carry(self._theirs().reset)
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(why))

    # -- what Twisted's transports have ----------------------------------------

    def loseConnection(self) -> None:
        """Close when everything has been sent."""
        if self.disconnected or self.disconnecting:
            return
        self.disconnecting = True
        self._reading = False
        if not self._out:
            self._drained()

    def loseWriteConnection(self) -> None:
        """Close the sending side when everything has been sent."""
        self._closing_half = True
        if not self._out:
            self._drained()

    def abortConnection(self) -> None:
        """Cut."""
        if self.disconnected:
            return
        self._reading = False
        self._carry(self._theirs().reset)
        self.world.after(0, self._lost, ConnectionAborted(), owner=self.owner)

    def pauseProducing(self) -> None:
        """Read no more."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Read on."""
        if not self._reading and not self.disconnected and not self.disconnecting:
            self._reading = True
            # In a turn of its own: whoever asks is in the middle of something.
            self.world.after(0, self._deliver, owner=self.owner)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    startReading = resumeProducing  # noqa: N815 -- Twisted's name
    stopReading = pauseProducing  # noqa: N815 -- Twisted's name

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001
        """Ask a producer for what is to be sent."""
        if self.producer is not None:
            raise RuntimeError("there is a producer already")
        if self.disconnected:
            producer.stopProducing()
            return
        self.producer = producer
        self._streaming = streaming
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Ask nobody any more."""
        self.producer = None
        if not self._out and (self.disconnecting or self._closing_half):
            self._drained()

    def getPeer(self) -> IPv4Address:
        """Return the address there."""
        return IPv4Address("TCP", self.peer, PORT)

    def getHost(self) -> IPv4Address:
        """Return the address here."""
        return IPv4Address("TCP", self.host, PORT)

    def getTcpNoDelay(self) -> bool:
        """Say yes."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:  # noqa: FBT001 -- Twisted's name
        """Do nothing."""

    def getTcpKeepAlive(self) -> bool:
        """Say no."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:  # noqa: FBT001 -- Twisted's name
        """Do nothing."""

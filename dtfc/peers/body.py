"""A peer's body on its way to the disk, read no faster than it is taken away.

Rules of this file: at most two blocks are ever held, each up to one read of the
socket too long: one in the reader's hands (being written), one gathered
meanwhile. So what a ``kill -9`` loses, and a later load transfers again, is
at most 2 MiB. Time counts only while the socket is being read: a slow disk
is never held against a peer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from zope.interface import implementer

from dtfc.peers.addresses import Network

BLOCK = 640 * 1024
"""Bytes that go to the disk in one step, where they come fast enough."""

FLUSH_AFTER = 0.05
"""Seconds after which what has come goes to the disk although it is no block yet."""

GRACE = 1.0
"""Seconds that a complete body has to end by its own framing."""

_LARGEST_REMAINDER = 64 * 1024
_REMAINDER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PeerLimits:
    """How slow and how talkative a peer may be.

    Args:
        connect: seconds to establish a connection.
        first_byte: seconds from the request to the end of the response's head,
            the connection included (``--peer-timeout``).
        stall: seconds without a byte of the body (``--peer-stall``).
        lowest_rate: bytes a second below which a peer is given up ...
        rate_window: ... measured over so many seconds.
        head_bytes: largest head of a response, any 1xx before it included.
        networks: where peers may be; if there are none, wherever it does no harm.
    """

    connect: float = 5.0
    first_byte: float = 10.0
    stall: float = 15.0
    lowest_rate: int = 1024
    rate_window: float = 30.0
    head_bytes: int = 16 * 1024
    networks: tuple[Network, ...] = ()


@implementer(IProtocol)
class Body(Protocol):
    """Reads ``count`` bytes of a body, after passing over ``skip``.

    Args:
        clock: measures stalls and rates.
        limits: what a peer may take.
        skip: bytes at the start that nobody wants.
        count: bytes wanted after them.
    """

    def __init__(self, clock: IReactorTime, limits: PeerLimits, skip: int, count: int) -> None:
        self.received = 0
        """Bytes of the body that came from the peer, wanted or not."""
        self.skipped = 0
        """How many of them were passed over."""
        self.cut: str | None = None
        """Once over: why less came than was wanted; None if all came."""
        self.surplus = False
        """Whether more came than was wanted."""
        self.broken_off = False
        """Once over: whether it was the peer that ended it too early."""
        self._clock = clock
        self._limits = limits
        self._skip = skip
        self._missing = count
        self._blocks: list[bytes] = []
        self._held = 0
        self._taken = 0
        self._flushed = True
        self._over = False
        self._paused = False
        self._reader: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._flush: IDelayedCall | None = None
        self._tick = min(1.0, limits.stall / 4, limits.rate_window / 4)
        self._silent = 0.0
        self._window = 0.0
        self._window_bytes = 0

    # What the reader calls.

    async def read(self) -> list[bytes]:
        """Wait for the next blocks.

        Returns:
            What has come, in order; nothing once the body is over, and then
            :attr:`cut` tells how it ended.
        """
        while not self._enough():
            # Fired by what the transport delivers, or by a timer.
            self._reader = Deferred(self._forget_reader)
            if self._held:
                self._flush_soon()
            await self._reader
        blocks, self._blocks = self._blocks, []
        self._taken += self._held
        self._held = 0
        self._flushed = False
        if self._paused and not self._over:
            self._paused = False
            self._producer().resumeProducing()
        return blocks

    def shorten(self, count: int) -> None:
        """Want only the first ``count`` bytes of those wanted so far, if not more have been read.

        The rest of the body is not waited for: the connection ends with it.
        """
        unwanted = self._taken + self._held + self._missing - count
        if unwanted <= 0:
            return
        excess = min(self._held, max(0, self._taken + self._held - count))
        self._missing = max(0, count - self._taken - self._held)
        self._held -= excess
        while excess:
            last = self._blocks.pop()
            if len(last) > excess:
                self._blocks.append(last[: len(last) - excess])
            excess -= min(excess, len(last))
        if not self._missing and not self._over:
            self._finish(None)
            self._producer().stopProducing()

    def abort(self, reason: str) -> None:
        """Give the peer up; what has come can still be read."""
        if not self._over:
            self._finish(reason)
            self._producer().stopProducing()

    # What the transport calls.

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Start the clock."""
        self._timer = self._clock.callLater(self._tick, self._watch)
        if not self._missing:
            self._finish(None)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Keep what is wanted."""
        self.received += len(data)
        self._silent = 0.0
        self._window_bytes += len(data)
        if self._over:
            self.surplus = True
            self._producer().stopProducing()
            return
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            self.skipped += passed
            data = data[passed:]
        self.surplus = len(data) > self._missing
        data = data[: self._missing]
        if data:
            self._blocks.append(data)
            self._held += len(data)
            self._missing -= len(data)
        if not self._missing:
            self._finish(None)
            if self.surplus:
                self._producer().stopProducing()
        elif self._enough():
            self._wake()
        elif self._reader is not None and self._held:
            self._flush_soon()
        if self._held >= BLOCK and not self._over:
            self._paused = True
            self._producer().pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        """The body ended, by its framing or before it."""
        if not self._over:
            ended = reason.check(ResponseDone, PotentialDataLoss) is not None
            how = "ended the body" if ended else "broke off"
            self.broken_off = True
            self._finish(f"{how} after {self.received} bytes, {self._missing} too early")
        self._stop_timer()

    # Inside.

    def _producer(self) -> IPushProducer:
        return cast("IPushProducer", self.transport)

    def _enough(self) -> bool:
        return self._over or self._held >= BLOCK or (self._flushed and self._held > 0)

    def _flush_soon(self) -> None:
        if self._flush is None:
            self._flush = self._clock.callLater(FLUSH_AFTER, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self._flushed = True
        self._wake()

    def _wake(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def _forget_reader(self, reader: Deferred[None]) -> None:
        del reader
        self._reader = None
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None

    def _finish(self, cut: str | None) -> None:
        self._over = True
        self.cut = cut
        self._stop_timer()
        if cut is None:
            # A body of known length ends right behind its last byte. Any other
            # may end soon, which keeps the connection, or never.
            self._timer = self._clock.callLater(GRACE, self._out_of_grace)
        self._wake()

    def _out_of_grace(self) -> None:
        self._timer = None
        self._producer().stopProducing()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        self._timer = self._clock.callLater(self._tick, self._watch)
        if self._paused:
            return
        self._silent += self._tick
        self._window += self._tick
        if self._silent >= self._limits.stall:
            self.abort(f"sent nothing for {self._limits.stall:g} seconds")
        elif self._window >= self._limits.rate_window:
            if self._window_bytes < self._limits.lowest_rate * self._window:
                self.abort(f"sent less than {self._limits.lowest_rate} bytes a second")
            self._window = 0.0
            self._window_bytes = 0


@implementer(IProtocol)
class Remainder(Protocol):
    """Reads away a body that nobody wants, so that the connection can be used again.

    Args:
        clock: measures how long that may take.
        known: the length of the body; None if it was not announced.
    """

    def __init__(self, clock: IReactorTime, known: int | None) -> None:
        self._clock = clock
        self._worth_it = known is not None and known <= _LARGEST_REMAINDER
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Give a long body up at once, and a short one a few seconds."""
        if self._worth_it:
            self._timer = self._clock.callLater(_REMAINDER_SECONDS, self._give_up)
        else:
            self._give_up()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Pass over it: its length is bounded by its own framing."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        """It is over."""
        del reason
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        cast("IPushProducer", self.transport).stopProducing()

"""A body on its way to a peer, which may say no before it has it all.

Rules of this file: a block is asked for when the one before has left for the
socket, so one block a body is in memory, however slow the peer; and a peer that
takes nothing is given up. Twisted's client hands over an answer only when the
request is written, and stops reading meanwhile: so what comes before is looked
at here, by the connection (:class:`dtfc.peers.connections.Connections`), and a
refusal ends the sending.

With ``Expect: 100-continue`` nothing leaves before the peer has said that it
will take it, or has said nothing for a second: not every server knows how
(RFC 9110 section 10.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from dtfc.errors import DtfcError
from dtfc.peers.failure import PeerFailure

GO_AHEAD = 1.0
"""Seconds that ``100 Continue`` is waited for."""

_LARGEST_HEAD = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |\r?\n)")


class Refused(DtfcError):
    """A peer said no before it had the whole body.

    Args:
        status: what it said.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"refused with {status}")
        self.status = status


@implementer(IBodyProducer)
class Outgoing:
    """Sends a body, block by block.

    Args:
        length: bytes in all.
        read: returns the next block, never an empty one.
        clock: measures how long the peer takes nothing.
        stall: seconds that it may.
        ask_first: whether to wait until the peer says that it will take it.
        sent: called when the last byte has left for the socket.
    """

    def __init__(
        self,
        length: int,
        read: Callable[[], Awaitable[bytes]],
        clock: IReactorTime,
        stall: float,
        *,
        ask_first: bool,
        sent: Callable[[], object],
    ) -> None:
        self.length = length
        self.left = length
        """Bytes that have not left for the socket."""
        self._read = read
        self._clock = clock
        self._stall = stall
        self._ask_first = ask_first
        self._sent = sent
        self._paused = False
        self._early = b""
        self._done: Deferred[None] | None = None
        self._work: Deferred[None] | None = None
        self._wake: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    # -- as Twisted's client wants it -----------------------------------------

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Begin; what is returned fires when all is written, or it failed."""
        self._done = done = Deferred[None](lambda _: self._give_up())
        self._work = Deferred.fromCoroutine(self._send(consumer))
        self._work.addBoth(self._ended)
        return done

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Let the socket drain."""
        self._paused = True

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Go on."""
        self._paused = False
        if not self._ask_first:
            self._awake()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Stop for good; nobody is told."""
        self._done = None
        self._give_up()

    # -- as the connection wants it -------------------------------------------

    def answered(self, data: bytes) -> None:
        """Look at what came before all was written: a leave to go on, or a refusal."""
        self._early += data
        while self._done is not None:
            found = _STATUS.match(self._early)
            if found is None:
                if len(self._early) > 64 or b"\n" in self._early:
                    self._fail(PeerFailure("answered with something that is no HTTP"))
                return
            if len(self._early) > _LARGEST_HEAD:
                self._fail(PeerFailure("answered with a head that is too large"))
                return
            _head, end, rest = self._early.partition(b"\r\n\r\n")
            status = int(found[1])
            if status >= 200:
                self._fail(Refused(status))
                return
            if not end:
                return
            self._early = rest
            if status == 100 and self._ask_first:
                self._ask_first = False
                self._awake()
            if not rest:
                return

    # -- the work -------------------------------------------------------------

    async def _send(self, consumer: IConsumer) -> None:
        if self._ask_first and self.left:
            await self._rest(GO_AHEAD)
            self._ask_first = False
        while self.left:
            block = await self._read()
            self.left -= len(block)
            consumer.write(block)
            if self._paused and self.left and not await self._rest(self._stall):
                raise PeerFailure(f"took nothing for {self._stall:g} seconds")
        self._sent()

    async def _rest(self, seconds: float) -> bool:
        """Wait to be woken; False if nobody did in time."""
        # Fired by _awake, or by the timer; whoever cancels needs neither.
        self._wake = wake = Deferred[None]()
        woken = True

        def enough() -> None:
            nonlocal woken
            woken = False
            self._awake()

        self._timer = timer = self._clock.callLater(seconds, enough)
        try:
            await wake
        finally:
            self._wake = None
            if timer.active():
                timer.cancel()
        return woken

    def _awake(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    def _fail(self, error: Exception) -> None:
        done, self._done = self._done, None
        self._give_up()
        if done is not None:
            done.errback(error)

    def _give_up(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    def _ended(self, result: Failure | None) -> None:
        self._work = None
        done, self._done = self._done, None
        if done is None or done.called:
            if isinstance(result, Failure):
                result.trap(CancelledError, DtfcError)
            return
        if isinstance(result, Failure):
            done.errback(result)
        else:
            done.callback(None)

"""Bodies of CouchDB's answers: one that is wanted whole, one that may never end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from dtfc.errors import CouchUnreached, TooLarge
from dtfc.peers.failure import PeerFailure


class Whole(Protocol):
    """Reads a whole body.

    Args:
        most: its bytes at most.

    Attributes:
        done: fires with the body, or TooLarge, PeerFailure.
    """

    transport: Any

    def __init__(self, most: int) -> None:
        # Fired by connectionLost, which Twisted's client calls however a body ends.
        self.done: Deferred[bytes] = Deferred(lambda _done: self._stop())
        self._most = most
        self._length = 0
        self._blocks: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Take some of it."""
        self._length += len(data)
        if self._length <= self._most:
            self._blocks.append(data)
        elif not self.done.called:
            self.done.errback(TooLarge(self._most, "--couchdb-max-document"))
            self._stop()

    def _stop(self) -> None:
        if self.transport is not None:
            # What stands between aborts the connection: dtfc.peers.connections.
            self.transport.stopProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Hand over what came, if that is all of it."""
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(self._blocks))
        else:
            self.done.errback(PeerFailure("it broke off in the middle of its answer"))


class Stream(Protocol):
    """Hands on a body as it comes, no faster than it is taken.

    Args:
        clock: measures silence.
        heard: takes blocks; what it returns, if anything, is waited for.
        silence: seconds without a byte after which it is given up; what waits for
            its taker is not silent.

    Attributes:
        done: fires at the end of the body, or with CouchUnreached, PeerFailure, and
            whatever ``heard`` fails with.
        wanted: whether its blocks are handed on; else they are passed over.
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        heard: Callable[[bytes], Deferred[None] | None],
        silence: float,
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _done: self._stop())
        self.wanted = True
        self._clock = clock
        self._heard = heard
        self._silence = silence
        self._timer: IDelayedCall | None = None
        self._ended: Failure | None = None
        self._taking = False
        # A transport that is paused may deliver what it has read already.
        self._waiting: list[bytes] = []

    def connectionMade(self) -> None:  # noqa: N802 -- Twisted's name
        """Begin to listen for silence."""
        self._timer = self._clock.callLater(self._silence, self._silent)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Hand some of it on."""
        if self._timer is not None:
            self._timer.reset(self._silence)
        if self.done.called or not self.wanted:
            return
        self._waiting.append(data)
        if not self._taking:
            self._take()

    def _take(self) -> None:
        while self._waiting and not self.done.called:
            try:
                taking = self._heard(self._waiting.pop(0))
            except Exception:  # noqa: BLE001 -- whoever waits for the end hears of it
                self._fail(Failure())
                return
            if taking is not None and not taking.called:
                self._taking = True
                self._hold()
                taking.addCallbacks(self._taken, self._fail)
                return
        self._finish()

    def _taken(self, _result: object) -> None:
        self._taking = False
        if self._ended is None and not self.done.called:
            self._timer = self._clock.callLater(self._silence, self._silent)
            self.transport.resumeProducing()
        self._take()

    def _hold(self) -> None:
        self._stop_timer()
        if self._ended is None:
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Tell the end, once all that came is taken."""
        self._ended = reason
        self._stop_timer()
        if not self._taking:
            self._finish()

    def _finish(self) -> None:
        if self._ended is None or self.done.called:
            return
        if self._ended.check(ResponseDone):
            self.done.callback(None)
        else:
            self.done.errback(PeerFailure("it broke off in the middle of its answer"))

    def _silent(self) -> None:
        self._timer = None
        self._fail(Failure(CouchUnreached(f"nothing came for {self._silence:g} seconds")))

    def _fail(self, failure: Failure) -> None:
        if not self.done.called:
            self.done.errback(failure)
        self._stop()

    def _stop(self) -> None:
        self._stop_timer()
        if self.transport is not None and self._ended is None:
            # What stands between aborts the connection: dtfc.peers.connections.
            self.transport.stopProducing()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

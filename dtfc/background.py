"""Something that goes on by itself until it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure


class Background:
    """Runs one coroutine at a time.

    Args:
        work: makes the coroutine; it is cancelled where it waits.
        ended: told of an end by a mistake, which leaves nobody at work.

    Attributes:
        runs: whether it was started, and not stopped since. Who is cancelled and
            finds this true was cancelled by somebody else.
    """

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[Failure], object]
    ) -> None:
        self._work = work
        self._ended = ended
        self._running: Deferred[None] | None = None
        self.runs = False

    def start(self) -> None:
        """Begin."""
        self.runs = True
        self._running = Deferred.fromCoroutine(self._work())
        self._running.addErrback(self._over)

    async def stop(self) -> None:
        """Cancel it, and wait until it has ended; harmless when repeated."""
        self.runs = False
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await running

    def _over(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._ended(failure)

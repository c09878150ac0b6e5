"""How long the loop was busy with one thing: the longest pause that a client could feel.

A timer is due every :data:`PERIOD`; what passes between two of its calls, less
the period, is at least how long the loop did not look at any socket.

On a machine with more work than processors a part of that is not the loop's
doing: it was ready to go on, and other processes had the processors. Linux
counts that time for each thread, so it is told apart.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

#: Seconds between two looks: short enough not to hide a stall, and half a
#: percent of a core.
PERIOD = 0.005

#: Seconds from which a stall is worth a line in the log.
WORTH_A_LINE = 0.25


class StallDetector:
    """Watches the loop.

    Args:
        clock: the reactor.
        ticks: seconds that no change of the time of day moves; None for the clock's.
        queued: seconds that the loop's thread has waited for a processor so far.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        ticks: Callable[[], float] | None = None,
        queued: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.longest = 0.0
        """The longest stall since the start, in seconds."""
        self.longest_own = 0.0
        """The longest, less what it waited for a processor, in seconds."""
        self.total = 0.0
        """All stalls together, in seconds."""
        self._clock = clock
        self._ticks = ticks or clock.seconds
        self._queued = queued
        self._last = self._last_queued = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._last = self._ticks()
        self._last_queued = self._queued()
        self._call = self._clock.callLater(PERIOD, self._look)

    def stop(self) -> None:
        """End watching."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _look(self) -> None:
        now = self._ticks()
        stall = now - self._last - PERIOD
        self._last = now
        queued = self._queued()
        waited, self._last_queued = queued - self._last_queued, queued
        if stall > 0:
            self.total += stall
            self.longest = max(self.longest, stall)
            self.longest_own = max(self.longest_own, stall - waited)
            if stall > WORTH_A_LINE:
                self._log.warn(
                    "the loop stood still for {stall:.3f} s, {waited:.3f} s of it for a processor",
                    stall=stall,
                    waited=waited,
                )
        self._call = self._clock.callLater(PERIOD, self._look)


class Queued:
    """How long a thread has waited for a processor, as Linux counts it; 0 elsewhere."""

    def __init__(self) -> None:
        self._fd = -1

    def open(self) -> None:
        """Tell of the thread that calls this."""
        self.close()
        with contextlib.suppress(OSError):
            self._fd = os.open(
                f"/proc/self/task/{threading.get_native_id()}/schedstat",
                os.O_RDONLY | os.O_CLOEXEC,
            )

    def __call__(self) -> float:
        """Return seconds since the thread began."""
        if self._fd < 0:
            return 0.0
        try:
            # Three numbers: nanoseconds on a processor, waiting for one, turns.
            return int(os.pread(self._fd, 96, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def keep_collections_short() -> None:
    """Let the garbage collector pass over what was there before the first request.

    A full collection looks at every object: 15 to 23 ms for the modules and
    routes of a node alone, in which the loop looks at no socket. What a node
    began with stays until it ends, so it need not be looked at again.
    """
    gc.collect()
    gc.freeze()

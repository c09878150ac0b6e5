"""How long the loop was busy with one thing: the longest pause that a client could feel.

A timer is due every :data:`PERIOD`; what passes between two of its calls, less
the period, is at least how long the loop did not look at any socket.
"""

from __future__ import annotations

import gc
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
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, ticks: Callable[[], float] | None = None) -> None:
        self.longest = 0.0
        """The longest stall since the start, in seconds."""
        self.total = 0.0
        """All stalls together, in seconds."""
        self._clock = clock
        self._ticks = ticks or clock.seconds
        self._last = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._last = self._ticks()
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
        if stall > 0:
            self.total += stall
            self.longest = max(self.longest, stall)
            if stall > WORTH_A_LINE:
                self._log.warn("the loop stood still for {stall:.3f} s", stall=stall)
        self._call = self._clock.callLater(PERIOD, self._look)


def keep_collections_short() -> None:
    """Let the garbage collector pass over what was there before the first request.

    A full collection looks at every object: 15 to 23 ms for the modules and
    routes of a node alone, in which the loop looks at no socket. What a node
    began with stays until it ends, so it need not be looked at again.
    """
    gc.collect()
    gc.freeze()

"""When a worker that has died is replaced.

Rules of this file: pure; it is told how long the worker served, and says how
long to wait. One that did so for a while is replaced at once. One that dies
again and again would otherwise keep the machine busy with starting.
"""

from __future__ import annotations

QUICK = 10.0
"""Seconds: who has served for less than this has died quickly."""

FIRST_PAUSE = 0.5
"""Seconds after the second quick death in a row ..."""

LONGEST_PAUSE = 30.0
"""... doubled with each further one, up to this."""


class Comeback:
    """The deaths in one worker's place."""

    def __init__(self) -> None:
        self.quick = 0
        """Quick deaths in a row."""

    def after(self, served: float) -> float:
        """Return how many seconds to wait before the next one is started.

        Args:
            served: seconds for which the one that died had served; 0 if it never did.
        """
        if served >= QUICK:
            self.quick = 0
            return 0.0
        self.quick += 1
        if self.quick == 1:
            return 0.0
        doublings = min(self.quick - 2, 32)
        return min(FIRST_PAUSE * 2.0**doublings, LONGEST_PAUSE)

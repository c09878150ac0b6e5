"""How a peer has been: how quick, and whether it rests.

Rules of this file: pure; seconds are handed in. What was measured fades with
time, so that a peer that was slow, or has not been asked for long, is tried
again. A clock that jumps back makes no peer rest longer than it could have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

HALF_LIFE = 120.0
"""Seconds in which a measurement loses half its weight."""

KEPT = 0.8
"""The weight that earlier measurements keep when another one comes."""

USUAL_FIRST_BYTE = 0.05
"""Seconds to the first byte of a peer of which nothing is known."""

USUAL_RATE = 20e6
"""Bytes a second of such a peer."""

_DOUBT = 0.25
"""How many measurements what is usual is worth."""

_DOUBT_SECONDS = 0.05
"""Seconds of transfer that it is worth."""

FIRST_REST = 1.0
"""Seconds that a peer rests after its first failure ..."""

LONGEST_REST = 300.0
"""... doubled each time, up to this."""

LIARS_REST = 3600.0
"""Seconds that a peer rests after it sent wrong bytes ..."""

LONGEST_LIARS_REST = 86400.0
"""... doubled each time, up to this."""


RESULTS = ("ok", "absent", "refused", "unreached", "broken", "dropped")
"""What becomes of one request of a load to a peer: it sent all that it was asked for, does
not have it, has said no, gave no answer, broke off; or it was no longer wanted."""


class Average:
    """A mean whose older parts count less.

    Args:
        usual: what it is taken for while nothing is known.
        doubt: how much of ``weight`` that is worth.
    """

    __slots__ = ("_at", "_doubt", "_sum", "_usual", "_weight")

    def __init__(self, usual: float, doubt: float) -> None:
        self._usual = usual
        self._doubt = doubt
        self._sum = 0.0
        self._weight = 0.0
        self._at = 0.0

    def add(self, value: float, weight: float, now: float) -> None:
        """Take a measurement in.

        Args:
            value: its sum: seconds of a wait, bytes of a transfer.
            weight: what the sum is of: 1 wait, so many seconds.
            now: seconds.
        """
        kept = self._faded(now) * KEPT
        self._sum = self._sum * kept + value
        self._weight = self._weight * kept + weight
        self._at = now

    def expected(self, now: float) -> float:
        """Return what to reckon with."""
        kept = self._faded(now)
        return (self._sum * kept + self._usual * self._doubt) / (self._weight * kept + self._doubt)

    @property
    def measured(self) -> float | None:
        """What was measured, however long ago; None if nothing was."""
        return self._sum / self._weight if self._weight > 0 else None

    def _faded(self, now: float) -> float:
        return float(0.5 ** (max(0.0, now - self._at) / HALF_LIFE))


@dataclass(slots=True)
class Rest:
    """For how long nobody should ask, and how often in a row that was so.

    Args:
        first: seconds of the first rest.
        longest: seconds of the longest one.
    """

    first: float
    longest: float
    count: int = 0
    until: float = 0.0

    def left(self, now: float) -> float:
        """Return how many seconds are left; 0 if it does not rest."""
        left = self.until - now
        return left if 0 < left <= self.longest else 0.0

    def begin(self, now: float, share: float) -> None:
        """Rest, twice as long as the last time, or as the first if that is long ago.

        Nothing changes during a rest: a peer that is down fails many requests
        at once, and it is down once.

        Args:
            now: seconds.
            share: of the doubled time, 0.5 to 1.
        """
        if self.left(now):
            return
        if abs(now - self.until) > 2 * self.longest:
            self.count = 0
        seconds = min(self.longest, self.first * 2.0 ** min(self.count, 30))
        self.count += 1
        self.until = now + seconds * share

    def end(self) -> None:
        """Rest no more, and begin with the shortest rest again."""
        self.count = 0
        self.until = 0.0


class Health:
    """What is known of one peer."""

    __slots__ = ("dead", "failures", "fetches", "first_byte", "lies", "lying", "rate", "received")

    def __init__(self) -> None:
        self.first_byte = Average(USUAL_FIRST_BYTE, _DOUBT)
        self.rate = Average(USUAL_RATE, _DOUBT_SECONDS)
        self.dead = Rest(FIRST_REST, LONGEST_REST)
        self.lying = Rest(LIARS_REST, LONGEST_LIARS_REST)
        self.failures = 0
        self.lies = 0
        self.received = 0
        self.fetches = dict.fromkeys(RESULTS, 0)

    def answered(self, seconds: float, now: float) -> None:
        """It sent the head of an answer after so many seconds."""
        self.first_byte.add(max(0.0, seconds), 1.0, now)
        self.dead.end()

    def delivered(self, count: int, seconds: float, now: float) -> None:
        """It sent so many bytes in so many seconds."""
        self.received += count
        if count > 0 and seconds > 0:
            self.rate.add(count, seconds, now)

    def failed(self, now: float, random: Callable[[], float]) -> None:
        """It could not be reached, or broke off."""
        self.failures += 1
        self.dead.begin(now, 0.5 + random() / 2)

    def lied(self, now: float) -> None:
        """It sent wrong bytes."""
        self.lies += 1
        self.lying.begin(now, 1.0)

    def rests(self, now: float) -> float:
        """Return for how many seconds nobody should ask it; 0 if it may be asked."""
        return max(self.dead.left(now), self.lying.left(now))

    def seconds_for(self, count: int, now: float) -> float:
        """Return how long so many bytes of it will take, the wait for the first included."""
        return self.first_byte.expected(now) + count / self.rate.expected(now)

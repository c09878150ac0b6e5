"""What is kept of each ask in progress, and of each peer, during one load.

Rules of this file: pure. Seconds are whatever the driver's clock says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dtfc.peers.steps import Ask

#: How much the latest stretch of time counts in a rate, beside all before it.
_LATEST = 0.5

#: Seconds below which a stretch says nothing about a rate.
_SHORTEST = 0.02


@dataclass(slots=True)
class Record:
    """What one peer has done during this load."""

    reason: str = "not asked"
    absent: bool = False
    excluded: bool = False
    disputes: bool = False
    whole_only: bool = False
    suspect: bool = False
    lost: bool = False
    failures: int = 0
    tries_alone: int = 0
    retry_after: int | None = None
    rate: float | None = None
    """Bytes a second, as it was measured last."""
    map_asked: bool = False
    absent_at: float = 0.0
    asked_back: int = 0
    """How often it was asked again although it did not have it: it may be loading it by now."""
    times_refused: int = 0
    """How often it sent to others first, since it sent something last."""
    proven: bool = False
    """Whether it has the blob, as far as its answers tell."""

    @property
    def usable(self) -> bool:
        """Whether it may be asked again."""
        return not (self.absent or self.excluded or self.lost)


@dataclass(slots=True)
class Job:
    """An ask in progress.

    Args:
        ask: which.
        at: the next byte of the blob that is to come.
        end: the byte behind the last one; None while the length is not known.
        began: when it was asked.
    """

    ask: Ask
    at: int
    end: int | None
    began: float
    taking: bool = False
    delivered: int = 0
    moved: float = 0.0
    """When something of it came last."""
    rate: float | None = None
    rival_of: int | None = None
    """The ask whose bytes it shall bring if that one does not."""
    for_slow: bool = False
    """Whether that one is too slow, not silent."""
    for_wanted: bool = False
    hedges: bool = False
    """Whether it was asked because another was late or slow, and has not begun to send."""
    gives_way: bool = False
    """Whether its peer said that others may go before it."""
    _looked: float = field(default=0.0)
    _seen: int = 0

    @property
    def number(self) -> int:
        """Of the ask."""
        return self.ask.number

    @property
    def peer(self) -> str:
        """Who is asked."""
        return self.ask.peer

    @property
    def complete(self) -> bool:
        """Whether all that it was to bring is here."""
        return self.end is not None and self.at >= self.end

    def takes(self, now: float) -> None:
        """Its body begins."""
        self.taking = True
        self.moved = self._looked = now

    def look(self, now: float) -> None:
        """Measure its rate."""
        passed = now - self._looked
        if not self.taking or passed < _SHORTEST:
            return
        latest = (self.delivered - self._seen) / passed
        if self.delivered:
            self.rate = (
                latest if self.rate is None else _LATEST * latest + (1 - _LATEST) * self.rate
            )
        self._looked, self._seen = now, self.delivered

    def left(self, total: int) -> int:
        """How many bytes are still to come."""
        return (total if self.end is None else self.end) - self.at

    def seconds_left(self, total: int) -> float | None:
        """How long that will take; None if nothing is known of its rate."""
        return None if self.rate is None else self.left(total) / max(self.rate, 1.0)

"""How much went through a node lately: a ring of samples.

Rules of this file: pure, and as large at the end as at the beginning. What is
counted is told from outside, with the time at which it was so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from dtfc.web.families import REQUESTS, Family

#: Seconds from one sample to the next.
EVERY = 2.0

#: Samples kept: ten minutes of them.
KEPT = 300


@dataclass(frozen=True, slots=True)
class Totals:
    """What was counted since the beginning.

    Args:
        requests: answers.
        sent: bytes of answers' bodies, also of those that are under way.
        received: bytes of requests' bodies, likewise.
    """

    requests: float = 0
    sent: float = 0
    received: float = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What went through in the seconds before a moment.

    Args:
        at: the moment, in seconds since 1970.
        requests: answers a second.
        sent: bytes a second.
        received: bytes a second.
    """

    at: float
    requests: float
    sent: float
    received: float

    def plain(self) -> list[float]:
        """Return it as JSON has it."""
        return [round(self.at, 3), round(self.requests, 2), round(self.sent), round(self.received)]


def totals_of(families: Iterable[Family]) -> Totals:
    """Return the totals that metrics tell."""
    found = {
        each.name: sum(each.values.values())
        for each in families
        if each.name in (REQUESTS, "dtfc_http_sent_bytes", "dtfc_http_received_bytes")
    }
    return Totals(
        found.get(REQUESTS, 0),
        found.get("dtfc_http_sent_bytes", 0),
        found.get("dtfc_http_received_bytes", 0),
    )


class Samples:
    """The last :data:`KEPT` samples.

    Args:
        kept: how many.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._samples: deque[Sample] = deque(maxlen=kept)
        self._at: float | None = None
        self._totals = Totals()

    def note(self, at: float, totals: Totals) -> None:
        """Take what was counted up to a moment.

        The first time there is nothing to compare it with. A moment that is not
        later than the last one adds nothing: it was told already, or the clock
        was set back, and then it is compared with from now on.
        """
        before, was = self._at, self._totals
        if before == at:
            return
        self._at, self._totals = at, totals
        if before is None or at < before:
            return
        passed = at - before
        self._samples.append(
            Sample(
                at,
                max(0.0, totals.requests - was.requests) / passed,
                max(0.0, totals.sent - was.sent) / passed,
                max(0.0, totals.received - was.received) / passed,
            )
        )

    def since(self, moment: float) -> list[Sample]:
        """Return the samples that are later than a moment, the oldest first."""
        return [each for each in self._samples if each.at > moment]

    @property
    def last(self) -> Sample | None:
        """The latest one; None if there is none yet."""
        return self._samples[-1] if self._samples else None

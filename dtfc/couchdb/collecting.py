"""When blobs that nothing refers to may be collected (pure).

Never while it is not sure what databases refer to: each of them is followed, and
was read from its beginning to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dtfc.couchdb.follower import FollowerStatus

#: Seconds that are counted at most between two looks at the clock: who does not get
#: to look at it, does not get to hear of failures either.
LONGEST_STEP = 150.0


@dataclass(frozen=True, slots=True)
class CollectorTerms:
    """What an operator says of the collector.

    Args:
        grace: seconds for which nothing may have referred to a blob; None to
            collect nothing.
        dry_run: only report.
        undelete: seconds for which a collected blob can come back.
        period: seconds between two passes.
        verify: seconds that have to be between two readings of all databases
            from their beginning, which come before the first blob goes.
    """

    grace: float | None = None
    dry_run: bool = False
    undelete: float = 604800.0
    period: float = 3600.0
    verify: float = 86400.0


def obstacle(followers: Sequence[FollowerStatus]) -> str:
    """Return why nothing may be collected now; empty if it may."""
    for each in followers:
        if each.state in {"unreached", "gone"}:
            return f"the database {each.database} is {each.state}: {each.trouble}"
        if each.state != "following" or not each.complete:
            return f"the database {each.database} is not read to its end yet"
    return "" if followers else "no database is followed"


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts the seconds in which all databases could be followed.

    Args:
        looked: when it was looked at last, in seconds of a clock that nobody sets.
        failures: of all followers, by then.
        clear: whether there was no obstacle then.
    """

    looked: float
    failures: int = 0
    clear: bool = False

    def look(self, now: float, followers: Sequence[FollowerStatus]) -> tuple[Counter, float]:
        """Return the counter from now on, and the seconds to add.

        Args:
            now: of the same clock.
            followers: how they are.
        """
        failures = sum(each.counts.get("failures", 0) for each in followers)
        clear = not obstacle(followers)
        after = replace(self, looked=now, failures=failures, clear=clear)
        if not (clear and self.clear and failures == self.failures):
            return after, 0.0
        return after, min(max(0.0, now - self.looked), LONGEST_STEP)

"""How fast something may go, when it is many small steps."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater


class Pacing:
    """Lets bytes through at a rate, in the order in which they ask.

    What was not used is not saved up: after a rest it goes on at the rate, not
    above it.

    Args:
        clock: measures time.
        rate: bytes a second; None for no limit. May be replaced.
    """

    def __init__(self, clock: IReactorTime, rate: int | None) -> None:
        self.rate = rate
        self._clock = clock
        self._free_at = 0.0

    @property
    def owes(self) -> bool:
        """Whether the next one has to wait."""
        return self._free_at > self._clock.seconds()

    async def take(self, count: int) -> None:
        """Wait until so many bytes may go."""
        if self.rate is None:
            return
        now = self._clock.seconds()
        begins = max(now, self._free_at)
        self._free_at = begins + count / self.rate
        if begins > now:
            await deferLater(self._clock, begins - now)


class CopyPacing:
    """How fast copies leave: in all, and to each peer.

    Args:
        clock: measures time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._all = Pacing(clock, None)
        self._each: int | None = None
        self._of: dict[str, Pacing] = {}

    def set_rates(self, total: int | None, each: int | None, share: int = 1) -> None:
        """Put rates in force.

        Args:
            total: bytes a second in all; None for no limit.
            each: bytes a second to one peer; None for no limit.
            share: of how many processes this is one; each has its part.
        """
        self._all.rate = None if total is None else max(1, total // share)
        self._each = None if each is None else max(1, each // share)
        for pacing in self._of.values():
            pacing.rate = self._each

    async def take(self, peer: str, count: int) -> None:
        """Wait until so many bytes may go to a peer."""
        if self._each is not None:
            if peer not in self._of:
                # What has run out says nothing; so this is as small as what is in use.
                self._of = {url: each for url, each in self._of.items() if each.owes}
                self._of[peer] = Pacing(self._clock, self._each)
            await self._of[peer].take(count)
        await self._all.take(count)

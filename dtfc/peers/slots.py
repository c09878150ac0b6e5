"""How many loads, or requests to one peer, may be in progress at once; others wait their turn."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred


class Slots:
    """A number of places, taken and given back in order.

    Args:
        most: places; may be changed at any time, and takes effect as places
            are given back.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0
        self._queue: deque[Deferred[None]] = deque()

    @property
    def idle(self) -> bool:
        """Whether no place is taken and nobody waits."""
        return not self._taken and not self._queue

    async def take(self) -> None:
        """Take a place, or wait for one."""
        if self._taken < self.most and not self._queue:
            self._taken += 1
            return
        # Fired by give_back; whoever is cancelled leaves the queue.
        turn: Deferred[None] = Deferred(self._queue.remove)
        self._queue.append(turn)
        await turn

    def give_back(self) -> None:
        """Give a place back, and let those in whose turn it is."""
        self._taken -= 1
        while self._queue and self._taken < self.most:
            self._taken += 1
            self._queue.popleft().callback(None)


class SlotsByName:
    """As many places for each name, made when they are needed.

    Args:
        most: places for each; may be changed at any time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: dict[str, Slots] = {}

    @property
    def most(self) -> int:
        """Places for each name."""
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        self._most = most
        for each in self._slots.values():
            each.most = most

    async def take(self, name: str) -> None:
        """Take a place, or wait for one."""
        await self._slots.setdefault(name, Slots(self._most)).take()

    def give_back(self, name: str) -> None:
        """Give a place back."""
        slots = self._slots[name]
        slots.give_back()
        if slots.idle:
            del self._slots[name]

"""How many loads may be in progress at once; the others wait their turn."""

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

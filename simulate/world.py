"""Time: one clock for everything, and every event in its order.

Rules of this file: it knows no network and no node. Two worlds with the same
seed whose events do the same have the same history: events of the same moment
happen in the order in which they were asked for. Nothing here looks at the real
clock.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

#: The time of day at which a world begins, in seconds since 1970 (May 2033): later
#: than any time that the kernel writes into the files of a store, so that these
#: are old for a node whatever its clock says.
DAWN = 2_000_000_000.0


class Owner(Protocol):
    """Whose an event is: a machine that may have died before the event is due."""

    alive: bool
    offset: float


@implementer(IDelayedCall)
class Call:
    """Something that will happen.

    Args:
        world: whose clock decides.
        when: seconds since the world began.
        function: what to do then.
        owner: does not happen if its owner has died; None belongs to nobody.
    """

    __slots__ = ("_number", "_world", "args", "called", "cancelled", "function", "owner", "when")

    def __init__(
        self, world: World, when: float, function: Callable[..., Any], args: Any, owner: Any
    ) -> None:
        self._world = world
        self.when = when
        self.function = function
        self.args = args
        self.owner = owner
        self.called = False
        self.cancelled = False
        self._number = world.queue(self)

    def active(self) -> bool:
        """Tell whether it is still to happen."""
        return not (self.called or self.cancelled)

    def cancel(self) -> None:
        """Let it not happen."""
        from twisted.internet.error import AlreadyCalled, AlreadyCancelled  # noqa: PLC0415

        if self.called:
            raise AlreadyCalled
        if self.cancelled:
            raise AlreadyCancelled
        self.cancelled = True

    def getTime(self) -> float:
        """Return when it is due, on its owner's clock."""
        return self.when + self._world.ahead(self.owner)

    def reset(self, seconds: float) -> None:
        """Put it off until so many seconds from now."""
        self._move(self._world.now + seconds)

    def delay(self, seconds: float) -> None:
        """Put it off by so many seconds."""
        self._move(self.when + seconds)

    def _move(self, when: float) -> None:
        self.when = when
        self._number = self._world.queue(self)

    def due(self, number: int) -> bool:
        """Tell whether the entry of the queue with this number is the one that counts."""
        if number != self._number or self.called or self.cancelled:
            return False
        return self.owner is None or self.owner.alive

    def __repr__(self) -> str:
        name = getattr(self.function, "__qualname__", repr(self.function))
        return f"<{name} at {self.when:.3f}>"


class World:
    """A clock, the events that are to come, and a record of those that were.

    Args:
        seed: of everything random in it.
        keep: whether the record is kept as lines, not only as a hash.
    """

    _log = Logger()

    def __init__(self, seed: str, *, keep: bool = False) -> None:
        self.now = 0.0
        """Seconds since the world began."""
        self.random = random.Random(seed)
        self.happened = 0
        """Events so far."""
        self.lines: list[str] = []
        self.current: Any = None
        """Whose event is happening."""
        self._keep = keep
        self._queue: list[tuple[float, int, Call]] = []
        self._numbers = 0
        self._hash = hashlib.blake2b(digest_size=8)

    def queue(self, call: Call) -> int:
        """Put a call in its place; return the number of its entry."""
        self._numbers += 1
        heapq.heappush(self._queue, (call.when, self._numbers, call))
        return self._numbers

    def after(
        self, seconds: float, function: Callable[..., Any], *args: Any, owner: Any = None
    ) -> Call:
        """Let something happen in so many seconds."""
        return Call(self, self.now + max(0.0, seconds), function, args, owner)

    def ahead(self, owner: Any) -> float:
        """Return what a machine's clock shows when the world's shows 0."""
        return DAWN + (owner.offset if owner is not None else 0.0)

    def time_of_day(self) -> float:
        """Return what the clock of the machine shows whose event is happening."""
        return self.now + self.ahead(self.current)

    def note(self, line: str) -> None:
        """Put a line on record."""
        text = f"{self.now:.6f} {line}"
        self._hash.update(text.encode())
        if self._keep:
            self.lines.append(text)

    def history(self) -> str:
        """Return a hash of all that was put on record so far, and of how much happened."""
        whole = self._hash.copy()
        whole.update(f"{self.happened} {self.now!r}".encode())
        return whole.hexdigest()

    def pass_time(self, seconds: float) -> None:
        """Let everything happen that is due within so many seconds."""
        end = self.now + seconds
        queue = self._queue
        while queue and queue[0][0] <= end:
            when, number, call = heapq.heappop(queue)
            if not call.due(number):
                continue
            self.now = max(self.now, when)
            self.happened += 1
            call.called = True
            self.current = call.owner
            try:
                call.function(*call.args)
            except Exception:  # noqa: BLE001 -- as a reactor does; a logged failure is a violation
                self._log.failure("an event failed: {call}", call=call)
            finally:
                self.current = None
        self.now = end

    def pass_until(self, so: Callable[[], bool], seconds: float, step: float = 0.25) -> bool:
        """Let time pass until something is so, at most so long; return whether it is."""
        end = self.now + seconds
        while not so():
            if self.now >= end:
                return False
            self.pass_time(min(step, end - self.now))
        return True

    def pending(self, owner: Any) -> list[Call]:
        """Return what is still to happen on a machine."""
        return [call for _, number, call in self._queue if call.owner is owner and call.due(number)]

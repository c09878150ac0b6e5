"""What another process of this node loads, as seen from here.

Rules of this file: it reads what that process has written, and can wish; it
never writes a byte of the blob. It is looked at again and again, since nothing
tells one process that another has written to a file.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.disk import Lane
from dtfc.store.looking import Watched
from dtfc.store.spans import Spans

LOOK_EVERY = 0.03
"""Seconds between two looks."""

PATIENCE = 0.5
"""Seconds without a change after which it is looked whether the other process still loads."""


class Following:
    """A load of another process.

    Args:
        watched: its partial; the caller closes it.
        lane: where it is read.
        clock: measures time.
        marks: makes numbers that differ, also from those of other processes.
    """

    def __init__(
        self, watched: Watched, lane: Lane, clock: IReactorTime, marks: Callable[[], int]
    ) -> None:
        self._watched = watched
        self._lane = lane
        self._clock = clock
        self._marks = marks
        self._taken_back = watched.taken_back
        self._wished = Spans()

    @property
    def length(self) -> int | None:
        """Of the blob, as a peer said it."""
        return self._watched.length

    @property
    def name(self) -> str | None:
        """The file name that a peer gave."""
        return self._watched.name

    @property
    def held(self) -> Spans:
        """Which bytes are in the file."""
        return self._watched.held

    @property
    def trusted(self) -> bytes:
        """A 2 for each chunk that is as the peers' maps say."""
        return self._watched.trusted

    def want(self, start: int, end: int) -> None:
        """Let these bytes be brought first."""
        if not self._wished.has(start, end):
            self._wished.add(start, end)
            self._lane.run(self._watched.wish, start, end, self._marks()).addErrback(
                lambda _failure: None  # then it comes in its turn
            )

    def want_map(self) -> None:
        """Do nothing: a wish asks for a map, too."""

    async def look(self, saw: Callable[[], None], took_back: Callable[[], None]) -> bool:
        """Look for as long as something changes; False if there is nothing to be seen any more.

        Args:
            saw: called when something has changed.
            took_back: called when bytes that were there turned out to be wrong.

        Raises:
            StoreFailure: as the operating system says.
        """
        quiet = 0.0
        while quiet < PATIENCE:
            await deferLater(self._clock, LOOK_EVERY)
            before = self._watched.held, self._watched.trusted
            useful = await self._lane.run(self._watched.look)
            if self._watched.taken_back != self._taken_back:
                self._taken_back = self._watched.taken_back
                took_back()
            if (self._watched.held, self._watched.trusted) == before:
                quiet += LOOK_EVERY
            else:
                quiet = 0.0
                saw()
            if not useful:
                return False
        return True

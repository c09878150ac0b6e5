"""A stored blob as something to send: verified before it leaves, healed where it must be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.disk import Lane
from dtfc.errors import Corrupt
from dtfc.integrity.reading import AHEAD, Reading, UnderWay
from dtfc.store.chunkmap import CHUNK, count_of

#: Bytes of which it is asked at once whether they are ready: of what is hot they
#: all are, and to ask costs a twentieth of sending them.
STRETCH = 8 * CHUNK

#: Seconds until it is looked again whether somebody else has read the whole ...
FIRST_LOOK = 0.02

#: ... doubled each time, up to this.
LONGEST_LOOK = 0.5

#: Times that a file which changes while it is verified is verified again.
TRIES = 5

Heal = Callable[[Reading, int | None], Awaitable[None]]


class BlobSource:
    """A blob that is open.

    Args:
        reading: verifies it; the caller closes it.
        heal: gets right bytes for a chunk that is wrong; raises Corrupt if it
            cannot.
        clock: measures pauses.
    """

    def __init__(self, reading: Reading, heal: Heal, clock: IReactorTime) -> None:
        self.reading = reading
        self._heal = heal
        self._clock = clock
        self.stretch = STRETCH if reading.verifies else CHUNK
        self._last = -2
        """The chunk that was made ready last, for somebody who waited for it ..."""
        self._ahead = -2
        """... and the last that was, or will be, for nobody yet."""
        self._under_way: dict[int, list[Deferred[None]]] = {}
        """Chunks that are made ready for nobody yet, each with who has come to wait for it."""

    def step(self, offset: int, count: int) -> int:  # noqa: ARG002 -- of every source
        """Return how many of these bytes to send at once: all of them."""
        return count

    def ready(self, offset: int, count: int) -> int:
        """Return the file from which bytes may leave now; -1 if from none yet."""
        return self.reading.sendable(offset, count)

    async def prepare(self, lane: Lane, offset: int, count: int) -> int:
        """Make bytes of one chunk ready to leave, and return the file from which they may.

        Args:
            lane: where the disk is read.
            offset: the first byte.
            count: how many.

        Raises:
            Corrupt: they are wrong, and right ones cannot be had.
            StoreFailure: the file cannot be read.
        """
        index = offset // CHUNK
        for _ in range(TRIES):
            try:
                await self._verify(lane, offset, count)
            except Corrupt as corrupt:
                await self._heal(self.reading, corrupt.chunk)
                if corrupt.chunk != index:
                    # Of the whole another chunk was found wrong first.
                    continue
            # In the page cache or not: more cannot be known where the kernel
            # does not say. But the file may have changed since.
            fd = self.reading.file_of(offset, count)
            if fd >= 0:
                self._look_ahead(lane, index)
                return fd
        raise Corrupt(self.reading.digest.hex, index)

    def _look_ahead(self, lane: Lane, index: int) -> None:
        """Verify the next chunks while this one is sent, if they are read one after the other.

        On the same lane, so that the file stays open, but beside each other: a
        GiB took half as long again while one waited for the loop to hear of the
        one before. What goes wrong is found again by who needs it.
        """
        last, self._last = self._last, index
        if not last < index <= max(last, self._ahead) + 1 or not self.reading.verifies:
            self._ahead = index
            return
        end = min(index + AHEAD + 1, count_of(self.reading.length))
        for each in range(max(index, self._ahead) + 1, end):
            start = each * CHUNK
            count = min(CHUNK, self.reading.length - start)
            self._under_way.setdefault(each, [])
            lane.run_beside(self.reading.prepare, start, count).addBoth(self._is_over, each)
        self._ahead = max(index, end - 1)

    def _is_over(self, _result: object, index: int) -> None:
        """Tell who waits for a chunk; what went wrong with it is theirs to find."""
        for waiter in self._under_way.pop(index, ()):
            if not waiter.called:
                waiter.callback(None)

    async def _verify(self, lane: Lane, offset: int, count: int) -> None:
        waiters = self._under_way.get(offset // CHUNK)
        if waiters is not None:
            # Fired by _is_over; cancelled when the client leaves.
            waiter: Deferred[None] = Deferred()
            waiters.append(waiter)
            await waiter
            if self.reading.is_verified(offset, count):
                return
        pause = FIRST_LOOK
        while True:
            try:
                await lane.run_beside(self.reading.prepare, offset, count)
            except UnderWay:
                await deferLater(self._clock, pause)
                pause = min(2 * pause, LONGEST_LOOK)
            else:
                return

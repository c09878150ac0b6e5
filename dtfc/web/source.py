"""A stored blob as something to send: verified before it leaves, healed where it must be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.disk import Lane
from dtfc.errors import Corrupt
from dtfc.integrity.reading import Reading, UnderWay
from dtfc.store.chunkmap import CHUNK

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

    def ready(self, offset: int, count: int) -> int:
        """Return the file from which bytes of one chunk may leave now; -1 if from none yet."""
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
                return fd
        raise Corrupt(self.reading.digest.hex, index)

    async def _verify(self, lane: Lane, offset: int, count: int) -> None:
        pause = FIRST_LOOK
        while True:
            try:
                await lane.run(self.reading.prepare, offset, count)
            except UnderWay:
                await deferLater(self._clock, pause)
                pause = min(2 * pause, LONGEST_LOOK)
            else:
                return

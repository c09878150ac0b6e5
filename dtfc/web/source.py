"""A stored blob as something to send: verified before it leaves, healed where it must be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dtfc.disk import Lane
from dtfc.errors import Corrupt
from dtfc.integrity.reading import Reading

Heal = Callable[[Reading, int | None], Awaitable[None]]


class BlobSource:
    """A blob that is open.

    Args:
        reading: verifies it; the caller closes it.
        heal: gets right bytes for a chunk that is wrong; raises Corrupt if it
            cannot.
    """

    def __init__(self, reading: Reading, heal: Heal) -> None:
        self.reading = reading
        self._heal = heal

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
        try:
            await lane.run(self.reading.prepare, offset, count)
        except Corrupt as corrupt:
            await self._heal(self.reading, corrupt.chunk)
        fd = self.reading.sendable(offset, count)
        # Where the kernel cannot say what is in the page cache, this was the
        # best that can be known.
        return self.reading.file_of(offset) if fd < 0 else fd

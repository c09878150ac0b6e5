"""A blob that is damaged, kept open while something is done about it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from dtfc.digest import Digest
from dtfc.integrity.examining import is_right
from dtfc.integrity.mending import Patch
from dtfc.store.chunkmap import ChunkMap


class Pieces(Protocol):
    """Where right bytes come from."""

    async def fetch(
        self,
        digest: Digest,
        length: int,
        start: int,
        count: int,
        is_right: Callable[[bytes], bool],
    ) -> bytes:
        """Return a stretch of a blob that is right.

        Raises:
            Absent: nobody has the blob.
            PeersUnreached: not everybody could be asked.
        """


class Damaged:
    """A damaged file that is being mended.

    Args:
        digest: which blob.
        fd: the file; belongs to this object.
        length: of the blob, in bytes.
        chunk_map: the blob's; None only if the blob has no second chunk.
        patch: what was fetched for it.
    """

    def __init__(
        self, digest: Digest, fd: int, length: int, chunk_map: ChunkMap | None, patch: Patch
    ) -> None:
        self.digest = digest
        self.fd = fd
        self.inode = os.fstat(fd).st_ino
        self.length = length
        self.map = chunk_map
        self.patch = patch
        self.mending: Deferred[None] | None = None
        self.doubt: Deferred[bool] | None = None
        """Tells whether it is right after all, if somebody had to ask."""
        self.lacking: int | None = None
        """The chunk that was asked for last to mend it."""
        self.users = 0
        """Who needs it open now, but for the mending."""
        self.fetching: dict[int, list[Deferred[None]]] = {}
        """Chunks that are on their way, and who waits for each."""

    def is_right(self, index: int) -> Callable[[bytes], bool]:
        """Return what tells whether bytes are those of a chunk."""
        return lambda content: is_right(content, index, self.digest, self.map)

    def close(self) -> None:
        """Let go of the files."""
        self.patch.close()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

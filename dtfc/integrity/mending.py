"""Making a damaged blob whole again, from its own good chunks and a peer's (blocks).

The new file is written beside the damaged one, chunk by chunk, and the
SHA-512 of all of it is taken before it takes the other's place; so a mistake
on the way, or a map that lies, ends in nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from dtfc.digest import Digest
from dtfc.errors import Corrupt, Draining
from dtfc.integrity.examining import examine, is_right, read_chunk
from dtfc.store.chunkmap import CHUNK, ChunkMap, count_of
from dtfc.store.repair import Repair
from dtfc.store.volume import Scratch, write_all


class Patch:
    """Right bytes for wrong chunks, each at its own offset in a sparse file.

    Args:
        scratch: an empty file, which belongs to this object.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._chunks: set[int] = set()
        self._users = 0
        self._unwanted = False
        self._lock = threading.Lock()

    @property
    def fd(self) -> int:
        """The file that holds them."""
        return self._scratch.fd

    def has(self, index: int) -> bool:
        """Whether it holds a chunk."""
        return index in self._chunks

    def forget(self, index: int) -> None:
        """Take back a chunk: it has gone bad on the disk."""
        self._chunks.discard(index)

    def put(self, index: int, content: bytes) -> None:
        """Keep a chunk, whose bytes the caller has verified.

        Raises:
            OSError: as the operating system says.
        """
        # Held, for whoever waits for it may give up, and close the file, meanwhile.
        with self.held():
            write_all(self._scratch.fd, [content], index * CHUNK)
        self._chunks.add(index)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the file open meanwhile."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def hold(self) -> None:
        """Keep the file open while it is sent."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Note that it is sent."""
        with self._lock:
            self._users -= 1
            over = self._unwanted and not self._users
        if over:
            self._scratch.drop()

    def close(self) -> None:
        """Close the file once nobody sends it any more."""
        with self._lock:
            self._unwanted = True
            over = not self._users
        if over:
            self._scratch.drop()


class Mending:
    """One damaged file, and the new one that shall replace it.

    Args:
        repair: the store's.
        fd: the damaged file, open for reading; belongs to the caller.
        digest: which blob.
        length: of the blob, in bytes.
        chunk_map: the blob's; None only if the blob has no second chunk.
        stopped: whether to give up, asked before each chunk.
    """

    def __init__(
        self,
        repair: Repair,
        fd: int,
        digest: Digest,
        length: int,
        chunk_map: ChunkMap | None,
        *,
        stopped: Callable[[], bool],
    ) -> None:
        self._repair = repair
        self._digest = digest
        self._fd = fd
        self._length = length
        self._map = chunk_map
        self._stopped = stopped
        repair.require_room(length)
        self.new = repair.scratch()
        self.inode = os.fstat(fd).st_ino

    def copy(self, patch: Patch) -> list[int]:
        """Copy every chunk that is right, there or in the patch; return those that are not.

        Raises:
            Draining: told to give up.
            OSError, NoSpace, StoreFailure: as the operating system says.
        """
        missing: list[int] = []
        for index in range(count_of(self._length)):
            if self._stopped():
                raise Draining
            source = patch.fd if patch.has(index) else self._fd
            content = read_chunk(source, index, self._length)
            if content is None or not is_right(content, index, self._digest, self._map):
                missing.append(index)
            else:
                write_all(self.new.fd, [bytes(content)], index * CHUNK)
        return missing

    def put(self, index: int, content: bytes) -> None:
        """Write a chunk whose bytes the caller has verified.

        Raises:
            OSError: as the operating system says.
        """
        write_all(self.new.fd, [content], index * CHUNK)

    def verify(self) -> None:
        """Take the digest of the new file.

        Raises:
            Corrupt: it is not the blob: the map was another one's.
            Draining: told to give up.
            OSError: it cannot be read.
        """
        found = examine(self.new.fd, self._digest, self._length, self._map, stopped=self._stopped)
        if not found.right:
            raise Corrupt(self._digest.hex)

    def close(self) -> None:
        """Let go of the new file, if it was not put in place; harmless when repeated."""
        self.new.drop()

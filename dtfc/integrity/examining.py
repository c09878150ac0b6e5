"""Reading bytes from the disk and comparing them with what they must hash to (blocks).

A chunk that the disk cannot read counts as wrong: both are healed alike.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.errors import Draining
from dtfc.store import hashing
from dtfc.store.chunkmap import CHUNK, ChunkHashes, ChunkMap, count_of

#: What a disk answers for a block that it cannot read.
UNREADABLE = (errno.EIO, errno.EBADMSG, errno.EUCLEAN if hasattr(errno, "EUCLEAN") else errno.EIO)

_local = threading.local()


def read_chunk(fd: int, index: int, length: int) -> memoryview | None:
    """Read one chunk of a blob into this thread's buffer, which the next call reuses.

    Args:
        fd: the file.
        index: which chunk, from 0.
        length: of the blob, in bytes.

    Returns:
        The bytes, fewer than the chunk has if the file ends early; None if
        the disk cannot read them.

    Raises:
        OSError: anything else that the operating system says.
    """
    buffer = getattr(_local, "buffer", None)
    if buffer is None:
        buffer = _local.buffer = bytearray(CHUNK)
    start = index * CHUNK
    wanted = min(CHUNK, length - start)
    view = memoryview(buffer)
    got = 0
    try:
        while got < wanted:
            count = os.preadv(fd, [view[got:wanted]], start + got)
            if not count:
                break
            got += count
    except OSError as error:
        if error.errno in UNREADABLE:
            return None
        raise
    return view[:got]


def is_right(
    content: memoryview | bytes, index: int, digest: Digest, chunk_map: ChunkMap | None
) -> bool:
    """Tell whether these are the bytes of one chunk.

    Args:
        content: the bytes.
        index: which chunk, from 0.
        digest: of the blob.
        chunk_map: the blob's; None only if the blob has no second chunk.
    """
    if chunk_map is None:
        return index == 0 and hashlib.sha512(content).digest() == digest.raw
    return hashlib.sha256(content).digest() == chunk_map.hash_of(index)


@dataclass(frozen=True, slots=True)
class Examined:
    """What a whole blob was found to be.

    Args:
        right: whether its SHA-512 is the digest.
        bad: the chunks that are not what the map says, or cannot be read.
        made: the map that its bytes give, if they are right.
    """

    right: bool
    bad: tuple[int, ...]
    made: ChunkMap | None


class Examination:
    """Reads a whole blob, chunk by chunk, so that it can be paced and given up.

    Args:
        fd: the file.
        digest: what it must hash to.
        length: in bytes.
        chunk_map: the blob's, if it has one that is whole.
        read: reads a chunk; :func:`read_chunk`, or another way to the same bytes.
    """

    def __init__(
        self,
        fd: int,
        digest: Digest,
        length: int,
        chunk_map: ChunkMap | None,
        *,
        read: Callable[[int, int, int], memoryview | None] = read_chunk,
    ) -> None:
        self._fd = fd
        self._digest = digest
        self._length = length
        self._map = chunk_map
        self._read = read
        self._sha512 = hashlib.sha512()
        self._hashes = ChunkHashes()
        self._bad: list[int] = []

    def steps(self) -> Iterator[int]:
        """Read it; yields the bytes read after each chunk.

        Raises:
            OSError: the file cannot be read at all.
        """
        for index in range(count_of(self._length)):
            content = self._read(self._fd, index, self._length)
            with hashing.place:
                count = self._take(index, content)
            yield count

    def _take(self, index: int, content: memoryview | None) -> int:
        if content is None:
            self._bad.append(index)
            # Something in its place, so that what follows stays in its own.
            content = memoryview(bytes(min(CHUNK, self._length - index * CHUNK)))
        elif self._map is not None and not is_right(content, index, self._digest, self._map):
            self._bad.append(index)
        self._sha512.update(content)
        if self._length > CHUNK:
            self._hashes.take([content])
        return len(content)

    def result(self) -> Examined:
        """Say what was found, once all was read."""
        right = self._sha512.digest() == self._digest.raw
        if right:
            # Then the map was wrong, if it said otherwise.
            made = None
            if self._length > CHUNK:
                made = ChunkMap(self._digest, self._length, self._hashes.finish())
            return Examined(right=True, bad=(), made=made)
        if self._length <= CHUNK:
            self._bad = [0]
        return Examined(right=False, bad=tuple(self._bad), made=None)


def examine(
    fd: int,
    digest: Digest,
    length: int,
    chunk_map: ChunkMap | None,
    *,
    read: Callable[[int, int, int], memoryview | None] = read_chunk,
    stopped: Callable[[], bool] = lambda: False,
) -> Examined:
    """Read a whole blob at once.

    Args:
        fd: the file.
        digest: what it must hash to.
        length: in bytes.
        chunk_map: the blob's, if it has one that is whole.
        read: as of :class:`Examination`.
        stopped: whether to give up, asked after each chunk.

    Raises:
        Draining: told to give up.
        OSError: it cannot be read at all.
    """
    examination = Examination(fd, digest, length, chunk_map, read=read)
    for _ in examination.steps():
        if stopped():
            raise Draining
    return examination.result()

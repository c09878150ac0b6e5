"""What was verified, of which file, and in which state of it.

A file's generation is everything that changes when its bytes do: device, inode,
size, time of modification, time of change. What was verified of one generation
says nothing of the next.

Verified is what is in the page cache: rot happens on the disk. So a chunk that
has left the page cache is no longer verified (:mod:`dtfc.integrity.reading`
sees to it).

Rules of this file: no disk beyond fstat; bits are set by disk threads and read
by the loop, one byte a chunk, which the interpreter's lock makes whole.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from dtfc.store.chunkmap import CHUNK, ChunkMap, count_of

#: Bytes that what is remembered may take: a byte for each chunk, and the maps.
MOST_BYTES = 64 << 20

#: What a record costs beside that.
_EACH = 600


class Generation(NamedTuple):
    """One state of one file."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def generation_of(fd: int) -> Generation:
    """Return the state of an open file.

    Raises:
        OSError: as the operating system says.
    """
    facts = os.fstat(fd)
    return Generation(
        facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
    )


class Record:
    """What was verified of one generation of a file.

    Args:
        generation: which.
    """

    __slots__ = ("chunks", "generation", "map", "whole")

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.chunks = bytearray(count_of(generation.size))
        """For each chunk 1 if it was verified, else 0."""
        self.map: ChunkMap | None = None
        """The blob's, once it was read."""
        self.whole = False
        """Whether the SHA-512 of the whole was taken, and was the digest."""

    def covers(self, start: int, stop: int) -> bool:
        """Whether every chunk that holds the bytes ``[start, stop)`` was verified."""
        return self.chunks.find(0, start // CHUNK, (stop - 1) // CHUNK + 1) < 0

    def note(self, first: int, count: int = 1) -> None:
        """So many chunks were verified."""
        self.chunks[first : first + count] = b"\x01" * count

    def note_all(self) -> None:
        """All were."""
        self.note(0, len(self.chunks))

    def forget(self, first: int, count: int = 1) -> None:
        """So many chunks are no longer verified."""
        self.chunks[first : first + count] = bytes(count)

    def any(self) -> bool:
        """Whether any chunk was verified."""
        return 1 in self.chunks

    @property
    def cost(self) -> int:
        """Bytes of memory."""
        hashes = 0 if self.map is None else len(self.map.hashes)
        return _EACH + len(self.chunks) + hashes


class Verified:
    """The records of the files read lately.

    What is forgotten is verified again when it is next read; so there is a
    bound, and no harm in it.

    Args:
        most_bytes: of memory.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._records: OrderedDict[Generation, Record] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, generation: Generation) -> Record:
        """Return the record of a generation, an empty one if there is none."""
        with self._lock:
            record = self._records.get(generation)
            if record is not None:
                self._records.move_to_end(generation)
                return record
            record = Record(generation)
            self._records[generation] = record
            self._bytes += record.cost
            self._make_room()
            return record

    def keep_map(self, record: Record, chunk_map: ChunkMap) -> None:
        """Remember a blob's chunk map with what was verified of it."""
        with self._lock:
            known = self._records.get(record.generation) is record
            before = record.cost
            record.map = chunk_map
            if known:
                self._bytes += record.cost - before
                self._make_room()

    def _make_room(self) -> None:
        # The latest stays, however large it is: somebody is reading it.
        while self._bytes > self._most_bytes and len(self._records) > 1:
            self._bytes -= self._records.popitem(last=False)[1].cost

    def __iter__(self) -> Iterator[Record]:
        """Return those that are kept now."""
        with self._lock:
            return iter(list(self._records.values()))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._records)

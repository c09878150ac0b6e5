"""What was verified, of which file, and in which state of it.

A file's generation is everything that changes when its bytes do: device, inode,
size, time of modification, time of change. What was verified of one generation
says nothing of the next.

Verified is what is in the page cache: rot happens on the disk. So a record
lives only while somebody has the file open and looks again and again whether
it is still there (:mod:`dtfc.integrity.reading`).

Rules of this file: no disk beyond fstat; bits are set by disk threads and read
by the loop, one byte a chunk, which the interpreter's lock makes whole.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import NamedTuple

from dtfc.digest import Digest
from dtfc.store.chunkmap import CHUNK, ChunkMap, count_of

#: Bytes of chunk maps that are kept in memory.
MOST_MAP_BYTES = 32 << 20


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

    __slots__ = ("chunks", "generation", "reading_whole", "users", "whole")

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.chunks = bytearray(count_of(generation.size))
        """For each chunk 1 if it was verified, else 0."""
        self.whole = False
        """Whether the SHA-512 of the whole was taken, and was the digest."""
        self.reading_whole = False
        """Whether somebody takes the SHA-512 of the whole right now."""
        self.users = 0
        """How many have the file open."""

    def covers(self, start: int, stop: int) -> bool:
        """Whether every chunk that holds the bytes ``[start, stop)`` was verified."""
        return self.chunks.find(0, start // CHUNK, (stop - 1) // CHUNK + 1) < 0

    def note(self, index: int) -> None:
        """A chunk was verified."""
        self.chunks[index] = 1

    def note_all(self) -> None:
        """All were."""
        self.chunks[:] = b"\x01" * len(self.chunks)

    def forget(self, index: int) -> None:
        """A chunk is no longer verified."""
        self.chunks[index] = 0

    def forget_all(self) -> None:
        """None is."""
        self.chunks[:] = bytes(len(self.chunks))

    def any(self) -> bool:
        """Whether any chunk was verified."""
        return 1 in self.chunks


class Verified:
    """The records of the files that are open."""

    def __init__(self) -> None:
        self._records: dict[Generation, Record] = {}
        self._lock = threading.Lock()

    def take(self, generation: Generation) -> Record:
        """Return the record of a generation, an empty one if nobody has the file open."""
        with self._lock:
            record = self._records.get(generation)
            if record is None:
                record = self._records[generation] = Record(generation)
            record.users += 1
            return record

    def give_back(self, record: Record) -> None:
        """Let go of a record; with the last one who does, all that it says is forgotten."""
        with self._lock:
            record.users -= 1
            if not record.users and self._records.get(record.generation) is record:
                del self._records[record.generation]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._records)


class MapsInUse:
    """Chunk maps that were needed lately.

    Args:
        most_bytes: of hashes.
    """

    def __init__(self, most_bytes: int = MOST_MAP_BYTES) -> None:
        self._most_bytes = most_bytes
        self._maps: OrderedDict[Digest, ChunkMap] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, digest: Digest, length: int) -> ChunkMap | None:
        """Return a blob's map, if it is at hand."""
        with self._lock:
            found = self._maps.get(digest)
            if found is None or found.length != length:
                return None
            self._maps.move_to_end(digest)
            return found

    def keep(self, chunk_map: ChunkMap) -> None:
        """Have a map at hand; those that were not needed the longest make room."""
        with self._lock:
            earlier = self._maps.pop(chunk_map.digest, None)
            if earlier is not None:
                self._bytes -= len(earlier.hashes)
            self._maps[chunk_map.digest] = chunk_map
            self._bytes += len(chunk_map.hashes)
            # The latest stays, however large it is: somebody is reading it.
            while self._bytes > self._most_bytes and len(self._maps) > 1:
                self._bytes -= len(self._maps.popitem(last=False)[1].hashes)

    def drop(self, digest: Digest) -> None:
        """Have a blob's map at hand no longer."""
        with self._lock:
            dropped = self._maps.pop(digest, None)
            if dropped is not None:
                self._bytes -= len(dropped.hashes)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._maps)

"""A blob that is open for sending, and of which no byte leaves unverified.

A chunk may leave if it was verified in this generation of the file and has been
in the page cache ever since. Otherwise a disk thread reads it, which brings it
in, and compares it with the chunk map; then it leaves from the page cache.

That "ever since" is what this file keeps true:

* a chunk that is found to be out of the page cache is no longer verified, nor
  is any other that is out when the kernel is asked to read ahead;
* the kernel reads nothing ahead by itself of files that are sent
  (``POSIX_FADV_RANDOM``);
* once a second it is looked whether what was verified of the open files is
  still there (:meth:`Checks.look_again`), for another program may read back
  what the kernel had dropped; and what was verified of a file is forgotten when
  the last one closes it.

Where the kernel cannot say what is in the page cache, nothing is, and every
chunk is verified every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol

from dtfc.digest import Digest
from dtfc.errors import Corrupt, StoreFailure
from dtfc.integrity.examining import Examined, examine, is_right, read_chunk
from dtfc.integrity.verified import MapsInUse, Record, Verified, generation_of
from dtfc.store import hashing
from dtfc.store.chunkmap import CHUNK, ChunkMap, count_of

#: Chunks after a wanted one that the kernel is asked to read ahead.
AHEAD = 4

_READINGS_OF_A_CHANGING_FILE = 3


class Mode(Enum):
    """What is verified before a byte leaves (``--verify``)."""

    CHUNK = "chunk"
    WHOLE = "whole"
    OFF = "off"


class UnderWay(Exception):  # a fact for who waits; no DtfcError leaves here
    """Somebody else reads the whole, or as many wholes are read as may be: look again soon."""


class Maps(Protocol):
    """Where chunk maps lie."""

    def read_map(self, digest: Digest, length: int) -> ChunkMap | None:
        """Return a blob's map; None if there is none that is whole."""

    def write_map(self, chunk_map: ChunkMap) -> None:
        """Put a blob's map beside it; nothing happens if that cannot be done."""


class Overlay(Protocol):
    """Right bytes for chunks that are wrong in the file, each at its own offset."""

    @property
    def fd(self) -> int:
        """The file that holds them."""

    def has(self, index: int) -> bool:
        """Whether it holds a chunk."""

    def forget(self, index: int) -> None:
        """Take back a chunk: it has gone bad on the disk."""

    def hold(self) -> None:
        """Keep the file open while it is sent."""

    def release(self) -> None:
        """Note that it is sent."""


Resident = Callable[[int, int, int], bool]


class Checks:
    """What all readings of a process share.

    Args:
        maps: where chunk maps lie.
        resident: whether bytes of a file are in the page cache; asked on the loop.
        mode: what is verified; may be replaced.
        there: the same, asked from any thread; ``resident``, if None.
        surely: the same on the loop, where nothing else tells whether bytes are
            still on their way; ``resident``, if None.
        most_wholes: blobs that are read whole at once; each takes a disk
            thread for as long as that lasts.
    """

    def __init__(
        self,
        maps: Maps,
        resident: Resident,
        mode: Mode = Mode.CHUNK,
        *,
        there: Resident | None = None,
        surely: Resident | None = None,
        most_wholes: int = 4,
    ) -> None:
        self.maps = maps
        self.resident = resident
        # What threads find missing must not make the loop wary.
        self.there = there or resident
        self.surely = surely or resident
        self.mode = mode
        self.verified = Verified()
        self.maps_in_use = MapsInUse()
        self.stopping = False
        """Whether what takes long is to be given up."""
        self._most_wholes = most_wholes
        self._wholes_under_way = 0
        self._lock = threading.Lock()
        self.open: set[Reading] = set()
        """The readings that are not closed."""
        self.chunks = 0
        """Chunks verified so far."""
        self.wholes = 0
        """Blobs whose digest was verified so far."""
        self.corrupt = 0
        """Chunks and blobs found to be wrong so far."""

    def map_of(self, digest: Digest, length: int) -> ChunkMap | None:
        """Return a blob's chunk map; None if it has none, or needs none (blocks).

        Raises:
            StoreFailure: as the operating system says.
        """
        if length <= CHUNK:
            return None
        found = self.maps_in_use.get(digest, length)
        if found is None:
            found = self.maps.read_map(digest, length)
            if found is not None:
                self.maps_in_use.keep(found)
        return found

    @contextlib.contextmanager
    def reading_whole(self, record: Record) -> Iterator[None]:
        """Be the one who reads a whole blob.

        Raises:
            UnderWay: somebody else is, or too many read wholes.
        """
        with self._lock:
            if record.reading_whole or self._wholes_under_way >= self._most_wholes:
                raise UnderWay
            record.reading_whole = True
            self._wholes_under_way += 1
        try:
            yield
        finally:
            with self._lock:
                record.reading_whole = False
                self._wholes_under_way -= 1

    def look_again(self) -> None:
        """Forget whatever has left the page cache of all files that are open (blocks)."""
        seen: set[int] = set()
        for reading in list(self.open):
            reading.look_again(seen)


class Reading:
    """One open blob.

    Args:
        checks: shared by all.
        digest: which blob.
        fd: the file, which belongs to the caller, who closes this first.
        length: of the blob, in bytes.

    Raises:
        StoreFailure: the file cannot be looked at.
    """

    def __init__(self, checks: Checks, digest: Digest, fd: int, length: int) -> None:
        self.digest = digest
        self.length = length
        self.fd = fd
        self._checks = checks
        self._overlays: tuple[Overlay, ...] = ()
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._record = checks.verified.take(generation_of(fd))
        except OSError as error:
            raise StoreFailure("look at a blob", error) from error
        checks.open.add(self)
        fadvise = getattr(os, "posix_fadvise", None)
        if fadvise is not None:
            fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    @property
    def inode(self) -> int:
        """The file's."""
        return self._record.generation.inode

    @property
    def verifies(self) -> bool:
        """Whether anything is verified at all."""
        return self._checks.mode is not Mode.OFF

    def take_from(self, overlay: Overlay) -> None:
        """Send from there what the file has wrong, until this is closed.

        Those before it stay: somebody else may be sending from one right now.
        """
        if overlay not in self._overlays:
            overlay.hold()
            self._overlays = (*self._overlays, overlay)

    def forget_map(self) -> None:
        """Read the chunk map again when it is needed next: it was made anew."""
        self._checks.maps_in_use.drop(self.digest)

    def close(self) -> None:
        """Say that nothing is sent from it any more; harmless when repeated."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._checks.open.discard(self)
        self._checks.verified.give_back(self._record)
        overlays, self._overlays = self._overlays, ()
        for overlay in overlays:
            overlay.release()

    # -- asked on the loop ----------------------------------------------------

    def is_verified(self, offset: int, count: int) -> bool:
        """Whether bytes were verified, of a file that is known to be unchanged.

        That they are in the page cache is for the caller to see.
        """
        mode = self._checks.mode
        if mode is Mode.OFF:
            return True
        record = self._record
        return (
            (mode is Mode.CHUNK or record.whole)
            and not self._overlays
            and record.covers(offset, offset + count)
        )

    def is_right(self, content: bytes | bytearray) -> bool:
        """Whether these are all of the blob's bytes."""
        if self._checks.mode is Mode.OFF:
            return True
        right = hashlib.sha512(content).digest() == self.digest.raw
        if not right:
            # It rotted and was read back unnoticed: what was verified is gone.
            self._record.forget_all()
        return right

    def sendable(self, offset: int, count: int) -> int:
        """Return the file from which bytes may leave now; -1 if from none yet.

        Waits for nothing.

        Args:
            offset: the first byte.
            count: how many. Those of several chunks never lie in one file while
                a chunk of the blob is wrong.

        Raises:
            OSError: the file cannot be looked at.
        """
        fd = self.file_of(offset, count)
        checks = self._checks
        ask = checks.surely if checks.mode is Mode.OFF else checks.resident
        return fd if fd >= 0 and ask(fd, offset, count) else -1

    def file_of(self, offset: int, count: int) -> int:
        """Return the file in which bytes were verified; -1 if in none.

        They need not be in the page cache any more.

        Raises:
            OSError: the file cannot be looked at.
        """
        if self._overlays:
            if offset // CHUNK != (offset + count - 1) // CHUNK:
                return -1
            overlay = self._overlay_of(offset // CHUNK)
            if overlay is not None:
                return overlay.fd
        if self._checks.mode is not Mode.OFF:
            record = self._current()
            if self._needs_whole(record) or not record.covers(offset, offset + count):
                return -1
        return self.fd

    def _overlay_of(self, index: int) -> Overlay | None:
        return next((each for each in self._overlays if each.has(index)), None)

    def _needs_whole(self, record: Record) -> bool:
        """Whether the digest of the whole must be taken before anything leaves.

        Not of what is known to be damaged: it would be wrong again. Each chunk
        is verified alone then.
        """
        return self._checks.mode is Mode.WHOLE and not record.whole and not self._overlays

    def _current(self) -> Record:
        """Return the record of the file's state as it is now."""
        now = generation_of(self.fd)
        if now != self._record.generation:
            with self._lock:
                if not self._closed and now != self._record.generation:
                    earlier, self._record = self._record, self._checks.verified.take(now)
                    self._checks.verified.give_back(earlier)
        return self._record

    # -- run in a disk thread -------------------------------------------------

    def prepare(self, offset: int, count: int) -> None:
        """Bring bytes of one chunk into the page cache, and verify the chunk (blocks).

        Raises:
            Corrupt: it is wrong.
            StoreFailure: the file cannot be read.
            UnderWay: the whole has to be read, and others are at it.
            Draining: the process stops.
        """
        index = offset // CHUNK
        overlay = self._overlay_of(index)
        try:
            if overlay is not None:
                self._verify_overlay(overlay, index)
            elif self._checks.mode is Mode.OFF:
                self._read(self.fd, index, self.length)
            else:
                self._verify(index, offset, count)
        except OSError as error:
            raise StoreFailure("read a blob", error) from error

    def _verify_overlay(self, overlay: Overlay, index: int) -> None:
        content = read_chunk(overlay.fd, index, self.length)
        chunk_map = self._checks.map_of(self.digest, self.length)
        if chunk_map is None and self.length > CHUNK:
            return  # it was verified when it came; no more can be said
        if content is None or not self._matches(content, index, chunk_map):
            self._checks.corrupt += 1
            overlay.forget(index)
            raise Corrupt(self.digest.hex, index)

    def _verify(self, index: int, offset: int, count: int) -> None:
        for _ in range(_READINGS_OF_A_CHANGING_FILE):
            record = self._current()
            self._forget_what_left(record, index)
            if self._needs_whole(record):
                self._verify_whole(record)
                continue
            if record.covers(offset, offset + count):
                return
            chunk_map = self._checks.map_of(self.digest, self.length)
            if chunk_map is None and count_of(self.length) > 1:
                self._verify_whole(record)
                continue
            content = self._read(self.fd, index, self.length)
            right = content is not None and self._matches(content, index, chunk_map)
            if generation_of(self.fd) != record.generation:
                continue
            if not right:
                self._checks.corrupt += 1
                raise Corrupt(self.digest.hex, index)
            self._checks.chunks += 1
            record.note(index)
            return
        if self._current().covers(offset, offset + count):
            return
        # Somebody writes to it all the time, which nobody may.
        raise Corrupt(self.digest.hex, index)

    def _matches(self, content: memoryview, index: int, chunk_map: ChunkMap | None) -> bool:
        with hashing.place:
            return is_right(content, index, self.digest, chunk_map)

    def _verify_whole(self, record: Record) -> None:
        """Take the digest of the whole, and make its map if there is none."""
        known = self._checks.map_of(self.digest, self.length)
        with self._checks.reading_whole(record):
            found = self._examine(known)
        if generation_of(self.fd) != record.generation:
            return
        if not found.right:
            self._checks.corrupt += 1
            raise Corrupt(self.digest.hex, found.bad[0] if found.bad else None)
        self._checks.wholes += 1
        if found.made is not None and found.made != known:
            self._checks.maps.write_map(found.made)
            self._checks.maps_in_use.keep(found.made)
        record.whole = True
        record.note_all()
        # Of a large one what was read first may have left again.
        self._forget_absent(record)

    def chunk_map(self) -> ChunkMap:
        """Return the blob's chunk map; if it has none, it is made (blocks).

        Raises:
            Corrupt: the bytes that lie here are not the blob's.
            StoreFailure: the file cannot be read.
            UnderWay: the whole has to be read, and others are at it.
            Draining: the process stops.
        """
        try:
            for _ in range(_READINGS_OF_A_CHANGING_FILE):
                found = self._checks.map_of(self.digest, self.length) or self._map_of_one_chunk()
                if found is not None:
                    return found
                self._verify_whole(self._current())
        except OSError as error:
            raise StoreFailure("read a blob", error) from error
        raise Corrupt(self.digest.hex)

    def _map_of_one_chunk(self) -> ChunkMap | None:
        """Return the map of a blob that needs none; None of any other."""
        if self.length > CHUNK:
            return None
        content = self._read(self.fd, 0, self.length) if self.length else memoryview(b"")
        if content is None or not is_right(content, 0, self.digest, None):
            self._checks.corrupt += 1
            raise Corrupt(self.digest.hex, 0)
        hashes = hashlib.sha256(content).digest() if self.length else b""
        return ChunkMap(self.digest, self.length, hashes)

    def _examine(self, known: ChunkMap | None) -> Examined:
        return examine(
            self.fd,
            self.digest,
            self.length,
            known,
            read=self._read,
            stopped=lambda: self._checks.stopping,
        )

    def _forget_what_left(self, record: Record, index: int) -> None:
        """Forget what is not in the page cache of what will be read now or ahead."""
        for each in range(index, min(index + AHEAD + 1, len(record.chunks))):
            if record.chunks[each] and not self._has(each):
                record.forget(each)

    def _has(self, index: int) -> bool:
        start = index * CHUNK
        return self._checks.there(self.fd, start, min(CHUNK, self.length - start))

    def _read(self, fd: int, index: int, length: int) -> memoryview | None:
        fadvise = getattr(os, "posix_fadvise", None)
        if fadvise is not None:
            fadvise(fd, index * CHUNK, (AHEAD + 1) * CHUNK, os.POSIX_FADV_WILLNEED)
        return read_chunk(fd, index, length)

    def look_again(self, seen: set[int]) -> None:
        """Forget all that has left the page cache (blocks).

        Args:
            seen: the records that others looked after already.
        """
        with self._lock:
            record = self._record
            if self._closed or id(record) in seen or not record.any():
                return
            seen.add(id(record))
            try:
                self._forget_absent(record)
            except OSError:
                record.forget_all()

    def _forget_absent(self, record: Record) -> None:
        if self._checks.there(self.fd, 0, self.length):
            return
        for index, verified in enumerate(record.chunks):
            if verified and not self._has(index):
                record.forget(index)

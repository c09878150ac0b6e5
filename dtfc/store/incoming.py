"""Bytes on their way in: written and hashed as they come, committed through the door."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from dtfc.digest import Digest
from dtfc.errors import WrongDigest, WrongLength
from dtfc.store import hashing, notes, syscalls
from dtfc.store.chunkmap import CHUNK, ChunkHashes, ChunkMap
from dtfc.store.door import Door, Whole
from dtfc.store.facts import Stored
from dtfc.store.volume import Scratch, Volume, write_all

__all__ = ["Growth", "Intake", "Stored"]

_CHECK_ROOM_EVERY = 1 << 20

#: Bytes after which the disk is asked to begin, so that the fsync at the end
#: finds most of the work done.
_WRITE_EVERY = 16 << 20

#: Bytes from which the SHA-512 is taken in a thread of its own, beside all else.
_BESIDE_FROM = 128 << 10

#: Places to go back to: all of the latest ...
_LATEST_MARKS = 16

#: ... and of those before, one for each so many bytes.
_MARK_EVERY = 64 << 20


class Growth:
    """A file that grows at its end and is hashed while it grows.

    The SHA-512 takes longer than all else, so it is some blocks behind: while it is
    taken of one, the next ones are written and received. Who asks for it waits.

    Args:
        volume: where it lies.
        source: the file; once it is dropped, nothing more can be appended (a
            copy of its descriptor would by then be another file's).
        want_sha256: whether to take the SHA-256 of the whole as well.
    """

    def __init__(self, volume: Volume, source: Scratch, *, want_sha256: bool = False) -> None:
        self._volume = volume
        self._source = source
        self._want_sha256 = want_sha256
        self._set_aside_to = 0
        self._room_checked_at = 0
        self._writing_from = 0
        self._line = hashing.Line()
        self.restart()

    def restart(self) -> None:
        """Begin again at the start of the file."""
        self._line.settle()
        self.length = 0
        self._room_checked_at = 0
        self._writing_from = 0
        self._sha512 = hashlib.sha512()
        self._sha256 = hashlib.sha256() if self._want_sha256 else None
        self._chunks = ChunkHashes()
        self._marks: list[tuple[int, Any, ChunkHashes]] = []
        self._marked = -1

    def goes_on_in(self, source: Scratch) -> None:
        """Go on with the same file, which was opened anew."""
        self._line.settle()
        self._source = source

    @property
    def sha512(self) -> Any:
        """The SHA-512 of all bytes so far."""
        self._line.settle()
        return self._sha512

    @property
    def sha256(self) -> Any:
        """Their SHA-256; None if it was not wanted."""
        self._line.settle()
        return self._sha256

    @property
    def chunks(self) -> ChunkHashes:
        """The hashes of the chunks so far."""
        return self._chunks

    def mark(self) -> None:
        """Remember this place, so that :meth:`rewind` need not go back to the start.

        All of the latest are kept, and of those before one for each 64 MiB.
        """
        if self._marked == self.length:
            return
        self._marked = self.length
        chunks, length = self._chunks.mark(), self.length
        # Behind the blocks before it, of which the SHA-512 may still be taken.
        self._line.add(lambda: self._keep_mark(length, chunks), block=False)

    def _keep_mark(self, length: int, chunks: ChunkHashes) -> None:
        self._marks.append((length, self._sha512.copy(), chunks))
        latest = len(self._marks) - _LATEST_MARKS - 1
        if latest >= 0:
            at = self._marks[latest][0]
            before = self._marks[latest - 1][0] if latest else 0
            if at // _MARK_EVERY == before // _MARK_EVERY:
                del self._marks[latest]

    def rewind(self, offset: int) -> None:
        """Hash anew what lies behind ``offset``, or a little before it.

        Raises:
            ValueError: a SHA-256 of the whole is wanted, which cannot go back.
        """
        if offset >= self.length:
            return
        self._line.settle()
        if self._sha256 is not None:
            raise ValueError("the SHA-256 of the whole cannot be taken back")
        self._marked = -1
        while self._marks and self._marks[-1][0] > offset:
            self._marks.pop()
        if not self._marks:
            self.length = 0
            self._sha512 = hashlib.sha512()
            self._chunks = ChunkHashes()
            return
        self.length, sha512, chunks = self._marks[-1]
        self._marked = self.length
        self._sha512 = sha512.copy()
        self._chunks.back_to(chunks, self.length // CHUNK)

    def reserve(self, total: int, allocated: int = 0) -> None:
        """Make sure that the file can grow to ``total`` bytes.

        Args:
            total: how long it is to be.
            allocated: bytes for which it has blocks already, wherever they lie.

        Raises:
            NoSpace: it cannot.
        """
        self._volume.require_room(max(0, total - max(self.length, allocated)))
        if self._volume.allocate(self._source.fd, self.length, total - self.length):
            self._set_aside_to = total
        self._room_checked_at = self.length

    def append(self, blocks: Sequence[bytes]) -> None:
        """Write and hash.

        Raises:
            NoSpace: the disk is full, or only the reserve is left.
            StoreFailure: anything else; the file may then be longer than
                ``length``.
        """
        size = sum(map(len, blocks))
        end = self.length + size
        if end > self._set_aside_to and end - self._room_checked_at >= _CHECK_ROOM_EVERY:
            self._volume.require_room(size)
            self._room_checked_at = end
        self._add(blocks, size, write=True)
        if self.length - self._writing_from >= _WRITE_EVERY:
            start = self._writing_from
            syscalls.start_writing(self._source.fd, start, self.length - start)
            self._writing_from = self.length

    def take(self, blocks: Sequence[bytes]) -> None:
        """Hash what is in the file already."""
        self._add(blocks, sum(map(len, blocks)), write=False)

    def take_chunk(self, content: bytes, sha256: bytes) -> None:
        """Hash a chunk that is in the file already, and whose SHA-256 is known."""
        self._line.add(lambda: self._hash([content]))
        self._chunks.give(sha256)
        self.length += len(content)

    def _add(self, blocks: Sequence[bytes], size: int, *, write: bool) -> None:
        # What cannot be written is not hashed either.
        if write:
            with self._volume.failing("write", size):
                write_all(self._source.fd, blocks, self.length)
        if size < _BESIDE_FROM:
            self._line.settle()
            self._hash(blocks)
            self._chunks.take(blocks)
        else:
            self._line.add(lambda: self._hash(blocks))
            with hashing.place:
                self._chunks.take(blocks)
        # Last, because others read up to here while it grows.
        self.length += size

    def _hash(self, blocks: Sequence[bytes]) -> None:
        for block in blocks:
            self._sha512.update(block)
            if self._sha256 is not None:
                self._sha256.update(block)

    def chunk_map(self) -> ChunkMap | None:
        """Return the chunk map of what was taken, which is then whole; None if it needs none."""
        if self.length <= CHUNK:
            return None
        return ChunkMap(Digest(self.sha512.digest()), self.length, self._chunks.finish())


class Intake:
    """A blob on its way in, whose digest only its bytes tell.

    Used from one thread at a time. Nothing of it is left unless it is
    committed.

    Args:
        door: where it goes.
        volume: the file system.
        length: in bytes, if it was announced.
        want_sha256: whether :meth:`commit` will be asked to compare a SHA-256.

    Raises:
        NoSpace: it does not fit beside the reserve.
        StoreFailure: as the operating system says.
    """

    def __init__(
        self, door: Door, volume: Volume, length: int | None, *, want_sha256: bool = False
    ) -> None:
        self._door = door
        self._announced = length
        self._scratch = volume.scratch()
        self._growth = Growth(volume, self._scratch, want_sha256=want_sha256)
        try:
            if length is None:
                volume.require_room(0)
            else:
                self._growth.reserve(length)
        except BaseException:
            self.discard()
            raise

    @property
    def received(self) -> int:
        """How many bytes have been written."""
        return self._growth.length

    def write(self, blocks: Sequence[bytes]) -> None:
        """Take the next bytes.

        Raises:
            WrongLength: these are more than were announced.
            NoSpace, StoreFailure: as the operating system says.
        """
        end = self.received + sum(map(len, blocks))
        if self._announced is not None and end > self._announced:
            self.discard()
            raise WrongLength(self._announced, end)
        try:
            self._growth.append(blocks)
        except BaseException:
            # The file may hold more than was hashed.
            self.discard()
            raise

    def commit(
        self,
        name: str | None,
        *,
        digest: Digest | None = None,
        sha256: bytes | None = None,
        deliberate: bool = True,
    ) -> Stored:
        """Store what was written; when this returns it is durable.

        Args:
            name: the file name it came with.
            digest: the SHA-512 it must have, if one was promised.
            sha256: the same for SHA-256; needs ``want_sha256``.
            deliberate: False for a copy that another node sends, which lifts
                no tombstone.

        Raises:
            Absent: a copy of what was deleted here.
            WrongLength, WrongDigest: it is not what was promised.
            BadName: the name cannot be kept.
            Denied: an operator's marker forbids this blob.
            NoSpace, StoreFailure: as the operating system says.
            ValueError: a SHA-256 to compare, without ``want_sha256``.
        """
        try:
            if name is not None:
                notes.check_line(name)
            if self._announced is not None and self.received != self._announced:
                raise WrongLength(self._announced, self.received)
            actual = Digest(self._growth.sha512.digest())
            if digest is not None and digest != actual:
                raise WrongDigest("SHA-512", digest.hex, actual.hex)
            if sha256 is not None:
                self._compare_sha256(sha256)
            # A blob that is here already needs no second copy of it on the disk.
            if not self._door.has(actual, self.received):
                self._door.seal(self._scratch)
            whole = Whole(self._scratch, actual, self.received, self._growth.chunk_map())
            return self._door.enter(whole, name, deliberate=deliberate)
        finally:
            self.discard()

    def _compare_sha256(self, expected: bytes) -> None:
        sha256 = self._growth.sha256
        if sha256 is None:
            raise ValueError("this intake takes no SHA-256: ask for it with want_sha256")
        actual = sha256.digest()
        if actual != expected:
            raise WrongDigest("SHA-256", expected.hex(), actual.hex())

    def discard(self) -> None:
        """Let go of it; harmless after a commit, and when repeated."""
        self._scratch.drop()

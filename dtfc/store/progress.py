"""What is known of a blob that is being loaded, beside its bytes, for every process of the node.

The file (``partial/<digest>.state``, all numbers little-endian)::

    8   "dtfc-prt"
    4   version, 1
    4   bytes of a chunk
    8   bytes of the blob, as a peer said it
    8   the inode of the partial; the state of another file is none
    8   ready: the first so many bytes are there
    8   how often bytes that had come were taken back
    8   a number that changes with every change
    8   a number that changes with every wish
    2   bytes of the name that a peer gave; then the name, in UTF-8
    at 512: for each chunk a byte: 0 absent, 1 here, 2 here and as the peers' maps say
    then:   for each chunk a byte: 1 wanted by somebody

Rules of this file: nothing in it is trusted. It is written by the process that
loads, but for the wishes, which the others write. It is written with ``pwrite``
and not through a map of memory: on a full disk that is an error, and not the
end of the process. It never shrinks while it has its name.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass, replace

from dtfc.store.chunkmap import CHUNK, count_of
from dtfc.store.spans import Spans

ABSENT, HERE, TRUSTED = b"\0", b"\1", b"\2"

_MAGIC = b"dtfc-prt"
_VERSION = 1
_HEAD = struct.Struct("<8sIIQQQQQQH")
_BODY_AT = 512
_LONGEST_NAME = _BODY_AT - _HEAD.size
_READY_AT = 32
_TAKEN_BACK_AT = 40
_CHANGES_AT = 48
_WISHES_AT = 56
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Known:
    """The head of a state.

    Args:
        length: of the blob, in bytes.
        inode: of the partial.
        ready: the first so many bytes are there.
        taken_back: how often bytes were taken back.
        changes: differs when anything has changed.
        wishes: differs when somebody has wished for something.
        name: that a peer gave.
    """

    length: int
    inode: int
    ready: int
    taken_back: int
    changes: int
    wishes: int
    name: str | None


class Progress:
    """An open state.

    Args:
        fd: the file, which belongs to this object.
        known: its head.

    Attributes:
        known: as it was read or written last.
    """

    def __init__(self, fd: int, known: Known) -> None:
        self.fd = fd
        self.known = known

    @property
    def count(self) -> int:
        """How many chunks the blob has."""
        return count_of(self.known.length)

    @classmethod
    def make(cls, path: str, length: int, inode: int) -> Progress:
        """Begin one, in the place of what was there.

        Raises:
            OSError: as the operating system says.
        """
        draft = f"{path}.new"
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
        try:
            made = cls(fd, Known(length, inode, 0, 0, 1, 0, None))
            os.pwrite(fd, made._head(), 0)
            # Blocks for all of it now, so that a full disk is noticed here.
            zeros = bytes(min(2 * made.count, CHUNK))
            for at in range(0, 2 * made.count, CHUNK):
                os.pwrite(fd, zeros[: min(CHUNK, 2 * made.count - at)], _BODY_AT + at)
            os.rename(draft, path)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        return made

    @classmethod
    def open(cls, path: str, inode: int) -> Progress | None:
        """Open one; None if there is none of use.

        Args:
            path: its name.
            inode: of the partial that it must be of.

        Raises:
            OSError: as the operating system says.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | _FLAGS)
        except FileNotFoundError:
            return None
        try:
            known = _read_head(fd)
            if (
                known is not None
                and known.inode == inode
                and os.fstat(fd).st_size == _BODY_AT + 2 * count_of(known.length)
            ):
                found, fd = cls(fd, known), -1
                return found
            return None
        finally:
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        """Close it; harmless when repeated."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    # -- what who loads writes ----------------------------------------------------

    def put(self, ready: int, chunks: dict[int, bytes]) -> None:
        """Note what is there now.

        Args:
            ready: the first so many bytes.
            chunks: what has changed, by chunk.

        Raises:
            OSError: as the operating system says.
        """
        for first, values in _runs(chunks):
            os.pwrite(self.fd, values, _BODY_AT + first)
        self._changed(ready=ready)

    def take_back(self, ready: int, chunks: dict[int, bytes]) -> None:
        """Note that bytes which were there are there no longer."""
        self._changed(ready=ready, taken_back=self.known.taken_back + 1)
        for first, values in _runs(chunks):
            os.pwrite(self.fd, values, _BODY_AT + first)
        self._changed(ready=ready)

    def call(self, name: str) -> None:
        """Note the name that a peer gave."""
        if len(name.encode("utf-8", "surrogateescape")) <= _LONGEST_NAME:
            self.known = replace(self.known, name=name)
            os.pwrite(self.fd, self._head(), 0)

    def _numbers(self) -> tuple[int, int, int, int, int, int]:
        k = self.known
        return k.length, k.inode, k.ready, k.taken_back, k.changes, k.wishes

    def _changed(self, *, ready: int, taken_back: int | None = None) -> None:
        k = self.known
        back = k.taken_back if taken_back is None else taken_back
        self.known = replace(k, ready=ready, taken_back=back, changes=k.changes + 1)
        # Not the wishes: others write them.
        os.pwrite(self.fd, struct.pack("<QQQ", ready, back, k.changes + 1), _READY_AT)

    def _head(self) -> bytes:
        k = self.known
        name = (k.name or "").encode("utf-8", "surrogateescape")
        head = _HEAD.pack(_MAGIC, _VERSION, CHUNK, *self._numbers(), len(name))
        return (head + name).ljust(_BODY_AT, b"\0")

    def wished(self) -> list[int]:
        """Return the chunks that others wish for, and forget it.

        Raises:
            OSError: as the operating system says.
        """
        raw = os.pread(self.fd, 8, _WISHES_AT)
        wishes = int.from_bytes(raw, "little")
        if wishes == self.known.wishes:
            return []
        self.known = replace(self.known, wishes=wishes)
        wanted = os.pread(self.fd, self.count, _BODY_AT + self.count)
        found = []
        at = wanted.find(b"\1")
        while at >= 0:
            found.append(at)
            os.pwrite(self.fd, b"\0", _BODY_AT + self.count + at)
            at = wanted.find(b"\1", at + 1)
        return found

    # -- what the others do -------------------------------------------------------

    def look(self) -> bool:
        """Read the head again; tell whether anything has changed.

        Raises:
            OSError: as the operating system says.
        """
        found = _read_head(self.fd)
        if found is None or found.changes == self.known.changes:
            return False
        self.known = found
        return True

    def chunks(self) -> bytes:
        """Return a byte for each chunk.

        Raises:
            OSError: as the operating system says.
        """
        return os.pread(self.fd, self.count, _BODY_AT)

    def wish(self, chunks: range, mark: int) -> None:
        """Ask whoever loads to bring these chunks first.

        Args:
            chunks: which.
            mark: a number that no wish before has had; any will do if it differs.

        Raises:
            OSError: as the operating system says.
        """
        first, last = max(0, chunks.start), min(self.count, chunks.stop)
        if first < last:
            os.pwrite(self.fd, b"\1" * (last - first), _BODY_AT + self.count + first)
            os.pwrite(self.fd, struct.pack("<Q", mark & (2**64 - 1)), _WISHES_AT)


def _read_head(fd: int) -> Known | None:
    raw = os.pread(fd, _BODY_AT, 0)
    if len(raw) < _BODY_AT:
        return None
    magic, version, chunk, length, inode, ready, back, changes, wishes, named = _HEAD.unpack_from(
        raw
    )
    if (magic, version, chunk) != (_MAGIC, _VERSION, CHUNK) or named > _LONGEST_NAME:
        return None
    name = raw[_HEAD.size : _HEAD.size + named].decode("utf-8", "surrogateescape")
    return Known(length, inode, ready, back, changes, wishes, name or None)


def spans_of(ready: int, chunks: bytes, length: int) -> Spans:
    """Return which bytes are there.

    Args:
        ready: the first so many are.
        chunks: a byte for each chunk.
        length: of the blob, in bytes.
    """
    spans = Spans([(0, min(ready, length))])
    at = 0
    while at < len(chunks):
        # Runs of what is there and what is not, each found at the speed of memory.
        absent = chunks.find(ABSENT, at)
        end = len(chunks) if absent < 0 else absent
        spans.add(at * CHUNK, min(end * CHUNK, length))
        at = end
        while at < len(chunks) and chunks[at] == 0:
            found = [p for value in (HERE, TRUSTED) if (p := chunks.find(value, at)) >= 0]
            at = min(found, default=len(chunks))
    return spans


def _runs(chunks: dict[int, bytes]) -> list[tuple[int, bytes]]:
    runs: list[tuple[int, bytearray]] = []
    for index in sorted(chunks):
        if runs and runs[-1][0] + len(runs[-1][1]) == index:
            runs[-1][1].extend(chunks[index])
        else:
            runs.append((index, bytearray(chunks[index])))
    return [(first, bytes(values)) for first, values in runs]

"""The log of small blobs: what one fdatasync makes durable, before the tree is.

A file of fixed size whose blocks are written once when it is made, so that a
later write changes no metadata and its fdatasync costs one flush:

    block 0     magic, version, whether it may be trusted, the cycle's number
    block 1…    groups; each begins on a block, so that a torn write of one
                group cannot touch another that was acknowledged
    a group     records: head, name, bytes; the SHA-512 of the bytes is the
                blob's digest, so it also says whether the record is whole

A group is written once the one before is durable, so all that was acknowledged
precedes whatever a power cut has torn. A cycle ends when everything in the log
is durable in the tree: the file gets a new number, and records with another
one are none.

Rules of this file: an ``OSError`` leaves as it is; no fsync that failed is
tried again.
"""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.store import durable
from dtfc.store.volume import write_all

SIZE = 8 << 20
BLOCK = 4096

_MAGIC = b"dtfc-log"
_VERSION = 1
_HEADER = struct.Struct(">8sI?16sI")  # magic, version, distrusted, cycle, checksum
_RECORD = struct.Struct(">4s16sIIH64s")  # magic, cycle, checksum, length, name's length, digest
_MARK = b"blob"
_NO_NAME = 0xFFFF


@dataclass(frozen=True, slots=True)
class Record:
    """A blob in the log.

    Args:
        digest: of its bytes.
        name: the file name it came with.
        body: its bytes.
    """

    digest: Digest
    name: str | None
    body: bytes


class Log:
    """A log that this process writes; made new, and empty.

    Args:
        path: where; nothing may be there.
        size: bytes, at least two blocks.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: str, size: int = SIZE) -> None:
        self._path = path
        self._size = size
        self._end = BLOCK
        self._cycle = b""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        try:
            write_all(self._fd, [bytes(size)], 0)
            durable.sync(self._fd)
            self.begin()
        except BaseException:
            self.close()
            raise

    @property
    def empty(self) -> bool:
        """Whether nothing was written since the cycle began."""
        return self._end == BLOCK

    def begin(self) -> None:
        """Begin a new cycle: whatever was written is no longer of use.

        Raises:
            OSError: as the operating system says.
        """
        cycle = secrets.token_bytes(16)
        self._say(cycle, distrusted=False)
        self._cycle, self._end = cycle, BLOCK

    def distrust(self) -> None:
        """Note that the tree may have lost what stands here, whatever it shows.

        Raises:
            OSError: as the operating system says.
        """
        self._say(self._cycle, distrusted=True)

    def _say(self, cycle: bytes, *, distrusted: bool) -> None:
        head = _HEADER.pack(_MAGIC, _VERSION, distrusted, cycle, 0)
        head = _HEADER.pack(_MAGIC, _VERSION, distrusted, cycle, zlib.crc32(head))
        write_all(self._fd, [head.ljust(BLOCK, b"\0")], 0)
        durable.sync_data(self._fd)

    def fits(self, records: Sequence[Record]) -> bool:
        """Tell whether there is room for a group."""
        return self._end + sum(map(_size, records)) <= self._size

    def append(self, records: Sequence[Record]) -> None:
        """Write a group and make it durable.

        Raises:
            OSError: it is not; nothing may be written to this log any more.
        """
        pieces: list[bytes] = []
        for record in records:
            pieces += self._composed(record)
        length = sum(map(len, pieces))
        padding = -length % BLOCK
        write_all(self._fd, [*pieces, bytes(padding)], self._end)
        durable.sync_data(self._fd)
        self._end += length + padding

    def _composed(self, record: Record) -> tuple[bytes, bytes, bytes]:
        name = b"" if record.name is None else record.name.encode()
        size = _NO_NAME if record.name is None else len(name)
        facts = (len(record.body), size, record.digest.raw)
        checksum = zlib.crc32(name, zlib.crc32(_RECORD.pack(_MARK, self._cycle, 0, *facts)))
        return _RECORD.pack(_MARK, self._cycle, checksum, *facts), name, record.body

    def cut(self) -> None:
        """Take away what a failed :meth:`append` may have left.

        Raises:
            OSError: as the operating system says.
        """
        os.ftruncate(self._fd, self._end)

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _size(record: Record) -> int:
    # With the padding, should it be alone in its group.
    name = len((record.name or "").encode())
    return _RECORD.size + name + len(record.body) + BLOCK


def read(path: str) -> tuple[list[Record], bool]:
    """Read what a log holds, as far as it is whole.

    Args:
        path: the file.

    Returns:
        The records in the order they were written, and whether the tree must
        not be trusted to hold them.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        content = file.read()
    if len(content) < _HEADER.size:
        return [], False
    magic, version, distrusted, cycle, checksum = _HEADER.unpack_from(content)
    expected = zlib.crc32(_HEADER.pack(magic, version, distrusted, cycle, 0))
    if magic != _MAGIC or version != _VERSION or checksum != expected:
        return [], False
    return list(_records(content, cycle)), distrusted


def _records(content: bytes, cycle: bytes) -> Iterator[Record]:
    at = BLOCK
    while True:
        found = _record_at(content, at, cycle)
        if found is None and at % BLOCK:
            # The group may have ended here; the next one begins on a block.
            at += -at % BLOCK
            found = _record_at(content, at, cycle)
        if found is None:
            return
        record, at = found
        yield record


def _record_at(content: bytes, at: int, cycle: bytes) -> tuple[Record, int] | None:
    if at + _RECORD.size > len(content):
        return None
    mark, its_cycle, checksum, length, size, raw = _RECORD.unpack_from(content, at)
    if mark != _MARK or its_cycle != cycle:
        return None
    at += _RECORD.size
    named = size != _NO_NAME
    name = content[at : at + size] if named else b""
    facts = _RECORD.pack(mark, cycle, 0, length, size, raw)
    if zlib.crc32(name, zlib.crc32(facts)) != checksum:
        return None
    at += len(name)
    body = content[at : at + length]
    digest = Digest(raw)
    if Digest.of(body) != digest:
        return None
    return Record(digest, name.decode() if named else None, body), at + length

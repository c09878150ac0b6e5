"""Where the bytes of an upload come from: a file, memory, an open file, another node.

Rules of this file: a source can be read from any offset, again and again, for an upload
that was cut off goes on where the node says. What can be read once only is written to a
temporary file first.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from twisted.internet.defer import Deferred

from dtfc.client.failures import LocalTrouble
from dtfc.client.partfile import in_words
from dtfc.digest import Digest
from dtfc.disk import Disk

BLOCK = 512 * 1024
"""Bytes that are read and sent at once."""


class Reader(Protocol):
    """Reads on from an offset."""

    async def read(self) -> bytes:
        """Return the next block; empty at the end."""

    async def close(self) -> None:
        """Read no more; harmless when repeated."""


class Source(Protocol):
    """The bytes of an upload."""

    length: int
    """How many they are."""
    name: str | None
    """The file name that they have here."""
    key: str | None
    """Says which bytes these are, without reading them; None if that cannot be said."""
    digest: Digest | None
    """Of all of them, if it is known."""

    async def open(self, at: int) -> Reader:
        """Begin to read at an offset."""

    def hashing(self) -> Hashing | None:
        """Begin to take the digest beside everything else; None if nobody can."""

    async def check(self) -> None:
        """Make sure that these are still the same bytes.

        Raises:
            LocalTrouble: they have changed.
        """


class Hashing:
    """A digest that is being taken of a file, in a thread.

    Args:
        disk: runs the thread.
        path: shown in errors.
        descriptor: of the file; it is not closed here.
        length: bytes to read.
    """

    def __init__(self, disk: Disk, path: str, descriptor: int, length: int) -> None:
        self._stop = threading.Event()
        self._path = path
        self._descriptor = descriptor
        self._length = length
        self.result: Deferred[Digest | None] = disk.run(self._work)
        # Whoever waits hears of it; if nobody does, it is of no interest.
        self._told = self.result.addErrback(lambda failure: failure)

    async def digest(self) -> Digest:
        """Wait for it.

        Raises:
            LocalTrouble: the file cannot be read, or is shorter than it was.
        """
        found = await self.result
        if found is None:
            raise LocalTrouble(f"{self._path}: it is shorter than it was")
        return found

    async def stop(self) -> None:
        """Stop, and wait until the file is not used any more."""
        self._stop.set()
        if not self.result.called:
            waiting: Deferred[None] = Deferred()

            def over(result: object) -> object:
                waiting.callback(None)
                return result

            self.result.addBoth(over)
            await waiting
        self.result.addErrback(lambda _failure: None)

    def _work(self) -> Digest | None:
        sha512, at = hashlib.sha512(), 0
        with in_words(self._path):
            while at < self._length and not self._stop.is_set():
                block = os.pread(self._descriptor, min(BLOCK * 2, self._length - at), at)
                if not block:
                    return None
                sha512.update(block)
                at += len(block)
        return Digest(sha512.digest()) if at >= self._length else None


class FileSource:
    """An open file.

    Args:
        disk: where it is read.
        file: positioned wherever; read from its beginning. It belongs to this object.
        path: its path, shown in errors; None if nobody would know it.
        name: that it is to have.
    """

    def __init__(self, disk: Disk, file: BinaryIO, path: str | None, name: str | None) -> None:
        facts = os.fstat(file.fileno())
        self.length = facts.st_size
        self.name = name
        self.digest: Digest | None = None
        self.key: str | None = None
        self.shown = path or "the file"
        if path is not None:
            self.key = f"{os.path.realpath(path)}\0{facts.st_size}\0{facts.st_mtime_ns}"
        self._disk = disk
        self._file = file
        self._stamp = _stamp(facts)
        self._changes = path is not None

    async def open(self, at: int) -> Reader:
        """Begin to read at an offset."""
        return _FileReader(self, at)

    async def read_at(self, at: int) -> bytes:
        """Return a block."""
        return await self._disk.run(self._read, at)

    def _read(self, at: int) -> bytes:
        with in_words(self.shown):
            return os.pread(self._file.fileno(), min(BLOCK, self.length - at), at)

    def hashing(self) -> Hashing | None:
        """Begin to take the digest."""
        return Hashing(self._disk, self.shown, self._file.fileno(), self.length)

    async def check(self) -> None:
        """Make sure that the file has not changed.

        Raises:
            LocalTrouble: it has.
        """
        if self._changes and _stamp(os.fstat(self._file.fileno())) != self._stamp:
            raise LocalTrouble(f"{self.shown}: it was changed while it was sent; send it again")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(slots=True)
class _FileReader:
    source: FileSource
    at: int

    async def read(self) -> bytes:
        if self.at >= self.source.length:
            return b""
        block = await self.source.read_at(self.at)
        if not block:
            raise LocalTrouble(f"{self.source.shown}: it is shorter than it was")
        self.at += len(block)
        return block

    async def close(self) -> None:
        self.at = self.source.length


class BytesSource:
    """Bytes in memory.

    Args:
        content: all of them.
        name: that they are to have.
    """

    def __init__(self, content: bytes, name: str | None) -> None:
        self.length = len(content)
        self.name = name
        self.key: str | None = None
        self.digest: Digest | None = Digest.of(content)
        self._content = memoryview(content)

    async def open(self, at: int) -> Reader:
        """Begin to read at an offset."""
        return _BytesReader(self._content, at)

    def hashing(self) -> Hashing | None:
        """Nothing is left to be hashed."""
        return None

    async def check(self) -> None:
        """They cannot change."""


@dataclass(slots=True)
class _BytesReader:
    content: memoryview
    at: int

    async def read(self) -> bytes:
        block = bytes(self.content[self.at : self.at + BLOCK])
        self.at += len(block)
        return block

    async def close(self) -> None:
        self.at = len(self.content)


def open_source(disk: Disk, what: str | BinaryIO, name: str | None) -> FileSource:
    """Open a file for an upload (blocks).

    Args:
        disk: where it is read afterwards.
        what: a path, or an open file; one that cannot be read twice is copied to a
            temporary file first.
        name: that it is to have; the path's own, if None.

    Raises:
        LocalTrouble: it cannot be read, or is no file.
    """
    if isinstance(what, str):
        with in_words(what):
            # Not blocking: a pipe under that name must not hang the client.
            descriptor = os.open(what, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise LocalTrouble(f"{what}: it is no regular file")
            file: BinaryIO = open(descriptor, "rb", buffering=0)  # noqa: SIM115 -- belongs to the source
        return FileSource(disk, file, what, os.path.basename(what) if name is None else name)
    with in_words("the file"):
        return FileSource(disk, _spooled(what), None, name)


def _spooled(what: BinaryIO) -> BinaryIO:
    """Copy what is left of a file, so that it can be read again, from any offset."""
    spool: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 -- belongs to the source
    try:
        while block := what.read(BLOCK):
            spool.write(block)
        spool.flush()
    except BaseException:
        spool.close()
        raise
    return spool


def _stamp(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def blocks_of(reader: Reader) -> Callable[[], Awaitable[bytes]]:
    """Return what reads the next block, which is never empty."""

    async def read() -> bytes:
        block = await reader.read()
        if not block:
            raise LocalTrouble("what is to be sent is shorter than it was")
        return block

    return read

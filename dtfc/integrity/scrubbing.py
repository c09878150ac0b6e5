"""Reading everything again, slowly: rot is found before somebody asks for the blob (blocks).

A pass goes through the tree in the order of the digests, so that where it is is
one digest, and it can be taken up there tomorrow. Of each blob every byte is
read from the disk itself where the system allows it (``O_DIRECT``): what is in
the page cache says nothing about the disk, and must not be driven out by a
scrub.

On the way it looks at what lies beside the blobs: data that could be written
to is made read-only, a chunk map of nothing is removed, what does not belong
there is reported and left alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from dtfc.digest import Digest
from dtfc.errors import DtfcError, StoreFailure
from dtfc.integrity.examining import UNREADABLE, Examination, read_chunk
from dtfc.store import notes
from dtfc.store.blobs import Store
from dtfc.store.chunkmap import CHUNK

Kind = Literal["corrupt", "missing", "unreadable", "stray", "mode", "map"]

#: What every kind of finding means, for people.
MEANING: dict[Kind, str] = {
    "corrupt": "bytes that are not the blob's",
    "missing": "in the catalog, but not on the disk",
    "unreadable": "this process cannot read it; left alone",
    "stray": "does not belong there; left alone",
    "mode": "could be written to; made read-only",
    "map": "a chunk map that was wrong, or of nothing; made anew, or removed",
}

#: The kinds that say of a blob that it cannot be relied on.
BAD: tuple[Kind, ...] = ("corrupt", "missing", "unreadable")

_BLOCK = 4096  # what O_DIRECT wants lengths to be a multiple of
_READ_ONLY = 0o444
_NOT_DIRECT = (errno.EINVAL, errno.EOPNOTSUPP)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_KNOWN = frozenset({notes.DATA, notes.NAMES, notes.CHUNKS, notes.RECORD, "403", "404"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Args:
        kind: what.
        where: the digest, or a path below the store's folder.
        digest: of the blob; None for what belongs to none.
        inode: of the file that is damaged, if that is known: another one may
            have taken its place by the time that something is done about it.
    """

    kind: Kind
    where: str
    digest: Digest | None = None
    inode: int | None = field(default=None, compare=False)


@dataclass(slots=True)
class Tally:
    """What a pass has come to so far.

    Args:
        blobs: looked at.
        bytes: read.
        found: how many of each kind.
    """

    blobs: int = 0
    bytes: int = 0
    found: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(MEANING, 0))


class Reader:
    """Reads chunks from the disk, past the page cache where that is possible.

    Args:
        resident: whether bytes of a file are in the page cache.
    """

    def __init__(self, resident: Callable[[int, int, int], bool]) -> None:
        self._resident = resident
        self._buffer = mmap.mmap(-1, CHUNK)  # begins on a page, as O_DIRECT wants it

    def open(self, folder: int) -> int | None:
        """Open a blob's bytes; None if there are none.

        Raises:
            OSError: they cannot be opened.
        """
        if not notes.is_regular(folder, notes.DATA):
            return None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        direct = getattr(os, "O_DIRECT", 0)
        if direct:
            try:
                return os.open(notes.DATA, flags | direct, dir_fd=folder)
            except OSError as error:
                if error.errno not in _NOT_DIRECT:
                    raise
        return os.open(notes.DATA, flags, dir_fd=folder)

    def read(self, fd: int, index: int, length: int) -> memoryview | None:
        """Read one chunk; as :func:`dtfc.integrity.examining.read_chunk`."""
        start = index * CHUNK
        wanted = min(CHUNK, length - start)
        try:
            got = os.preadv(fd, [memoryview(self._buffer)[: -(-wanted // _BLOCK) * _BLOCK]], start)
        except OSError as error:
            if error.errno in UNREADABLE:
                return None
            if error.errno not in _NOT_DIRECT:
                raise
            got = -1
        if got >= wanted:
            return memoryview(self._buffer)[:wanted]
        # A file system that takes O_DIRECT at open and not for this; or one
        # that gave less than it has.
        _through_the_cache(fd)
        was_there = self._resident(fd, start, wanted)
        content = read_chunk(fd, index, length)
        if not was_there and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, start, wanted, os.POSIX_FADV_DONTNEED)
        return content


def _through_the_cache(fd: int) -> None:
    direct = getattr(os, "O_DIRECT", 0)
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & direct:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~direct)


class Scrub:
    """One pass over a store.

    Args:
        store: whose blobs.
        reader: reads them.
        after: begin behind this one; None for the beginning.
        mend: whether small things are put right (modes, maps); False only looks.
    """

    def __init__(
        self, store: Store, reader: Reader, *, after: Digest | None = None, mend: bool = True
    ) -> None:
        self._store = store
        self._reader = reader
        self._mend = mend
        self.cursor = after
        """The last blob that is done with."""
        self.tally = Tally()
        self.done = (0, 0)
        """Blobs and bytes up to the cursor: what need not be read again."""
        self.findings: list[Finding] = []
        """What was found and not yet taken away by the caller."""
        self.right: list[Digest] = []
        """Blobs that are as they should be, not yet taken away by the caller."""

    def steps(self) -> Iterator[int]:
        """Go through the store; yields the bytes read, after each chunk and each blob.

        Raises:
            StoreFailure: not even the store's own folder can be listed.
        """
        walk = self._store.survey(self.cursor, self._stray, self._unlisted)
        for digest, folder in walk:
            yield from self._blob(digest, folder)
            self.cursor = digest
            self.done = (self.tally.blobs, self.tally.bytes)
            yield 0
        for gone in self._store.missing():
            if gone is not None:
                self._find("missing", gone.hex, gone)
            yield 0

    def one(self, digest: Digest) -> Iterator[int]:
        """Look at one blob alone.

        Raises:
            Absent, Denied, StoreFailure: as the store says.
        """
        with self._store.folder_of(digest) as folder:
            yield from self._blob(digest, folder)

    def _find(
        self, kind: Kind, where: str, digest: Digest | None = None, inode: int | None = None
    ) -> None:
        self.tally.found[kind] += 1
        self.findings.append(Finding(kind, where, digest, inode))

    def _stray(self, path: str) -> None:
        self._find("stray", path)

    def _unlisted(self, path: str) -> None:
        self._find("unreadable", path)

    def _blob(self, digest: Digest, folder: int) -> Iterator[int]:
        try:
            names = set(os.listdir(folder))
            for name in sorted(names - _KNOWN):
                self._find("stray", f"{self._store.layout.relative(digest)}/{name}", digest)
            fd = self._reader.open(folder)
        except OSError as error:
            if error.errno in UNREADABLE:
                self._find("corrupt", digest.hex, digest)
                return
            if error.errno in _FORBIDDEN:
                # Told, and gone past: the pass would never get behind it.
                self._find("unreadable", digest.hex, digest)
                return
            raise StoreFailure("read a blob", error) from error
        if fd is None:
            self._no_data(digest, names)
            return
        self.tally.blobs += 1
        try:
            self._mode(digest, fd)
            yield from self._bytes(digest, fd)
        finally:
            os.close(fd)

    def _no_data(self, digest: Digest, names: set[str]) -> None:
        if notes.CHUNKS not in names or self._store.repair.is_quarantined(digest):
            return
        if not self._mend or self._store.repair.drop_map(digest):
            self._find("map", digest.hex, digest)

    def _mode(self, digest: Digest, fd: int) -> None:
        if stat.S_IMODE(os.fstat(fd).st_mode) != _READ_ONLY:
            self._find("mode", digest.hex, digest)
            if self._mend:
                # Another user's file: reported all the same.
                with contextlib.suppress(OSError):
                    os.fchmod(fd, _READ_ONLY)

    def _bytes(self, digest: Digest, fd: int) -> Iterator[int]:
        length = os.fstat(fd).st_size
        known = None
        with contextlib.suppress(DtfcError):
            known = self._store.repair.read_map(digest, length)
        examination = Examination(fd, digest, length, known, read=self._reader.read)
        try:
            for count in examination.steps():
                self.tally.bytes += count
                yield count
        except OSError as error:
            raise StoreFailure("read a blob", error) from error
        found = examination.result()
        if not found.right:
            # Unless it was deleted, or replaced, while it was read.
            facts = os.fstat(fd)
            if facts.st_nlink:
                self._find("corrupt", digest.hex, digest, facts.st_ino)
            return
        self.right.append(digest)
        if found.made is not None and found.made != known:
            if known is not None:
                self._find("map", digest.hex, digest)
            if self._mend:
                self._store.repair.write_map(found.made)

"""Blobs that are being loaded: their bytes so far, which outlive the process.

A partial is a file named by the digest it is to have. What is in it is never
trusted: it is hashed again by the process that goes on with it, and the whole
goes through the same door as every other blob. The lock on the file makes one
load a node.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Sequence

from dtfc.digest import Digest
from dtfc.errors import Busy, NoSpace, StoreFailure, WrongDigest
from dtfc.store.door import Door, Whole
from dtfc.store.facts import Stored
from dtfc.store.incoming import Growth
from dtfc.store.volume import Scratch, Volume

_READ = 1 << 20
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Partial:
    """The bytes of a blob so far.

    Used from one thread at a time, but :attr:`fd` may be read by others, up to
    :attr:`length`, until :meth:`close` or :meth:`discard`.

    Args:
        digest: what the whole must hash to.
        fd: the file, locked, open for reading and writing.
        path: its name.
        door: where the whole goes.
        volume: the file system.
    """

    def __init__(self, digest: Digest, fd: int, path: str, door: Door, volume: Volume) -> None:
        self.digest = digest
        self._source = Scratch(fd, path)
        self._door = door
        self._volume = volume
        self._growth = Growth(volume, self._source)
        self._absorbed = False

    @property
    def fd(self) -> int:
        """The descriptor, -1 once closed; a commit leaves it open."""
        return self._source.fd

    @property
    def length(self) -> int:
        """How many bytes are there and hashed."""
        return self._growth.length

    def absorb(self) -> int:
        """Hash what an earlier process left; return how many bytes that is.

        Raises:
            StoreFailure: they cannot be read.
        """
        self._growth.restart()
        with self._volume.failing("read a partial blob"):
            while piece := os.pread(self.fd, _READ, self._growth.length):
                self._growth.take([piece])
        self._absorbed = True
        return self.length

    def reserve(self, total: int) -> None:
        """Make sure that the whole will fit.

        Args:
            total: how long the whole is, in bytes.

        Raises:
            NoSpace: it will not.
            StoreFailure: as the operating system says.
        """
        self._growth.reserve(total)

    def write(self, blocks: Sequence[bytes]) -> None:
        """Append the next bytes.

        Raises:
            NoSpace, StoreFailure: as the operating system says; what was there
                before stays, and the write may be repeated.
            ValueError: after a commit was tried; only a restart helps then.
        """
        if self._source.sealed:
            raise ValueError("this partial blob is sealed; nothing can be added to it")
        if not self._absorbed:
            self.absorb()
        try:
            self._growth.append(blocks)
        except BaseException:
            self._cut_to_length()
            raise

    def _cut_to_length(self) -> None:
        """Drop what was written but not hashed, or see to it that it is hashed again."""
        try:
            os.ftruncate(self.fd, self._growth.length)
        except OSError:
            self._absorbed = False

    def restart(self) -> None:
        """Throw away what is there, because it is not the blob.

        Raises:
            StoreFailure: as the operating system says, or it is stored by now:
                its bytes are the blob's.
        """
        with self._volume.failing("empty a partial blob"):
            if os.fstat(self.fd).st_nlink != 1:
                raise OSError(errno.EBUSY, "its bytes are a stored blob's")
            os.fchmod(self.fd, 0o600)
            os.ftruncate(self.fd, 0)
        self._source.sealed = False
        self._growth.restart()
        self._absorbed = True

    def commit(self, name: str | None) -> Stored:
        """Store the whole; when this returns it is durable.

        Args:
            name: the file name the peer gave.

        Raises:
            WrongDigest: it is not the blob; :meth:`restart` or
                :meth:`discard` it.
            Absent: the blob was deleted here meanwhile.
            Denied: an operator's marker forbids it.
            BadName: the name cannot be kept.
            NoSpace, StoreFailure: as the operating system says. If its bytes
                could not be made durable, the partial is discarded.
        """
        if not self._absorbed:
            self.absorb()
        actual = Digest(self._growth.sha512.digest())
        if actual != self.digest:
            raise WrongDigest("SHA-512", self.digest.hex, actual.hex)
        try:
            self._door.seal(self._source)
        except (NoSpace, StoreFailure):
            # Reading it again would show bytes that the disk does not have.
            self.discard()
            raise
        whole = Whole(self._source, actual, self.length, self._growth.chunk_map())
        stored = self._door.enter(whole, name, deliberate=False)
        self._forget_path()
        return stored

    def _forget_path(self) -> None:
        if self._source.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._source.path)
            self._source.path = None

    def close(self) -> None:
        """Keep the file for later and let others have it; harmless when repeated."""
        self._source.path = None
        self._source.drop()

    def discard(self) -> None:
        """Remove the file; harmless after a commit, and when repeated."""
        self._source.drop()


class Partials:
    """The partials of one store.

    Args:
        folder: where they lie.
        door: where the whole goes.
        volume: the file system.
    """

    def __init__(self, folder: str, door: Door, volume: Volume) -> None:
        self._folder = folder
        self._door = door
        self._volume = volume

    def open(self, digest: Digest) -> Partial:
        """Take the partial of a blob, an empty one if there is none.

        Raises:
            Busy: it is being loaded, by this process or another one.
            NoSpace, StoreFailure: as the operating system says.
        """
        path = f"{self._folder}/{digest.hex}"
        with self._volume.failing("open a partial blob"):
            while True:
                fd = self._take(path, digest)
                if fd is not None:
                    return Partial(digest, fd, path, self._door, self._volume)

    def _take(self, path: str, digest: Digest) -> int | None:
        """Open and lock a partial; None if the name has to be looked up again."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        except PermissionError:
            # It was sealed, and its commit was cut off.
            fd = os.open(path, os.O_RDONLY | _FLAGS)
        taken = False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = self._usable(path, fd)
        except BlockingIOError as error:
            raise Busy(f"the load of {digest}") from error
        finally:
            if not taken:
                os.close(fd)
        return fd if taken else None

    def _usable(self, path: str, fd: int) -> bool:
        facts = os.fstat(fd)
        if facts.st_nlink == 0:
            # Removed between its opening and its lock.
            return False
        if facts.st_nlink > 1 or not stat.S_ISREG(facts.st_mode):
            # Linked as a blob already, by a commit that was cut off before it
            # could remove this name: to write here would be to damage the blob.
            os.unlink(path)
            return False
        if stat.S_IMODE(facts.st_mode) != 0o600:
            os.fchmod(fd, 0o600)
            return False
        return True

    def drop(self, digest: Digest) -> None:
        """Remove the partial of a blob, unless somebody is at it."""
        with contextlib.suppress(OSError):
            self._drop(f"{self._folder}/{digest.hex}", None)

    def expire(self, before: float) -> int:
        """Remove what nobody has gone on with.

        Args:
            before: seconds since 1970; what was written later stays.

        Returns:
            How many were removed.

        Raises:
            StoreFailure: they cannot be listed.
        """
        return sum(self._drop_quietly(path, before) for path in self._paths())

    def sweep(self) -> None:
        """Remove what is stored by now: its commit was cut off after it was linked.

        Raises:
            StoreFailure: they cannot be listed.
        """
        for path in self._paths():
            with contextlib.suppress(OSError):
                if os.stat(path, follow_symlinks=False).st_nlink > 1:
                    self._drop(path, None)

    def _paths(self) -> list[str]:
        with self._volume.failing("list the partial blobs"):
            return [f"{self._folder}/{name}" for name in os.listdir(self._folder)]

    def _drop_quietly(self, path: str, before: float) -> bool:
        try:
            return self._drop(path, before)
        except OSError:
            return False

    def _drop(self, path: str, before: float | None) -> bool:
        fd = os.open(path, os.O_RDONLY | _FLAGS)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if before is not None and os.fstat(fd).st_mtime >= before:
                return False
            if os.fstat(fd).st_nlink == 0:
                return False
            os.unlink(path)
        finally:
            os.close(fd)
        return True

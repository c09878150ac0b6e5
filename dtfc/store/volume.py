"""The file system under a store: its room, its faults, and how files come into being on it.

Rules of this file: every ``OSError`` leaves as a domain error; an fsync that
failed is never tried again, because the kernel forgets what it could not write
and the second fsync would succeed over lost bytes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import sys
import threading
from collections.abc import Iterator, Sequence

from dtfc.errors import NoInodes, NoSpace, StoreFailure
from dtfc.store import durable, syscalls
from dtfc.store.capabilities import Capability, has
from dtfc.store.drafts import DRAFT
from dtfc.store.facts import Space
from dtfc.store.layout import Layout

# So many failed fsyncs, and the store takes no more writes until it is opened anew.
FAILED_SYNCS_TOLERATED = 3

_PREFIX = "dtfc-"
# Nothing else is swept: the folder given with --temp may hold anybody's files.
_TEMPORARY = re.compile(r"dtfc-[0-9a-f]{16}\Z")
_MOST_BUFFERS = 1024  # IOV_MAX on Linux and the BSDs
_INODES_KEPT = 256
_FULL = (errno.ENOSPC, errno.EDQUOT)
# What open(2) answers for O_TMPFILE on a file system or kernel without it.
_NO_ANONYMOUS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


class Volume:
    """The file system of one store.

    Args:
        layout: the store.
        temp: where bytes are written until they are whole; None for the
            store's own ``tmp``. It must be on the same file system, because a
            blob is linked into place. If it is not, it is left alone and
            ``temp_refused`` says why: a command line that worked in 2015 must
            not stop a node, and copying would write every byte twice.
        reserve: bytes kept back from blobs.
        anonymous_files: False does without ``O_TMPFILE`` even where there is one.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        temp: str | None = None,
        reserve: int = 0,
        anonymous_files: bool = True,
    ) -> None:
        self.base = layout.basedir
        self._own = layout.own("")
        self.own_temp = layout.own("tmp")
        self.reserve = reserve
        self.failed_syncs = 0
        self.temp_refused: str | None = None
        self._inodes_needed = layout.fan_out + 4
        self._anonymous = anonymous_files and has(Capability.ANONYMOUS_FILES)
        self._lock = threading.Lock()
        self.temp = self.own_temp
        if temp is not None:
            self._try_temp(os.path.abspath(temp))

    def _try_temp(self, temp: str) -> None:
        draft = None
        try:
            os.makedirs(temp, 0o700, exist_ok=True)
            draft = self._named(temp)
            probe = f"{self.own_temp}/{_PREFIX}{secrets.token_hex(8)}"
            os.link(draft.path or "", probe)
            os.unlink(probe)
        except OSError as error:
            reason = (
                "it is on another file system than the store"
                if error.errno == errno.EXDEV
                else str(error.strerror)
            )
            self.temp_refused = f"{temp} is not used for temporary files: {reason}"
        else:
            self.temp = temp
        finally:
            if draft is not None:
                draft.drop()

    @contextlib.contextmanager
    def failing(self, operation: str, needed: int = 0) -> Iterator[None]:
        """Turn what the operating system refuses inside into a domain error.

        Args:
            operation: completes the sentence "the store could not …".
            needed: bytes that were about to be written, for the message.

        Raises:
            NoSpace: the disk or the quota is full.
            StoreFailure: anything else.
        """
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise self._full(needed) from error
            raise StoreFailure(operation, error) from error

    def _full(self, needed: int) -> NoSpace:
        try:
            room = os.statvfs(self.base)
        except OSError:
            return NoSpace(needed, 0, self.reserve)
        if room.f_files and room.f_favail == 0:
            return NoInodes(0, 0)
        return NoSpace(needed, room.f_bavail * room.f_frsize, self.reserve)

    def space(self) -> Space:
        """Say how much room there is.

        Raises:
            StoreFailure: the file system does not answer.
        """
        with self.failing("ask for its free space"):
            room = os.statvfs(self.base)
        return Space(room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize, self.reserve)

    def require_room(self, needed: int) -> None:
        """Refuse what would eat into the reserve.

        Args:
            needed: bytes about to be written.

        Raises:
            NoSpace: there is no room for them beside the reserve, or no inode.
            StoreFailure: the file system does not answer, or too many fsyncs
                failed.
        """
        if self.failed_syncs >= FAILED_SYNCS_TOLERATED:
            raise StoreFailure(
                f"take writes: {self.failed_syncs} fsyncs failed since it was opened",
                OSError(errno.EIO, os.strerror(errno.EIO)),
            )
        with self.failing("ask for its free space"):
            room = os.statvfs(self.base)
        free = room.f_bavail * room.f_frsize
        if free - needed < self.reserve:
            raise NoSpace(needed, free, self.reserve)
        kept = min(_INODES_KEPT, room.f_files // 100)
        # Some file systems (btrfs) count no inodes and say 0 of 0.
        if room.f_files and room.f_favail < self._inodes_needed + kept:
            raise NoInodes(room.f_favail, kept)

    def sync(self, fd: int, operation: str) -> None:
        """Make a file or folder durable.

        Raises:
            NoSpace, StoreFailure: it is not, and never will be: discard it.
        """
        with self.failing(operation):
            try:
                durable.sync(fd)
            except OSError:
                self.count_failed_sync()
                raise

    def count_failed_sync(self) -> None:
        """Note that an fsync failed, so that writes end when too many did."""
        with self._lock:
            self.failed_syncs += 1

    def allocate(self, fd: int, offset: int, length: int) -> bool:
        """Set blocks aside for bytes that will come; False where that is not possible.

        Raises:
            NoSpace: there are not so many.
        """
        if length <= 0:
            return True
        with self.failing("set space aside", length):
            try:
                syscalls.allocate(fd, offset, length)
            except syscalls.Unsupported:
                return False
        return True

    def scratch(self) -> Scratch:
        """Open a new file that leaves no trace unless it is linked somewhere.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        with self.failing("open a temporary file"):
            if sys.platform == "linux" and self._anonymous:
                try:
                    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
                    return Scratch(os.open(self.temp, flags, 0o600), None)
                except OSError as error:
                    if error.errno not in _NO_ANONYMOUS:
                        raise
                    self._anonymous = False
            return self._named(self.temp)

    def _named(self, folder: str) -> Scratch:
        """Make a temporary file that has a name, and hold its lock.

        The lock tells a process that starts meanwhile that the file is in use;
        it goes with the process, so what nobody holds is litter.
        """
        while True:
            path = f"{folder}/{_PREFIX}{secrets.token_hex(8)}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            scratch = Scratch(fd, path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink == 1:
                    return scratch
            except BlockingIOError:
                pass
            except BaseException:
                scratch.drop()
                raise
            # Swept away between its creation and its lock.
            scratch.drop()

    def replace(
        self, folder: int, name: str, content: bytes, *, mode: int = 0o644, durable: bool = True
    ) -> None:
        """Write a small file whole, or leave the old one: durable content, then a rename.

        The folder's entry is durable only once the caller has synced the folder.

        Args:
            folder: the descriptor of the folder.
            name: the file in it.
            content: all of it.
            mode: its permissions.
            durable: False for what can be made again.

        Raises:
            NoSpace, StoreFailure: as the operating system says.
        """
        with self.failing("write a small file", len(content)):
            draft = self._named(self.own_temp)
            try:
                write_all(draft.fd, [content], 0)
                os.fchmod(draft.fd, mode)
                if durable:
                    self.sync(draft.fd, "make a small file durable")
                os.rename(draft.path or "", name, dst_dir_fd=folder)
                draft.path = None
            finally:
                draft.drop()

    def sweep(self) -> int:
        """Remove temporary files that no process holds; return how many."""
        removed = 0
        folders = {self.temp: _TEMPORARY, self.own_temp: _TEMPORARY, self._own: DRAFT}
        for folder, called in folders.items():
            with self.failing("list its temporary files"), os.scandir(folder) as entries:
                litter = [entry.path for entry in entries if called.match(entry.name)]
            removed += sum(map(_remove_unheld, litter))
        return removed


class Scratch:
    """A file in the making.

    Args:
        fd: open for reading and writing.
        path: its name, or None if it has none (``O_TMPFILE``).

    Attributes:
        sealed: whether its bytes are read-only and durable.
    """

    __slots__ = ("fd", "path", "sealed")

    def __init__(self, fd: int, path: str | None) -> None:
        self.fd = fd
        self.path = path
        self.sealed = False

    def link(self, folder: int, name: str) -> None:
        """Give the file a name in a folder; unlike a rename this replaces nothing.

        Raises:
            OSError: FileExistsError if the name is taken.
        """
        if self.path is None:
            # Without dst_dir_fd CPython calls link(2), which does not follow
            # the link in /proc and fails with EXDEV.
            source = f"/proc/self/fd/{self.fd}"
            os.link(source, name, dst_dir_fd=folder, follow_symlinks=True)
        else:
            os.link(self.path, name, dst_dir_fd=folder, follow_symlinks=False)

    def link_path(self, path: str) -> None:
        """Give the file a further name.

        Raises:
            OSError: FileExistsError if the name is taken.
        """
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.link(folder, os.path.basename(path))
        finally:
            os.close(folder)

    def drop(self) -> None:
        """Close the file and take away its temporary name; harmless when repeated."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            self.path = None
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)


def write_all(fd: int, blocks: Sequence[bytes], offset: int) -> None:
    """Write blocks one after another at ``offset``, however short each write falls.

    Raises:
        OSError: as ``pwritev(2)`` or ``pwrite(2)`` says.
    """
    left = [memoryview(block) for block in blocks if block]
    while left:
        if has(Capability.GATHERED_WRITES):
            written = os.pwritev(fd, left[:_MOST_BUFFERS], offset)
        else:
            written = os.pwrite(fd, left[0], offset)
        if written == 0:
            raise OSError(errno.EIO, "a write of nothing")
        offset += written
        done = 0
        while done < len(left) and written >= len(left[done]):
            written -= len(left[done])
            done += 1
        del left[:done]
        if written:
            left[0] = left[0][written:]


def _remove_unheld(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A draft that was linked is held under its other name, perhaps by ourselves.
        if not (DRAFT.match(os.path.basename(path)) and os.fstat(fd).st_nlink > 1):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True

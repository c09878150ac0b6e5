"""Whether the machine lost power while the store was open.

``.dtfc/running`` holds the kernel's boot id while any process has the store
open, and each of them holds a shared lock on it. A file with another boot id
means that what was written last may not have reached the disk.

Linux has its boot id in a file; FreeBSD (from 13 on) and macOS have theirs in
sysctl. An older FreeBSD has the time at which it was booted, which moves when
the clock is set: then a process that was killed counts as a loss of power, as
it always does where there is nothing of the kind.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from collections.abc import Callable

from dtfc.store import drafts, durable, syscalls
from dtfc.store.capabilities import Capability, has

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_LIMIT = 256
_SECONDS = ctypes.sizeof(ctypes.c_long)
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Running:
    """The sign that this process has the store open.

    Args:
        path: the file.
        on_loss: called if the store was open when the machine went down, or
            that cannot be excluded; before the file forgets it.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, on_loss: Callable[[], None]) -> None:
        self._path = path
        self._fd = -1
        boot = boot_id()
        made = False
        while True:
            try:
                self._fd = os.open(path, _FLAGS)
            except FileNotFoundError:
                made = _make(path, boot) or made
                continue
            # Whoever is alone looks, and the others wait for what it finds.
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not made:
                    self._look(boot, on_loss)
            fcntl.flock(self._fd, fcntl.LOCK_SH)
            if os.fstat(self._fd).st_nlink:
                return
            # The last process to close removed it before we had the lock.
            os.close(self._fd)

    def _look(self, boot: bytes | None, on_loss: Callable[[], None]) -> None:
        if boot is None or os.pread(self._fd, _LIMIT, 0) != boot:
            on_loss()
            _say(self._fd, boot)

    def close(self) -> None:
        """Take the sign away, unless another process has the store open."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(self._path)
                durable.sync_folder(os.path.dirname(self._path))
        finally:
            os.close(fd)


class Alone:
    """The sign that this process has the store, and no other may open it.

    Whether the machine lost power before is left for who opens the store next.

    Args:
        path: the file.

    Raises:
        BlockingIOError: another process has the store open.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._made = False
        while True:
            try:
                self._fd = os.open(path, _FLAGS)
            except FileNotFoundError:
                self._made = _make(path, boot_id()) or self._made
                continue
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(self._fd)
                raise
            if os.fstat(self._fd).st_nlink:
                return
            # The process that closed it last removed it before we had the lock.
            os.close(self._fd)
            self._made = False

    def close(self) -> None:
        """Give the store back; harmless when repeated."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            if self._made:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
                    durable.sync_folder(os.path.dirname(self._path))
        finally:
            os.close(fd)


def _make(path: str, boot: bytes | None) -> bool:
    """Make the file, linked whole so that nobody reads it before it says something."""
    fd, draft = drafts.begin(path, 0o600)
    try:
        _say(fd, boot)
        os.link(draft, path)
        durable.sync_folder(os.path.dirname(path))
    except FileExistsError:
        return False
    finally:
        os.close(fd)
        drafts.remove(draft)
    return True


def _say(fd: int, boot: bytes | None) -> None:
    # On a full disk the file stays empty, which the next opening takes for
    # a loss of power: a rebuild too many, never one too few.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, boot or b"unknown", 0)
        durable.sync(fd)


def boot_id() -> bytes | None:
    """Return what tells one boot of this machine from the next; None if nothing does."""
    try:
        if has(Capability.BOOT_ID_FILE):
            with open(_BOOT_ID, "rb") as file:
                return file.read(_LIMIT)
    except OSError:
        return None
    for name in (b"kern.boot_id", b"kern.bootsessionuuid"):
        value = syscalls.sysctl(name)
        if value is not None:
            return name + b"=" + value.hex().encode("ascii")
    booted = syscalls.sysctl(b"kern.boottime")
    # A struct timeval. Its microseconds move whenever the clock is slewed.
    return None if booted is None else b"kern.boottime=" + booted[:_SECONDS].hex().encode("ascii")

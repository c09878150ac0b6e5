"""Memory that the processes of a node share, and that outlives them: a file, mapped.

Rules of this file: every page is written when the file is made, since a hole
that a full disk cannot fill would kill the process that touches it. A lock is
held for microseconds only, so whoever does not get it at once tries again at
once; a process that was stopped while it held it is not waited for.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator

from dtfc.errors import Busy, StoreFailure
from dtfc.store import drafts, durable

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1024 * 1024
_ATTEMPTS = 2000


class SharedMemory:
    """A mapped file of fixed size; zeros when it is new, or has another size than it should.

    Args:
        path: the file.
        size: its bytes.

    Raises:
        StoreFailure: it cannot be made or mapped.
    """

    def __init__(self, path: str, size: int) -> None:
        self._what = os.path.basename(path)
        try:
            self._fd = _open(path, size)
            try:
                self.buffer = mmap.mmap(self._fd, size)
            except BaseException:
                os.close(self._fd)
                raise
        except OSError as error:
            raise StoreFailure(f"map its file {self._what}", error) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the other processes out.

        Raises:
            Busy: one of them does not let go.
        """
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            os.sched_yield() if hasattr(os, "sched_yield") else None
        else:
            raise Busy(f"the file {self._what}")
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of it; what it holds stays."""
        self.buffer.close()
        os.close(self._fd)


def _open(path: str, size: int) -> int:
    while True:
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, _FLAGS)
            if os.fstat(fd).st_size == size:
                return fd
            os.close(fd)
            # Of another version: what it says means nothing here.
            os.unlink(path)
        with contextlib.suppress(FileExistsError):
            _make(path, size)


def _make(path: str, size: int) -> None:
    """Make it whole beside its place, so that nobody maps half of it."""
    fd, draft = drafts.begin(path, 0o600)
    try:
        for start in range(0, size, _BLOCK):
            os.pwrite(fd, bytes(min(_BLOCK, size - start)), start)
        durable.sync(fd)
        os.link(draft, path)
    finally:
        os.close(fd)
        drafts.remove(draft)

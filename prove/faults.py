"""A disk on which the n-th call of one kind fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dtfc.store import syscalls

#: What the write path asks of the kernel: functions of ``os``, and of ``syscalls``.
CALLS = (
    *("open", "mkdir", "link", "rename", "unlink", "pwritev", "fchmod", "ftruncate"),
    *("fsync", "fdatasync", "statvfs", "stat", "dup"),
    *("allocate", "rename_new", "sync_filesystem", "open_beneath"),
)

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR, errno.EMFILE)

#: Calls that make something durable.
SYNCS = ("fsync", "fdatasync", "sync_filesystem")


class Faults:
    """Lets one call fail, and remembers every sync.

    Args:
        call: which kind of call.
        number: the error.
        nth: which of them, from 1 on; 0 for none.
    """

    def __init__(self, call: str, number: int, nth: int) -> None:
        self._call = call
        self._number = number
        self._nth = nth
        self._seen = 0
        self._lost: set[tuple[int, int]] = set()
        self.fired = False
        self.retried: list[str] = []

    @property
    def sync_failed(self) -> bool:
        """Whether it was a sync that failed."""
        return self.fired and self._call in SYNCS

    @contextmanager
    def installed(self) -> Iterator[Faults]:
        """Let it fail while this holds."""
        replaced: list[tuple[Any, str, Any]] = []
        for name in {self._call, *SYNCS}:
            owner: Any = os if hasattr(os, name) else syscalls
            real = getattr(owner, name)
            replaced.append((owner, name, real))
            setattr(owner, name, self._failing(name, real))
        try:
            yield self
        finally:
            for owner, name, real in replaced:
                setattr(owner, name, real)

    def _failing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == self._call:
                self._seen += 1
                if self._seen == self._nth:
                    self.fired = True
                    if name in SYNCS:
                        self._lost.add(_inode(args[0]))
                    raise OSError(self._number, os.strerror(self._number))
            if name in SYNCS and _inode(args[0]) in self._lost:
                self.retried.append(os.readlink(f"/proc/self/fd/{args[0]}"))
            return real(*args, **kwargs)

        return call


def _inode(fd: int) -> tuple[int, int]:
    real: Callable[[int], os.stat_result] = os.fstat
    try:
        facts = real(fd)
    except OSError:
        return -1, -1
    return facts.st_dev, facts.st_ino

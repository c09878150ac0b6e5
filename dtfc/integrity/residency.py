"""Whether bytes of a file are in the page cache, asked without waiting for the disk.

sendfile(2) of a page that is not there stops the whole loop until the disk has
it. So before each turn the kernel is asked, and what is not there is brought in
by a disk thread first. Three ways, the best that works here:

``cachestat``
    Linux 6.5 and later: one call counts the pages of a range, 5 us a MiB.
``RWF_NOWAIT``
    Linux 4.14 and later: one byte of every page is read, 80 us a MiB, and a read
    that would wait fails.
both
    cachestat counts a page from the moment on that the disk is asked for it,
    and a stretch may have its first and last page before those between. So for
    :data:`WARY` seconds after anything of a file was found missing, both are
    asked.
none
    Other systems: everything counts as not there, so every turn goes through a
    disk thread. Slower, and never a stall.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import time
from collections.abc import Callable

_CACHESTAT = 451  # the same number on every architecture that Linux runs on

#: Seconds after a page was missing in which others may be on their way.
WARY = 2.0

Resident = Callable[[int, int, int], bool]


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Counts(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted")
    )


def by_cachestat() -> Resident | None:
    """Return a function that asks with cachestat; None where it does not work."""
    if not sys.platform.startswith("linux"):
        return None
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    number, flags = ctypes.c_long(_CACHESTAT), ctypes.c_uint(0)
    page = mmap.PAGESIZE

    def ask(fd: int, span: _Range, counts: _Counts) -> bool:
        at = ctypes.byref
        return bool(syscall(number, ctypes.c_int(fd), at(span), at(counts), flags) == 0)

    def resident(fd: int, offset: int, count: int) -> bool:
        # Of one's own, for the loop and the disk's threads ask at once.
        counts = _Counts()
        if not ask(fd, _Range(offset, count), counts):
            return False
        pages = (offset + count - 1) // page - offset // page + 1
        return int(counts.cached) >= pages

    # Of its own: by now the process may be a user that can read none of its files.
    fd = os.memfd_create("page")
    try:
        works = ask(fd, _Range(0, page), _Counts())
    finally:
        os.close(fd)
    return resident if works else None


def by_cachestat_alone() -> Resident | None:
    """Return the same as :func:`by_cachestat`, for one thread and small stretches; a third quicker.

    It keeps the interpreter's lock: to give it away costs more than the call,
    and another thread may keep it for a while.
    """
    if by_cachestat() is None:
        return None
    syscall = ctypes.PyDLL(None).syscall
    syscall.argtypes = (
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_uint,
    )
    syscall.restype = ctypes.c_long
    span, counts = _Range(), _Counts()
    span_at, counts_at = ctypes.addressof(span), ctypes.addressof(counts)
    page = mmap.PAGESIZE

    def resident(fd: int, offset: int, count: int) -> bool:
        span.offset, span.length = offset, count
        if syscall(_CACHESTAT, fd, span_at, counts_at, 0) != 0:
            return False
        found: int = counts.cached
        return found >= (offset + count - 1) // page - offset // page + 1

    return resident


def by_nowait(step: int = mmap.PAGESIZE) -> Resident | None:
    """Return a function that asks with RWF_NOWAIT; None where there is none.

    Args:
        step: bytes from one that is read to the next.
    """
    flag = getattr(os, "RWF_NOWAIT", None)
    if flag is None:
        return None
    read = os.preadv

    def resident(fd: int, offset: int, count: int) -> bool:
        last = offset + count - 1
        byte = [bytearray(1)]
        try:
            while offset < last:
                read(fd, byte, offset, flag)
                offset += step
            read(fd, byte, last, flag)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return False
            raise
        return True

    return resident


def never(_fd: int, _offset: int, _count: int) -> bool:
    """Say that nothing is there, where the kernel cannot be asked."""
    return False


def plain() -> Resident:
    """Return a way of asking that takes a page on its way for one that is there.

    For threads, which may wait for it.
    """
    return by_cachestat() or by_nowait() or never


def calm() -> Resident:
    """Return the quickest way of asking that works here, for the loop alone.

    It may take a page that is still on its way for one that is there. Of what
    was verified that is no danger: whoever brings a page in forgets first that
    it was (``integrity.reading``).
    """
    return by_cachestat_alone() or by_nowait() or never


def best(ticks: Callable[[], float] = time.monotonic) -> Resident:
    """Return the surest way of asking that works here, for the loop alone.

    Every page counts, also of a small stretch: what is verified is what is there,
    and a page that sendfile had to bring in would not be.

    Args:
        ticks: a clock in seconds.
    """
    exact, sure = by_cachestat_alone(), by_nowait()
    if sure is None:
        return exact or never
    calm = exact or sure
    # By descriptor: what another file lacks says nothing of this one. A number
    # that means another file by now costs that one a few microseconds.
    wary: dict[int, float] = {}

    def resident(fd: int, offset: int, count: int) -> bool:
        if wary and fd in wary:
            if ticks() < wary[fd]:
                # cachestat first: a read that misses asks the disk, and waits for
                # its turn there while the disk is busy (31 ms were seen).
                there = calm(fd, offset, count) and sure(fd, offset, count)
                if not there:
                    wary[fd] = ticks() + WARY
                return there
            wary.pop(fd, None)
        there = calm(fd, offset, count)
        if not there:
            wary[fd] = ticks() + WARY
        return there

    return resident

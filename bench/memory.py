"""Memory that is there before it is needed, so that what a hypervisor takes for it is not measured.

A virtual machine may be given a page of memory when it is first touched, which
takes 11 us where an ordinary page takes a quarter of one, and lose it again
when it was free for two seconds. A PUT fills the page cache, whose pages were
free ones until then: a GiB of them takes 3 s, which is the hypervisor's time
and not that of who writes.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Iterator

_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Bytes that are touched at once.
_STEP = 256 << 20

#: Most bytes that are held.
_MOST = 64 << 30


def _free() -> int:
    """Return the bytes of memory that nothing is in."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, value = line.split(":")
            if name == "MemFree":
                return int(value.split()[0]) << 10
    return 0


def _virtual() -> bool:
    with open("/proc/cpuinfo", encoding="ascii") as file:
        return any(line.startswith("flags") and " hypervisor" in line for line in file)


def _touched(size: int) -> mmap.mmap:
    return mmap.mmap(
        -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)
    )


def touch(size: int) -> None:
    """Have so many bytes of memory for a moment, so that they can be had at once afterwards."""
    with contextlib.suppress(OSError):
        _touched(size).close()


@contextlib.contextmanager
def scarce(leave: int) -> Iterator[float]:
    """Hold all free memory of a virtual machine but some; yield the seconds that a page took.

    What is left is then all that others get, and :func:`touch` sees to it that
    it is there. On other machines nothing is held.

    Args:
        leave: bytes for the others.
    """
    with contextlib.ExitStack() as held:
        began, pages = time.monotonic(), 0
        steps = min(_free() - leave, _MOST) // _STEP if _virtual() else 0
        for _ in range(steps):
            held.enter_context(contextlib.closing(_touched(_STEP)))
            pages += _STEP // _PAGE
        yield (time.monotonic() - began) / pages if pages else 0.0

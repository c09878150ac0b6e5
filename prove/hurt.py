"""Ways in which what lies on a disk comes to be wrong."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from random import Random

from dtfc.store.layout import open_layout
from prove.bodies import Body

PAGE = 4096


def data_of(store: str, body: Body) -> str:
    """Return the path of a blob's bytes in a store with a fan-out of 2."""
    return f"{store}/{open_layout(store, 2).relative(body.digest)}/data"


def chunks_of(store: str, body: Body) -> str:
    """Return the path of a blob's chunk map."""
    return f"{os.path.dirname(data_of(store, body))}/chunks"


def out_of_memory(path: str) -> None:
    """Have the kernel keep none of a file in memory."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def flip(path: str, at: int, *, bit: int = 0, keep_time: bool = False, drop: bool = True) -> None:
    """Flip one bit, in place.

    Args:
        path: of the file.
        at: which byte.
        bit: which of its bits.
        keep_time: put the time of modification back.
        drop: have the page cache forget the file.
    """
    _write(path, at, lambda old: bytes([old[0] ^ (1 << bit)]), 1, keep_time=keep_time)
    if drop:
        out_of_memory(path)


def zero_page(path: str, at: int) -> None:
    """Make the page that holds a byte all zeros."""
    _write(path, at - at % PAGE, lambda old: bytes(len(old)), PAGE, keep_time=True)
    out_of_memory(path)


def _write(
    path: str, at: int, change: Callable[[bytes], bytes], count: int, *, keep_time: bool
) -> None:
    before = os.stat(path)
    os.chmod(path, 0o644)
    fd = os.open(path, os.O_RDWR)
    try:
        os.pwrite(fd, change(os.pread(fd, count, at)), at)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.chmod(path, 0o444)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: str, size: int) -> None:
    """Make a file shorter."""
    os.chmod(path, 0o644)
    os.truncate(path, size)
    os.chmod(path, 0o444)
    out_of_memory(path)


def replace(path: str, chance: Random) -> None:
    """Put other bytes of the same length and time in a file's place, by rename."""
    before = os.stat(path)
    other = f"{path}.other"
    with open(other, "wb") as file:
        file.write(chance.randbytes(before.st_size))
    os.chmod(other, 0o444)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.rename(other, path)
    out_of_memory(path)


def overwrite(path: str, content: bytes) -> None:
    """Give a small file another content, in place."""
    with contextlib.suppress(FileNotFoundError):
        os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o444)

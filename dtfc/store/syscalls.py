"""System calls that the standard library does not have.

All are optional (``dtfc.store.capabilities``): where the system, its kernel or
the file system lacks one, the caller is told so and does without.
"""

from __future__ import annotations

import ctypes
import errno
import os

from dtfc.store.capabilities import Capability, has, libc

_OPENAT2 = 437  # the same number on every architecture that Linux has gained it on
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_FALLOC_FL_KEEP_SIZE = 0x01
_RENAME_NOREPLACE = 0x01
_SYNC_FILE_RANGE_WRITE = 0x02
_SYSCTL_LIMIT = 256  # bytes; the answers that are asked for are shorter

# What a kernel without the call, or a sandbox that filters it, answers.
_NOT_HERE = frozenset({errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EINVAL})
_CANNOT_ALLOCATE = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM})


class Unsupported(Exception):  # a fact for the caller's own use; no DtfcError leaves here
    """This kernel, library or file system does not have the call."""


def _require(capability: Capability) -> None:
    if not has(capability):
        raise Unsupported


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_beneath(base: int, path: str) -> int:
    """Open a folder below ``base`` through no symbolic link, in one call.

    Args:
        base: the descriptor of the folder to start at.
        path: relative; nothing in it may be a symbolic link.

    Raises:
        Unsupported: there is no ``openat2`` here.
        OSError: as ``openat2(2)`` says; ELOOP for a symbolic link.
    """
    _require(Capability.OPEN_BENEATH)
    how = _OpenHow(
        os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
        0,
        _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH,
    )
    while True:
        fd: int = libc().syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(base),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        # RESOLVE_BENEATH may answer EAGAIN when a rename happens meanwhile.
        if number not in (errno.EINTR, errno.EAGAIN):
            break
    if number in _NOT_HERE:
        raise Unsupported
    raise OSError(number, os.strerror(number), path)


def allocate(fd: int, offset: int, length: int) -> None:
    """Set blocks aside for a file without changing its size.

    ``os.posix_fallocate`` is no substitute: it changes the size, and where the
    file system cannot allocate it writes zeros instead.

    Raises:
        Unsupported: neither the C library nor this file system can.
        OSError: as ``fallocate(2)`` says, ENOSPC above all.
    """
    _require(Capability.ALLOCATE)
    # musl has but one of them, whose offsets are as wide.
    call = getattr(libc(), "fallocate64", None) or libc().fallocate
    while True:
        result: int = call(
            ctypes.c_int(fd),
            ctypes.c_int(_FALLOC_FL_KEEP_SIZE),
            ctypes.c_int64(offset),
            ctypes.c_int64(length),
        )
        if result == 0:
            return
        number = ctypes.get_errno()
        if number != errno.EINTR:
            break
    if number in _CANNOT_ALLOCATE:
        raise Unsupported
    raise OSError(number, os.strerror(number))


def rename_new(source: int, name: str, target: int, new_name: str) -> None:
    """Rename, unless the new name is taken.

    Args:
        source: the descriptor of the folder that has it.
        name: what it is called there.
        target: the descriptor of the folder that shall have it.
        new_name: what it shall be called.

    Raises:
        Unsupported: the C library, the kernel or the file system cannot.
        OSError: as ``renameat2(2)`` says; FileExistsError if the name is taken.
    """
    _require(Capability.RENAME_NEW)
    result: int = libc().renameat2(
        ctypes.c_int(source),
        ctypes.c_char_p(os.fsencode(name)),
        ctypes.c_int(target),
        ctypes.c_char_p(os.fsencode(new_name)),
        ctypes.c_uint(_RENAME_NOREPLACE),
    )
    if result != 0:
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EINVAL):
            raise Unsupported
        raise OSError(number, os.strerror(number), new_name)


def sync_filesystem(fd: int) -> None:
    """Make everything on a file system durable.

    Args:
        fd: of any file on it. A write that failed since this was opened is
            reported (by kernels from 5.8 on).

    Raises:
        Unsupported: there is no ``syncfs`` here.
        OSError: something did not reach the disk, and never will.
    """
    _require(Capability.SYNC_FILESYSTEM)
    if libc().syncfs(ctypes.c_int(fd)) != 0:
        number = ctypes.get_errno()
        if number == errno.ENOSYS:
            raise Unsupported
        raise OSError(number, os.strerror(number))


def start_writing(fd: int, offset: int, length: int) -> None:
    """Ask that a part of a file be written to the disk, without waiting for that.

    This makes nothing durable; it makes a later fsync short. Where it cannot be
    had, or fails, nothing is said: the fsync will.
    """
    if has(Capability.START_WRITING):
        libc().sync_file_range(
            ctypes.c_int(fd),
            ctypes.c_int64(offset),
            ctypes.c_int64(length),
            ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
        )


def sysctl(name: bytes) -> bytes | None:
    """Return what a BSD kernel says of itself; None where it is not asked this way.

    Args:
        name: such as ``kern.boottime``.
    """
    call = getattr(libc(), "sysctlbyname", None)
    if call is None:
        return None
    value = ctypes.create_string_buffer(_SYSCTL_LIMIT)
    size = ctypes.c_size_t(_SYSCTL_LIMIT)
    result: int = call(
        ctypes.c_char_p(name), value, ctypes.byref(size), ctypes.c_void_p(), ctypes.c_size_t(0)
    )
    return value.raw[: size.value] if result == 0 and size.value else None

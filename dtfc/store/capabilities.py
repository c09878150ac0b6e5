"""What this system can do, beyond what every POSIX system can: each question is asked here, once.

Linux has all of them but one. FreeBSD and macOS lack most; the store does
without, more slowly and as safely. A capability that is switched off
(:func:`switch_off`) is as if the system had never had it: that is how the
fall-backs are tested, and how one can be taken out of use.

That the system has a call does not mean that the kernel, a sandbox or the file
system lets it through: who makes it still has to be told no.

Rules of this file: it only looks; it opens, writes and changes nothing.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import fcntl
import os
import sys
from collections.abc import Callable

#: What open(2) answers for a symbolic link that it must not follow. POSIX and
#: Linux say ELOOP; FreeBSD had O_NOFOLLOW first, and says EMLINK.
NOT_FOLLOWED = (errno.ELOOP, errno.EMLINK)

#: The number of macOS' own sync; None elsewhere.
FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


class Capability(enum.Enum):
    """Something that not every system can do, and what is done without it."""

    ANONYMOUS_FILES = "O_TMPFILE; else temporary files have names, and are swept at start"
    OPEN_BENEATH = "openat2; else a blob's folder is opened level by level"
    ALLOCATE = "fallocate that keeps the size; else only the free space is looked at"
    RENAME_NEW = "renameat2; else small blobs are stored one by one"
    SYNC_FILESYSTEM = "syncfs; else small blobs are stored one by one, and synced so in a replay"
    START_WRITING = "sync_file_range; else the fsync at the end has it all to do"
    SYNC_DATA = "fdatasync; else fsync"
    GATHERED_WRITES = "pwritev; else a write for each block"
    BOOT_ID_FILE = "Linux' boot id; else that of sysctl"


def libc() -> ctypes.CDLL:
    """Return the C library, with an errno of one's own (:func:`ctypes.get_errno`)."""
    return _LIBC


def has(capability: Capability) -> bool:
    """Tell whether this system has it, and it was not switched off."""
    return capability in _here


def switch_off(*capabilities: Capability) -> Callable[[], None]:
    """Do without these from now on, in this process; all of them if none is named.

    Only what is opened later is sure to heed it.

    Returns:
        What switches on again whatever was on before.
    """
    before = frozenset(_here)
    _here.difference_update(capabilities or Capability)

    def switch_on() -> None:
        _here.update(before)

    return switch_on


_LIBC = ctypes.CDLL(None, use_errno=True)


def _found() -> set[Capability]:
    linux = sys.platform == "linux"
    answers = {
        # Without /proc an anonymous file could not be given a name.
        Capability.ANONYMOUS_FILES: hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"),
        # The numbers of these calls and flags are Linux' own.
        Capability.OPEN_BENEATH: linux,
        Capability.ALLOCATE: linux and (_called("fallocate64") or _called("fallocate")),
        Capability.RENAME_NEW: linux and _called("renameat2"),
        Capability.SYNC_FILESYSTEM: linux and _called("syncfs"),
        Capability.START_WRITING: linux and _called("sync_file_range"),
        # macOS has a fdatasync that promises nothing, and Python does not show it.
        Capability.SYNC_DATA: hasattr(os, "fdatasync") and FULL_SYNC is None,
        Capability.GATHERED_WRITES: hasattr(os, "pwritev"),
        Capability.BOOT_ID_FILE: linux,
    }
    return {capability for capability, here in answers.items() if here}


def _called(name: str) -> bool:
    return hasattr(_LIBC, name)


_here = _found()

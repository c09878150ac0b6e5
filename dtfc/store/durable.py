"""What makes bytes and entries outlive a loss of power.

On Linux and FreeBSD that is fsync(2). On macOS fsync hands the bytes to the
drive and does not wait until it has written them: ``F_FULLFSYNC`` does. Some
file systems there (SMB, WebDAV, foreign disks) refuse it; what they get is an
fsync, and what that is worth is theirs to say.

Rules of this file: nothing is tried again. After an fsync that failed the
kernel forgets what it could not write, and a second one would succeed over lost
bytes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from dtfc.store import capabilities
from dtfc.store.capabilities import Capability, has

# "There is no such thing here", as macOS' file systems say it. Every other
# error means that bytes were lost.
_REFUSED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENOSYS})


def sync(fd: int) -> None:
    """Make a file, or the entries of a folder, durable.

    Raises:
        OSError: it is not, and never will be.
    """
    if capabilities.FULL_SYNC is not None:
        try:
            fcntl.fcntl(fd, capabilities.FULL_SYNC)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
        else:
            return
    os.fsync(fd)


def sync_data(fd: int) -> None:
    """Make the bytes of a file durable, and of its metadata only what reading them needs.

    Raises:
        OSError: they are not, and never will be.
    """
    if sys.platform != "darwin" and has(Capability.SYNC_DATA):
        os.fdatasync(fd)
    else:
        sync(fd)


def sync_folder(path: str) -> None:
    """Make the entries of a folder durable.

    Raises:
        OSError: they are not, and never will be; or it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)

"""Files that are made whole beside the place they are linked to, once.

The lock on a draft says that its process lives, so that what a killed one left
can be told apart, and swept away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets

#: What a draft is called, whatever it is of.
DRAFT = re.compile(r"[a-z]+\.[0-9a-f]{16}\Z")

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def begin(path: str, mode: int) -> tuple[int, str]:
    """Make an empty file beside another one, and hold its lock.

    Args:
        path: what it is a draft of; need not be there.
        mode: its permissions.

    Returns:
        Its descriptor, and its path; both are the caller's to take away.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        draft = f"{path}.{secrets.token_hex(8)}"
        fd = os.open(draft, _FLAGS, mode)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd, draft
        except BaseException:
            os.close(fd)
            os.unlink(draft)
            raise
        # Swept away between its creation and its lock.
        os.close(fd)


def remove(draft: str) -> None:
    """Take a draft away, whether it was linked or not; another process may have done so.

    Raises:
        OSError: as the operating system says.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(draft)

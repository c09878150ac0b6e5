"""Files that say who may do what: read only if nobody else can have written them (blocks)."""

from __future__ import annotations

import os
import stat

from dtfc.errors import BadSetting

#: Whoever is not the owner, nor of the group; and a group that could exchange the file.
WRITABLE = stat.S_IWOTH | stat.S_IWGRP

#: The same, and who could read it.
OPEN = WRITABLE | stat.S_IRWXO


def read_guarded(setting: str, path: str, largest: int, forbidden: int = OPEN) -> bytes:
    """Return what such a file holds.

    A file of ``root:dtfc`` with mode 0640 is right; so is 0600 of the node's own user.

    Args:
        setting: that names it.
        path: of the file.
        largest: bytes; a larger one is some other file, named by mistake.
        forbidden: bits of a mode that it may not have.

    Raises:
        BadSetting: it cannot be read, is no regular file, or is open to others.
            What that says holds nothing of the file.
    """
    try:
        # Not blocking: a pipe under that name must not hang the node.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise _unusable(setting, path, "is not a regular file")
            if facts.st_mode & forbidden:
                how = "read or change" if forbidden & stat.S_IROTH else "change"
                mode = stat.S_IMODE(facts.st_mode)
                raise _unusable(
                    setting, path, f"others may {how} it (mode {mode:04o}); chmod 600 mends that"
                )
            content = file.read(largest + 1)
    except OSError as error:
        raise _unusable(setting, path, error.strerror or type(error).__name__) from error
    if len(content) > largest:
        raise _unusable(setting, path, f"is larger than {largest} bytes")
    return content


def _unusable(setting: str, path: str, reason: str) -> BadSetting:
    return BadSetting(setting, f"{path}: {reason}")

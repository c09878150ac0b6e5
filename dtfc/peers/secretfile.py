"""The file with the secrets that nodes share, as the disk has it."""

from __future__ import annotations

import os
import stat

from dtfc.access.signatures import Secrets, parse_secrets
from dtfc.errors import BadSetting

LARGEST_FILE = 64 * 1024
"""A file of more bytes than this is some other file, named by mistake."""

#: Whoever is not the file's owner or of its group; and a group that could exchange it.
_OPEN_TO_OTHERS = stat.S_IRWXO | stat.S_IWGRP


def read_secrets(path: str | None) -> Secrets | None:
    """Read the secrets that requests to peers are signed with (blocks).

    A file of ``root:dtfc`` with mode 0640 is right; so is 0600 of the node's
    own user.

    Args:
        path: of the file; None if there is none.

    Raises:
        BadSetting: it cannot be read, may be read by everybody, or holds no
            usable secret. What it says holds nothing of the secrets.
    """
    if path is None:
        return None
    try:
        # Not blocking: a pipe under that name must not hang the node.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise _unusable(path, "is not a regular file")
            if facts.st_mode & _OPEN_TO_OTHERS:
                raise _unusable(
                    path,
                    f"others may read or change it (mode {stat.S_IMODE(facts.st_mode):04o}); "
                    "chmod 600 mends that",
                )
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise _unusable(path, error.strerror or type(error).__name__) from error
    if len(text) > LARGEST_FILE:
        raise _unusable(path, f"is larger than {LARGEST_FILE} bytes")
    try:
        return parse_secrets(text)
    except ValueError as error:
        raise _unusable(path, str(error)) from None


def _unusable(path: str, reason: str) -> BadSetting:
    return BadSetting("peer-secret-file", f"{path}: {reason}")

"""A small file of the store's own that is replaced as a whole."""

from __future__ import annotations

import contextlib
import os

from dtfc.store import drafts, durable

LARGEST = 1024 * 1024
"""Bytes that are read of one: a larger one is not the store's."""


def read_small(path: str) -> bytes:
    """Return what a file holds; nothing if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError:
        return b""
    return data if len(data) <= LARGEST else b""


def write_small(path: str, data: bytes) -> None:
    """Put a file in the place of another one; on a full disk the old one stays.

    Args:
        path: of the file.
        data: at most :data:`LARGEST` bytes; more are not kept.
    """
    if len(data) > LARGEST:
        return
    with contextlib.suppress(OSError):
        fd, draft = drafts.begin(path, 0o600)
        try:
            os.write(fd, data)
            durable.sync(fd)
            os.rename(draft, path)
        finally:
            os.close(fd)
            drafts.remove(draft)

"""A blob that is still being loaded as something to send: as it comes, but for its end.

No digest vouches for the bytes of a load before its last one is there. So the
last chunk is held back until the whole is right, and no answer made of wrong
bytes completes: if a peer turns out to have lied, it is cut.
"""

from __future__ import annotations

import os
from typing import Protocol

from dtfc.disk import Lane
from dtfc.errors import Retracted, StoreFailure
from dtfc.store.chunkmap import CHUNK

#: Bytes that are waited for before anything is sent; more, if more are there.
LEAST = 64 * 1024


class Growing(Protocol):
    """A load in progress (``dtfc.peers.loader.Load``)."""

    @property
    def length(self) -> int | None:
        """Of the blob in bytes, as a peer said it."""

    @property
    def ready(self) -> int:
        """The bytes ``[0, ready)`` can be read."""

    @property
    def restarts(self) -> int:
        """How often what had come was thrown away, because it was wrong."""

    @property
    def here(self) -> bool:
        """Whether the blob is in the store."""

    async def wait_for(self, end: int) -> None:
        """Wait until the bytes ``[0, end)`` can be read."""

    async def finished(self) -> object:
        """Wait until the blob is in the store."""


class LoadSource:
    """What has come of a blob.

    Args:
        load: brings it.
        fd: the file that grows; a copy of it is taken.
        length: of the whole, in bytes.

    Raises:
        StoreFailure: too many files are open.
    """

    def __init__(self, load: Growing, fd: int, length: int) -> None:
        self.length = length
        self._load = load
        self._restarts = load.restarts
        self._held_back = (length - 1) // CHUNK * CHUNK
        try:
            self._fd = os.dup(fd)
        except OSError as error:
            raise StoreFailure("open a blob that is being loaded", error) from error

    stretch = CHUNK

    def step(self, offset: int, count: int) -> int:
        """Return how many of these bytes to send at once."""
        there = self._open_to() - offset
        return min(count, there if there > 0 else LEAST)

    def ready(self, offset: int, count: int) -> int:
        """Return the file from which these bytes may leave now; -1 if from none yet.

        Raises:
            Retracted: what a peer had said, or sent, was wrong.
        """
        self._check()
        return self._fd if offset + count <= self._open_to() else -1

    async def prepare(self, lane: Lane, offset: int, count: int) -> int:  # noqa: ARG002 -- of every source
        """Wait for these bytes, and return the file that has them.

        Raises:
            Retracted: what was sent before was wrong.
            DtfcError: as the load says.
        """
        end = offset + count
        if end > self._held_back:
            await self._load.finished()
        else:
            await self._load.wait_for(end)
        self._check()
        return self._fd

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open_to(self) -> int:
        return self._load.ready if self._load.here else min(self._load.ready, self._held_back)

    def _check(self) -> None:
        # The length, too, is only what a peer said.
        if self._load.restarts != self._restarts or self._load.length != self.length:
            raise Retracted

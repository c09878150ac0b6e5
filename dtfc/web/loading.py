"""A blob that is still being loaded as something to send: as it comes, but for its end.

No digest vouches for the bytes of a load before its last one is there. What
vouches for them meanwhile is at most the chunk maps of the peers that are
loaded from, and these are hearsay. So:

* the last chunk that an answer has bytes of is held back until the whole is
  right. No whole answer made of wrong bytes completes;
* an answer of a part may complete earlier, if the operator says so
  (:attr:`Trust.MAP`, the default): when all chunks that it has bytes of are what
  the maps of the peers say;
* what was sent and then turned out to be wrong cuts the answer.

Bytes leave as they come at the beginning of an answer; from its second chunk on
a chunk that is not whole yet is waited for where there is a map to compare it
with, so that one that is wrong is fetched again before it leaves.

What a slow client has not got when the blob is here is sent as every stored blob
is. What has left the page cache before that is read by a disk thread, and compared
with what had come: the disk may have lost it since.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from dtfc.disk import Lane
from dtfc.errors import Retracted, StoreFailure
from dtfc.http.ranges import Span
from dtfc.integrity.reading import Resident
from dtfc.store import hashing
from dtfc.store.chunkmap import CHUNK
from dtfc.store.spans import Spans
from dtfc.web.source import BlobSource

#: Bytes that are waited for before anything is sent; more, if more are there.
LEAST = 64 * 1024

#: Bytes behind those that are waited for which are wanted first, too.
AHEAD = 4 * CHUNK


class Trust(Enum):
    """What the end of a part waits for while its blob is loaded (``--loading-ranges``)."""

    MAP = "map"
    DIGEST = "digest"
    PEER = "peer"
    """For a peer, which compares for itself: nothing leaves that is not as the maps say."""


class Growing(Protocol):
    """A load in progress (``dtfc.peers.loader.Load``)."""

    @property
    def length(self) -> int | None:
        """Of the blob in bytes, as a peer said it."""

    @property
    def taken_back(self) -> Sequence[frozenset[int] | None]:
        """What had come and was wrong, in the order in which that was found: chunks, or all."""

    @property
    def here(self) -> bool:
        """Whether the blob is in the store."""

    @property
    def right(self) -> bool:
        """Whether all bytes can be read and have the digest; they may not be durable yet."""

    def held_to(self, offset: int) -> int:
        """Return up to where bytes can be read without a gap from ``offset`` on."""

    def trusted(self, start: int, end: int) -> bool:
        """Tell whether all chunks that these bytes lie in are as the peers' maps say."""

    def sha256_of(self, chunk: int) -> bytes | None:
        """The SHA-256 of a chunk as it came; None if that is not known. For any thread."""

    def to_be_compared(self, offset: int) -> bool:
        """Tell whether the peers' maps say what the chunk should be that a byte lies in."""

    def want(self, start: int, end: int) -> None:
        """Bring these bytes first."""

    def want_map(self) -> None:
        """Get a chunk map from a peer, if there is one."""

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is so, or the blob is in the store."""


class LoadSource:
    """What has come of a blob.

    Args:
        load: brings it.
        fd: the file that grows; a copy of it is taken.
        length: of the whole, in bytes.
        resident: whether bytes of a file are in the page cache.
        stored: verifies what is read of the file, once the blob is here (blocks);
            this closes its reading.

    Raises:
        StoreFailure: too many files are open.
    """

    def __init__(
        self,
        load: Growing,
        fd: int,
        length: int,
        resident: Resident,
        stored: Callable[[int], BlobSource],
    ) -> None:
        self.length = length
        self._load = load
        self._resident = resident
        self._open_stored = stored
        self._stored: BlobSource | None = None
        self._seen = len(load.taken_back)
        self._spans: tuple[Span, ...] = (Span(0, length),)
        self._last = (length - 1) // CHUNK
        self._trust = Trust.DIGEST
        self._sent = Spans()
        try:
            self._fd = os.dup(fd)
        except OSError as error:
            raise StoreFailure("open a blob that is being loaded", error) from error

    def answers(self, spans: Sequence[Span], trust: Trust) -> None:
        """Say what is to be sent, before anything of it is.

        Args:
            spans: stretches of the blob, in the order in which they are sent.
            trust: what the end of a part waits for.
        """
        if not spans:
            return
        self._spans = tuple(spans)
        self._last = (spans[-1].stop - 1) // CHUNK
        if trust is Trust.PEER or sum(span.length for span in spans) < self.length:
            self._trust = trust
            if trust is not Trust.DIGEST:
                self._load.want_map()

    stretch = CHUNK

    @property
    def provisional(self) -> bool:
        """Whether the answer may complete on the peers' word."""
        return self._trust is not Trust.DIGEST and not self._load.right

    def step(self, offset: int, count: int) -> int:
        """Return how many of these bytes to send at once."""
        there = self._open_to(offset) - offset
        # The first byte waits for no second one.
        return min(count, there if there > 0 else LEAST if len(self._sent) else 1)

    def ready(self, offset: int, count: int) -> int:
        """Return the file from which these bytes may leave now; -1 if from none yet.

        Raises:
            Retracted: what a peer had said, or sent, was wrong.
        """
        self._check()
        if self._load.here:
            fd = -1 if self._stored is None else self._stored.ready(offset, count)
        elif offset + count > self._open_to(offset):
            fd = -1
        else:
            fd = self._fd if self._is_resident(offset, count) else -1
        if fd >= 0:
            self._sent.add(offset, offset + count)
        return fd

    async def prepare(self, lane: Lane, offset: int, count: int) -> int:
        """Wait for these bytes, and return the file that has them.

        Raises:
            Retracted: what was sent before was wrong, or the disk has lost these.
            Corrupt: it has, since the blob is here, and no peer could help.
            DtfcError: as the load says.
        """
        end = offset + count
        if self._load.held_to(offset) < end:
            # Who reads on is spared a gap; who does not, gets no more than that.
            stop = next((s.stop for s in self._spans if s.start <= offset < s.stop), end)
            self._load.want(offset, max(end, min(stop, end + AHEAD)))
        await self._load.until(lambda: self._spoiled() or self._open_to(offset) >= end)
        self._check()
        fd = await self._prepared(lane, offset, count)
        self._sent.add(offset, end)
        return fd

    async def _prepared(self, lane: Lane, offset: int, count: int) -> int:
        if not self._load.here:
            if not self._is_resident(offset, count):
                await lane.run(self._bring_in, offset // CHUNK)
                self._check()
            return self._fd
        if self._stored is None:
            await lane.run(self._take_stored)
        if self._stored is None:
            raise LookupError("the source is closed")
        return await self._stored.prepare(lane, offset, count)

    def _is_resident(self, offset: int, count: int) -> bool:
        try:
            return self._resident(self._fd, offset, count)
        except OSError:
            return False  # who reads it will say why

    def _bring_in(self, index: int) -> None:
        """Read a chunk from the disk, and see that it is what had come (blocks).

        Raises:
            Retracted: it is not.
            StoreFailure: it cannot be read.
        """
        start = index * CHUNK
        try:
            content = os.pread(self._fd, min(CHUNK, self.length - start), start)
        except OSError as error:
            raise StoreFailure("read a blob that is being loaded", error) from error
        expected = self._load.sha256_of(index)
        if expected is not None:
            with hashing.place:
                if hashlib.sha256(content).digest() != expected:
                    raise Retracted

    def _take_stored(self) -> None:
        if self._stored is None and self._fd >= 0:
            self._stored = self._open_stored(self._fd)

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        stored, self._stored = self._stored, None
        if stored is not None:
            stored.reading.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open_to(self, offset: int) -> int:
        """Return up to where bytes of the chunk that ``offset`` lies in may leave."""
        there = self._load.held_to(offset)
        if self._load.right or there <= offset:
            return there
        chunk = offset // CHUNK
        if self._trust is Trust.PEER:
            end = min((chunk + 1) * CHUNK, self.length)
            return min(there, end) if self._load.trusted(offset, end) else offset
        if chunk == self._last and not self._vouched():
            return offset
        end = min((chunk + 1) * CHUNK, self.length)
        unsure = self._load.to_be_compared(offset) and not self._load.trusted(offset, end)
        # At the beginning nothing is waited for but the bytes themselves.
        return offset if unsure and chunk != self._spans[0].start // CHUNK else there

    def _vouched(self) -> bool:
        return self._trust is Trust.MAP and all(
            self._load.trusted(span.start, span.stop) for span in self._spans
        )

    def _spoiled(self) -> bool:
        # The length, too, is only what a peer said.
        if self._load.length != self.length:
            return True
        for chunks in self._load.taken_back[self._seen :]:
            if chunks is None or any(map(self._has_sent, chunks)):
                return True
        self._seen = len(self._load.taken_back)
        return False

    def _has_sent(self, chunk: int) -> bool:
        whole = chunk * CHUNK, (chunk + 1) * CHUNK
        return list(self._sent.gaps(*whole)) != [whole]

    def _check(self) -> None:
        if self._spoiled():
            raise Retracted

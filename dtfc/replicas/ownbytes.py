"""A blob of this node on its way to a peer: block by block, none of them unverified.

Rules of this file: what is handed out is compared with the chunk map (or, of a
blob of one chunk, with the digest) in the very memory from which it is sent, so
nothing that happens to the page cache in between can change it. What is wrong
is healed from a peer, or the copying ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from dtfc.digest import Digest
from dtfc.disk import Disk, Lane
from dtfc.errors import Corrupt
from dtfc.integrity.examining import is_right, read_chunk
from dtfc.integrity.reading import Checks, Reading, UnderWay
from dtfc.store.blobs import BlobInfo, OpenBlob, Store
from dtfc.store.chunkmap import CHUNK

#: Seconds until it is looked again whether somebody else has read the whole.
PAUSE = 0.2

#: Times that a chunk which is healed, or changes meanwhile, is looked at again.
TRIES = 5

Heal = Callable[[Reading, int | None], Awaitable[None]]

#: Bytes up to which a blob is read and closed as soon as it is opened.
SMALL = 64 * 1024


class OwnBytes:
    """An open blob, read once from its beginning to its end.

    Args:
        store: where it lies.
        disk: where blocking work runs.
        checks: verifies it.
        heal: gets right bytes for a chunk that is wrong; raises Corrupt if it
            cannot.
        clock: measures pauses.
    """

    def __init__(
        self, store: Store, disk: Disk, checks: Checks, heal: Heal, clock: IReactorTime
    ) -> None:
        self._store = store
        self._checks = checks
        self._heal = heal
        self._clock = clock
        self._lane = Lane(disk)
        self._blob: OpenBlob | None = None
        self._reading: Reading | None = None
        self._next = 0
        self._whole: bytes | None = None

    async def open(self, digest: Digest) -> BlobInfo:
        """Open it; nothing is read yet.

        Raises:
            Absent, Denied, StoreFailure: as the store says.
            Corrupt: it is damaged, and no peer could help.
        """
        info, reading = await self._lane.run(self._open, digest)
        if reading is not None and not info.length:
            # Cut off to nothing: no chunk of it would ever be looked at.
            await self._heal(reading, None)
            raise Corrupt(digest.hex)
        return info

    def _open(self, digest: Digest) -> tuple[BlobInfo, Reading | None]:
        blob = self._blob = self._store.open(digest)
        if blob.length <= SMALL:
            # In one trip to the disk, where nothing is wrong with it.
            content = bytes(read_chunk(blob.fd, 0, blob.length) or b"")
            if Digest.of(content) == digest:
                self._whole = content
                self._close()
                return blob.info, None
        self._reading = Reading(self._checks, digest, blob.fd, blob.length)
        return blob.info, self._reading

    async def read(self) -> bytes:
        """Return the next block.

        Raises:
            Corrupt: it is wrong, and right bytes cannot be had.
            StoreFailure: it cannot be read.
            Draining: the process stops.
        """
        if self._whole is not None:
            return self._whole
        reading = self._reading
        if reading is None:
            raise LookupError("it is not open")
        index = self._next // CHUNK
        for _ in range(TRIES):
            try:
                block = await self._block(reading, index)
            except Corrupt as corrupt:
                await self._heal(reading, corrupt.chunk)
                continue
            if block is not None:
                self._next += len(block)
                return block
        raise Corrupt(reading.digest.hex, index)

    async def _block(self, reading: Reading, index: int) -> bytes | None:
        while True:
            try:
                return await self._lane.run(self._verified, reading, index)
            except UnderWay:
                await deferLater(self._clock, PAUSE)

    def _verified(self, reading: Reading, index: int) -> bytes | None:
        """Return a chunk; None if the file changed while it was read."""
        start = index * CHUNK
        count = min(CHUNK, reading.length - start)
        reading.prepare(start, count)
        fd = reading.file_of(start, count)
        content = None if fd < 0 else read_chunk(fd, index, reading.length)
        if content is None:
            return None
        block = bytes(content)
        chunk_map = self._checks.map_of(reading.digest, reading.length)
        if chunk_map is None and reading.length > CHUNK and not reading.verifies:
            # Nothing is known of it, and nothing is to be looked at: the peer
            # takes the digest.
            return block if len(block) == count else None
        if not is_right(block, index, reading.digest, chunk_map):
            # It was right when it was verified, and was read back from a disk
            # that has rotted since.
            self._checks.corrupt += 1
            raise Corrupt(reading.digest.hex, index)
        return block

    def close(self) -> None:
        """Close it, behind the step that runs; harmless when repeated."""
        if self._whole is None:
            self._lane.run(self._close)

    def _close(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()
        blob, self._blob = self._blob, None
        if blob is not None:
            blob.close()

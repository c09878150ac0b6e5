"""``GET /<digest>.torrent``: a blob as a torrent whose seeds are the nodes that have it."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from twisted.internet.defer import DeferredSemaphore

from dtfc.errors import TooManyTorrents
from dtfc.http.torrents import TORRENT, piece_of, torrent
from dtfc.names import content_disposition, safe_name
from dtfc.store import hashing
from dtfc.store.chunkmap import CHUNK
from dtfc.web.blobs import name_of
from dtfc.web.holding import Holding
from dtfc.web.metalink import GENERATOR
from dtfc.web.source import BlobSource

if TYPE_CHECKING:
    from dtfc.digest import Digest
    from dtfc.disk import Disk, Lane
    from dtfc.integrity.reading import Reading
    from dtfc.integrity.upkeep import Upkeep
    from dtfc.store.blobs import Store
    from dtfc.web.blobs import Blobs
    from dtfc.web.metalink import MetalinkPages
    from dtfc.web.request import Request

#: Bytes of hashes that are remembered: of 400 GiB, in blobs of up to 16 GiB.
MOST_REMEMBERED = 8 * 1024 * 1024

#: Requests that wait while a blob is hashed; further ones are told to come again.
MOST_WAITING = 8


class TorrentPages:
    """Answers with torrents.

    The hashes of a torrent's pieces are of no other use, so they are made when they
    are asked for, of one blob at a time, and those asked for lately are remembered.

    Args:
        blobs: says who may read.
        store: this node's blobs.
        disk: where blocking work runs.
        upkeep: verifies them.
        metalinks: says where they can be had.
    """

    def __init__(
        self, blobs: Blobs, store: Store, disk: Disk, upkeep: Upkeep, metalinks: MetalinkPages
    ) -> None:
        self._blobs = blobs
        self._store = store
        self._disk = disk
        self._upkeep = upkeep
        self._metalinks = metalinks
        self._turn = DeferredSemaphore(1)
        self._known: OrderedDict[Digest, bytes] = OrderedDict()
        self._remembered = 0

    async def describe(self, request: Request, digest: Digest) -> None:
        """Answer with the torrent of a blob that is here.

        Raises:
            TooManyTorrents: so many wait already.
            Corrupt: it is damaged here.
            DtfcError: as the gate and the store say.
        """
        await self._blobs.admit_reader(request, digest)
        holding = Holding(self._store, self._disk, self._upkeep.checks)
        try:
            info, reading = await holding.open(digest)
            pieces = await self._pieces_of(reading, holding.lane)
        finally:
            holding.close()
        places = await self._metalinks.places(request, digest, info.length)
        name = name_of(request, info.name) or digest.hex
        body = torrent(
            safe_name(name, digest.hex),
            info.length,
            pieces,
            [place.url for place in places],
            GENERATOR,
        )
        request.put("Content-Disposition", content_disposition(f"{name}.torrent", inline=False))
        request.put("Cache-Control", "no-store")
        request.answer(200, body, TORRENT)

    async def _pieces_of(self, reading: Reading, lane: Lane) -> bytes:
        known = self._known.get(reading.digest)
        if known is None:
            if len(self._turn.waiting) >= MOST_WAITING:
                raise TooManyTorrents(MOST_WAITING)
            await self._turn.acquire()
            try:
                # Somebody else may have asked for the same.
                known = self._known.get(reading.digest)
                if known is None:
                    known = await self._hash(reading, lane)
                    self._remember(reading.digest, known)
            finally:
                self._turn.release()
        self._known.move_to_end(reading.digest)
        return known

    def _remember(self, digest: Digest, pieces: bytes) -> None:
        self._known[digest] = pieces
        self._remembered += len(pieces)
        while self._remembered > MOST_REMEMBERED and len(self._known) > 1:
            self._remembered -= len(self._known.popitem(last=False)[1])

    async def _hash(self, reading: Reading, lane: Lane) -> bytes:
        """Read all of a blob, verified, and hash its pieces.

        Raises:
            Corrupt: it is damaged, and right bytes cannot be had.
            StoreFailure: it cannot be read.
        """
        source = BlobSource(reading, self._upkeep.healing.heal, self._upkeep.clock)
        length, piece = reading.length, piece_of(reading.length)
        pieces = bytearray()
        for start in range(0, length, piece):
            sha1 = hashlib.sha1(usedforsecurity=False)
            for at in range(start, min(start + piece, length), CHUNK):
                count = min(CHUNK, length - at)
                fd = source.ready(at, count)
                if fd < 0:
                    fd = await source.prepare(lane, at, count)
                await lane.run(_update, sha1, fd, at, count)
            pieces += sha1.digest()
        return bytes(pieces)


def _update(sha1: hashlib._Hash, fd: int, at: int, count: int) -> None:
    block = os.pread(fd, count, at)
    with hashing.place:
        sha1.update(block)

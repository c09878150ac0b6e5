"""A blob's chunk map as an answer: ``GET /<digest>/chunks``."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Protocol

from twisted.internet.task import deferLater

from dtfc.disk import Lane
from dtfc.errors import Corrupt
from dtfc.http.preconditions import Representation
from dtfc.http.problems import precondition_failed, range_not_satisfiable
from dtfc.http.ranges import Span, plan
from dtfc.integrity.reading import Reading, UnderWay
from dtfc.store.chunkmap import ChunkMap
from dtfc.web.fields import caching
from dtfc.web.source import FIRST_LOOK, LONGEST_LOOK
from dtfc.web.transmit import Pace

if TYPE_CHECKING:
    from dtfc.integrity.upkeep import Upkeep
    from dtfc.web.request import Request

#: The file's media type; its form stands in docs/protocol.md.
MEDIA_TYPE = "application/vnd.dtfc.chunks"

#: Bytes written before it is looked whether the client still reads.
_PIECE = 128 * 1024


class Terms(Protocol):
    """On which terms answers are given (``dtfc.web.blobs.Terms``)."""

    @property
    def max_age(self) -> int:
        """Seconds for which caches may keep them."""

    @property
    def max_ranges(self) -> int:
        """Most ranges in one answer."""


async def map_of(reading: Reading, lane: Lane, upkeep: Upkeep) -> ChunkMap:
    """Return a blob's chunk map; one that is missing is made.

    Args:
        reading: the blob, open.
        lane: where the disk is read.
        upkeep: mends what turns out to be damaged.

    Raises:
        Corrupt: the bytes that lie here are not the blob's. Who asks for a map
            is a peer, so it is mended behind its back.
        StoreFailure: the file cannot be read.
    """
    pause = FIRST_LOOK
    while True:
        try:
            return await lane.run(reading.chunk_map)
        except UnderWay:
            await deferLater(upkeep.clock, pause)
            pause = min(2 * pause, LONGEST_LOOK)
        except Corrupt as corrupt:
            await upkeep.healing.heal_later(reading, corrupt.chunk)
            raise


async def send_map(request: Request, chunk_map: ChunkMap, terms: Terms) -> None:
    """Answer with a chunk map, as with any other file that cannot change.

    Args:
        request: GET or HEAD.
        chunk_map: what to send.
        terms: how long it may be kept, and in how many pieces it is sent.
    """
    content = chunk_map.content()
    tag = f'"{chunk_map.digest}-chunks"'
    planned = plan(
        request.method.decode("ascii"),
        request.field,
        Representation(len(content), tag, None),
        MEDIA_TYPE,
        secrets.token_hex(16),
        most=terms.max_ranges,
    )
    if planned.status == 412:
        request.problem(precondition_failed())
        return
    if planned.status == 416:
        request.problem(range_not_satisfiable(len(content)))
        return
    request.setResponseCode(planned.status)
    request.put("ETag", tag)
    request.put("Accept-Ranges", "bytes")
    request.put("Cache-Control", caching(terms.max_age, request))
    if planned.status != 304:
        request.put("Content-Type", MEDIA_TYPE)
        request.put("Content-Length", str(planned.length))
        for field, value in planned.fields:
            request.put(field, value)
    await _write(request, content, planned.parts)
    request.finish()


async def _write(request: Request, content: bytes, parts: tuple[bytes | Span, ...]) -> None:
    pace = Pace()
    request.registerProducer(pace, True)
    try:
        request.write(b"")
        for part in parts:
            piece = part if isinstance(part, bytes) else content[part.start : part.stop]
            for at in range(0, len(piece), _PIECE):
                await pace.turn()
                request.write(piece[at : at + _PIECE])
    finally:
        if request.channel is not None:
            request.unregisterProducer()

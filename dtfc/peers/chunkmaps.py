"""A blob's chunk map, as a peer tells it: bounded, judged, and no more than its word."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from dtfc.digest import Digest
from dtfc.peers.client import PeerHTTP
from dtfc.peers.failure import PeerFailure
from dtfc.store.chunkmap import ChunkMap, map_size, read_map

_OK = 200


async def fetch_map(
    http: PeerHTTP, peer: str, digest: Digest, length: int, *, partial: bool = False
) -> ChunkMap | None:
    """Ask a peer for a blob's chunk map.

    Args:
        http: asks.
        peer: whom.
        digest: of the blob.
        length: of the blob, in bytes; a map of another length is none.
        partial: whether one that it has of others, for a blob that it is
            loading, will do.

    Returns:
        None if it has none to give, or one that is not of this blob: nodes of
        2015 know no maps, and for them there is no harm in that.
    """
    size = map_size(length)
    try:
        reply = await http.ask("GET", peer, digest.hex, what="chunks", partial=partial)
    except PeerFailure:
        return None
    if reply.status != _OK or list(reply.fields("content-length")) != [str(size)]:
        reply.drop()
        return None
    body = reply.take(0, size)
    blocks: list[bytes] = []
    try:
        while more := await body.read():
            blocks += more
    except CancelledError:
        body.abort("is not wanted any more")
        raise
    return read_map(b"".join(blocks), digest, length)

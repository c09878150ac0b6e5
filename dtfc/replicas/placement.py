"""Which peers shall hold the copies of a blob.

Rules of this file: pure. The same digest and list give the same choice on every
node (:mod:`dtfc.peers.rendezvous`), so no node has to tell another where copies
are; when a peer comes or goes, only the copies that were its own have another
place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from heapq import nlargest

from dtfc.digest import Digest
from dtfc.peers.listing import Peer
from dtfc.peers.rendezvous import draw, score


def choose(
    digest: Digest,
    peers: Iterable[Peer],
    wanted: int,
    *,
    own_zone: str = "",
    held: Collection[str] = (),
    out: Collection[str] = (),
) -> tuple[Peer, ...]:
    """Return the peers that shall hold copies, those that have one among them.

    Whoever holds a copy counts, wherever it stands in the order. What is missing
    goes to the first in order. If all stand in this node's own zone, and there
    is a peer in another one, the last that is to get a copy makes room for it.

    Args:
        digest: the blob's.
        peers: the list, without this node.
        wanted: copies beside the one here.
        own_zone: where this node stands.
        held: URLs of the peers that have a copy.
        out: URLs of peers that get none: they refused it, or are given up.

    Returns:
        At most ``wanted`` peers, or all that hold a copy if these are more;
        fewer if there are no more.
    """
    having: list[Peer] = []
    free: list[Peer] = []
    for peer in peers:
        if peer.url in held:
            having.append(peer)
        elif peer.url not in out:
            free.append(peer)
    missing = wanted - len(having)
    if missing <= 0:
        return tuple(having)

    def merit(peer: Peer) -> tuple[float, str]:
        return score(draw(digest, peer.url), peer.weight), peer.url

    chosen = nlargest(missing, free, key=merit)
    if chosen and all(peer.zone == own_zone for peer in (*having, *chosen)):
        elsewhere = [peer for peer in free if peer.zone != own_zone]
        if elsewhere:
            chosen[-1] = max(elsewhere, key=merit)
    return (*having, *chosen)

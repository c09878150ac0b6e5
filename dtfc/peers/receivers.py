"""To how many nodes the whole of a blob is sent at once, and who of them gives way.

Rules of this file: pure. It decides who is sent to; who asks, and how what was
begun is broken off, is for whoever uses it.

Of any number of nodes that want one blob at once so many are sent to. To one more
only in place of the one that stands lowest in the digest's tree
(:func:`dtfc.peers.rendezvous.ranked`): that one has most others above it who
will have the bytes soon, while who stands high is waited for by many.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dtfc.digest import Digest
from dtfc.peers.rendezvous import draw
from dtfc.store.chunkmap import CHUNK

LARGE = 4 * CHUNK
"""Who asks for more bytes than this at once is bounded; who asks for a part is not."""

PATIENCE = 60.0
"""Seconds without anybody being let in, after which one more is, whoever is sent to: so that
receivers who take nothing keep nobody else from it for ever."""


@dataclass(eq=False, slots=True)
class Place:
    """One answer to a node that is sent to.

    Args:
        digest: of the blob.
        node: its URL.
        lost: whether it is to give way: nothing more of the answer is to be sent.
    """

    digest: Digest
    node: str
    lost: bool = False


@dataclass(slots=True)
class _Blob:
    """Who is sent one blob.

    Args:
        let_in: when somebody was let in last.
        standing: of each node, in the digest's tree; a higher number is higher up.
        places: of each node, more than one if it asked more than once.
    """

    let_in: float
    standing: dict[str, tuple[int, str]] = field(default_factory=dict)
    places: dict[str, list[Place]] = field(default_factory=dict)


class Receivers:
    """Who is sent what.

    Args:
        most: nodes that one blob is sent to at once; 0 for any number.

    Attributes:
        refused: how often somebody was sent nothing.
        cut: how often somebody who was sent to had to give way.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.refused = 0
        self.cut = 0
        self._blobs: dict[Digest, _Blob] = {}

    def let_in(self, digest: Digest, node: str, now: float) -> Place | None:
        """Say whether a node may be sent a blob; others lose their places by it.

        Args:
            digest: of the blob.
            node: the URL of who asks.
            now: seconds.

        Returns:
            Its place, to be given back (:meth:`leave`); None if it is to ask
            elsewhere, or later.
        """
        blob = self._blobs.get(digest)
        if blob is None:
            blob = self._blobs[digest] = _Blob(now)
        if node not in blob.places:
            standing = draw(digest, node), node
            if self.most and len(blob.places) >= self.most and now - blob.let_in < PATIENCE:
                lowest = min(blob.places, key=blob.standing.__getitem__)
                if blob.standing[lowest] > standing:
                    self.refused += 1
                    return None
                self._cut(blob, lowest)
            blob.standing[node] = standing
            blob.let_in = now
        place = Place(digest, node)
        blob.places.setdefault(node, []).append(place)
        return place

    def leave(self, place: Place) -> None:
        """Give a place back; harmless when it was lost, or is given back already."""
        blob = self._blobs.get(place.digest)
        if blob is None or place not in blob.places.get(place.node, ()):
            return
        blob.places[place.node].remove(place)
        if not blob.places[place.node]:
            self._forget(blob, place.node)
        if not blob.places:
            del self._blobs[place.digest]

    def _cut(self, blob: _Blob, node: str) -> None:
        self.cut += 1
        for place in blob.places[node]:
            place.lost = True
        self._forget(blob, node)

    @staticmethod
    def _forget(blob: _Blob, node: str) -> None:
        del blob.places[node]
        del blob.standing[node]

"""How much fits into so many open files."""

from __future__ import annotations

from typing import NamedTuple

#: Files open beside those of connections and hot blobs: store, catalog, log, peers.
OTHERS = 128

#: Files of one connection: itself, and the blob that it is sent.
OF_CONNECTION = 2

#: Files of one hot blob.
OF_HOT_BLOB = 3

#: Connections that there is always room for.
FEWEST = 8


class Fitting(NamedTuple):
    """What fits.

    Args:
        connections: at once.
        hot_blobs: kept open.
    """

    connections: int
    hot_blobs: int


def fitting(descriptors: int, connections: int, hot_blobs: int) -> Fitting:
    """Return how many of the connections and hot blobs that are wanted fit.

    Connections go first: a blob that is not hot costs a few turns, a connection
    that is not accepted costs its client everything.

    Args:
        descriptors: that this process may have open.
        connections: that are wanted.
        hot_blobs: that are wanted.
    """
    left = descriptors - min(OTHERS, descriptors // 3)
    hot = min(hot_blobs, max(0, left - OF_CONNECTION * connections, left // 4) // OF_HOT_BLOB)
    fit = (left - OF_HOT_BLOB * hot) // OF_CONNECTION
    return Fitting(min(connections, max(FEWEST, fit)), hot)

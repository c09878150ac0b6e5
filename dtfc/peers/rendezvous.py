"""Highest random weight: an order of the nodes for each digest, the same on every node.

Rules of this file: pure. An order depends on the digest and on the nodes' URLs
alone; a node that comes or goes moves no other one.

Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998;
with weights as in Schindelhauer and Schomaker, "Weighted distributed hash
tables", 2005.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

from dtfc.digest import Digest

_SPAN = 2.0**64


def draw(digest: Digest, url: str) -> int:
    """Return a number, 0 to 2**64 - 1, that a node has drawn for a digest."""
    together = digest.raw + url.encode("ascii", "backslashreplace")
    return int.from_bytes(hashlib.blake2b(together, digest_size=8).digest(), "big")


def score(drawn: int, weight: int) -> float:
    """Make a score of what was drawn: a node of weight 3 is first three times as often.

    Args:
        drawn: from :func:`draw`.
        weight: 1 or more.
    """
    return -weight / math.log((drawn + 0.5) / _SPAN)


def ranked(digest: Digest, urls: Iterable[str]) -> list[str]:
    """Sort nodes by what they drew, the highest first."""
    return [url for _, url in sorted(((draw(digest, url), url) for url in urls), reverse=True)]


def path_up(rank: int) -> list[int]:
    """Return the ranks from a rank's parent to the root of the tree of all ranks.

    In it each rank has two children, as in a heap: those of rank r are 2r + 1
    and 2r + 2.
    """
    path = []
    while rank > 0:
        rank = (rank - 1) // 2
        path.append(rank)
    return path

"""What the site counts of each answer, in plain integers.

Rules of this file: it is on the way of every answer. What a count is called is
said by :mod:`dtfc.web.metrics`, when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)
"""Upper bounds of the classes of durations, in seconds; the last class has none."""

#: Classes of URLs; a label of metrics, so there are few, and no others.
BLOB, ABOUT, NAME, FRONT, DELETIONS, UPLOADS, COUCHDB, NODE, OTHER = (
    "blob",
    "about",
    "name",
    "front",
    "deletions",
    "uploads",
    "couchdb",
    "node",
    "other",
)
ROUTES = (BLOB, ABOUT, NAME, FRONT, DELETIONS, UPLOADS, COUCHDB, NODE, OTHER)

_OF_FIRST_PART = {
    b"": FRONT,
    b"deletions": DELETIONS,
    b"uploads": UPLOADS,
    b"couchdb": COUCHDB,
    b"page": FRONT,
    b"health.html": NODE,
    b"status.json": NODE,
    b"livez": NODE,
    b"readyz": NODE,
    b"metrics": NODE,
    b"files.json": NODE,
    b"refreshpeers.html": NODE,
}
_ABOUT_BLOBS = (b"/info", b"/chunks", b"/ffmetadata", b".meta4", b".torrent")
_BEHIND = (b"", b"/", b".")
_HEX = b"0123456789abcdefABCDEF"


def route_of(path: bytes) -> str:
    """Return the class of a URL, one of :data:`ROUTES`.

    Args:
        path: as it came, without its query.
    """
    rest = path[129:]
    if len(path) >= 129 and rest[:1] in _BEHIND and not path[1:129].strip(_HEX):
        if not rest or rest == b"/nopeerload":
            return BLOB
        if rest == b"/allpeers":
            return DELETIONS
        if rest in _ABOUT_BLOBS:
            return ABOUT
        return NAME if rest[:1] == b"." else BLOB
    first, slash, _ = path[1:].partition(b"/")
    if path == b"*":
        return OTHER
    return _OF_FIRST_PART.get(first) or (OTHER if slash else NAME)


class Tally:
    """What the site counts.

    Attributes:
        requests: answers, by method, class of URL and status.
        hits: those of them that the fast lane gave.
        slow_hits: those of the hits that took more than one turn of the loop.
        sent: bytes of their bodies.
        received: bytes of requests' bodies.
        took: by class of URL, how many answers were in each class of durations.
        seconds: by class of URL, all durations together.
    """

    __slots__ = ("hits", "received", "requests", "seconds", "sent", "slow_hits", "took")

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.hits = 0
        self.slow_hits = 0
        self.sent = 0
        self.received = 0
        self.took: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}

    def note(self, route: str, seconds: float) -> None:
        """Count an answer's duration."""
        classes = self.took.get(route)
        if classes is None:
            classes = self.took[route] = [0] * (len(BOUNDS) + 1)
            self.seconds[route] = 0.0
        classes[bisect_left(BOUNDS, seconds)] += 1
        self.seconds[route] += seconds

    def durations(self) -> dict[str, list[int]]:
        """Return :attr:`took`, with what the fast lane answered within a turn in the first class.

        They are not counted one by one: a hot GET takes some 20 us in all.
        """
        found = {route: list(classes) for route, classes in self.took.items()}
        at_once = self.hits - self.slow_hits
        if at_once:
            found.setdefault(BLOB, [0] * (len(BOUNDS) + 1))[0] += at_once
        return found

"""What a caller may want."""

from __future__ import annotations

import enum


class Verb(enum.Enum):
    """What a caller wants; also the tail of a deny file's name."""

    GET = "get"
    HEAD = "head"
    PUT = "put"
    DELETE = "delete"


READS = frozenset({Verb.GET, Verb.HEAD})
"""What changes nothing."""

WRITES = frozenset({Verb.PUT, Verb.DELETE})
"""What changes something, and so is not done for a page of another site."""

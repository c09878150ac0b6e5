"""What the catalog answers with, and how one page leads to the next.

Rules of this file: no SQL, no disk.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import NamedTuple

from dtfc.digest import Digest
from dtfc.errors import BadDigest, BadInput

_LAST_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True, slots=True)
class NameRow:
    """A name and a blob that has it.

    Args:
        name: the file name.
        digest: the blob.
        length: in bytes.
        at: when the blob was stored, in seconds since 1970.
    """

    name: str
    digest: Digest
    length: int
    at: float


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and how to ask for those that follow.

    Args:
        rows: ordered by name, then digest.
        next: what to give as ``after``; None if nothing follows.
    """

    rows: tuple[NameRow, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deletion that is remembered.

    Args:
        digest: what was deleted.
        at: when, in ISO 8601.
        node: who did it, if that is known.
    """

    digest: Digest
    at: str
    node: str | None


class Totals(NamedTuple):
    """How much is here."""

    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What a reindex saw.

    Args:
        folders: folders of blobs that were visited.
        blobs: how many blobs the catalog has now.
        bytes: how long they are together.
        stale: rows that stood for nothing and were removed.
    """

    folders: int
    blobs: int
    bytes: int
    stale: int


def prefix_end(prefix: str) -> str | None:
    """Return the least text that is greater than everything with this prefix.

    None if there is none. Code points are ordered as their UTF-8 is; the
    surrogates, which no text holds, are stepped over.
    """
    while prefix:
        following = ord(prefix[-1]) + 1
        prefix = prefix[:-1]
        if following in _SURROGATES:
            following = _SURROGATES.stop
        if following <= _LAST_CODE_POINT:
            return prefix + chr(following)
    return None


def comparable(text: str) -> str:
    """Return text that SQLite can hold: a lone surrogate is in no name, and matches none."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cursor(row: NameRow) -> str:
    """Return what stands for the rows after this one."""
    text = json.dumps([row.name, row.digest.hex]).encode("ascii")
    return base64.urlsafe_b64encode(text).decode("ascii").rstrip("=")


def parse_cursor(text: str) -> tuple[str, bytes]:
    """Return the name and digest after which a page begins.

    Raises:
        BadInput: it is nothing that :func:`cursor` gave out.
    """
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        name, digest = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        return comparable(name), Digest.from_hex(digest).raw
    except (ValueError, TypeError, AttributeError, BadDigest) as error:
        raise BadInput("'after' is not what an earlier page gave as 'next'") from error

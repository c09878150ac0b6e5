"""What the store says about a blob: plain values, passed freely between threads.

Rules of this file: nothing here touches the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dtfc.digest import Digest
from dtfc.store.records import Record


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob that is here.

    Args:
        digest: its name.
        length: in bytes.
        stored_at: when its bytes were written, in seconds since 1970.
        name: the file name it was stored under last, if it ever had one.
        names: every name it has, each once, the current one last.
    """

    digest: Digest
    length: int
    stored_at: float
    name: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a commit did.

    Args:
        info: the blob, durable by now.
        new: False if its bytes were here already.
        revival: what the other nodes must hear, if it had been deleted
            everywhere.
    """

    info: BlobInfo
    new: bool
    revival: Record | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion did.

    Args:
        info: the blob that is gone; None if there was none (its digest is
            blocked all the same).
        at: when, in ISO 8601, as the tombstone has it; None if an operator's
            marker blocks the digest instead of a tombstone.
        record: what the other nodes must hear, if it is deleted everywhere.
    """

    info: BlobInfo | None
    at: str | None
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of a record that came from another node.

    Args:
        known: the one that counts here now.
        changed: whether it is that one, and was not known before.
        info: the blob that went with it, if one did.
    """

    known: Record
    changed: bool
    info: BlobInfo | None = None


@dataclass(frozen=True, slots=True)
class Marker:
    """A file beside a blob that denies it.

    Args:
        status: 403 or 404, the name of the file.
        by_operator: False for a tombstone, which only this program writes.
        facts: what the tombstone says: ``deleted`` (ISO 8601), ``node``,
            ``length``, ``name``, of a deletion everywhere ``counter`` and
            ``id``; empty for an operator's marker.
    """

    status: Literal[403, 404]
    by_operator: bool
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Space:
    """Room on the file system of the store, in bytes.

    Args:
        free: what this process may still write.
        total: the size of the file system.
        reserve: what is kept back for tombstones and the catalog.
    """

    free: int
    total: int
    reserve: int

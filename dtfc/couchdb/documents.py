"""What CouchDB's feeds and documents say of blobs (pure).

Rules of this file: whatever a document holds, it is no error; what cannot be
taken for a reference is counted and passed over. Whatever may be one, is one:
a reference too many keeps a blob for longer, one too few deletes it.

A sequence is opaque: a number of CouchDB 1 and PouchDB, a text of CouchDB 2 and
later, an array of some clusters. It is kept as the JSON that it came as.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dtfc.digest import Digest
from dtfc.errors import BadDigest

#: Where a feed begins.
BEGINNING = "0"


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry of a document's ``dtfc``.

    Args:
        name: under which the document has it.
        digest: of the blob.
        length: of the blob in bytes, as the document says; None if it does not.
        content_type: as the document says; empty if it does not.
    """

    name: str
    digest: Digest
    length: int | None = None
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of ``_changes``.

    Args:
        id: of the document.
        deleted: whether the winning revision is a deletion.
        leaves: every leaf revision, the winner first.
        document: the winner's body; None if the feed brought none.
    """

    id: str
    deleted: bool
    leaves: tuple[str, ...]
    document: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of ``_changes``.

    Args:
        changes: in the order of the feed.
        since: the sequence to go on from, as JSON.
        pending: changes that come after these; None where it is not said.
    """

    changes: tuple[Change, ...]
    since: str
    pending: int | None = None


def parse_page(body: bytes) -> Page:
    """Read an answer of ``_changes``, whose heartbeats are empty lines before it.

    Raises:
        ValueError: it is none. One change that makes no sense spoils all: passed
            over, it could take a reference along.
    """
    found = parse_json(body)
    if not isinstance(found, dict) or not isinstance(found.get("results"), list):
        raise ValueError("it has no results")  # noqa: TRY004 -- what came is wrong, not our types
    if "last_seq" not in found:
        raise ValueError("it has no last_seq")
    pending = found.get("pending")
    return Page(
        tuple(map(_change, found["results"])),
        sequence(found["last_seq"]),
        pending if type(pending) is int and pending >= 0 else None,
    )


def _change(found: object) -> Change:
    if not isinstance(found, dict):
        raise ValueError("a change is no object")  # noqa: TRY004 -- as above
    name, changes, document = found.get("id"), found.get("changes"), found.get("doc")
    if not isinstance(name, str) or not name or "seq" not in found:
        raise ValueError("a change has no id or no seq")
    if not isinstance(changes, list):
        raise ValueError("a change has no revisions")  # noqa: TRY004 -- as above
    leaves = [
        each["rev"]
        for each in changes
        if isinstance(each, dict) and isinstance(each.get("rev"), str) and each["rev"]
    ]
    if not leaves or len(leaves) != len(changes):
        raise ValueError("a change has no revisions")
    return Change(
        name,
        found.get("deleted") is True,
        tuple(leaves),
        document if isinstance(document, dict) else None,
    )


def purges(purge_seq: object) -> int:
    """Return how often was purged, by ``purge_seq``: what follows the number is not stable."""
    if isinstance(purge_seq, str):
        number = purge_seq.partition("-")[0]
        return int(number) if number.isdecimal() and len(number) < 20 else 0
    return purge_seq if type(purge_seq) is int else 0


def sequence(value: object) -> str:
    """Return a sequence as JSON, to be sent back as it came."""
    return json.dumps(value, separators=(",", ":"))


def as_parameter(since: str) -> str:
    """Return a sequence as the value of ``since``: a text without its quotation marks."""
    value = json.loads(since)
    return value if isinstance(value, str) else since


def parse_json(text: bytes) -> Any:
    """Parse JSON that somebody else wrote.

    Raises:
        ValueError: it is none, or too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def references_of(document: Mapping[str, Any]) -> tuple[tuple[Reference, ...], int]:
    """Return what a document refers to, and how many entries make no sense.

    A deleted document refers to nothing, even where it kept a body.
    """
    if document.get("_deleted") is True:
        return (), 0
    files = document.get("dtfc")
    if files is None:
        return (), 0
    if not isinstance(files, dict):
        return (), 1
    found = []
    wrong = 0
    for name, entry in files.items():
        reference = _reference(name, entry)
        if reference is None:
            wrong += 1
        else:
            found.append(reference)
    return tuple(found), wrong


def _reference(name: str, entry: object) -> Reference | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("sha512"), str):
        return None
    try:
        # Of either case: a blob that somebody refers to in capitals is no garbage.
        digest = Digest.from_hex(entry["sha512"])
    except BadDigest:
        return None
    length, content_type = entry.get("length"), entry.get("content_type")
    return Reference(
        # Lone surrogates have no UTF-8, and JSON may hold them.
        name.encode("utf-8", "replace").decode("utf-8"),
        digest,
        length if type(length) is int and length >= 0 else None,
        content_type if isinstance(content_type, str) and content_type.isprintable() else "",
    )

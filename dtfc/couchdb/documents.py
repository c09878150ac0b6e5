"""What CouchDB's feeds and documents say of blobs (pure).

Rules of this file: whatever a document holds, it is no error; what cannot be
taken for a reference is counted and passed over. Whatever may be one, is one:
a reference too many keeps a blob for longer, one too few deletes it.

A sequence is opaque: a number of CouchDB 1 and PouchDB, a text of CouchDB 2 and
later, an array of some clusters. It is kept as the JSON that it came as.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dtfc.digest import Digest
from dtfc.errors import BadDigest

#: Bytes of one line of a feed: CouchDB's largest document is 8 MB, and JSON may
#: escape it (``max_document_size``, config/couchdb.rst).
LONGEST_LINE = 64 * 1024 * 1024

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
    """One line of ``_changes``.

    Args:
        since: the sequence to go on from, as JSON.
        id: of the document.
        deleted: whether the winning revision is a deletion.
        leaves: every leaf revision, the winner first.
        document: the winner's body; None if the feed brought none.
    """

    since: str
    id: str
    deleted: bool
    leaves: tuple[str, ...]
    document: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Last:
    """The end of a feed: it was complete, or its server is about to stop.

    Args:
        since: the sequence to go on from, as JSON.
    """

    since: str


def parse_line(line: bytes) -> Change | Last:
    """Read one line of a feed, or one element of ``results``.

    Raises:
        ValueError: it is neither a change nor an end.
    """
    return read_change(parse_json(line))


def read_change(found: object) -> Change | Last:
    """Read one change, parsed already.

    Raises:
        ValueError: it is neither a change nor an end.
    """
    if not isinstance(found, dict):
        raise ValueError("it is no object")  # noqa: TRY004 -- what came is wrong, not our types
    if "last_seq" in found:
        return Last(sequence(found["last_seq"]))
    name, changes, document = found.get("id"), found.get("changes"), found.get("doc")
    if not isinstance(name, str) or not name or "seq" not in found:
        raise ValueError("it has no id or no seq")
    if not isinstance(changes, list):
        raise ValueError("it has no changes")  # noqa: TRY004 -- as above
    leaves = [
        each["rev"]
        for each in changes
        if isinstance(each, dict) and isinstance(each.get("rev"), str) and each["rev"]
    ]
    if not leaves or len(leaves) != len(changes):
        raise ValueError("its changes have no revisions")
    deleted = found.get("deleted") is True
    return Change(
        sequence(found["seq"]),
        name,
        deleted,
        tuple(leaves),
        document if isinstance(document, dict) else None,
    )


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


class Lines:
    """Takes the lines of a continuous feed out of the blocks that it comes in.

    Empty lines are heartbeats, and are passed over.

    Args:
        longest: bytes of one line.
    """

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._blocks: list[bytes] = []
        self._length = 0

    def feed(self, block: bytes) -> Iterator[bytes]:
        """Take a block; return the lines that end in it, without their line ends.

        Raises:
            ValueError: a line is longer than it may be.
        """
        first, *others = block.split(b"\n")
        self._keep(first)
        for each in others:
            line = b"".join(self._blocks).strip()
            self._blocks.clear()
            self._length = 0
            self._keep(each)
            if line:
                yield line

    def _keep(self, part: bytes) -> None:
        self._length += len(part)
        if self._length > self._longest:
            raise ValueError(f"a line has more than {self._longest} bytes")
        if part:
            self._blocks.append(part)

    @property
    def rest(self) -> bytes:
        """What came of a line that did not end."""
        return b"".join(self._blocks).strip()

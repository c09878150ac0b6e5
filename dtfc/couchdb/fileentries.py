"""A document with one more file in it (pure).

Rules of this file: nothing of a document changes but the one member of its
``dtfc``. What CouchDB can store passes through Python's JSON unharmed, members
in their order; what it cannot (``NaN``) is never sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dtfc.errors import TooLarge

#: What of a PUT's answer is entered: the shape of a stub in ``_attachments``.
MEMBERS = ("sha512", "length", "content_type", "stub")


def entry_of(stub: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry that stands for a file, out of the answer to its PUT."""
    return {member: stub[member] for member in MEMBERS}


def with_entry(
    old: Mapping[str, Any] | None, identifier: str, name: str, entry: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the document to store; None if the one that is there will do.

    It will if its entry says the same; what somebody wrote beside that stays then.

    Args:
        old: the newest revision; None if there is no document.
        identifier: of the document.
        name: of the file.
        entry: what stands for it.

    Raises:
        ValueError: its ``dtfc`` is something else than files.
    """
    document: Mapping[str, Any] = {"_id": identifier} if old is None else old
    files = document.get("dtfc", {})
    if not isinstance(files, dict):
        raise ValueError("its dtfc is no object")  # noqa: TRY004 -- what is there is wrong, not our types
    there = files.get(name)
    if isinstance(there, dict) and all(
        member in there and _same(there[member], value) for member, value in entry.items()
    ):
        return None
    return {**document, "dtfc": {**files, name: dict(entry)}}


def _same(one: object, other: object) -> bool:
    # True is 1 to Python, and not to JSON.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def encoded(document: Mapping[str, Any], most: int) -> bytes:
    """Return a document as JSON.

    Args:
        document: whole.
        most: bytes that it may have: what is larger could not be read here afterwards.

    Raises:
        TooLarge: it has more.
        ValueError: JSON has no words for it.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        try:
            content = text.encode("utf-8")
        except UnicodeEncodeError:  # a lone surrogate: JSON can write it, UTF-8 cannot
            content = json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if len(content) > most:
        raise TooLarge(most, "--couchdb-max-document")
    return content

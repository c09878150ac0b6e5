"""The documents of a shared catalog (pure).

One for each blob, whose id is the digest. It refers to the blob as any other
document does, under each of its names; so whatever reads documents reads these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from dtfc.digest import Digest

#: Names that an entry has; further ones are not written.
MOST_NAMES = 1000


def written(
    digest: Digest, length: int | None, names: Collection[str], old: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return the document to write; None if the one that is there will do.

    Names that others wrote stay, and so does whatever else is in it.

    Args:
        digest: of the blob.
        length: of it in bytes; None if it is not known.
        names: that it is to have.
        old: what is there; None if nothing is.
    """
    files = old.get("dtfc") if old is not None else None
    files = dict(files) if isinstance(files, dict) else {}
    known = len(files)
    entry = {"sha512": digest.hex, "stub": True} | ({} if length is None else {"length": length})
    for name in sorted(names):
        if name not in files and len(files) < MOST_NAMES:
            files[name] = entry
    if old is not None and len(files) == known:
        return None
    return {**(old or {"_id": digest.hex}), "dtfc": files}


def deletions(document: Mapping[str, Any], revisions: Collection[str]) -> list[dict[str, Any]]:
    """Return what deletes revisions of a document."""
    return [{"_id": document["_id"], "_rev": each, "_deleted": True} for each in revisions]


def without_conflicts(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a document as it can be written, and its conflicts' losers."""
    found = document.get("_conflicts")
    losers = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    return {name: value for name, value in document.items() if name != "_conflicts"}, losers

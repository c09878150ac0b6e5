"""What of a document is moved between ``_attachments`` and ``dtfc`` (pure).

Rules of this file: nothing of a document is lost. What cannot be written back as
it was read is no document to change; an entry of ``dtfc`` that says something else
than the attachment of its name is not overwritten, nor is the attachment.

Stubs are as ``att_encoding_info=true`` has them (api/document/common.rst): ``length``
is of the decoded bytes, ``encoded_length`` of those that lie in the database's file.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from dtfc.couchdb.documents import Reference, references_of
from dtfc.errors import BadName
from dtfc.names import check_name

UNTYPED = "application/octet-stream"
"""The type of what says none."""

_DESIGN = "_design/"
_FIELD = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\Z")
_DIGEST = re.compile(r"[0-9a-fA-F]{128}\Z")
# What a path that a node takes a PUT under may not be, but for digests.
_NOT_STORED = frozenset({"refreshpeers.html"})
_UNNAMED = "attachment"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One stub of a document's ``_attachments``.

    Args:
        name: of the attachment; any text, slashes and all.
        content_type: as the document says.
        length: of its bytes.
        stored: bytes that it takes in the database's file.
        md5: of its bytes, where the database knows that; it has one of what it
            stores, which is something else where that is compressed.
    """

    name: str
    content_type: str
    length: int
    stored: int
    md5: bytes | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an attachment's bytes.

    Args:
        sha512: of them, in lower-case hexadecimal.
        length: of them.
    """

    sha512: str
    length: int


def parse(text: bytes) -> Any:
    """Parse JSON that is going to be written back.

    Raises:
        ValueError: it is none, or has what would not come back as it was: the same
            member twice, or a number that Python has no room for.
    """
    try:
        found = json.loads(text, object_pairs_hook=_object)
        json.dumps(found, allow_nan=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same member twice")
    return found


def is_design(document_id: str) -> bool:
    """Whether it is a design document, whose attachments are the application's."""
    return document_id.startswith(_DESIGN)


def document_path(database: str, document_id: str) -> str:
    """Return the path of a document, percent-encoded.

    The slash behind ``_design`` stays one: CouchDB answers the other form with a
    redirect (api/ddoc/common.rst).
    """
    if is_design(document_id):
        rest = quote(document_id[len(_DESIGN) :], safe="")
        return f"/{quote(database, safe='')}/{_DESIGN}{rest}"
    return f"/{quote(database, safe='')}/{quote(document_id, safe='')}"


def attachment_path(database: str, document_id: str, name: str) -> str:
    """Return the path of an attachment, percent-encoded, slashes in its name, too."""
    return f"{document_path(database, document_id)}/{quote(name, safe='')}"


def blob_name(name: str) -> str:
    """Return the name under which a node stores an attachment: the last part of its own.

    A node takes no path for a name; which file is which, the document says.
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    try:
        taken = check_name(last)
    except BadName:
        return _UNNAMED
    return f"{_UNNAMED}-{taken}"[:255] if taken in _NOT_STORED or _DIGEST.match(taken) else taken


def field_value(content_type: str) -> str:
    """Return a type as it may stand in a head; what may not is a type of its own bytes only."""
    return content_type if _FIELD.match(content_type) else UNTYPED


def attachments_of(document: Mapping[str, Any]) -> tuple[tuple[Attachment, ...], int]:
    """Return a document's attachments, and how many of its stubs make no sense.

    A deleted document has none that anybody could get.
    """
    stubs = document.get("_attachments")
    if document.get("_deleted") is True or stubs is None:
        return (), 0
    if not isinstance(stubs, dict):
        return (), 1
    found = [_attachment(name, stub) for name, stub in stubs.items()]
    return tuple(each for each in found if each is not None), found.count(None)


def _attachment(name: str, stub: object) -> Attachment | None:
    if not isinstance(stub, dict) or not name or (not name.isascii() and not _has_utf8(name)):
        return None
    length, content_type = stub.get("length"), stub.get("content_type", UNTYPED)
    if type(length) is not int or length < 0 or not isinstance(content_type, str):
        return None
    encoded = stub.get("encoded_length")
    compressed = "encoding" in stub
    return Attachment(
        name,
        content_type,
        length,
        encoded if compressed and type(encoded) is int and encoded >= 0 else length,
        None if compressed else _md5(stub.get("digest")),
    )


def _has_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _md5(digest: object) -> bytes | None:
    if not isinstance(digest, str) or not digest.startswith("md5-"):
        return None
    try:
        found = base64.b64decode(digest[4:], validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == 16 else None


def moved(
    document: Mapping[str, Any], stored: Mapping[str, Stored], *, keep: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the document with attachments as entries of ``dtfc``, and whose names are taken.

    An entry that is there with the same digest stays, and is made complete. Where one
    of another digest is there, entry and attachment stay both.

    Args:
        document: as it is, with stubs.
        stored: by name, what is at the node.
        keep: whether the attachments stay as well.

    Raises:
        ValueError: its ``dtfc`` is no object: nothing can be entered.
    """
    new = dict(document)
    entries = document.get("dtfc", {})
    if not isinstance(entries, dict):
        raise ValueError("its dtfc is no object")  # noqa: TRY004 -- what came is wrong, not our types
    entries = dict(entries)
    stubs = {name: _plain(stub) for name, stub in document.get("_attachments", {}).items()}
    taken = []
    for name, found in stored.items():
        old = entries.get(name, {})
        if (
            not isinstance(old, dict)
            or str(old.get("sha512", found.sha512)).lower() != found.sha512
        ):
            taken.append(name)
            continue
        ours = {
            "sha512": found.sha512,
            "length": found.length,
            "content_type": stubs[name].get("content_type", UNTYPED),
            "stub": True,
        }
        entries[name] = {**ours, **old, "sha512": found.sha512, "length": found.length}
        if not keep:
            del stubs[name]
    if entries:
        new["dtfc"] = entries
    return _with(new, "_attachments", stubs), tuple(taken)


def _plain(stub: object) -> Any:
    """Return a stub without what was only told because it was asked for."""
    if not isinstance(stub, dict):
        return stub
    return {key: stub[key] for key in stub if key not in {"encoding", "encoded_length"}}


def _with(document: dict[str, Any], member: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Set a member; one that is empty is left out."""
    if value:
        return {**document, member: value}
    return {key: each for key, each in document.items() if key != member}


def same(new: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether there is nothing to write."""
    stubs = document.get("_attachments")
    plain = {name: _plain(stub) for name, stub in stubs.items()} if isinstance(stubs, dict) else {}
    # As JSON: to Python, True is 1.
    return json.dumps(new, sort_keys=True) == json.dumps(
        _with(dict(document), "_attachments", plain), sort_keys=True
    )


def entries_of(document: Mapping[str, Any]) -> tuple[tuple[Reference, ...], int]:
    """Return what can become an attachment again, and how many entries cannot.

    CouchDB takes no attachment whose name begins with an underscore, and none
    without a name.
    """
    found, wrong = references_of(document)
    fit = tuple(each for each in found if _may_be_attached(each.name, document))
    return fit, wrong + len(found) - len(fit)


def _may_be_attached(name: str, document: Mapping[str, Any]) -> bool:
    return bool(name) and not name.startswith("_") and name in document["dtfc"]


def without_entries(document: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the document without these entries of ``dtfc``."""
    gone = frozenset(names)
    left = {name: each for name, each in document["dtfc"].items() if name not in gone}
    stubs = document.get("_attachments", {})
    new = _with(dict(document), "dtfc", left)
    return _with(new, "_attachments", {name: _plain(stub) for name, stub in stubs.items()})

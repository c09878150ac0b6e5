"""What a client is told of a blob: the keys of the 2015 program, in its order, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dtfc.media_types import content_type

if TYPE_CHECKING:
    from dtfc.store.facts import BlobInfo, Stored

JSON = "application/json"


def described(info: BlobInfo) -> dict[str, Any]:
    """Return the keys that the 2015 program's PUT answered with, in its order."""
    return {
        "sha512": info.digest.hex,
        "filename": info.name,
        "length": info.length,
        "content_type": content_type(info.name),
        "stub": True,
    }


def stub_of(stored: Stored, name: str | None) -> dict[str, Any]:
    """Return what the client is answered that has stored a blob under a name."""
    told = described(stored.info)
    if name is not None:
        told["filename"] = name
        told["content_type"] = content_type(name)
    return told


def json_of(value: object) -> bytes:
    """Return JSON, in UTF-8, as one line."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n"

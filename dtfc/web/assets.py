"""The files of the page at ``/``: read once, from the package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from string import Template

from dtfc.media_types import content_type


@dataclass(frozen=True, slots=True)
class Asset:
    """One file.

    Args:
        body: its bytes.
        content_type: of them.
        etag: an entity tag; another one for other bytes.
    """

    body: bytes
    content_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Assets:
    """All of them.

    Args:
        index: the page itself, with places for what the node says.
        others: what it asks for, by name.
    """

    index: Template
    others: dict[str, Asset]


@cache
def read_assets() -> Assets:
    """Read all files of the page (blocks), once for all nodes of the process.

    Raises:
        OSError: they are not there.
    """
    found: dict[str, Asset] = {}
    for each in (files("dtfc.web") / "page").iterdir():
        body = each.read_bytes()
        # SVG is no type that blobs are shown with; this one is ours.
        kind = "image/svg+xml" if each.name.endswith(".svg") else content_type(each.name)
        found[each.name] = Asset(body, kind, f'"{sha256(body).hexdigest()[:32]}"')
    index = found.pop("index.html")
    return Assets(Template(index.body.decode("utf-8")), found)

"""What is coming and going at this moment, as the connections know it.

Rules of this file: it looks and changes nothing. An upload's own address is a
key to it, and is told to nobody; nor is anything of a query.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from dtfc.web.request import Request
    from dtfc.web.site import Site

#: Transfers of a kind that are told one by one: the largest.
MOST_TOLD = 8

_HEX = b"0123456789abcdefABCDEF"


@dataclass(frozen=True, slots=True)
class Transfer:
    """A body on its way.

    Args:
        sha512: of the blob, where its URL says it; empty where not.
        name: the file's, where the URL says it; empty where not.
        length: bytes in all; None where that is not known.
        done: those that have come, or gone.
        seconds: for how long it has been going on.
    """

    sha512: str
    name: str
    length: int | None
    done: int
    seconds: float

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "sha512": self.sha512 or None,
            "name": self.name or None,
            "length": self.length,
            "done": self.done,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True, slots=True)
class Moving:
    """All that moves.

    Args:
        uploads: that clients send.
        downloads: that clients fetch.
    """

    uploads: tuple[Transfer, ...]
    downloads: tuple[Transfer, ...]


def under_way(site: Site) -> tuple[int, int]:
    """Return how many bytes of bodies that are under way were sent, and received."""
    sent = received = 0
    for channel in site.channels:
        sent += channel.hot_sent
        for request in channel.requests:
            sent += request.sentLength
            received += request.body.received
    return sent, received


def moving(site: Site) -> Moving:
    """Return what comes and goes over a site's connections."""
    now = site.ticks()
    requests = [request for channel in site.channels for request in channel.requests]
    uploads = (_upload(request, now) for request in requests)
    downloads = (_download(request, now) for request in requests)
    return Moving(_those(uploads), _those((*downloads, *_hot(site, now))))


def _those(found: Iterable[Transfer | None]) -> tuple[Transfer, ...]:
    return tuple(each for each in found if each is not None)


def told(transfers: tuple[Transfer, ...]) -> dict[str, Any]:
    """Return as JSON has it how many there are, and the largest of them."""
    largest = heapq.nlargest(MOST_TOLD, transfers, key=lambda each: each.length or each.done)
    return {"running": len(transfers), "largest": [each.plain() for each in largest]}


def _upload(request: Request, now: float) -> Transfer | None:
    body = request.body
    if request.method not in (b"PUT", b"POST", b"PATCH") or body.complete or body.failed:
        return None
    sha512, name = _named(request.path)
    return Transfer(sha512, name, body.length, body.received, now - request.started)


def _download(request: Request, now: float) -> Transfer | None:
    sha512, _name = _named(request.path)
    length = _length(request)
    if request.method != b"GET" or not sha512 or not request.startedWriting or length is None:
        return None
    return Transfer(sha512, "", length, request.sentLength, now - request.started)


def _hot(site: Site, now: float) -> Iterator[Transfer]:
    for channel in site.channels:
        if channel.hot is not None:
            sha512, length, began = channel.hot
            yield Transfer(sha512, "", length, channel.hot_sent, now - began)


def _named(path: bytes) -> tuple[str, str]:
    """Return the digest and the name that a path says; each may be empty."""
    first, *rest = path[1:].split(b"/")
    if len(first) == 128 and not first.strip(_HEX):
        name = rest[0] if rest else b""
        return first.decode("ascii").lower(), unquote(name.decode("latin-1"))
    return "", "" if rest else unquote(first.decode("latin-1"))


def _length(request: Request) -> int | None:
    given = (request.responseHeaders.getRawHeaders(b"Content-Length") or [b""])[0]
    return int(given) if given.isdigit() else None

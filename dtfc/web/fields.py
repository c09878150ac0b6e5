"""The head of a blob's answer: one place, so that both roads say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web.http import datetimeToString

from dtfc.digest import Digest
from dtfc.http.digests import legacy_digest, repr_digest
from dtfc.http.ranges import Plan
from dtfc.media_types import content_type
from dtfc.names import content_disposition

if TYPE_CHECKING:
    from dtfc.web.request import Request

Fields = list[tuple[str, str]]

#: What every answer says to browsers; the page for people has a policy of its own.
SAFE: Fields = [
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "sandbox; default-src 'none'"),
    ("Referrer-Policy", "no-referrer"),
]

#: Whether pages of other sites may show an answer. What everybody may read they may;
#: what somebody reads by a cookie, a token or an address must not tell them anything.
EMBEDDING = "Cross-Origin-Resource-Policy"
BY_ALL = "cross-origin"
BY_ITSELF = "same-origin"


def caching(max_age: int, request: Request | None = None) -> str:
    """Return for how long, and by whom, an answer may be kept (RFC 9111 section 5.2.2).

    Args:
        max_age: seconds, by this node's settings.
        request: whose answer it is; None for one that everybody gets.
    """
    if request is None or request.for_all:
        return f"public, max-age={max_age}, immutable"
    if request.fresh_for is not None:
        max_age = min(max_age, request.fresh_for)
    return f"private, max-age={max_age}, immutable"


def validator_fields(digest: Digest, stored_at: int | None, max_age: int) -> Fields:
    """Return what a 304 says too (RFC 9110 section 15.4.5).

    Args:
        digest: which blob.
        stored_at: when, seconds since 1970; None where only a peer knows.
        max_age: seconds for which caches may keep it.
    """
    fields = [
        ("ETag", digest.etag),
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", caching(max_age)),
    ]
    if stored_at is not None:
        fields.append(("Last-Modified", datetimeToString(stored_at).decode("ascii")))
    return fields


def content_fields(digest: Digest, planned: Plan, name: str | None, *, inline: bool) -> Fields:
    """Return what a 200 or 206 says of its content.

    Args:
        digest: which blob.
        planned: what is sent of it.
        name: under which it is offered.
        inline: whether a browser may show it.
    """
    fields = [
        ("Content-Type", content_type(name)),
        ("Content-Length", str(planned.length)),
        ("Repr-Digest", repr_digest(digest)),
        ("Digest", legacy_digest(digest)),
    ]
    if name is not None:
        fields.append(("Content-Disposition", content_disposition(name, inline)))
    # A multipart answer has another type; it replaces the one above.
    return [*((k, v) for k, v in fields if k not in dict(planned.fields)), *planned.fields]

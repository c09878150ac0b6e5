"""What can go wrong between a client and a node, each kind an error of its own.

Rules of this file: pure. A node says what was wrong by a status and a problem (RFC
9457); the error carries its title, detail and further members as they came, cut to a
length that can be shown. A node of 2015 says nothing but a status, and that will do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from dtfc.errors import DtfcError

_LONGEST = 500
_DENIED = frozenset({401, 403, 421, 451})
_GONE = frozenset({404, 410})
_LATER = frozenset({408, 425, 429, 502, 503, 504})
_LONGEST_RETRY = 3600


class ClientError(DtfcError):
    """Something that was asked of a node did not come about.

    Args:
        detail: what was found this time, a sentence or clause for people.
        node: the URL of the node; empty if it is about none.
        status: of its answer; None if there was none.
        title: the same each time for one kind of problem, as the node says it.
        members: the problem's further members (``unreached``, ``limit``, ...).
        retry_after: seconds after which asking again makes sense, if the node says so.
    """

    def __init__(
        self,
        detail: str,
        *,
        node: str = "",
        status: int | None = None,
        title: str = "",
        members: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        said = f"{title}: {detail}" if title and detail else title or detail
        code = "" if status is None else f" ({status})"
        super().__init__(f"{said}{code}")
        self.detail = detail
        self.node = node
        self.status = status
        self.title = title
        self.members = dict(members or {})
        self.retry_after = retry_after


class NotFound(ClientError):
    """The node does not have it, or it was deleted (404, 410)."""


class NotAllowed(ClientError):
    """The node wants other credentials, or none are good enough (401, 403, 421)."""


class Unavailable(ClientError):
    """The node cannot do it now: asking again later makes sense (429, 503, ...)."""


class Unreachable(ClientError):
    """No connection, no answer in time, or an answer that makes no sense."""


class Rejected(ClientError):
    """The node refuses what was asked, and would again (any other status)."""


class WrongBytes(ClientError):
    """The bytes do not have the digest that they should have."""


class LocalTrouble(ClientError):
    """A file of this machine cannot be read, written or replaced."""


def failure_of(node: str, status: int, fields: Mapping[str, str], body: bytes) -> ClientError:
    """Return the error that a node's answer stands for.

    Args:
        node: its URL.
        status: of the answer, none that means success.
        fields: of the answer, by lower-case names.
        body: a problem in JSON, or anything else.
    """
    told = _problem(body)
    title = _text(told.pop("title", "")) or _phrase(status)
    detail = _text(told.pop("detail", ""))
    for known in ("type", "status"):
        told.pop(known, None)
    kind = WrongBytes if status == 460 or (status == 422 and "actual" in told) else _kind(status)
    after = fields.get("retry-after", "").strip()
    return kind(
        detail,
        node=node,
        status=status,
        title=title,
        members=told,
        retry_after=min(int(after), _LONGEST_RETRY) if after.isdigit() else None,
    )


def worst(errors: Sequence[ClientError]) -> ClientError:
    """Return the one of several nodes' errors that says most about all of them.

    That nobody has something is so only if every one says so.
    """
    order = (NotAllowed, WrongBytes, Unavailable, Unreachable, Rejected, NotFound)
    return min(errors, key=lambda error: order.index(type(error)) if type(error) in order else 0)


def _kind(status: int) -> type[ClientError]:
    if status in _GONE:
        return NotFound
    if status in _DENIED:
        return NotAllowed
    return Unavailable if status in _LATER else Rejected


def _problem(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return dict(told) if isinstance(told, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "It answered with a status that is not known"


def _text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    plain = "".join(each if each.isprintable() else "?" for each in text)
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."

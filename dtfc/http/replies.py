"""What to ask a peer for, and what to believe of its reply.

Rules of this file: a peer may be old, behind a proxy, broken or hostile. Its
reply is taken only if it says exactly which bytes of the blob will come, and
these are the bytes that were asked for, or the whole blob; everything else is
refused with a reason. Whether the bytes are right, the digest says afterwards.
Nothing here reads a clock or a socket.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dtfc.errors import BadInput
from dtfc.http.dates import parse_http_date
from dtfc.http.preconditions import Fields

#: The largest length that is believed of a peer: what a file offset can hold.
MAX_LENGTH = 2**63 - 1
#: The longest rest, in seconds, that a peer can talk us into.
MAX_RETRY_AFTER = 86400

#: The field of an answer to a node that says: others may go before it. Of an answer
#: with bytes: it may be cut off for them; of a 503: it was refused for them.
GIVES_WAY = "DTFC-Gives-Way"

#: Its value: true, as RFC 9651 has it.
YES = "?1"

_WHOLE = 200
_PIECE = 206
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.IGNORECASE)
_COUNT = re.compile(r"[0-9]{1,19}")
_SHA512_TAG = re.compile(r'"([0-9a-fA-F]{128})"')


@dataclass(frozen=True, slots=True)
class ContentRange:
    """A Content-Range of a reply that carries bytes.

    Args:
        start: its first byte.
        end_inclusive: its last byte.
        total: the length of the whole; None where the sender does not know it.
    """

    start: int
    end_inclusive: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Offer:
    """A reply whose body may be taken.

    Args:
        start: where in the blob its first byte belongs; 0 where the peer sends
            the whole although a range was asked for.
        length_of_body: how many bytes must come, neither more nor fewer.
        total: the length of the whole blob.
    """

    start: int
    length_of_body: int
    total: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply whose body is of no use.

    Args:
        kind: ``absent``: the peer does not have it; ``denied``: it may not give
            it; ``busy``: asking again makes sense; ``wrong``: the peer errs or
            lies.
        reason: a clause for people and logs.
        retry_after: seconds the peer asked us to wait, if it did.
    """

    kind: Literal["absent", "denied", "busy", "wrong"]
    reason: str
    retry_after: int | None = None


_REFUSED: dict[int, Literal["absent", "denied", "busy"]] = {
    401: "denied",
    403: "denied",
    404: "absent",
    408: "busy",
    410: "absent",
    429: "busy",
    # From a proxy in front of the peer: the peer itself is not there just now.
    502: "busy",
    503: "busy",
    504: "busy",
}


def range_field(start: int, end: int | None = None) -> str:
    """Write a Range field for the bytes from ``start`` up to, not including, ``end``.

    To load a whole blob send no Range at all: an empty file has no byte 0 to
    ask for, and a 2015 node would answer 416.

    Args:
        start: the first byte wanted.
        end: None for all that follow.

    Raises:
        ValueError: there is no byte between the two.
    """
    if start < 0 or (end is not None and end <= start):
        raise ValueError(f"no bytes from {start} to {end}")
    return f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"


def parse_content_range(value: str) -> ContentRange:
    """Read the Content-Range of a 206 (section 14.4).

    Raises:
        BadInput: anything else, the form of a 416 (``bytes */N``) included, and
            positions that contradict each other.
    """
    match = _CONTENT_RANGE.fullmatch(value.strip(" \t"))
    if not match:
        raise BadInput("Content-Range makes no sense")
    start, end = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if end < start or (total is not None and total <= end) or (total or end) > MAX_LENGTH:
        raise BadInput("the numbers of Content-Range contradict each other")
    return ContentRange(start, end, total)


def judge_reply(
    status: int,
    fields: Fields,
    offset: int,
    known_length: int | None,
    digest_hex: str | None = None,
    *,
    end: int | None = None,
    now: float | None = None,
) -> Offer | Refusal:
    """Decide what to do with a peer's reply to a GET of a blob.

    Args:
        status: of the reply.
        fields: its fields. Twisted's client keeps Content-Length out of
            ``response.headers``; its caller has to add ``response.length``.
        offset: the first byte that was asked for (0 without a Range).
        known_length: the length of the blob, if it is known already.
        digest_hex: the blob's digest in lower case, to recognise a peer that
            is about to send something else; None if there is none to compare.
        end: the byte behind the last that was asked for; None: up to the end.
        now: seconds since 1970, to read a Retry-After that is a date; None:
            such a date is ignored.

    Returns:
        An :class:`Offer` only for exactly what was asked for, or the whole.
    """
    kind = _REFUSED.get(status)
    if kind:
        retry_after = _retry_after(fields("retry-after"), now) if kind == "busy" else None
        return Refusal(kind, f"it answered {status}", retry_after)
    if status not in (_WHOLE, _PIECE):
        return Refusal("wrong", f"it answered {status}")
    try:
        _must_be_bytes_of(fields, digest_hex)
        if status == _WHOLE:
            offer = _whole(fields)
        else:
            offer = _piece(fields, offset, known_length, end)
    except BadInput as error:
        return Refusal("wrong", error.reason)
    if known_length is not None and offer.total != known_length:
        return Refusal("wrong", f"it says {offer.total} bytes, the blob has {known_length}")
    return offer


def _must_be_bytes_of(fields: Fields, digest_hex: str | None) -> None:
    """Refuse what is not the blob's own bytes: a content coding, another entity tag."""
    codings = [
        coding
        for value in fields("content-encoding")
        for each in value.split(",")
        if (coding := each.strip(" \t").lower())
    ]
    if any(coding != "identity" for coding in codings):
        raise BadInput("it encoded the content, which nobody asked for")
    for etag in fields("etag"):
        match = _SHA512_TAG.fullmatch(etag.strip(" \t"))
        if match and digest_hex is not None and match[1].lower() != digest_hex:
            raise BadInput("its entity tag is another blob's digest")


def _whole(fields: Fields) -> Offer:
    length = _content_length(fields)
    if length is None:
        raise BadInput("it does not say how many bytes will come")
    return Offer(0, length, length)


def _piece(fields: Fields, offset: int, known_length: int | None, end: int | None) -> Offer:
    values = fields("content-range")
    if len(values) != 1:
        # Also multipart/byteranges, which one range must not be answered with.
        raise BadInput("a 206 without one Content-Range")
    given = parse_content_range(values[0])
    total = known_length if given.total is None else given.total
    if total is None:
        raise BadInput("it does not say how long the whole is")
    if given.start != offset:
        raise BadInput(f"bytes from {offset} were asked for, it sends from {given.start}")
    stop = total if end is None else min(end, total)
    if given.end_inclusive != stop - 1:
        raise BadInput(f"bytes up to {stop} were asked for, it ends at {given.end_inclusive + 1}")
    count = stop - offset
    # Without Content-Length (chunked by a proxy) Content-Range says it all.
    if _content_length(fields) not in (None, count):
        raise BadInput("Content-Length and Content-Range contradict each other")
    return Offer(offset, count, total)


def _content_length(fields: Fields) -> int | None:
    values = fields("content-length")
    if not values:
        return None
    if len(values) > 1 or not _COUNT.fullmatch(values[0]) or int(values[0]) > MAX_LENGTH:
        raise BadInput("Content-Length makes no sense")
    return int(values[0])


def _retry_after(values: Sequence[str], now: float | None) -> int | None:
    """Read seconds or a date (section 10.2.3), capped; None if there is nothing to go by."""
    if len(values) != 1:
        return None
    value = values[0].strip(" \t")
    if _COUNT.fullmatch(value):
        return min(int(value), MAX_RETRY_AFTER)
    at = parse_http_date(value)
    if at is None or now is None:
        return None
    return min(max(0, round(at - now)), MAX_RETRY_AFTER)

"""Ranges (RFC 9110 section 14): what to send.

Rules of this file: a request's fields and what is known of a file become a
plan of literal bytes and spans, whose exact length is known before the first
byte leaves. Nothing here reads a file, a clock or a socket. The other
direction, what to believe of a peer's reply, is :mod:`dtfc.http.replies`; its
names are offered here as well.

What the RFC leaves open, decided here:

- A Range that is malformed, of another unit, sent twice, longer than
  :data:`MAX_FIELD` or that still asks for more than :data:`MAX_RANGES` pieces
  after coalescing is ignored: the answer is the whole file with 200, as nginx,
  Apache and Go do. 416 would leave a client that asks for what section 14.2
  lets us refuse with nothing, where 200 is always right and costs no more than
  a request without Range.
- A file of zero bytes has no ranges: Range is ignored there (section 14.2
  allows it), since no Content-Range can express a piece of nothing.
- Ranges that overlap, touch, or have a gap smaller than the header of a part
  between them become one (section 15.3.7.2), so that no byte is sent twice. If
  the parts with their headers would still not be shorter than the stretch from
  the first to the last byte wanted, that stretch is sent as one range. So no
  answer has more bytes than the file, whatever is asked.
- One range, asked for or left after coalescing, is never sent as multipart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dtfc.http.preconditions import (
    Fields,
    Representation,
    failed_precondition,
    if_range_holds,
    precondition_for_write,
)
from dtfc.http.replies import (
    ContentRange,
    Offer,
    Refusal,
    judge_reply,
    parse_content_range,
    range_field,
)

__all__ = [
    "MAX_FIELD",
    "MAX_RANGES",
    "ContentRange",
    "Fields",
    "Offer",
    "Plan",
    "Refusal",
    "Representation",
    "Span",
    "Spec",
    "judge_reply",
    "parse_content_range",
    "parse_range",
    "plan",
    "precondition_for_write",
    "range_field",
]

#: Pieces in one answer, after coalescing.
MAX_RANGES = 16
#: Characters of a Range field that are looked at; it also bounds every numeral.
MAX_FIELD = 1024

_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_BOUNDARY = re.compile(r"[0-9A-Za-z_-]{1,70}")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Spec:
    """One range as it was asked for.

    Args:
        first: the first byte wanted; None in a suffix range.
        last: the last byte wanted; None for "to the end". In a suffix range,
            how many bytes from the end.
    """

    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the file.

    Args:
        start: its first byte, counted from 0.
        length: how many bytes, at least 1.
    """

    start: int
    length: int

    @property
    def stop(self) -> int:
        """The first byte behind it."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Plan:
    """What to answer.

    Args:
        status: 200, 206, 304, 412 or 416.
        parts: what to send, in order: multipart framing and stretches of the
            file. Empty for HEAD, 304, 412, 416 and a file of zero bytes.
        length: the value of Content-Length for 200 and 206 (for HEAD too), else 0.
        fields: what this answer adds to, or changes in, the fields of a 200.
    """

    status: Literal[200, 206, 304, 412, 416]
    parts: tuple[bytes | Span, ...] = ()
    length: int = 0
    fields: tuple[tuple[str, str], ...] = ()


def plan(
    method: str,
    fields: Fields,
    rep: Representation,
    content_type: str,
    boundary: str,
    *,
    most: int = MAX_RANGES,
) -> Plan:
    """Plan the answer to a GET or HEAD of something that exists.

    Args:
        method: upper case. Range counts for GET alone (section 14.2).
        fields: all values of a request field, by lower-case name.
        rep: the file.
        content_type: its media type, for the header of each part.
        boundary: a string that the file does not contain, from the caller's
            source of randomness: 1 to 70 letters, digits, ``-`` and ``_``, so
            that it needs no quotes, which section 14.6 says some clients
            cannot read.
        most: pieces in one answer, after coalescing.

    Raises:
        ValueError: ``content_type`` or ``boundary`` could not stand in a field.
    """
    failed = failed_precondition(method, fields, rep)
    if failed:
        return Plan(failed)
    if method != "GET":
        return Plan(200, (), rep.length)
    whole = Plan(200, (Span(0, rep.length),) if rep.length else (), rep.length)
    specs = parse_range(fields("range"))
    if not specs or not rep.length or not if_range_holds(fields("if-range"), rep):
        return whole
    wanted = [span for spec in specs if (span := _span(spec, rep.length))]
    if not wanted:
        return Plan(416, fields=(("Content-Range", f"bytes */{rep.length}"),))
    if len(specs) == 1:
        return _single(wanted[0], rep.length)
    return _several(wanted, rep.length, content_type, boundary, most) or whole


def parse_range(values: Sequence[str]) -> tuple[Spec, ...] | None:
    """Read the lines of a Range field.

    Numerals are digits and nothing else; their size is bounded by
    :data:`MAX_FIELD` alone, since Python's integers do not overflow and a
    thousand digits cost microseconds. Blanks may surround a member and members
    may be empty (section 5.6.1.2).

    Returns:
        None if there is no Range, or one that must or may be ignored: several
        lines (it is no list field), a unit other than bytes, anything
        malformed, a last position before the first.
    """
    if len(values) != 1 or len(values[0]) > MAX_FIELD:
        return None
    unit, equals, members = values[0].partition("=")
    if not equals or unit.lower() != "bytes":  # section 14.1: unit names have no case
        return None
    specs = []
    for member in members.split(","):
        text = member.strip(" \t")
        if not text:
            continue
        match = _SPEC.fullmatch(text)
        if not match or text == "-":
            return None
        first = int(match[1]) if match[1] else None
        last = int(match[2]) if match[2] else None
        if first is not None and last is not None and last < first:
            return None
        specs.append(Spec(first, last))
    return tuple(specs) or None


def _span(spec: Spec, length: int) -> Span | None:
    """Return the bytes that a range has in this file, or None if it has none (section 14.1.2)."""
    if spec.first is None:
        count = min(spec.last or 0, length)
        return Span(length - count, count) if count else None
    if spec.first >= length:
        return None
    stop = length if spec.last is None else min(spec.last + 1, length)
    return Span(spec.first, stop - spec.first)


def _single(span: Span, length: int) -> Plan:
    return Plan(206, (span,), span.length, (("Content-Range", _content_range(span, length)),))


def _several(
    wanted: Sequence[Span], length: int, content_type: str, boundary: str, most: int
) -> Plan | None:
    """Plan the answer to more than one range; None if they are too many pieces."""
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError(f"not a boundary: {boundary!r}")
    if not _PRINTABLE.fullmatch(content_type):
        raise ValueError(f"not a media type: {content_type!r}")
    # No header of a part is longer than that of the last byte, which has the
    # most digits.
    overhead = len(_part_head(Span(length - 1, 1), length, content_type, boundary))
    spans = _coalesce(wanted, overhead)
    if len(spans) > most:
        return None
    parts: list[bytes | Span] = []
    total = 0
    for span in spans:
        head = _part_head(span, length, content_type, boundary)
        parts += [head, span]
        total += len(head) + span.length
    closing = f"\r\n--{boundary}--\r\n".encode("ascii")
    parts.append(closing)
    total += len(closing)
    start = min(span.start for span in spans)
    stretch = Span(start, max(span.stop for span in spans) - start)
    if total >= stretch.length:  # always so where one span is left
        return _single(stretch, length)
    multipart = ("Content-Type", f"multipart/byteranges; boundary={boundary}")
    return Plan(206, tuple(parts), total, (multipart,))


def _coalesce(spans: Sequence[Span], gap: int) -> list[Span]:
    """Join what overlaps, touches or lies less than ``gap`` bytes apart.

    Each piece stands where the first of its ranges stood in the request
    (section 15.3.7.2: a client may have asked first for what it needs first).
    """
    joined: list[tuple[int, Span]] = []
    for place, span in sorted(enumerate(spans), key=lambda each: each[1].start):
        if joined and span.start - joined[-1][1].stop < gap:
            before, last = joined[-1]
            stop = max(last.stop, span.stop)
            joined[-1] = (min(before, place), Span(last.start, stop - last.start))
        else:
            joined.append((place, span))
    return [span for _, span in sorted(joined, key=lambda each: each[0])]


def _part_head(span: Span, length: int, content_type: str, boundary: str) -> bytes:
    # The line break before the first delimiter too: section 14.6 expects it,
    # nginx and Apache send it, and zsync drops the first line unread.
    return (
        f"\r\n--{boundary}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Content-Range: {_content_range(span, length)}\r\n\r\n"
    ).encode("ascii")


def _content_range(span: Span, length: int) -> str:
    return f"bytes {span.start}-{span.stop - 1}/{length}"

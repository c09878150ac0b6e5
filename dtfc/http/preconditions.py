"""Preconditions of a request (RFC 9110 section 13).

Rules of this file: a condition is judged from the request's fields and from
what is known of the stored bytes, in the order of section 13.2.2, and the only
outcomes are "go on", 304 and 412. Blobs are named by their digest, so their
entity tag is always strong and their bytes never change under it.

What is malformed never makes us do more than was asked, nor send less than is
needed: If-Match that cannot be read is false (412), If-None-Match that cannot
be read lets a read through in full (200) and stops a write (412), a date that
is none is ignored (sections 13.1.3 and 13.1.4 say so), an If-Range that is
neither a tag nor a date is false (the whole is sent).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from dtfc.http.dates import parse_http_date

#: All values of a request field, by its lower-case name, one a field line.
Fields = Callable[[str], Sequence[str]]

NOT_MODIFIED: Literal[304] = 304
PRECONDITION_FAILED: Literal[412] = 412

# Section 13.2.1: these neither select nor change a representation.
_UNCONDITIONAL = frozenset({"CONNECT", "OPTIONS", "TRACE"})
_READS = frozenset({"GET", "HEAD"})

# Section 8.8.3: etagc = %x21 / %x23-7E / obs-text. Field values are text that
# was decoded as Latin-1, or as UTF-8: obs-text is everything above ASCII.
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff]*"'
_ENTITY_TAG = re.compile(_TAG)
# Section 5.6.1.2: empty list members are skipped. The possessive quantifiers
# keep the match linear whatever is sent.
_LIST = re.compile(rf"[ \t,]*+(?:{_TAG}(?:[ \t]*+,[ \t,]*+{_TAG})*+)?[ \t,]*+")


@dataclass(frozen=True, slots=True)
class Representation:
    """What there is to send.

    Args:
        length: bytes.
        etag: the strong entity tag, with its quotes.
        last_modified: whole seconds since 1970, UTC; None if it is not known:
            conditions on dates are ignored then (sections 13.1.3 and 13.1.4).
    """

    length: int
    etag: str
    last_modified: int | None


@dataclass(frozen=True, slots=True)
class EntityTag:
    """One entity tag as it was sent.

    Args:
        opaque: the tag with its quotes.
        weak: it was marked with ``W/``.
    """

    opaque: str
    weak: bool

    @classmethod
    def of(cls, text: str) -> EntityTag:
        """Take apart what matches the grammar of an entity tag."""
        return cls(text.removeprefix("W/"), weak=text.startswith("W/"))

    def equals_strongly(self, etag: str) -> bool:
        """Compare with a strong tag; a weak one never matches (section 8.8.3.2)."""
        return not self.weak and self.opaque == etag

    def equals_weakly(self, etag: str) -> bool:
        """Compare with a strong tag; ``W/`` makes no difference."""
        return self.opaque == etag


def parse_entity_tags(values: Sequence[str]) -> Literal["*"] | tuple[EntityTag, ...] | None:
    """Read If-Match or If-None-Match: ``*``, or a list of entity tags.

    Several field lines are one list. Commas inside quotes belong to the tag.

    Returns:
        None if any part of it is malformed: half a condition is none.
    """
    text = ",".join(values).strip(" \t")
    if text == "*":
        return "*"
    if not _LIST.fullmatch(text):
        return None
    return tuple(EntityTag.of(tag) for tag in _ENTITY_TAG.findall(text))


def failed_precondition(
    method: str, fields: Fields, rep: Representation
) -> Literal[304, 412] | None:
    """Judge the preconditions of a request for something that exists.

    Args:
        method: as sent, upper case.
        fields: the request's fields.
        rep: what a GET without conditions would send.

    Returns:
        None to go on; 304 for a GET or HEAD whose client has the bytes; 412.
    """
    if method in _UNCONDITIONAL:
        return None
    if _guard_fails(fields, rep):
        return PRECONDITION_FAILED
    none_match = fields("if-none-match")
    if method not in _READS:
        return PRECONDITION_FAILED if none_match and _names(none_match, rep, default=True) else None
    # Section 13.1.3: If-Modified-Since is ignored beside If-None-Match, also
    # where that one is malformed.
    if none_match:
        current = _names(none_match, rep, default=False)
    else:
        since = _one_date(fields("if-modified-since"))
        modified = rep.last_modified
        current = since is not None and modified is not None and modified <= since
    return NOT_MODIFIED if current else None


def precondition_for_write(
    method: str, fields: Fields, exists: Representation | None
) -> Literal[412] | None:
    """Judge the preconditions of a PUT or DELETE.

    ``If-None-Match: *`` makes it create-only, ``If-Match`` only for what is
    there.

    Args:
        method: as sent, upper case; not GET nor HEAD.
        fields: the request's fields.
        exists: what the target holds now; None if nothing.

    Returns:
        None to go on, or 412.
    """
    if exists is not None:
        return PRECONDITION_FAILED if failed_precondition(method, fields, exists) else None
    if method in _UNCONDITIONAL:
        return None
    # Nothing is there: no If-Match can hold, "*" included (section 13.1.1),
    # and any If-None-Match that can be read does.
    none_match = fields("if-none-match")
    if fields("if-match") or (none_match and parse_entity_tags(none_match) is None):
        return PRECONDITION_FAILED
    return None


def if_range_holds(values: Sequence[str], rep: Representation) -> bool:
    """Judge If-Range (section 13.1.5); without the field it holds.

    A tag must match strongly. A date must be exactly Last-Modified; that makes
    it a strong validator here, also within a second of the change, because
    section 8.8.2.2 asks for the one second only where the bytes might have
    changed twice in it, and bytes named by their digest never change.
    """
    if not values:
        return True
    if len(values) > 1:
        return False
    value = values[0].strip(" \t")
    if _ENTITY_TAG.fullmatch(value):
        return EntityTag.of(value).equals_strongly(rep.etag)
    date = parse_http_date(value)
    return date is not None and date == rep.last_modified


def _guard_fails(fields: Fields, rep: Representation) -> bool:
    """Steps 1 and 2 of section 13.2.2: If-Match, else If-Unmodified-Since."""
    match = fields("if-match")
    if match:
        tags = parse_entity_tags(match)
        if tags is None:
            return True
        return tags != "*" and not any(tag.equals_strongly(rep.etag) for tag in tags)
    since = _one_date(fields("if-unmodified-since"))
    modified = rep.last_modified
    return since is not None and modified is not None and modified > since


def _names(none_match: Sequence[str], rep: Representation, *, default: bool) -> bool:
    """Whether If-None-Match names the representation; ``default`` if it is malformed."""
    tags = parse_entity_tags(none_match)
    if tags is None:
        return default
    return tags == "*" or any(tag.equals_weakly(rep.etag) for tag in tags)


def _one_date(values: Sequence[str]) -> int | None:
    """Return the date, or None where the field must be ignored: absent, several, invalid."""
    return parse_http_date(values[0].strip(" \t")) if len(values) == 1 else None

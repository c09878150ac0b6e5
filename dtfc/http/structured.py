"""Single items of structured fields: integers and booleans (RFC 9651 section 3.3).

Rules of this file: a field that is there twice, or is no such item, is an
error, because what it would have said decides where bytes go. Parameters are
allowed, and mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dtfc.errors import BadInput

_INTEGER = re.compile(r"\x20*+(-?[0-9]{1,15})(?:;.*)?\Z", re.DOTALL)
_BOOLEAN = re.compile(r"\x20*+\?([01])(?:;.*)?\Z", re.DOTALL)


def parse_count(name: str, values: Sequence[str]) -> int | None:
    """Read a field that counts bytes.

    Args:
        name: of the field, for the message.
        values: all its lines.

    Returns:
        The number; None if the field is not there.

    Raises:
        BadInput: it is no integer, or less than 0.
    """
    text = _only(name, values)
    if text is None:
        return None
    match = _INTEGER.match(text.rstrip(" "))
    if match is None or match[1].startswith("-"):
        raise BadInput(f"{name} is a number of bytes of at most 15 digits")
    return int(match[1])


def parse_boolean(name: str, values: Sequence[str]) -> bool | None:
    """Read a field that says yes (``?1``) or no (``?0``).

    Args:
        name: of the field, for the message.
        values: all its lines.

    Returns:
        What it says; None if the field is not there.

    Raises:
        BadInput: it says neither.
    """
    text = _only(name, values)
    if text is None:
        return None
    match = _BOOLEAN.match(text.rstrip(" "))
    if match is None:
        raise BadInput(f"{name} is ?0 or ?1")
    return match[1] == "1"


def boolean(value: bool) -> str:  # noqa: FBT001 -- the value itself
    """Write a boolean."""
    return "?1" if value else "?0"


def _only(name: str, values: Sequence[str]) -> str | None:
    if len(values) > 1:
        raise BadInput(f"{name} is there {len(values)} times")
    return values[0] if values else None

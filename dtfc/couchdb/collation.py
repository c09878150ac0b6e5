"""In which order CouchDB has JSON values (pure).

null, false, true, numbers, texts, arrays, objects (``ddocs/views/collation.rst``).
Arrays and objects are compared member by member, objects in the order in which
they have their members, as CouchDB does (``couch_ejson_compare``).

Discussion. CouchDB compares texts as ICU does, ``a`` before ``B``; here it is the
order of the code points, ``B`` before ``a``. ICU's tables are larger than this
program, and a filter of blobs by such an order is rare. Which texts are equal is
the same, but for those that Unicode can write in two ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: What ``$type`` calls them, in order.
TYPES = ("null", "boolean", "number", "string", "array", "object")


def type_of(value: Any) -> str:
    """Return what ``$type`` calls a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def compare(one: Any, other: Any) -> int:
    """Return a negative number if one comes before the other, 0 if they are equal."""
    kind, of_other = type_of(one), type_of(other)
    if kind != of_other:
        return TYPES.index(kind) - TYPES.index(of_other)
    if kind == "null":
        return 0
    if kind == "array":
        return _members(one, other)
    if kind == "object":
        return _members(_flat(one), _flat(other))
    return int(one > other) - int(one < other)


def _flat(value: dict[str, Any]) -> list[Any]:
    return [part for member in value.items() for part in member]


def _members(one: Sequence[Any], other: Sequence[Any]) -> int:
    for mine, of_other in zip(one, other, strict=False):
        found = compare(mine, of_other)
        if found:
            return found
    return len(one) - len(other)

"""Selectors, as ``_find`` and ``_replicator`` have them (pure).

The reference is CouchDB's ``ddocs/mango.rst`` ("Selectors"), and where that is
silent its ``mango_selector.erl``. What is to be known of it:

- A field that a document lacks matches nothing but ``{"$exists": false}``: not
  ``{"$ne": 1}``, and not ``{"$not": {"field": 1}}`` either, which is the same, since
  ``$not`` is moved to the conditions. Within ``$elemMatch``, ``$allMatch`` and
  ``$keyMapMatch`` it is not moved, and means no more than not.
- ``$and`` and ``$or`` of nothing match everything, ``$all`` of nothing matches nothing.
- A path may lead through arrays, by number.

Rules of this file: what is not known is refused when a selector is read, never
passed over. What a document takes is counted; the work that one may cause is
bounded, since whoever may write a document chooses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dtfc.couchdb.collation import TYPES, compare, type_of
from dtfc.couchdb.patterns import Pattern

#: Conditions within conditions.
DEEPEST = 50

#: Conditions looked at and characters compared, for one document: at most a fifth of
#: a second on a usual machine.
MOST_STEPS = 200_000

#: Characters of a text that ``$regex`` looks at; a longer one does not match.
LONGEST_TEXT = 4096

_MISSING = object()
_ASTRAY = object()


class BadSelector(ValueError):
    """What was given is no selector; the message says why."""


class _TooMuch(Exception):
    """A document takes more steps than one may."""


class _Steps:
    """Counts them."""

    def __init__(self) -> None:
        self.left = MOST_STEPS

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _TooMuch


_Test = Callable[[Any, _Steps], bool]
_Judge = Callable[[Any], _Test]


class Selector:
    """Tells which documents are meant.

    Args:
        given: the selector, as JSON was parsed.

    Raises:
        BadSelector: it is none.
    """

    def __init__(self, given: Any) -> None:
        if not isinstance(given, dict):
            raise BadSelector(f"a selector is an object, not {_shown(given)}")
        self._test = _read(given, _Place()) if given else _always

    def matches(self, document: Mapping[str, Any]) -> bool | None:
        """Tell whether a document is meant; None if to find out takes too much."""
        try:
            return self._test(document, _Steps())
        except _TooMuch:
            return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a selector something stands.

    Args:
        path: of the field it is about; empty if it is about the value itself.
        negated: whether its contrary is meant.
        within: whether it is about the elements of a field.
        depth: conditions around it.
    """

    path: str = ""
    negated: bool = False
    within: bool = False
    depth: int = 0

    def deeper(self, *, path: str = "", negated: bool | None = None) -> _Place:
        if self.depth >= DEEPEST:
            raise BadSelector(f"more than {DEEPEST} conditions within conditions")
        negated = self.negated if negated is None else negated
        return _Place(path or self.path, negated, self.within, self.depth + 1)


def _read(given: Any, place: _Place) -> _Test:
    """Make a test of a selector, or of what it says of a field."""
    if not isinstance(given, dict) or not given:
        # A bare value means that the field is equal to it.
        return _about("$eq", given, place)
    tests = [_read_one(name, value, place) for name, value in given.items()]
    return tests[0] if len(tests) == 1 else _joined(tests, all_of_them=not place.negated)


def _read_one(name: str, value: Any, place: _Place) -> _Test:
    if not name.startswith("$"):
        path = f"{place.path}.{name}" if place.path else name
        _parts(path)
        return _read(value, place.deeper(path=path))
    if name in ("$and", "$or", "$nor"):
        if not isinstance(value, list):
            raise BadSelector(f"{name} takes an array, not {_shown(value)}")
        if place.within:
            tests = [_read(each, place.deeper()) for each in value]
            tests = [_contrary(each) for each in tests] if name == "$nor" else tests
            return _joined(tests, all_of_them=name != "$or")
        negated = place.negated != (name == "$nor")
        tests = [_read(each, place.deeper(negated=negated)) for each in value]
        return _joined(tests, all_of_them=(name == "$and") != negated)
    if name == "$not":
        if not isinstance(value, dict):
            raise BadSelector(f"$not takes an object, not {_shown(value)}")
        if not place.within:
            return _read(value, place.deeper(negated=not place.negated))
        return _contrary(_read(value, place.deeper()))
    return _about(name, value, place)


def _about(name: str, argument: Any, place: _Place) -> _Test:
    """Make a test of an operator, and of what it is about."""
    if not place.path and not place.within:
        raise BadSelector(f"{name} is about no field")
    if place.negated and name in _CONTRARIES:
        name, negated = _CONTRARIES[name], False
    elif place.negated and name == "$exists" and isinstance(argument, bool):
        argument, negated = not argument, False
    else:
        negated = place.negated
    test = _operator(name, argument, place)
    if negated:
        test = _contrary(test)
    if not place.path:
        return test
    return _of_field(_parts(place.path), test, if_missing=name == "$exists" and not argument)


def _operator(name: str, argument: Any, place: _Place) -> _Test:
    if name in _EACH:
        if not isinstance(argument, dict):
            raise BadSelector(f"{name} takes an object, not {_shown(argument)}")
        return _EACH[name](_read(argument, _Place(within=True, depth=place.deeper().depth)))
    if name not in _OPERATORS:
        known = name in ("$text", "$where", "$near", "$nearSphere", "$geoWithin", "$geoIntersects")
        raise BadSelector(f"{name} is {'not to be had here' if known else 'no operator'}")
    return _OPERATORS[name](argument)


def _parts(path: str) -> tuple[str, ...]:
    """Return the names that a path is made of; a dot may be escaped."""
    parts = re.split(r"(?<!\\)\.", path)
    if "" in parts:
        raise BadSelector(f"{path!r} is no name of a field: a part of it is empty")
    return tuple(part.replace("\\", "") for part in parts)


# -- tests -------------------------------------------------------------------


def _always(_value: Any, _steps: _Steps) -> bool:
    return True


def _joined(tests: list[_Test], *, all_of_them: bool) -> _Test:
    if not tests:
        return _always

    def test(value: Any, steps: _Steps) -> bool:
        steps.spend(len(tests))
        if all_of_them:
            return all(each(value, steps) for each in tests)
        return any(each(value, steps) for each in tests)

    return test


def _contrary(of: _Test) -> _Test:
    return lambda value, steps: not of(value, steps)


def _of_field(parts: tuple[str, ...], test: _Test, *, if_missing: bool) -> _Test:
    def look(value: Any, steps: _Steps) -> bool:
        steps.spend(1)
        for part in parts:
            value = _member(value, part)
            if value is _MISSING:
                return if_missing
            if value is _ASTRAY:
                return False
        return test(value, steps)

    return look


def _member(value: Any, name: str) -> Any:
    """Return a member; or that there is none, or that there could be none."""
    if isinstance(value, dict):
        return value.get(name, _MISSING)
    if isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 10:
        number = int(name)
        return value[number] if number < len(value) else _ASTRAY
    return _ASTRAY


def _any_element(test: _Test) -> _Test:
    def look(value: Any, steps: _Steps) -> bool:
        return isinstance(value, list) and any(_tried(test, each, steps) for each in value)

    return look


def _all_elements(test: _Test) -> _Test:
    def look(value: Any, steps: _Steps) -> bool:
        if not isinstance(value, list) or not value:
            return False
        return all(_tried(test, each, steps) for each in value)

    return look


def _any_key(test: _Test) -> _Test:
    def look(value: Any, steps: _Steps) -> bool:
        return isinstance(value, dict) and any(_tried(test, each, steps) for each in value)

    return look


def _tried(test: _Test, value: Any, steps: _Steps) -> bool:
    steps.spend(1)
    return test(value, steps)


def _compared(judge: Callable[[int], bool]) -> _Judge:
    return lambda argument: lambda value, steps: judge(_compare(value, argument, steps))


def _compare(value: Any, argument: Any, steps: _Steps) -> int:
    # No longer than the argument, which is the operator's: not counted.
    steps.spend(1)
    return compare(value, argument)


def _among(argument: Any) -> _Test:
    wanted = _array("$in", argument)

    def test(value: Any, steps: _Steps) -> bool:
        values = value if isinstance(value, list) else [value]
        return any(not _compare(each, one, steps) for one in wanted for each in values)

    return test


def _not_among(argument: Any) -> _Test:
    return _contrary(_among(_array("$nin", argument)))


def _all_of(argument: Any) -> _Test:
    wanted = _array("$all", argument)

    def test(value: Any, steps: _Steps) -> bool:
        if not isinstance(value, list) or not wanted:
            return False
        if len(wanted) == 1 and isinstance(wanted[0], list) and not compare(wanted[0], value):
            return True
        return all(any(not _compare(each, one, steps) for each in value) for one in wanted)

    return test


def _exists(argument: Any) -> _Test:
    if not isinstance(argument, bool):
        raise BadSelector(f"$exists takes true or false, not {_shown(argument)}")
    return lambda _value, _steps: argument


def _is_of_type(argument: Any) -> _Test:
    if argument not in TYPES:
        raise BadSelector(f"$type takes one of {', '.join(TYPES)}, not {_shown(argument)}")
    return lambda value, _steps: type_of(value) == argument


def _has_size(argument: Any) -> _Test:
    if type(argument) is not int or argument < 0:
        raise BadSelector(f"$size takes a number from 0 on, not {_shown(argument)}")
    return lambda value, _steps: isinstance(value, list) and len(value) == argument


def _leaves_rest(argument: Any) -> _Test:
    pair = _array("$mod", argument)
    if len(pair) != 2 or not all(type(each) is int for each in pair) or not pair[0]:
        raise BadSelector(f"$mod takes [divisor, rest], not {_shown(argument)}")
    divisor: int = pair[0]
    rest: int = pair[1]

    def test(value: Any, _steps: _Steps) -> bool:
        # As Erlang has it: the rest has the sign of the number.
        if type(value) is not int:
            return False
        left = abs(value) % abs(divisor)
        return (left if value >= 0 else -left) == rest

    return test


def _begins_with(argument: Any) -> _Test:
    if not isinstance(argument, str):
        raise BadSelector(f"$beginsWith takes a text, not {_shown(argument)}")
    return lambda value, _steps: isinstance(value, str) and value.startswith(argument)


def _like(argument: Any) -> _Test:
    if not isinstance(argument, str):
        raise BadSelector(f"$regex takes a text, not {_shown(argument)}")
    try:
        pattern = Pattern(argument)
    except ValueError as error:
        raise BadSelector(f"$regex {argument!r}: {error}") from None

    def test(value: Any, steps: _Steps) -> bool:
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            return False
        return pattern.found_in(value, steps.spend)

    return test


def _array(name: str, argument: Any) -> list[Any]:
    if not isinstance(argument, list):
        raise BadSelector(f"{name} takes an array, not {_shown(argument)}")
    return argument


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_OPERATORS: dict[str, _Judge] = {
    "$lt": _compared(lambda found: found < 0),
    "$lte": _compared(lambda found: found <= 0),
    "$eq": _compared(lambda found: found == 0),
    "$ne": _compared(lambda found: found != 0),
    "$gte": _compared(lambda found: found >= 0),
    "$gt": _compared(lambda found: found > 0),
    "$in": _among,
    "$nin": _not_among,
    "$all": _all_of,
    "$exists": _exists,
    "$type": _is_of_type,
    "$size": _has_size,
    "$mod": _leaves_rest,
    "$beginsWith": _begins_with,
    "$regex": _like,
}

_EACH: dict[str, Callable[[_Test], _Test]] = {
    "$elemMatch": _any_element,
    "$allMatch": _all_elements,
    "$keyMapMatch": _any_key,
}

_CONTRARIES = {
    "$lt": "$gte",
    "$lte": "$gt",
    "$eq": "$ne",
    "$ne": "$eq",
    "$gte": "$lt",
    "$gt": "$lte",
    "$in": "$nin",
    "$nin": "$in",
}

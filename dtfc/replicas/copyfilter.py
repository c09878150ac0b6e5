"""The filter file: of which blobs copies are made.

Rules of this file: pure. The first line whose conditions all hold decides; what
no line speaks of is included. A file with a line that makes no sense is refused
as a whole, with every such line by its number: half a filter would copy what
must not leave, or leave alone what must be copied.

A filter is a text file, one rule a line::

    # first word, then conditions; all of them must hold
    exclude name=*.tmp
    include type=image/* max-size=1GiB
    exclude min-size=1GiB
    exclude db=scratch
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import translate

from dtfc.settings.values import size

#: Most rules in a file: each is looked at for each blob.
MOST_RULES = 1000

_DATABASE = re.compile(r"[a-z][a-z0-9_$()+/-]*\Z")


@dataclass(frozen=True, slots=True)
class Described:
    """What a filter looks at.

    Args:
        name: the file name; empty if there is none.
        type: the media type, without parameters.
        length: in bytes.
        databases: the CouchDB databases whose documents refer to the blob.
    """

    name: str
    type: str
    length: int
    databases: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One line.

    Args:
        include: whether copies are made of what it matches.
        name: pattern of the file name; None if it does not matter.
        type: pattern of the media type.
        least: smallest length in bytes.
        most: largest length in bytes.
        database: a CouchDB database that refers to the blob.
    """

    include: bool
    name: re.Pattern[str] | None = None
    type: re.Pattern[str] | None = None
    least: int = 0
    most: int | None = None
    database: str | None = None

    def matches(self, blob: Described) -> bool:
        """Tell whether every condition holds."""
        return (
            (self.name is None or self.name.match(blob.name) is not None)
            and (self.type is None or self.type.match(blob.type.lower()) is not None)
            and self.least <= blob.length
            and (self.most is None or blob.length <= self.most)
            and (self.database is None or self.database in blob.databases)
        )


@dataclass(frozen=True, slots=True)
class CopyFilter:
    """Rules in the order of the file."""

    rules: tuple[Rule, ...] = ()

    def wants(self, blob: Described) -> bool:
        """Tell whether copies of a blob are to be made."""
        return next((rule.include for rule in self.rules if rule.matches(blob)), True)


@dataclass(frozen=True, slots=True)
class BadRule:
    """A line that makes no sense.

    Args:
        number: counted from 1.
        reason: what is wrong with it.
    """

    number: int
    reason: str


def parse_filter(text: str) -> tuple[CopyFilter, list[BadRule]]:
    """Read a filter file.

    Args:
        text: the whole file.

    Returns:
        The filter, and the lines that make no sense; if there is one, the
        filter is not to be used.
    """
    rules: list[Rule] = []
    bad: list[BadRule] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
            if not words:
                continue
            if len(rules) == MOST_RULES:
                bad.append(BadRule(number, f"there are more than {MOST_RULES} rules"))
                break
            rules.append(_rule(words))
        except ValueError as error:
            bad.append(BadRule(number, str(error)))
    return CopyFilter(tuple(rules)), bad


def _rule(words: list[str]) -> Rule:
    verdict, *conditions = words
    if verdict not in ("include", "exclude"):
        raise ValueError(f"a rule begins with include or exclude, not with {verdict!r}")
    given: dict[str, str] = {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not equals or key not in ("name", "type", "min-size", "max-size", "db"):
            raise ValueError(f"{condition!r} is none of name=, type=, min-size=, max-size= and db=")
        if key in given:
            raise ValueError(f"{key}= is written twice")
        if not value:
            raise ValueError(f"{key}= lacks its value")
        given[key] = value
    least = size(0)(given["min-size"]) if "min-size" in given else 0
    most = size(0)(given["max-size"]) if "max-size" in given else None
    if most is not None and least > most:
        raise ValueError("min-size= is more than max-size=: no blob is like that")
    database = given.get("db")
    if database is not None and not _DATABASE.match(database):
        raise ValueError(f"{database!r} is no name of a CouchDB database")
    return Rule(
        verdict == "include",
        _pattern(given.get("name")),
        _pattern(given.get("type", "").lower() or None),
        least,
        most,
        database,
    )


def _pattern(glob: str | None) -> re.Pattern[str] | None:
    return None if glob is None else re.compile(translate(glob))

"""Which documents have their blobs loaded: what ``--couchdb-prefetch`` says."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dtfc.couchdb.documents import parse_json
from dtfc.couchdb.selectors import BadSelector, Selector
from dtfc.errors import BadSetting

#: Bytes of a file of selectors; a larger one is some other file, named by mistake.
LARGEST = 1024 * 1024

#: Stands for the databases that the file does not name.
OTHERS = "*"

_SETTING = "couchdb-prefetch"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which documents of one database.

    Args:
        text: of the selector as JSON; empty for none of them. Where it is another
            one than last time, what was decided then does not count.
        selector: the same, read.
    """

    text: str = ""
    selector: Selector | None = None

    def pick(self, documents: Sequence[Mapping[str, Any]]) -> list[bool | None]:
        """Tell of each document whether it is one; None if to find out takes too much.

        Takes its time: for a thread.
        """
        if self.selector is None:
            return [False] * len(documents)
        return [self.selector.matches(each) for each in documents]


#: Every document, and the text that says so.
EVERYTHING = "{}"
ALL = Rule(EVERYTHING, Selector({}))
NONE = Rule()


@dataclass(frozen=True, slots=True)
class Rules:
    """Which documents of which databases.

    Args:
        by_name: the rule of each database that has one of its own.
        others: of all others.
    """

    by_name: Mapping[str, Rule]
    others: Rule = NONE

    def of(self, database: str) -> Rule:
        """Return the rule of a database."""
        return self.by_name.get(database, self.others)


def read_rules(given: str, followed: Collection[str]) -> Rules:
    """Return what a setting means (blocks, if it names a file).

    Args:
        given: ``all``, ``none``, or the path of a file.
        followed: names of the databases that are followed.

    Raises:
        BadSetting: the file cannot be read, or holds something else.
    """
    if given in ("all", "none"):
        return Rules({}, ALL if given == "all" else NONE)
    try:
        with open(given, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise BadSetting(_SETTING, f"{given}: {error.strerror}") from error
    if len(content) > LARGEST:
        raise BadSetting(_SETTING, f"{given}: is larger than {LARGEST} bytes")
    try:
        found = parse_json(content)
    except ValueError as error:
        raise BadSetting(_SETTING, f"{given}: is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadSetting(
            _SETTING, f"{given}: is no JSON object that has a selector for each database"
        )
    rules = {}
    for name, selector in found.items():
        if name != OTHERS and name not in followed:
            raise BadSetting(
                _SETTING,
                f"{given}: {name!r} is no database that is followed (--couchdb-db); at the top of "
                'the file are names of databases, and "*" for all others',
            )
        try:
            # In the order in which it came: two objects are equal only if theirs is.
            rules[name] = Rule(json.dumps(selector), Selector(selector))
        except BadSelector as error:
            raise BadSetting(_SETTING, f"{given}: {name}: {error}") from None
    others = rules.pop(OTHERS, NONE)
    return Rules(rules, others)

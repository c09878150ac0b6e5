"""What two nodes say to one another about deletions, and what each makes of it.

Rules of this file: pure. No reactor, no clock, no file, no random. What comes
from a peer is checked here, and bounded, before anything is made of it.

One node asks, the other answers. The asker sends its own hashes of some ranges
of digests; the answer holds, for each that differs, either the hashes of its
sixteen parts, or, where it has few records, the records. So a question about
everything is short when nothing differs, and else it goes down to where the
difference is. The asker then takes what is newer there and gives what is newer
here; so one question brings both to the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dtfc.digest import Digest
from dtfc.errors import BadDigest, BadInput
from dtfc.store.records import Record, from_plain

if TYPE_CHECKING:
    from dtfc.store.memory import Range

#: Records in one message.
MOST_RECORDS = 500

#: Ranges in one question.
MOST_RANGES = 64

#: Bytes of a message, which is more than so many records need.
MOST_BYTES = 512 * 1024

#: A range with so few records is answered with the records.
FEW = 8

#: Hexadecimal digits of the narrowest range.
DEPTH = 4

FIRST_WAIT = 5.0
"""Seconds after which a peer that could not be reached is tried again ..."""

LONGEST_WAIT = 600.0
"""... doubled each time, up to this."""

_PREFIX = re.compile(rf"[0-9a-f]{{0,{DEPTH}}}\Z")
_HASH = re.compile(r"(?:[0-9a-f]{32})?\Z")


@dataclass(frozen=True, slots=True)
class Question:
    """What one node asks of another.

    Args:
        ranges: hexadecimal digits that digests begin with, and the asker's hash
            of that range, empty if it has nothing there.
        after: of the one range, records behind this digest; a further page.
    """

    ranges: Mapping[str, str]
    after: Digest | None = None

    def body(self) -> bytes:
        """Return it as JSON."""
        asked: dict[str, object] = {"ranges": dict(self.ranges)}
        if self.after is not None:
            asked["after"] = self.after.hex
        return _json(asked)


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says of one range.

    Args:
        children: the hashes of its parts that are not empty, by their digit;
            None where there are records instead.
        records: what is remembered in it, in order.
        more: whether further pages follow.
    """

    children: Mapping[str, str] | None = None
    records: tuple[Record, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node says to a question.

    Args:
        ranges: those that differ.
        left: those that it had no room for, to be asked again.
    """

    ranges: Mapping[str, Told]
    left: tuple[str, ...] = ()

    def body(self) -> bytes:
        """Return it as JSON."""
        told: dict[str, object] = {}
        for prefix, each in self.ranges.items():
            if each.children is not None:
                told[prefix] = {"parts": dict(each.children)}
            else:
                told[prefix] = {"records": [one.plain() for one in each.records], "more": each.more}
        return _json({"ranges": told, "left": list(self.left)})


def parse_question(body: bytes) -> Question:
    """Read what another node asks.

    Raises:
        BadInput: it is no question, or asks for too much at once.
    """
    given = _object(body)
    ranges = given.get("ranges")
    if not isinstance(ranges, dict) or not 1 <= len(ranges) <= MOST_RANGES:
        raise BadInput(f"a question is about 1 to {MOST_RANGES} ranges")
    if not all(map(_is_prefix, ranges)) or not all(map(_is_hash, ranges.values())):
        raise BadInput(f"a range is up to {DEPTH} hexadecimal digits, and its hash 32 or none")
    after = given.get("after")
    if after is None:
        return Question(ranges)
    if len(ranges) != 1 or not isinstance(after, str):
        raise BadInput("a further page is of one range, behind a digest")
    try:
        return Question(ranges, Digest.from_hex(after))
    except BadDigest as error:
        raise BadInput("a further page is of one range, behind a digest") from error


def parse_answer(body: bytes, asked: Question) -> Answer:
    """Read what another node says.

    Args:
        body: what it sent.
        asked: to what.

    Raises:
        BadInput: it is no answer to that.
    """
    given = _object(body)
    ranges, left = given.get("ranges"), given.get("left", [])
    if not isinstance(ranges, dict) or not isinstance(left, list):
        raise BadInput("an answer has ranges, and what is left")
    if not set(ranges) <= set(asked.ranges) or not set(left) <= set(asked.ranges) - set(ranges):
        raise BadInput("an answer is about the ranges that were asked for")
    return Answer({prefix: _told(prefix, each) for prefix, each in ranges.items()}, tuple(left))


def _told(prefix: str, given: object) -> Told:
    if not isinstance(given, dict):
        raise BadInput("what is told of a range is an object")
    parts = given.get("parts")
    if parts is not None:
        digits = isinstance(parts, dict) and all(len(each) == 1 for each in parts)
        if len(prefix) == DEPTH or not digits or not all(map(_is_prefix, parts)):
            raise BadInput("a range has parts by their digit, unless it is the narrowest")
        if not all(map(_is_hash, parts.values())):
            raise BadInput("the hash of a part has 32 hexadecimal digits")
        return Told(parts)
    records = _records(given)
    digests = [each.digest for each in records]
    if digests != sorted(set(digests)) or not all(d.hex.startswith(prefix) for d in digests):
        raise BadInput("the records of a range lie in it, in order, each once")
    more = given.get("more", False)
    if not isinstance(more, bool) or (more and not records):
        raise BadInput("more records follow behind the last one")
    return Told(None, records, more)


def records_body(records: Iterable[Record]) -> bytes:
    """Return records as JSON: what one node tells another."""
    return _json({"records": [each.plain() for each in records]})


def parse_records(body: bytes) -> tuple[Record, ...]:
    """Read records that another node tells.

    Raises:
        BadInput: they are none, or too many.
    """
    return _records(_object(body))


@dataclass(frozen=True, slots=True)
class Heard:
    """What a node says to records that it was told.

    Args:
        taken: how many of them, from the first on, it has dealt with.
        newer: what it knows instead of some of them.
    """

    taken: int
    newer: tuple[Record, ...] = ()

    def body(self) -> bytes:
        """Return it as JSON."""
        return _json({"taken": self.taken, "newer": [each.plain() for each in self.newer]})


def parse_heard(body: bytes, told: Sequence[Record]) -> Heard:
    """Read what a peer says to records.

    Args:
        body: what it sent.
        told: to what.

    Raises:
        BadInput: it is no answer to that.
    """
    given = _object(body)
    taken = given.get("taken")
    if type(taken) is not int or not 0 <= taken <= len(told):
        raise BadInput("an answer to records says how many were taken")
    newer = _records({"records": given.get("newer", [])})
    known = {each.digest: each for each in told}
    if not all(each.newer_than(known.get(each.digest)) for each in newer):
        raise BadInput("what is newer than a record has a higher counter")
    if not {each.digest for each in newer} <= set(known):
        raise BadInput("an answer to records is about them")
    return Heard(taken, newer)


# -- decisions ------------------------------------------------------------------


def differing(prefix: str, ours: Range, told: Told) -> dict[str, str]:
    """Return the parts of a range to ask about next, with our hashes of them."""
    theirs = told.children or {}
    mine = {digit: each.hex() for digit, each in ours.children.items()}
    return {
        prefix + digit: mine.get(digit, "")
        for digit in sorted({*mine, *theirs})
        if mine.get(digit, "") != theirs.get(digit, "")
    }


@dataclass(frozen=True, slots=True)
class Exchange:
    """What brings two nodes to the same.

    Args:
        take: what counts, and they have.
        give: what counts, and we have.
    """

    take: tuple[Record, ...]
    give: tuple[Record, ...]


def compare(ours: Iterable[Record], theirs: Iterable[Record]) -> Exchange:
    """Say which records of a stretch of digests go which way."""
    mine = {each.digest: each for each in ours}
    their = {each.digest: each for each in theirs}
    return Exchange(
        tuple(each for each in their.values() if each.newer_than(mine.get(each.digest))),
        tuple(each for each in mine.values() if each.newer_than(their.get(each.digest))),
    )


def wait_after(failures: int, chance: float) -> float:
    """Return how many seconds to leave a peer alone.

    Args:
        failures: attempts in a row that came to nothing, 1 at least.
        chance: 0 to 1, so that many nodes do not come at once.
    """
    doubled = FIRST_WAIT * 2.0 ** min(failures - 1, 20)
    return float(min(doubled, LONGEST_WAIT) * (0.75 + chance / 2))


@dataclass(slots=True)
class Allowance:
    """So many a minute, and no more; what was not used is kept for one minute.

    Args:
        per_minute: how many.
    """

    per_minute: int
    _left: float = field(default=-1.0)
    _at: float = 0.0

    def take(self, now: float) -> bool:
        """Use one up, if there is one.

        Args:
            now: seconds; a clock that was set back gives nothing, and takes nothing.
        """
        if self._left < 0:
            self._left = float(self.per_minute)
        else:
            gained = max(0.0, now - self._at) * self.per_minute / 60
            self._left = min(float(self.per_minute), self._left + gained)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait(self) -> int:
        """Return after how many seconds there is a tenth of a minute's again."""
        wanted = max(1.0, self.per_minute / 10) - max(0.0, self._left)
        return max(1, min(60, int(wanted * 60 / self.per_minute) + 1))


# -- JSON -----------------------------------------------------------------------


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > MOST_BYTES:
        raise BadInput(f"a message between nodes has at most {MOST_BYTES} bytes")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput("a message between nodes is JSON") from error
    if not isinstance(given, dict):
        raise BadInput("a message between nodes is a JSON object")
    return given


def _records(given: Mapping[str, object]) -> tuple[Record, ...]:
    records = given.get("records")
    if not isinstance(records, list) or len(records) > MOST_RECORDS:
        raise BadInput(f"records are a list of at most {MOST_RECORDS}")
    return tuple(map(from_plain, records))


def _is_prefix(given: object) -> bool:
    return isinstance(given, str) and _PREFIX.match(given) is not None


def _is_hash(given: object) -> bool:
    return isinstance(given, str) and _HASH.match(given) is not None

"""Deletions everywhere, as values: what is remembered of one, and which of two counts.

Rules of this file: pure, and no decision looks at a time. The clocks of two
nodes may be an hour apart, so ``at`` is for people; what counts is the counter
(Lamport's: one more than the highest that was known where it was made).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.errors import BadDigest, BadInput

#: The highest counter: what JSON's numbers can hold in every language. Nobody
#: gets there by counting; a peer that says more is refused.
HIGHEST = 2**53 - 1

_ID = re.compile(r"[0-9a-f]{32}\Z")
_LONGEST_TIME = 40

DELETED = "deleted"
ALIVE = "alive"


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of one digest: deleted everywhere, or stored again after that.

    Args:
        digest: the blob.
        counter: grows with each deletion everywhere and each revival.
        deleted: False for a revival, a client's PUT of what had been deleted.
        id: 32 hexadecimal digits; of a deletion, what its receipt is called.
        at: when, in ISO 8601, by the clock of the node that made it.
        node: the id of that node.
    """

    digest: Digest
    counter: int
    deleted: bool
    id: str
    at: str
    node: str

    @property
    def rank(self) -> tuple[int, bool]:
        """What decides between two: the counter, and if it is the same, the deletion."""
        return self.counter, self.deleted

    def newer_than(self, other: Record | None) -> bool:
        """Tell whether this one counts, and not the other."""
        return other is None or self.rank > other.rank

    def plain(self) -> dict[str, object]:
        """Return it as JSON carries it between nodes."""
        return {"sha512": self.digest.hex, **self._facts()}

    def line(self) -> bytes:
        """Return it as a line for a file in the blob's own folder."""
        return json.dumps(self._facts(), ensure_ascii=True).encode("ascii") + b"\n"

    def _facts(self) -> dict[str, object]:
        return {
            "kind": DELETED if self.deleted else ALIVE,
            "counter": self.counter,
            "id": self.id,
            "at": self.at,
            "node": self.node,
        }


def newest(*records: Record | None) -> Record | None:
    """Return the one that counts, if there is any."""
    found: Record | None = None
    for each in records:
        if each is not None and each.newer_than(found):
            found = each
    return found


def next_deletion(known: Record | None, digest: Digest, *, name: str, at: str, node: str) -> Record:
    """Return the record of a deletion that is made now.

    Args:
        known: what was known of the digest here.
        digest: the blob.
        name: its id.
        at: when, for people.
        node: who makes it.
    """
    counter = 0 if known is None else known.counter
    # At the highest one it wins all the same.
    return Record(digest, min(counter + 1, HIGHEST), deleted=True, id=name, at=at, node=node)


def next_revival(known: Record, *, name: str, at: str, node: str) -> Record:
    """Return the record of a client's PUT of what was deleted everywhere.

    Raises:
        BadInput: the counter is at its end.
    """
    if known.counter >= HIGHEST:
        raise BadInput("the counter of this blob's deletions is at its end: it stays deleted")
    return Record(known.digest, known.counter + 1, deleted=False, id=name, at=at, node=node)


def from_plain(given: object) -> Record:
    """Return the record whose :meth:`Record.plain` this is.

    Raises:
        BadInput: it is something else.
    """
    if not isinstance(given, Mapping):
        raise BadInput("a record of a deletion is a JSON object")
    try:
        digest = Digest.from_hex(given.get("sha512"))  # type: ignore[arg-type]  # caught below
    except (BadDigest, TypeError, AttributeError) as error:
        raise BadInput("a record's sha512 is a digest") from error
    return from_facts(digest, given)


def from_facts(digest: Digest, given: Mapping[str, object]) -> Record:
    """Return the record that a file in the blob's folder holds.

    Raises:
        BadInput: it makes no sense.
    """
    kind, counter, at = given.get("kind"), given.get("counter"), given.get("at")
    if kind not in {DELETED, ALIVE}:
        raise BadInput(f"a record's kind is {DELETED} or {ALIVE}")
    if type(counter) is not int or not 1 <= counter <= HIGHEST:
        raise BadInput("a record's counter is a number from 1 to 2^53 - 1")
    name, node = given.get("id"), given.get("node")
    if not (isinstance(name, str) and _ID.match(name)):
        raise BadInput("a record's id is 32 hexadecimal digits")
    if not (isinstance(node, str) and _ID.match(node)):
        raise BadInput("a record's node is 32 hexadecimal digits")
    if not (isinstance(at, str) and at.isascii() and at.isprintable() and len(at) <= _LONGEST_TIME):
        raise BadInput("a record's time is ISO 8601")
    return Record(digest, counter, deleted=kind == DELETED, id=name, at=at, node=node)


def is_id(text: str) -> bool:
    """Tell whether something can be the id of a record."""
    return _ID.match(text) is not None

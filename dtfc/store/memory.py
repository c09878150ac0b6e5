"""The memory of deletions everywhere: records by digest, receipts, and who has not heard yet.

It lies in the catalog's file. The tree holds every record as well, and a
receipt can be made anew from the record that its node made, with every peer
pending again: so nothing of this is lost with the file, and nothing here may
stop a deletion.

**Ranges.** Two nodes find out which records differ by comparing hashes of
ranges of digests: all of them, then the 16 ranges of one hexadecimal digit, and
so on to :data:`DEPTH` digits. The hash of the narrowest range is taken of the
records in it, that of a wider one of its sixteen hashes. They are kept; a
trigger forgets the five that a record changes. So what was not changed is not
hashed again, however many records there are.
"""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from dtfc.digest import Digest
from dtfc.errors import StoreFailure
from dtfc.store.records import Record

if TYPE_CHECKING:
    from dtfc.store.catalog import Catalog

#: Digits of the narrowest range: 65,536 of them, 15 records each of a million.
DEPTH = 4
_NIBBLES = "0123456789abcdef"
_HASH_BYTES = 16

#: Ranges of two digits are hashed in one transaction.
_STEP = 2

#: A record may come between a range's hashing and its reading so often.
_TRIES = 8

State = Literal["pending", "acknowledged", "overruled"]

_COLUMNS = "digest, counter, deleted, id, at, node"


@dataclass(frozen=True, slots=True)
class Range:
    """A range of digests, and what is remembered in it.

    Args:
        hash: of all records in it; empty if there are none.
        records: how many.
        children: of the sixteen narrower ones those that are not empty, by
            their digit; none if it is the narrowest.
    """

    hash: bytes
    records: int
    children: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a deletion at one peer.

    Args:
        peer: its URL.
        state: ``overruled`` where a later PUT counts instead.
        at: when it said so, in ISO 8601.
        reason: why it has not yet.
        failures: attempts to reach it since it answered last.
        next_try: seconds since 1970.
    """

    peer: str
    state: State
    at: str | None = None
    reason: str | None = None
    failures: int = 0
    next_try: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is known of a deletion everywhere that began here.

    Args:
        id: its name.
        digest: the blob.
        counter: of the deletion.
        at: when it was made, in ISO 8601.
        addressed: whether the peers have been looked up.
        deliveries: one for each peer, in order.
    """

    id: str
    digest: Digest
    counter: int
    at: str
    addressed: bool
    deliveries: tuple[Delivery, ...] = ()


class Memory:
    """The memory of deletions of one store.

    Args:
        catalog: in whose file it lies.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    # -- records --------------------------------------------------------------

    def note(self, record: Record, *, ours: str | None = None) -> None:
        """Remember a record, unless a newer one is remembered.

        Args:
            record: what the tree holds.
            ours: this node's id, if a deletion that it has made itself is to
                have a receipt.
        """
        self.note_all([record], ours=ours)

    def note_all(self, records: Iterable[Record], *, ours: str | None = None) -> None:
        """Remember records, all at once; arguments as of :meth:`note`."""

        def work(c: sqlite3.Connection) -> None:
            for record in records:
                self._note(c, record)
                if record.deleted and record.node == ours:
                    _make_receipt(c, record)

        self._catalog.write(work)

    def _note(self, c: sqlite3.Connection, record: Record) -> None:
        raw = record.digest.raw
        found = c.execute("SELECT counter, deleted FROM deletions WHERE digest = ?", (raw,))
        known = found.fetchone()
        if known is not None and record.rank <= (known[0], bool(known[1])):
            return
        c.execute(
            "INSERT OR REPLACE INTO deletions VALUES (?, ?, ?, ?, ?, ?)",
            (raw, record.counter, record.deleted, record.id, record.at, record.node),
        )

    def get(self, digest: Digest) -> Record | None:
        """Return what is remembered of a digest.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        query = f"SELECT {_COLUMNS} FROM deletions WHERE digest = ?"  # noqa: S608 - constants
        found = self._catalog.read(query, (digest.raw,))
        return _record(found[0]) if found else None

    def count(self) -> int:
        """Return how many records there are; it counts the ranges, which takes no time.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return self.range("").records

    def records(self, prefix: str, after: Digest | None, limit: int) -> list[Record]:
        """List records of a range, in the order of their digests.

        Args:
            prefix: hexadecimal digits that the digests begin with, at most :data:`DEPTH`.
            after: begin behind this one.
            limit: how many at most.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        low, high = _bounds(prefix)
        if after is not None and after.raw >= low:
            low = after.raw + b"\0"
        return [
            _record(row)
            for row in self._catalog.read(
                f"SELECT {_COLUMNS} FROM deletions"  # noqa: S608 - constants
                " WHERE digest >= ? AND digest <= ? ORDER BY digest LIMIT ?",
                (low, high, limit),
            )
        ]

    # -- ranges ----------------------------------------------------------------

    def range(self, prefix: str) -> Range:
        """Return what two nodes compare of a range.

        Args:
            prefix: hexadecimal digits, at most :data:`DEPTH`.

        Raises:
            StoreFailure: the catalog cannot be read, or not be written.
        """
        for _ in range(_TRIES):
            rows = self._kept(prefix)
            if prefix in rows:
                hash_, number = rows.pop(prefix)
                children = {each[-1]: kept[0] for each, kept in rows.items() if kept[1]}
                return Range(hash_, number, children)
            if len(prefix) < _STEP:
                # One step after the other, so that nobody waits for all of them.
                for nibble in _NIBBLES:
                    if prefix + nibble not in rows:
                        self.range(prefix + nibble)
            if self._hash(prefix) == 0:
                return Range(b"", 0)
        raise StoreFailure("hash its deletions", OSError(errno.EBUSY, os.strerror(errno.EBUSY)))

    def _hash(self, prefix: str) -> int | None:
        """Hash a range; return how many records it has, None if that failed."""
        found: list[int] = []
        self._catalog.write(lambda c: found.append(_hash_range(c, prefix)[1]))
        return found[-1] if found else None

    def _kept(self, prefix: str) -> dict[str, tuple[bytes, int]]:
        """Return the hashes that are kept of a range and those next below it.

        If there is one of the range, those that are missing below are empty.
        """
        wanted = [prefix]
        if len(prefix) < DEPTH:
            wanted += [prefix + nibble for nibble in _NIBBLES]
        rows = self._catalog.read(
            "SELECT prefix, hash, records FROM ranges"  # noqa: S608 - question marks
            f" WHERE prefix IN ({', '.join('?' * len(wanted))})",
            wanted,
        )
        return {name: (hash_, number) for name, hash_, number in rows}

    # -- receipts ----------------------------------------------------------------

    def address(self, receipt: str, peers: Sequence[str]) -> None:
        """Note which peers are to hear of a deletion."""

        def work(c: sqlite3.Connection) -> None:
            c.executemany(
                "INSERT OR IGNORE INTO deliveries VALUES (?, ?, 'pending', NULL)",
                [(receipt, peer) for peer in peers],
            )
            c.execute("UPDATE receipts SET addressed = 1 WHERE id = ?", (receipt,))

        self._catalog.write(work)

    def unaddressed(self, limit: int) -> list[str]:
        """List receipts whose peers have not been looked up: their process was killed before.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        query = "SELECT id FROM receipts WHERE NOT addressed LIMIT ?"
        return [name for (name,) in self._catalog.read(query, (limit,))]

    def receipt(self, name: str) -> Receipt | None:
        """Return a receipt; None if there is none of that id.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        rows = self._catalog.read(
            "SELECT digest, counter, at, addressed FROM receipts WHERE id = ?", (name,)
        )
        if not rows:
            return None
        digest, counter, at, addressed = rows[0]
        deliveries = self._catalog.read(
            "SELECT d.peer, d.state, d.at, u.reason, u.failures, u.next_try FROM deliveries d"
            " LEFT JOIN unreached u ON u.peer = d.peer WHERE d.receipt = ? ORDER BY d.peer",
            (name,),
        )
        return Receipt(
            name, Digest(digest), counter, at, bool(addressed), tuple(map(_delivery, deliveries))
        )

    def pending_peers(self) -> list[str]:
        """List the peers that have something to hear.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        query = "SELECT DISTINCT peer FROM deliveries WHERE state = 'pending' ORDER BY peer"
        return [peer for (peer,) in self._catalog.read(query)]

    def pending_count(self) -> int:
        """Return how many deliveries have not been made.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        query = "SELECT count(*) FROM deliveries WHERE state = 'pending'"
        return int(self._catalog.read(query)[0][0])

    def pending_by_peer(self) -> dict[str, int]:
        """Say how many deliveries to each peer have not been made.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        query = (
            "SELECT peer, count(*) FROM deliveries WHERE state = 'pending'"
            " GROUP BY peer ORDER BY peer"
        )
        return dict(self._catalog.read(query))

    def pending_since(self) -> dict[str, tuple[int, float]]:
        """Return how many deliveries have not been made, and since when the oldest was to be.

        Returns:
            By peer; the time in seconds since 1970.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        query = (
            "SELECT d.peer, count(*), min(r.made) FROM deliveries d"
            " JOIN receipts r ON r.id = d.receipt WHERE d.state = 'pending' GROUP BY d.peer"
        )
        return {peer: (count, made) for peer, count, made in self._catalog.read(query)}

    def pending(self, peer: str, limit: int) -> list[tuple[str, int, Record]]:
        """List what a peer has still to hear.

        Returns:
            The receipt, the counter of its deletion, and the record that counts
            now, which may be a newer one.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        rows = self._catalog.read(
            "SELECT r.id, r.counter, x.digest, x.counter, x.deleted, x.id, x.at, x.node"
            " FROM deliveries d JOIN receipts r ON r.id = d.receipt"
            " JOIN deletions x ON x.digest = r.digest"
            " WHERE d.state = 'pending' AND d.peer = ? ORDER BY d.receipt LIMIT ?",
            (peer, limit),
        )
        return [(row[0], row[1], _record(row[2:])) for row in rows]

    def delivered(self, peer: str, receipts: Sequence[tuple[str, State]], at: str) -> None:
        """Note what a peer has said of deletions, and that it answers."""

        def work(c: sqlite3.Connection) -> None:
            c.executemany(
                "UPDATE deliveries SET state = ?, at = ? WHERE receipt = ? AND peer = ?",
                [(state, at, receipt, peer) for receipt, state in receipts],
            )
            c.execute("DELETE FROM unreached WHERE peer = ?", (peer,))

        self._catalog.write(work)

    def unreached(self, peer: str) -> tuple[int, float]:
        """Return how often a peer was not reached, and when it is tried again.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        query = "SELECT failures, next_try FROM unreached WHERE peer = ?"
        found = self._catalog.read(query, (peer,))
        return (int(found[0][0]), float(found[0][1])) if found else (0, 0.0)

    def try_again(self) -> None:
        """Let every peer be tried again at once."""
        if self._catalog.read("SELECT 1 FROM unreached WHERE next_try > 0 LIMIT 1"):
            self._catalog.write(lambda c: c.execute("UPDATE unreached SET next_try = 0"))

    def put_off(self, peer: str, failures: int, next_try: float, reason: str) -> None:
        """Note that a peer could not be told, and when it is tried again."""
        self._catalog.write(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO unreached VALUES (?, ?, ?, ?)",
                (peer, failures, next_try, reason),
            )
        )

    def forget_peer(self, peer: str) -> int:
        """Take back what one has still to hear that is no peer any more; return how much."""
        dropped = 0

        def work(c: sqlite3.Connection) -> None:
            nonlocal dropped
            dropped = c.execute(
                "DELETE FROM deliveries WHERE peer = ? AND state = 'pending'", (peer,)
            ).rowcount
            c.execute("DELETE FROM unreached WHERE peer = ?", (peer,))

        self._catalog.write(work)
        return dropped

    def expire(self, before: float, limit: int) -> int:
        """Forget receipts; what they were of stays deleted.

        Args:
            before: seconds since 1970; later ones stay.
            limit: how many at most.

        Returns:
            How many went.
        """
        gone: list[str] = []

        def work(c: sqlite3.Connection) -> None:
            rows = c.execute("SELECT id FROM receipts WHERE made < ? LIMIT ?", (before, limit))
            gone.extend(name for (name,) in rows)
            c.executemany("DELETE FROM deliveries WHERE receipt = ?", [(name,) for name in gone])
            c.executemany("DELETE FROM receipts WHERE id = ?", [(name,) for name in gone])

        self._catalog.write(work)
        return len(gone)


def _make_receipt(c: sqlite3.Connection, record: Record) -> None:
    try:
        made = dt.datetime.fromisoformat(record.at).timestamp()
    except ValueError:
        made = 0.0
    c.execute(
        "INSERT OR IGNORE INTO receipts VALUES (?, ?, ?, ?, ?, 0)",
        (record.id, record.digest.raw, record.counter, record.at, made),
    )


def _bounds(prefix: str) -> tuple[bytes, bytes]:
    """Return the least and the greatest digest of a range."""
    return bytes.fromhex(prefix.ljust(128, "0")), bytes.fromhex(prefix.ljust(128, "f"))


def _record(row: Sequence[object]) -> Record:
    digest, counter, deleted, name, at, node = row
    return Record(
        Digest(digest),  # type: ignore[arg-type]  # as the table says
        counter,  # type: ignore[arg-type]
        deleted=bool(deleted),
        id=str(name),
        at=str(at),
        node=str(node),
    )


def _delivery(row: Sequence[object]) -> Delivery:
    peer, state, at, reason, failures, next_try = row
    if state != "pending":
        return Delivery(str(peer), state, None if at is None else str(at))  # type: ignore[arg-type]
    return Delivery(
        str(peer),
        "pending",
        reason=None if reason is None else str(reason),
        failures=int(failures or 0),  # type: ignore[call-overload]
        next_try=None if next_try is None else float(next_try),  # type: ignore[arg-type]
    )


# -- hashing, inside of a transaction ------------------------------------------


def _hash_range(c: sqlite3.Connection, prefix: str) -> tuple[bytes, int]:
    """Hash a range and what is not known within; keep what is not empty."""
    kept = c.execute("SELECT hash, records FROM ranges WHERE prefix = ?", (prefix,)).fetchone()
    if kept is not None:
        return kept[0], kept[1]
    if len(prefix) >= _STEP:
        bounds = _bounds(prefix)
        some = "SELECT 1 FROM deletions WHERE digest >= ? AND digest <= ? LIMIT 1"
        if not c.execute(some, bounds).fetchone():
            return _keep(c, prefix, b"", 0)
        if len(prefix) == DEPTH:
            _hash_narrowest(c, prefix)
            return _hash_range(c, prefix)
        within = "SELECT 1 FROM ranges WHERE prefix > ? AND prefix < ? LIMIT 1"
        if not c.execute(within, (prefix, prefix + "g")).fetchone():
            _hash_narrowest(c, prefix)
    hashing = hashlib.sha256()
    total = 0
    for nibble in _NIBBLES:
        hash_, number = _hash_range(c, prefix + nibble)
        if number:
            hashing.update(nibble.encode("ascii") + hash_)
            total += number
    return _keep(c, prefix, hashing.digest()[:_HASH_BYTES] if total else b"", total)


def _keep(c: sqlite3.Connection, prefix: str, hash_: bytes, number: int) -> tuple[bytes, int]:
    # Of the narrow ones most are empty, where there are few records.
    if number or len(prefix) <= _STEP:
        c.execute("INSERT OR REPLACE INTO ranges VALUES (?, ?, ?)", (prefix, hash_, number))
    return hash_, number


def _hash_narrowest(c: sqlite3.Connection, prefix: str) -> None:
    """Hash all narrowest ranges within one, in one walk over their records."""
    rows = c.execute(
        "SELECT digest, counter, deleted FROM deletions WHERE digest >= ? AND digest <= ?"
        " ORDER BY digest",
        _bounds(prefix),
    )
    for name, group in groupby(rows.fetchall(), key=lambda row: row[0][: DEPTH // 2]):
        hashing = hashlib.sha256()
        number = 0
        for digest, counter, deleted in group:
            hashing.update(digest + counter.to_bytes(8, "big") + bytes([deleted]))
            number += 1
        _keep(c, name.hex(), hashing.digest()[:_HASH_BYTES], number)

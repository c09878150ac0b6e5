"""Which blobs nothing refers to, since when, and what is known of the collected (blocks).

Time is counted, not told: only seconds in which every database could be followed
count, so neither a clock that is set, nor a node that was down, nor a CouchDB
that was away makes anything older than it is.

A blob is marked in a pass over all blobs, with the stamp that the store gave it.
A reference takes the mark away (a trigger, in the transaction that enters it),
and so does another stamp. A mark is verified once every database has been read
from beginning to end, in a reading that began after the pass.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.digest import Digest
from dtfc.store.collected import Here


@dataclass(frozen=True, slots=True)
class Totals:
    """How many blobs, and how many bytes they have."""

    blobs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Marked:
    """A blob that nothing refers to.

    Args:
        seen: the blob.
        seconds: for how long, as they are counted.
    """

    seen: Here
    seconds: float


class Marks:
    """The collector's part of the file.

    Args:
        file: where it is kept.
    """

    def __init__(self, file: ReferenceFile) -> None:
        self._file = file

    # -- time -----------------------------------------------------------------

    def seconds(self) -> float:
        """Return how many seconds were counted.

        Raises:
            StoreFailure: it cannot be read.
        """
        found = self._file.read(lambda c: c.execute("SELECT seconds FROM collector").fetchone())
        return float(found[0])

    def advance(self, seconds: float) -> None:
        """Count so many seconds more.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._file.write(
            lambda c: c.execute("UPDATE collector SET seconds = seconds + ?", (seconds,))
        )

    def since_verified(self) -> float:
        """Return how many seconds ago databases were last read anew for the collector.

        Raises:
            StoreFailure: it cannot be read.
        """
        found = self._file.read(
            lambda c: c.execute("SELECT seconds - verified FROM collector").fetchone()
        )
        return float(found[0])

    def note_verified(self) -> None:
        """Note that the databases were read anew for the collector.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._file.write(lambda c: c.execute("UPDATE collector SET verified = seconds"))

    # -- what was told last -----------------------------------------------------

    def tell(self, told: str) -> None:
        """Keep what the collector has to say, for the node's other processes.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._file.write(lambda c: c.execute("UPDATE collector SET told = ?", (told,)))

    def told(self) -> str:
        """Return what the collector said last; an empty JSON object at first.

        Raises:
            StoreFailure: it cannot be read.
        """
        found = self._file.read(lambda c: c.execute("SELECT told FROM collector").fetchone())
        return str(found[0])

    # -- a pass ------------------------------------------------------------------

    def unreferenced(self, digests: Sequence[Digest]) -> list[Digest]:
        """Return those that nothing refers to.

        Raises:
            StoreFailure: it cannot be read.
        """

        def work(c: sqlite3.Connection) -> list[Digest]:
            return [each for each in digests if not _is_referenced(c, each)]

        return self._file.read(work)

    def mark(self, found: Sequence[Here]) -> None:
        """Mark blobs, but for those that something refers to by now.

        One that bears a mark with the same stamp keeps it, and its age.

        Raises:
            StoreFailure: it cannot be written.
        """

        def work(c: sqlite3.Connection) -> None:
            for each in found:
                if _is_referenced(c, each.digest):
                    continue
                c.execute(
                    "INSERT INTO garbage SELECT ?1, seconds, pass, pass, ?2, ?3"
                    " FROM collector WHERE true"
                    " ON CONFLICT (digest) DO UPDATE SET"
                    " since = iif(stamp = excluded.stamp, since, excluded.since),"
                    " pass = iif(stamp = excluded.stamp, pass, excluded.pass),"
                    " seen = excluded.seen, stamp = excluded.stamp, length = excluded.length",
                    (each.digest.raw, each.stamp, each.length),
                )

        self._file.write(work)

    def end_pass(self) -> None:
        """End a pass: what it did not see is not here any more.

        Raises:
            StoreFailure: it cannot be written.
        """

        def work(c: sqlite3.Connection) -> None:
            c.execute("DELETE FROM garbage WHERE seen < (SELECT pass FROM collector)")
            c.execute("UPDATE collector SET pass = pass + 1")

        self._file.write(work)

    # -- what it found ------------------------------------------------------------

    def all_marked(self) -> Totals:
        """Return how much nothing refers to.

        Raises:
            StoreFailure: it cannot be read.
        """
        return self._file.read(lambda c: _totals(c, "true", ()))

    def ripe(self, grace: float) -> Totals:
        """Return how much of it nothing has referred to for so many seconds.

        Raises:
            StoreFailure: it cannot be read.
        """
        return self._file.read(lambda c: _totals(c, _RIPE, (grace,)))

    def unverified(self, grace: float) -> Totals:
        """Return how much of what is ripe is not verified.

        Raises:
            StoreFailure: it cannot be read.
        """
        return self._file.read(lambda c: _totals(c, f"{_RIPE} AND NOT {_VERIFIED}", (grace,)))

    def first(self, most: int) -> list[Marked]:
        """Return the oldest of what nothing refers to.

        Raises:
            StoreFailure: it cannot be read.
        """

        def work(c: sqlite3.Connection) -> list[Marked]:
            rows = c.execute(
                "SELECT digest, stamp, length, (SELECT seconds FROM collector) - since FROM garbage"
                " ORDER BY since, digest LIMIT ?",
                (most,),
            )
            return [Marked(Here(Digest(row[0]), row[1], row[2]), row[3]) for row in rows]

        return self._file.read(work)

    def to_collect(self, grace: float, after: Digest | None, most: int) -> list[Here]:
        """Return what is ripe and verified, in the order of the digests.

        Raises:
            StoreFailure: it cannot be read.
        """

        def work(c: sqlite3.Connection) -> list[Here]:
            rows = c.execute(
                f"SELECT digest, stamp, length FROM garbage"  # noqa: S608 - constants
                f" WHERE {_RIPE} AND {_VERIFIED} AND digest > ? ORDER BY digest LIMIT ?",
                (grace, b"" if after is None else after.raw, most),
            )
            return [Here(Digest(row[0]), row[1], row[2]) for row in rows]

        return self._file.read(work)

    def still(self, seen: Here) -> bool:
        """Tell whether a blob bears its mark, and nothing refers to it: right before it goes.

        Raises:
            StoreFailure: it cannot be read.
        """

        def work(c: sqlite3.Connection) -> bool:
            row = c.execute(
                "SELECT 1 FROM garbage WHERE digest = ? AND stamp = ?",
                (seen.digest.raw, seen.stamp),
            ).fetchone()
            return row is not None and not _is_referenced(c, seen.digest)

        return self._file.read(work)

    # -- the collected ---------------------------------------------------------

    def note_collected(self, digest: Digest) -> None:
        """Note that a blob was collected just now.

        Raises:
            StoreFailure: it cannot be written.
        """

        def work(c: sqlite3.Connection) -> None:
            c.execute("DELETE FROM garbage WHERE digest = ?", (digest.raw,))
            c.execute(
                "INSERT OR REPLACE INTO collected SELECT ?, seconds FROM collector", (digest.raw,)
            )

        self._file.write(work)

    def note_lying(self, digests: Sequence[Digest]) -> None:
        """Take over which blobs lie among the collected; those that are new to us begin now.

        Raises:
            StoreFailure: it cannot be written.
        """

        def work(c: sqlite3.Connection) -> None:
            c.execute("CREATE TEMP TABLE IF NOT EXISTS lying (digest BLOB PRIMARY KEY)")
            c.execute("DELETE FROM lying")
            c.executemany("INSERT INTO lying VALUES (?)", [(each.raw,) for each in digests])
            c.execute("DELETE FROM collected WHERE digest NOT IN (SELECT digest FROM lying)")
            c.execute(
                "INSERT OR IGNORE INTO collected SELECT digest, seconds FROM lying, collector"
            )

        self._file.write(work)

    def over(self, seconds: float) -> list[Digest]:
        """Return what was collected so many seconds ago, or longer.

        Raises:
            StoreFailure: it cannot be read.
        """
        rows = self._file.read(
            lambda c: c.execute(
                "SELECT digest FROM collected"
                " WHERE since <= (SELECT seconds FROM collector) - ? ORDER BY digest",
                (seconds,),
            ).fetchall()
        )
        return [Digest(row[0]) for row in rows]

    def wanted_back(self) -> list[Digest]:
        """Return what was collected and is referred to by now.

        Raises:
            StoreFailure: it cannot be read.
        """
        rows = self._file.read(
            lambda c: c.execute(
                "SELECT digest FROM collected"
                " WHERE EXISTS (SELECT 1 FROM refs WHERE refs.digest = collected.digest)"
                " ORDER BY digest"
            ).fetchall()
        )
        return [Digest(row[0]) for row in rows]

    def forget_collected(self, digest: Digest) -> None:
        """Forget a collected blob: it is back, or gone for good.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._file.write(
            lambda c: c.execute("DELETE FROM collected WHERE digest = ?", (digest.raw,))
        )


_RIPE = "since <= (SELECT seconds FROM collector) - ?"
_VERIFIED = "pass < (SELECT min(verified) FROM databases)"


def _is_referenced(c: sqlite3.Connection, digest: Digest) -> bool:
    found = c.execute("SELECT 1 FROM refs WHERE digest = ? LIMIT 1", (digest.raw,)).fetchone()
    return found is not None


def _totals(c: sqlite3.Connection, where: str, values: tuple[float, ...]) -> Totals:
    row = c.execute(
        f"SELECT count(*), total(length) FROM garbage WHERE {where}",  # noqa: S608 - constants
        values,
    ).fetchone()
    return Totals(int(row[0]), int(row[1]))

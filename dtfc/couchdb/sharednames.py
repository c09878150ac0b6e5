"""Names that nodes of any site have given, as the shared catalog has them (blocks)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from dtfc.couchdb.references import References
from dtfc.digest import Digest
from dtfc.store.listing import NameRow, Page, comparable, cursor, parse_cursor, prefix_end


@dataclass(frozen=True, slots=True)
class Named:
    """A name and a blob that has it, wherever that is.

    Args:
        name: the file name.
        digest: the blob.
        length: in bytes; None if nobody said.
        at: when it was stored here, in seconds since 1970; None if the name was not
            given here.
        here: whether the blob is here.
    """

    name: str
    digest: Digest
    length: int | None
    at: float | None
    here: bool = True

    @property
    def place(self) -> tuple[bytes, bytes]:
        """What the order goes by."""
        return self.name.encode(), self.digest.raw


class SharedNames:
    """The names.

    Args:
        references: what the entries of the shared catalog refer to.
        database: that it is in.
    """

    def __init__(self, references: References, database: str) -> None:
        self._references = references
        self._database = database
        references.file.write(_prepare)

    def is_anew(self) -> int:
        """Return which reading from the beginning is over that :meth:`taken` was not told of; or 0.

        Raises:
            StoreFailure: it cannot be read.
        """
        state = self._references.state(self._database)
        row = self._references.file.read(
            lambda c: c.execute(
                "SELECT scan FROM published WHERE database = ?", (self._database,)
            ).fetchone()
        )
        return 0 if not state.complete or (row and row[0] == state.scan) else state.scan

    def taken(self, scan: int) -> None:
        """Note that what follows from a reading from the beginning is done; from none, if 0.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._references.file.write(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO published VALUES (?, ?)", (self._database, scan)
            )
        )

    def leaves(self, digest: Digest) -> dict[str, frozenset[str]]:
        """Return the names of a blob by the revision of its entry that has them.

        Raises:
            StoreFailure: they cannot be read.
        """
        rows = self._references.file.read(
            lambda c: c.execute(
                "SELECT revision, name FROM refs WHERE database = ? AND document = ?",
                (self._database, digest.hex),
            ).fetchall()
        )
        found: dict[str, set[str]] = {}
        for revision, name in rows:
            found.setdefault(revision, set()).add(name)
        return {revision: frozenset(names) for revision, names in found.items()}

    def of(self, digest: Digest) -> frozenset[str]:
        """Return the names of a blob.

        Raises:
            StoreFailure: they cannot be read.
        """
        return frozenset().union(*self.leaves(digest).values())

    def rows(
        self, name: str | None, prefix: str | None, after: str | None, limit: int
    ) -> list[Named]:
        """List names in order; arguments as of :meth:`Catalog.by_name`.

        Raises:
            BadInput: ``after`` is nothing that was given out.
            StoreFailure: they cannot be read.
        """
        where, values = ["database = ?"], list[object]([self._database])
        low = comparable(name or prefix or "")
        if low:
            where.append("name >= ?")
            values.append(low)
        # Right behind a name comes itself with the least character there is.
        high = low + "\0" if name else prefix_end(low)
        if high is not None:
            where.append("name < ?")
            values.append(high)
        if after is not None:
            where.append("(name, digest) > (?, ?)")
            values.extend(parse_cursor(after))
        rows = self._references.file.read(
            lambda c: c.execute(
                "SELECT name, digest, max(length) FROM refs INDEXED BY refs_by_name"  # noqa: S608 - constants
                f" WHERE {' AND '.join(where)} GROUP BY name, digest ORDER BY name, digest LIMIT ?",
                (*values, limit),
            ).fetchall()
        )
        return [Named(found, Digest(digest), length, None) for found, digest, length in rows]


def _prepare(c: sqlite3.Connection) -> None:
    c.execute("CREATE INDEX IF NOT EXISTS refs_by_name ON refs (name, digest)")
    c.execute(
        "CREATE TABLE IF NOT EXISTS published"
        " (database TEXT PRIMARY KEY, scan INTEGER NOT NULL) WITHOUT ROWID"
    )


def merged(page: Page, others: Sequence[Named], limit: int) -> tuple[list[Named], str | None]:
    """Return one page of two, in order, and what the next one follows.

    Args:
        page: of names given here.
        others: of names given anywhere, ``limit + 1`` of them if there are so many.
        limit: rows of a page.
    """
    mine = [Named(row.name, row.digest, row.length, row.at) for row in page.rows]
    both = {each.place: each for each in [*others, *mine]}
    ends = []
    if page.next is not None:
        name, digest = parse_cursor(page.next)
        ends.append((name.encode(), digest))
    if len(others) > limit:
        ends.append(others[-1].place)
    # What lies behind the end of either is not all known yet.
    end = min(ends, default=None)
    rows = [both[place] for place in sorted(both) if end is None or place <= end]
    if len(rows) > limit:
        return rows[:limit], cursor(_row(rows[limit - 1].place))
    return rows, None if end is None else cursor(_row(end))


def _row(place: tuple[bytes, bytes]) -> NameRow:
    return NameRow(place[0].decode(), Digest(place[1]), 0, 0.0)

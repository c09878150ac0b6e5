"""What is to be loaded because a document refers to it (blocks).

Its tables are in the file of references, since what a document refers to and what
of it is to be loaded are one transaction: nothing is lost between the two.

Rules of this file: a blob is on the list as long as a document is that wants it,
or until it is taken off because there is nothing more to be done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtfc.couchdb.prefetchrules import EVERYTHING
from dtfc.digest import Digest

if TYPE_CHECKING:
    from dtfc.couchdb.documents import Reference
    from dtfc.couchdb.referencefile import ReferenceFile

#: No database was ever purged so often: whoever finds it there reads from the beginning.
_READ_ANEW = -1


@dataclass(frozen=True, slots=True)
class ToLoad:
    """A blob to load.

    Args:
        digest: of it.
        length: in bytes, as far as known.
        tries: that have failed.
    """

    digest: Digest
    length: int | None
    tries: int


def names_any(c: sqlite3.Connection, database: str) -> bool:
    """Tell whether any document of a database wants anything, within a transaction."""
    row = c.execute("SELECT 1 FROM prefetch_for WHERE database = ? LIMIT 1", (database,))
    return row.fetchone() is not None


def enter(
    c: sqlite3.Connection, database: str, document: str, wanted: Collection[Reference]
) -> None:
    """Let a document want these blobs and no others, within a transaction."""
    key = (database, document)
    had = {row[0] for row in c.execute(_WANTED_BY, key)}
    new = {each.digest.raw: each.length for each in wanted}
    if new.keys() == had:
        return
    c.executemany(
        "DELETE FROM prefetch_for WHERE database = ? AND document = ? AND digest = ?",
        [(*key, digest) for digest in had - new.keys()],
    )
    # What it wanted before goes on as it was: who changes a document all the time does
    # not have the peers asked all the time.
    fresh = new.keys() - had
    c.executemany("INSERT INTO prefetch_for VALUES (?, ?, ?)", [(*key, each) for each in fresh])
    c.executemany(
        "INSERT INTO prefetch VALUES (?, ?, 0, 0)"
        " ON CONFLICT (digest) DO UPDATE SET due = 0, length = coalesce(length, excluded.length)",
        [(digest, new[digest]) for digest in fresh],
    )


def leave(c: sqlite3.Connection, where: str, values: tuple[str | int, ...]) -> None:
    """Let documents that are gone want nothing any more, within a transaction."""
    c.execute(f"DELETE FROM prefetch_for WHERE {where}", values)  # noqa: S608 - constants


_WANTED_BY = "SELECT digest FROM prefetch_for WHERE database = ? AND document = ?"
_COUNT = "SELECT count(*) FROM prefetch WHERE ?1 IS NULL OR length IS NULL OR length <= ?1"
_TRY_AGAIN = "UPDATE prefetch SET tries = 0, due = 0 WHERE due <> 0"
_DUE = """
SELECT digest, length, tries FROM prefetch
WHERE due <= ?2 AND (?1 IS NULL OR length IS NULL OR length <= ?1) ORDER BY due LIMIT ?3
"""
_NEXT_DUE = """
SELECT due FROM prefetch WHERE ?1 IS NULL OR length IS NULL OR length <= ?1 ORDER BY due LIMIT 1
"""


class PrefetchList:
    """The list.

    Args:
        file: of the references.
        largest: bytes; larger blobs stay on the list, and are passed over. None for any.
    """

    def __init__(self, file: ReferenceFile, largest: int | None = None) -> None:
        self._file = file
        self.largest = largest

    def begin(self, rules: Mapping[str, str]) -> list[str]:
        """Bring the list in line with the rules, and let everything be tried at once.

        Args:
            rules: the selector of each followed database, as text; empty for none.

        Returns:
            The databases that have to be read from their beginning for it, and will be.

        Raises:
            StoreFailure: it cannot be written.
        """

        def work(c: sqlite3.Connection) -> list[str]:
            old = dict(c.execute("SELECT database, rule FROM prefetch_rules"))
            anew = [name for name, rule in rules.items() if _changed(c, name, old.get(name), rule)]
            c.execute("DELETE FROM prefetch_rules")
            c.executemany("INSERT INTO prefetch_rules VALUES (?, ?)", rules.items())
            c.execute(_TRY_AGAIN)
            return anew

        return self._file.write(work)

    def due(self, now: float, limit: int) -> list[ToLoad]:
        """Return what is to be loaded by now, what waits for longest first.

        Raises:
            StoreFailure: it cannot be read.
        """
        rows = self._file.read(lambda c: c.execute(_DUE, (self.largest, now, limit)).fetchall())
        return [ToLoad(Digest(digest), length, tries) for digest, length, tries in rows]

    def next_due(self) -> float | None:
        """Return when the next one is to be loaded; None if none is.

        Raises:
            StoreFailure: it cannot be read.
        """
        row = self._file.read(lambda c: c.execute(_NEXT_DUE, (self.largest,)).fetchone())
        return None if row is None else float(row[0])

    def count(self) -> int:
        """Return how many blobs are to be loaded.

        Raises:
            StoreFailure: it cannot be read.
        """
        row = self._file.read(lambda c: c.execute(_COUNT, (self.largest,)).fetchone())
        return int(row[0])

    def take_off(self, digests: Iterable[Digest]) -> None:
        """Note that nothing more is to be done about these.

        Raises:
            StoreFailure: it cannot be written.
        """
        raw = [(each.raw,) for each in digests]

        def work(c: sqlite3.Connection) -> None:
            c.executemany("DELETE FROM prefetch_for WHERE digest = ?", raw)
            c.executemany("DELETE FROM prefetch WHERE digest = ?", raw)

        self._file.write(work)

    def put_off(self, digest: Digest, tries: int, due: float) -> None:
        """Note that loading one has failed so often, and when it is to be tried again.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._file.write(
            lambda c: c.execute(
                "UPDATE prefetch SET tries = ?, due = ? WHERE digest = ?", (tries, due, digest.raw)
            )
        )

    def try_again(self) -> None:
        """Let everything be tried at once.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._file.write(lambda c: c.execute(_TRY_AGAIN))

    def note_length(self, digest: Digest, length: int) -> None:
        """Note how long one is.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._file.write(
            lambda c: c.execute(
                "UPDATE prefetch SET length = ? WHERE digest = ?", (length, digest.raw)
            )
        )


def _changed(c: sqlite3.Connection, database: str, old: str | None, new: str) -> bool:
    """Put another rule in force; return whether the database is to be read anew."""
    if (old or "") == new:
        return False
    if not new:
        leave(c, "database = ?", (database,))
        return False
    if new == EVERYTHING:
        c.execute(
            "INSERT OR IGNORE INTO prefetch_for"
            " SELECT DISTINCT database, document, digest FROM refs WHERE database = ?",
            (database,),
        )
        c.execute(
            "INSERT OR IGNORE INTO prefetch SELECT digest, max(length), 0, 0 FROM refs"
            " WHERE database = ? GROUP BY digest",
            (database,),
        )
        return False
    leave(c, "database = ?", (database,))
    # That it was purged since is what the follower looks for, however often it is stopped.
    marked = c.execute(
        "UPDATE databases SET purged = ? WHERE name = ?", (_READ_ANEW, database)
    ).rowcount
    return marked > 0

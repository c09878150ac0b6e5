"""Which documents refer to which blobs (blocks).

Rule of this file: what a document refers to, and up to where its database was
read, are one transaction; so whatever is cut off, what is read again says the
same again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dtfc.couchdb import prefetchlist
from dtfc.couchdb.documents import BEGINNING, Reference
from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.digest import Digest

_ROWS = 500


@dataclass(frozen=True, slots=True)
class DocumentState:
    """What is known of a document now.

    Args:
        id: of the document.
        leaves: what each of its leaf revisions refers to, by revision; without
            those that refer to nothing.
        wanted: those of them that are to be loaded.
    """

    id: str
    leaves: tuple[tuple[str, tuple[Reference, ...]], ...]
    wanted: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """How far a database was read.

    Args:
        since: the sequence to go on from, as JSON.
        written: counts the times that this was written; of two checkpoints the
            one with less is the older.
        complete: whether it was read from its beginning to where it then ended.
        purged: how often was purged in it when that reading began, and
        instance: its ``instance_start_time`` then.
        scan: which reading from the beginning this is.
    """

    since: str = BEGINNING
    written: int = 0
    complete: bool = False
    purged: int = 0
    instance: str = ""
    scan: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that a document refers to.

    Args:
        database: in which it is.
        document: its id.
        revision: of it.
        name: under which the document has the blob.
        digest: of the blob.
        length: of the blob in bytes, as the document says; None if it does not.
    """

    database: str
    document: str
    revision: str
    name: str
    digest: Digest
    length: int | None


class References:
    """What the documents of followed databases refer to.

    Args:
        file: where it is kept.
    """

    def __init__(self, file: ReferenceFile) -> None:
        self.file = file

    # -- what a follower writes ---------------------------------------------

    def apply(self, database: str, documents: Sequence[DocumentState], since: str) -> None:
        """Enter what documents refer to now, and up to where the database was read.

        Args:
            database: its name.
            documents: each once.
            since: the sequence to go on from, as JSON.

        Raises:
            StoreFailure: it cannot be written; nothing of it was.
        """
        keys = [(database, each.id) for each in documents]
        refs = [
            (database, each.id, revision, ref.name, ref.digest.raw, ref.length)
            for each in documents
            for revision, references in each.leaves
            for ref in references
        ]
        # In the order of the documents, each once.
        referring = dict.fromkeys(row[:2] for row in refs)

        def work(c: sqlite3.Connection) -> None:
            scan = _known(c, database)
            c.executemany("DELETE FROM refs WHERE database = ? AND document = ?", keys)
            c.executemany("INSERT OR REPLACE INTO refs VALUES (?, ?, ?, ?, ?, ?)", refs)
            c.executemany(
                "DELETE FROM documents WHERE database = ? AND document = ?",
                [key for key in keys if key not in referring],
            )
            c.executemany(
                "INSERT OR REPLACE INTO documents VALUES (?, ?, ?)",
                [(*key, scan) for key in referring],
            )
            # Where nothing is prefetched, documents are not asked one by one.
            listed = prefetchlist.names_any(c, database)
            for key, each in zip(keys, documents, strict=True):
                if listed or each.wanted:
                    prefetchlist.enter(c, *key, each.wanted)
            c.execute(
                "UPDATE databases SET since = ?, written = written + 1 WHERE name = ?",
                (since, database),
            )

        self.file.write(work)

    def begin_scan(self, database: str, purged: int, instance: str) -> None:
        """Read a database from its beginning: it is not complete until that is done.

        What its documents were known to refer to counts until then.

        Raises:
            StoreFailure: it cannot be written.
        """

        def work(c: sqlite3.Connection) -> None:
            _known(c, database)
            c.execute(
                "UPDATE databases SET since = ?, written = 0, complete = 0, purged = ?,"
                " instance = ?, scan = scan + 1, began = (SELECT pass FROM collector)"
                " WHERE name = ?",
                (BEGINNING, purged, instance, database),
            )

        self.file.write(work)

    def finish_scan(self, database: str) -> int:
        """Note that a database was read to its end; return how many documents were gone.

        Raises:
            StoreFailure: it cannot be written.
        """

        def work(c: sqlite3.Connection) -> int:
            gone = (database, _known(c, database))
            where = (
                "database = ?1 AND document IN"
                " (SELECT document FROM documents WHERE database = ?1 AND scan < ?2)"
            )
            c.execute(f"DELETE FROM refs WHERE {where}", gone)  # noqa: S608 - a constant
            prefetchlist.leave(c, where, gone)
            done = c.execute("DELETE FROM documents WHERE database = ? AND scan < ?", gone)
            c.execute(
                "UPDATE databases SET complete = 1, verified = began WHERE name = ?", (database,)
            )
            return done.rowcount

        return self.file.write(work)

    def rewind(self, database: str, since: str, written: int) -> None:
        """Go on from an older checkpoint.

        Raises:
            StoreFailure: it cannot be written.
        """
        self.file.write(
            lambda c: c.execute(
                "UPDATE databases SET since = ?, written = ? WHERE name = ?",
                (since, written, database),
            )
        )

    def forget_database(self, database: str) -> None:
        """Forget a database that nobody follows any more, and all that it refers to.

        Raises:
            StoreFailure: it cannot be written.
        """

        def work(c: sqlite3.Connection) -> None:
            c.execute("DELETE FROM refs WHERE database = ?", (database,))
            prefetchlist.leave(c, "database = ?", (database,))
            c.execute("DELETE FROM documents WHERE database = ?", (database,))
            c.execute("DELETE FROM databases WHERE name = ?", (database,))

        self.file.write(work)

    # -- what others ask ----------------------------------------------------

    def state(self, database: str) -> DatabaseState:
        """Return how far a database was read; not at all, if it is unknown.

        Raises:
            StoreFailure: it cannot be read.
        """
        row = self.file.read(
            lambda c: c.execute(
                "SELECT since, written, complete, purged, instance, scan FROM databases"
                " WHERE name = ?",
                (database,),
            ).fetchone()
        )
        if row is None:
            return DatabaseState()
        since, written, complete, purged, instance, scan = row
        return DatabaseState(since, written, bool(complete), purged, instance, scan)

    def databases(self) -> list[str]:
        """Return the names of all databases that something is known of.

        Raises:
            StoreFailure: it cannot be read.
        """
        rows = self.file.read(
            lambda c: c.execute("SELECT name FROM databases ORDER BY name").fetchall()
        )
        return [row[0] for row in rows]

    def referenced(self, digest: Digest) -> bool:
        """Tell whether any revision of any document refers to a blob.

        Raises:
            StoreFailure: it cannot be read.
        """
        row = self.file.read(
            lambda c: c.execute(
                "SELECT 1 FROM refs WHERE digest = ? LIMIT 1", (digest.raw,)
            ).fetchone()
        )
        return row is not None

    def all_of(self, database: str) -> Iterator[Wanted]:
        """Go through what the documents of a database refer to, a page at a time.

        What changes meanwhile may be seen or not.

        Raises:
            StoreFailure: it cannot be read.
        """
        after = ("", "", "")
        while True:
            rows = self.file.read(
                lambda c, after=after: c.execute(  # type: ignore[misc]  # a default argument
                    "SELECT database, document, revision, name, digest, length FROM refs"
                    " WHERE database = ? AND (document, revision, name) > (?, ?, ?)"
                    " ORDER BY document, revision, name LIMIT ?",
                    (database, *after, _ROWS),
                ).fetchall()
            )
            yield from map(_wanted, rows)
            if len(rows) < _ROWS:
                return
            after = rows[-1][1:4]


def _known(c: sqlite3.Connection, database: str) -> int:
    """Return which reading of a database this is; enter it if it is unknown."""
    c.execute(
        "INSERT OR IGNORE INTO databases VALUES (?, ?, 0, 0, 0, '', 0, 0, 0)", (database, BEGINNING)
    )
    (scan,) = c.execute("SELECT scan FROM databases WHERE name = ?", (database,)).fetchone()
    return int(scan)


def _wanted(row: tuple[str, str, str, str, bytes, int | None]) -> Wanted:
    database, document, revision, name, digest, length = row
    return Wanted(database, document, revision, name, Digest(digest), length)

"""Which documents refer to which blobs: an SQLite file (blocks).

It is not the catalog's file, because it is rebuilt from CouchDB, and the catalog
from the tree. It says nothing about whether a blob is here.

Rules of this file: what a document refers to, and up to where its database was
read, are one transaction; so whatever is cut off, what is read again says the
same again. A damaged file is set aside, and every database is read anew: until
then none is complete, and nothing is garbage.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dtfc.couchdb import prefetchlist
from dtfc.couchdb.documents import BEGINNING, Reference
from dtfc.digest import Digest
from dtfc.errors import BrokenStore, StoreFailure
from dtfc.store.schema import is_full, is_spoiled, set_aside

VERSION = 1

TABLES = """
CREATE TABLE databases (
    name TEXT PRIMARY KEY, since TEXT NOT NULL, written INTEGER NOT NULL,
    complete INTEGER NOT NULL, purged INTEGER NOT NULL, instance TEXT NOT NULL,
    scan INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE documents (
    database TEXT NOT NULL, document TEXT NOT NULL, scan INTEGER NOT NULL,
    PRIMARY KEY (database, document)
) WITHOUT ROWID;
CREATE TABLE refs (
    database TEXT NOT NULL, document TEXT NOT NULL, revision TEXT NOT NULL, name TEXT NOT NULL,
    digest BLOB NOT NULL, length INTEGER,
    PRIMARY KEY (database, document, revision, name)
) WITHOUT ROWID;
CREATE INDEX refs_of ON refs (digest);
CREATE TABLE unreferenced (digest BLOB PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
CREATE TRIGGER ref_comes AFTER INSERT ON refs BEGIN
    DELETE FROM unreferenced WHERE digest = new.digest;
END;
"""

_BUSY_SECONDS = 10.0
_ROWS = 500

T = TypeVar("T")


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
    """The file of one store; used by one process, whose threads may share it.

    Args:
        path: of the file; made if there is none.
        now: the time of day in seconds.

    Attributes:
        was_spoiled: whether a damaged file was set aside.

    Raises:
        BrokenStore: it is of a later version.
        StoreFailure: it cannot be made.
    """

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self.was_spoiled = False
        try:
            self._connection = self._open()
        except OSError as error:
            raise StoreFailure("open its file of references", error) from error
        except sqlite3.Error as error:
            raise _failure("open", error) from error

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self._path)
        except sqlite3.Error as error:
            if not is_spoiled(error):
                raise
        self.was_spoiled = True
        set_aside(self._path)
        return _connect(self._path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # -- what a follower writes ---------------------------------------------

    def apply(self, database: str, documents: Sequence[DocumentState], since: str) -> None:
        """Enter what documents refer to now, and up to where the database was read.

        Raises:
            StoreFailure: it cannot be written; nothing of it was.
        """
        now = self._now()

        def work(c: sqlite3.Connection) -> None:
            scan = _known(c, database)
            for each in documents:
                key = (database, each.id)
                had = _digests(c, "database = ? AND document = ?", key)
                c.execute("DELETE FROM refs WHERE database = ? AND document = ?", key)
                for revision, references in each.leaves:
                    c.executemany(
                        "INSERT OR REPLACE INTO refs VALUES (?, ?, ?, ?, ?, ?)",
                        [
                            (database, each.id, revision, ref.name, ref.digest.raw, ref.length)
                            for ref in references
                        ],
                    )
                if any(references for _, references in each.leaves):
                    c.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (*key, scan))
                else:
                    c.execute("DELETE FROM documents WHERE database = ? AND document = ?", key)
                prefetchlist.enter(c, *key, each.wanted)
                _let_go(c, had, now)
            c.execute(
                "UPDATE databases SET since = ?, written = written + 1 WHERE name = ?",
                (since, database),
            )

        self._write(work)

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
                " instance = ?, scan = scan + 1 WHERE name = ?",
                (BEGINNING, purged, instance, database),
            )

        self._write(work)

    def finish_scan(self, database: str) -> int:
        """Note that a database was read to its end; return how many documents were gone.

        Raises:
            StoreFailure: it cannot be written.
        """
        now = self._now()

        def work(c: sqlite3.Connection) -> int:
            scan = _known(c, database)
            gone = c.execute(
                "SELECT document FROM documents WHERE database = ? AND scan < ?", (database, scan)
            ).fetchall()
            for (document,) in gone:
                self._remove(c, "database = ? AND document = ?", (database, document), now)
            c.execute("DELETE FROM documents WHERE database = ? AND scan < ?", (database, scan))
            c.execute("UPDATE databases SET complete = 1 WHERE name = ?", (database,))
            return len(gone)

        return self._write(work)

    def ask(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what something finds that changes nothing.

        Raises:
            StoreFailure: it cannot be read.
        """
        return self._read(work)

    def rewind(self, database: str, since: str, written: int) -> None:
        """Go on from an older checkpoint.

        Raises:
            StoreFailure: it cannot be written.
        """
        self._write(
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
        now = self._now()

        def work(c: sqlite3.Connection) -> None:
            self._remove(c, "database = ?", (database,), now)
            c.execute("DELETE FROM documents WHERE database = ?", (database,))
            c.execute("DELETE FROM databases WHERE name = ?", (database,))

        self._write(work)

    def _remove(
        self, c: sqlite3.Connection, where: str, values: tuple[str, ...], now: float
    ) -> None:
        had = _digests(c, where, values)
        c.execute(f"DELETE FROM refs WHERE {where}", values)  # noqa: S608 - constants
        prefetchlist.leave(c, where, values)
        _let_go(c, had, now)

    # -- what others ask ----------------------------------------------------

    def state(self, database: str) -> DatabaseState:
        """Return how far a database was read; not at all, if it is unknown.

        Raises:
            StoreFailure: it cannot be read.
        """
        row = self._read(
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
        rows = self._read(
            lambda c: c.execute("SELECT name FROM databases ORDER BY name").fetchall()
        )
        return [row[0] for row in rows]

    def referenced(self, digest: Digest) -> bool:
        """Tell whether any revision of any document refers to a blob.

        Raises:
            StoreFailure: it cannot be read.
        """
        row = self._read(
            lambda c: c.execute(
                "SELECT 1 FROM refs WHERE digest = ? LIMIT 1", (digest.raw,)
            ).fetchone()
        )
        return row is not None

    def unreferenced_since(self, digest: Digest) -> float | None:
        """Return when the last reference to a blob went; None if there never was one.

        Raises:
            StoreFailure: it cannot be read.
        """
        row = self._read(
            lambda c: c.execute(
                "SELECT since FROM unreferenced WHERE digest = ?", (digest.raw,)
            ).fetchone()
        )
        return None if row is None else float(row[0])

    def all_of(self, database: str) -> Iterator[Wanted]:
        """Go through what the documents of a database refer to, a page at a time.

        What changes meanwhile may be seen or not.

        Raises:
            StoreFailure: it cannot be read.
        """
        after = ("", "", "")
        while True:
            rows = self._read(
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

    # -- the file -----------------------------------------------------------

    def within(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in a transaction of its own, and return what it returns.

        Raises:
            StoreFailure: it failed; nothing of it was done.
        """
        return self._write(work)

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            c = self._connection
            try:
                c.execute("BEGIN IMMEDIATE")
                try:
                    done = work(c)
                    c.execute("COMMIT")
                except BaseException:
                    if c.in_transaction:
                        c.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise _failure("write", error) from error
            return done

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                raise _failure("read", error) from error


def _connect(path: str) -> sqlite3.Connection:
    c = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        c.execute("PRAGMA journal_mode=WAL")
        c.execute("PRAGMA synchronous=NORMAL")
        _ready(c, path)
    except BaseException:
        c.close()
        raise
    return c


def _ready(c: sqlite3.Connection, path: str) -> None:
    (version,) = c.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise BrokenStore(path, f"is version {version}; this program knows {VERSION}")
    if version == 0:
        c.executescript(f"BEGIN;{TABLES}PRAGMA user_version={VERSION};COMMIT;")
    c.executescript(f"BEGIN;{prefetchlist.TABLES}COMMIT;")
    # A damaged file shows itself here rather than at the first change.
    for table in ("databases", "documents", "refs", "unreferenced"):
        c.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 - constants


def _failure(what: str, error: sqlite3.Error) -> StoreFailure:
    code = errno.ENOSPC if is_full(error) else errno.EIO
    return StoreFailure(f"{what} its file of references", OSError(code, str(error)))


def _known(c: sqlite3.Connection, database: str) -> int:
    """Return which reading of a database this is; enter it if it is unknown."""
    c.execute(
        "INSERT OR IGNORE INTO databases VALUES (?, ?, 0, 0, 0, '', 0)", (database, BEGINNING)
    )
    (scan,) = c.execute("SELECT scan FROM databases WHERE name = ?", (database,)).fetchone()
    return int(scan)


def _digests(c: sqlite3.Connection, where: str, values: tuple[str, ...]) -> set[bytes]:
    rows = c.execute(f"SELECT DISTINCT digest FROM refs WHERE {where}", values)  # noqa: S608
    return {row[0] for row in rows}


def _let_go(c: sqlite3.Connection, digests: set[bytes], now: float) -> None:
    """Note of each that nothing refers to it any more, if that is so."""
    c.executemany(
        "INSERT OR IGNORE INTO unreferenced SELECT ?1, ?2"
        " WHERE NOT EXISTS (SELECT 1 FROM refs WHERE digest = ?1)",
        [(digest, now) for digest in digests],
    )


def _wanted(row: tuple[str, str, str, str, bytes, int | None]) -> Wanted:
    database, document, revision, name, digest, length = row
    return Wanted(database, document, revision, name, Digest(digest), length)

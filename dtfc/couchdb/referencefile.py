"""The SQLite file of what documents refer to, and of what nothing refers to (blocks).

It is not the catalog's file, because it is rebuilt from CouchDB, and the catalog
from the tree. It says nothing about whether a blob is here.

A damaged file, or one of an earlier version, is set aside, and every database is
read anew: until then none is complete, and nothing is garbage.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from dtfc.errors import BrokenStore, StoreFailure
from dtfc.store.schema import is_full, is_spoiled, set_aside

VERSION = 2

TABLES = """
CREATE TABLE databases (
    name TEXT PRIMARY KEY, since TEXT NOT NULL, written INTEGER NOT NULL,
    complete INTEGER NOT NULL, purged INTEGER NOT NULL, instance TEXT NOT NULL,
    scan INTEGER NOT NULL, began INTEGER NOT NULL, verified INTEGER NOT NULL
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
CREATE TABLE garbage (
    digest BLOB PRIMARY KEY, since REAL NOT NULL, pass INTEGER NOT NULL, seen INTEGER NOT NULL,
    stamp INTEGER NOT NULL, length INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER ref_comes AFTER INSERT ON refs BEGIN
    DELETE FROM garbage WHERE digest = new.digest;
END;
CREATE TABLE collected (digest BLOB PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE collector (
    one INTEGER PRIMARY KEY CHECK (one = 1), seconds REAL NOT NULL, pass INTEGER NOT NULL,
    verified REAL NOT NULL, told TEXT NOT NULL
);
INSERT INTO collector VALUES (1, 0, 1, -1e18, '{}');
CREATE TABLE prefetch (
    digest BLOB PRIMARY KEY, length INTEGER, tries INTEGER NOT NULL, due REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX prefetch_due ON prefetch (due);
CREATE TABLE prefetch_for (
    database TEXT NOT NULL, document TEXT NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (database, document, digest)
) WITHOUT ROWID;
CREATE INDEX prefetch_for_whom ON prefetch_for (digest);
CREATE TABLE prefetch_rules (
    database TEXT PRIMARY KEY, rule TEXT NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER prefetch_for_nobody AFTER DELETE ON prefetch_for BEGIN
    DELETE FROM prefetch WHERE digest = old.digest
        AND NOT EXISTS (SELECT 1 FROM prefetch_for WHERE digest = old.digest);
END;
"""

_NAMES = ("databases", "documents", "refs", "garbage", "collected", "collector", "prefetch")

_BUSY_SECONDS = 10.0

T = TypeVar("T")


class ReferenceFile:
    """The file of one store; threads and processes may share it.

    Args:
        path: of the file; made if there is none.

    Attributes:
        was_spoiled: whether a file that cannot be used was set aside.

    Raises:
        BrokenStore: it is of a later version.
        StoreFailure: it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._path = path
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
            found = _connect(self._path)
        except sqlite3.Error as error:
            if not is_spoiled(error):
                raise
        else:
            if found is not None:
                return found
        self.was_spoiled = True
        set_aside(self._path)
        made = _connect(self._path)
        if made is None:
            raise sqlite3.DatabaseError("another process keeps an earlier version of it")
        return made

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        with self._lock:
            self._connection.close()

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction.

        Raises:
            StoreFailure: it cannot be written; nothing of it was.
        """
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

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Look something up.

        Raises:
            StoreFailure: it cannot be read.
        """
        with self._lock:
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                raise _failure("read", error) from error


def _connect(path: str) -> sqlite3.Connection | None:
    """Open the file; None if it is of an earlier version, which nobody needs."""
    c = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        c.execute("PRAGMA journal_mode=WAL")
        c.execute("PRAGMA synchronous=NORMAL")
        if _ready(c, path):
            return c
    except BaseException:
        c.close()
        raise
    c.close()
    return None


def _ready(c: sqlite3.Connection, path: str) -> bool:
    # One process makes the tables, the others find them.
    c.execute("BEGIN IMMEDIATE")
    try:
        (version,) = c.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _statements():
                c.execute(statement)
            c.execute(f"PRAGMA user_version={VERSION}")
    finally:
        c.execute("COMMIT")
    if version > VERSION:
        raise BrokenStore(path, f"is version {version}; this program knows {VERSION}")
    if version not in {0, VERSION}:
        return False
    # A damaged file shows itself here rather than at the first change.
    for table in _NAMES:
        c.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 - constants
    return True


def _statements() -> list[str]:
    found: list[str] = []
    left = ""
    for line in TABLES.splitlines(keepends=True):
        left += line
        if sqlite3.complete_statement(left):
            found.append(left)
            left = ""
    return found


def _failure(what: str, error: sqlite3.Error) -> StoreFailure:
    code = errno.ENOSPC if is_full(error) else errno.EIO
    return StoreFailure(f"{what} its file of references", OSError(code, str(error)))

"""The catalog's tables, and how its file is opened, judged and set aside."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator

from dtfc.errors import BrokenStore

VERSION = 3

# Names are compared as bytes of UTF-8 (SQLite's BINARY), which is also the
# order of their code points. The totals are kept by triggers, because counting
# a million rows takes longer than a status page may.
TABLES = """
CREATE TABLE blobs (
    digest BLOB PRIMARY KEY, length INTEGER NOT NULL, stored_at REAL NOT NULL, name TEXT
) WITHOUT ROWID;
CREATE TABLE names (
    name TEXT NOT NULL, digest BLOB NOT NULL, at REAL NOT NULL, PRIMARY KEY (name, digest)
) WITHOUT ROWID;
CREATE INDEX names_of ON names (digest);
CREATE TABLE tombstones (digest BLOB PRIMARY KEY, at TEXT NOT NULL, node TEXT) WITHOUT ROWID;
CREATE TABLE verified (digest BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE unsettled (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE totals (blobs INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER blob_comes AFTER INSERT ON blobs BEGIN
    UPDATE totals SET blobs = blobs + 1, bytes = bytes + new.length;
END;
CREATE TRIGGER blob_goes AFTER DELETE ON blobs BEGIN
    UPDATE totals SET blobs = blobs - 1, bytes = bytes - old.length;
END;
CREATE TRIGGER blob_changes AFTER UPDATE OF length ON blobs BEGIN
    UPDATE totals SET bytes = bytes + new.length - old.length;
END;
"""

# What later versions have added, by the version that did. A catalog is brought
# up to date and not made anew: it is a memory, too.
ADDED = {
    3: """
CREATE TABLE deletions (
    digest BLOB PRIMARY KEY, counter INTEGER NOT NULL, deleted INTEGER NOT NULL,
    id TEXT NOT NULL, at TEXT NOT NULL, node TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE ranges (
    prefix TEXT PRIMARY KEY, hash BLOB NOT NULL, records INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER record_comes AFTER INSERT ON deletions BEGIN
    DELETE FROM ranges WHERE prefix IN (
        '', lower(substr(hex(substr(new.digest, 1, 2)), 1, 1)),
        lower(substr(hex(substr(new.digest, 1, 2)), 1, 2)),
        lower(substr(hex(substr(new.digest, 1, 2)), 1, 3)),
        lower(hex(substr(new.digest, 1, 2)))
    );
END;
CREATE TABLE receipts (
    id TEXT PRIMARY KEY, digest BLOB NOT NULL, counter INTEGER NOT NULL, at TEXT NOT NULL,
    made REAL NOT NULL, addressed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX unaddressed ON receipts (id) WHERE NOT addressed;
CREATE TABLE deliveries (
    receipt TEXT NOT NULL, peer TEXT NOT NULL, state TEXT NOT NULL, at TEXT,
    PRIMARY KEY (receipt, peer)
) WITHOUT ROWID;
CREATE INDEX pending ON deliveries (peer, receipt) WHERE state = 'pending';
CREATE TABLE unreached (
    peer TEXT PRIMARY KEY, failures INTEGER NOT NULL, next_try REAL NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
""",
}

#: The oldest version that can be brought up to date.
_OLDEST = 2

_BUSY_SECONDS = 10.0
_SPOILED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_spoiled(error: sqlite3.Error) -> bool:
    """Tell whether an error means that the file itself is damaged."""
    # The low byte is the primary code; the rest says in which part it was found.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _SPOILED


def is_full(error: sqlite3.Error) -> bool:
    """Tell whether an error means that the disk has no room."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Hold the lock under which a catalog is made or set aside."""
    fd = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def connect(path: str) -> sqlite3.Connection:
    """Open a catalog, and make its tables if it has none.

    A power cut may lose the last transactions (``synchronous=NORMAL``), never
    the file; whoever opens it next is told by another sign to rebuild it.

    Raises:
        BrokenStore: it is of a later version.
        sqlite3.Error: it cannot be used.
    """
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        # Nothing, except on macOS: the same as for the store's own files.
        connection.execute("PRAGMA checkpoint_fullfsync=ON")
        _ready(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _ready(connection: sqlite3.Connection, path: str) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise BrokenStore(
            path, f"is version {version} of the catalog; this program knows {VERSION}"
        )
    if version == 0:
        added = "".join(ADDED[each] for each in sorted(ADDED))
        connection.executescript(f"BEGIN;{TABLES}{added}PRAGMA user_version={VERSION};COMMIT;")
    for each in range(version + 1, VERSION + 1) if version >= _OLDEST else ():
        connection.executescript(f"BEGIN;{ADDED[each]}PRAGMA user_version={each};COMMIT;")
    # A damaged file shows itself here rather than at the first PUT.
    connection.execute("SELECT blobs, bytes FROM totals").fetchone()
    for table in (
        *("blobs", "names", "tombstones", "unsettled", "verified"),
        *("deletions", "ranges", "receipts", "deliveries", "unreached"),
    ):
        connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 - constants


def set_aside(path: str) -> None:
    """Rename a damaged catalog, so that a new one can be made.

    Raises:
        OSError: it cannot be renamed.
    """
    stamp = time.time_ns()
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{path}.damaged-{stamp}{suffix}")

"""The queue of blobs that are to be copied to peers, on the disk.

An SQLite file of its own, beside the catalog: the catalog may be thrown away
and made anew from the tree, and the tree does not say what was promised to a
client. What is entered is durable when :meth:`Outbox.apply` returns; what is
taken out need not be, since a copy that is made twice is made once.

Every process of a node enters what it stored itself, and works on that. Each
holds the lock of a file beside the queue; what belongs to somebody whose lock
is free is adopted by another one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dtfc.digest import Digest
from dtfc.errors import BrokenStore, StoreFailure
from dtfc.store import durable, schema

VERSION = 1

_TABLES = """
CREATE TABLE entries (
    digest BLOB PRIMARY KEY, owner TEXT NOT NULL, since REAL NOT NULL, due REAL NOT NULL, why TEXT
) WITHOUT ROWID;
CREATE INDEX entries_due ON entries (owner, due);
CREATE INDEX entries_since ON entries (since);
CREATE TABLE waits (
    number INTEGER PRIMARY KEY, peer TEXT NOT NULL, digest BLOB NOT NULL, UNIQUE (digest, peer)
);
CREATE INDEX waits_peer ON waits (peer, number);
CREATE TABLE peers (number INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE);
CREATE TABLE copies (
    digest BLOB NOT NULL, peer INTEGER NOT NULL, PRIMARY KEY (digest, peer)
) WITHOUT ROWID;
CREATE TABLE totals (entries INTEGER NOT NULL, stuck INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER entry_comes AFTER INSERT ON entries BEGIN
    UPDATE totals SET entries = entries + 1, stuck = stuck + (new.why IS NOT NULL);
END;
CREATE TRIGGER entry_changes AFTER UPDATE OF why ON entries BEGIN
    UPDATE totals SET stuck = stuck + (new.why IS NOT NULL) - (old.why IS NOT NULL);
END;
CREATE TRIGGER entry_goes AFTER DELETE ON entries BEGIN
    UPDATE totals SET entries = entries - 1, stuck = stuck - (old.why IS NOT NULL);
    DELETE FROM waits WHERE digest = old.digest;
END;
"""

_BUSY_SECONDS = 10.0
_ADOPTED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Add:
    """A client stored this blob: copies are owed.

    Args:
        digest: which.
        at: when, in seconds since 1970.
    """

    digest: Digest
    at: float


@dataclass(frozen=True, slots=True)
class Done:
    """All copies are made.

    Args:
        digest: of which blob.
        held: URLs of the peers that have it.
    """

    digest: Digest
    held: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Some copies are not made, and will be when something changes.

    Args:
        digest: of which blob.
        held: URLs of the peers that have it.
        due: when to look again at the latest, in seconds since 1970.
        peers: that are waited for.
        why: what an operator has to know of; None if all is as it should be.
    """

    digest: Digest
    held: tuple[str, ...]
    due: float
    peers: tuple[str, ...] = ()
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """The blob was deleted: nothing is owed, and who has it is not known."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Again:
    """What is stuck is due now: something has changed that it may have waited for.

    Args:
        at: now, in seconds since 1970.
    """

    at: float


Step = Add | Done | Wait | Drop | Again


@dataclass(frozen=True, slots=True)
class Length:
    """How the queue is.

    Args:
        entries: blobs that lack copies.
        stuck: those of them that an operator has to know of.
        oldest: since when the oldest is in it, in seconds since 1970; None if
            it is empty.
    """

    entries: int
    stuck: int
    oldest: float | None

    def age(self, now: float) -> float:
        """Return for how many seconds the oldest has been in it; 0 if it is empty."""
        return 0.0 if self.oldest is None else max(0.0, now - self.oldest)


class Outbox:
    """The queue of one store; many threads and processes may use it.

    Args:
        folder: where it lies; made if it is missing.

    Raises:
        BrokenStore: it is of a later version.
        StoreFailure: it cannot be opened.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = f"{folder}/queue.sqlite"
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._owner_fd = -1
        self.owner = secrets.token_hex(8)
        self.set_aside = False
        """Whether a queue was found here that cannot be read; it lies beside the new one."""
        with _failing("open the queue of copies"):
            if not os.path.isdir(folder):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                durable.sync_folder(os.path.dirname(folder))
            self._claim()
            try:
                with schema.alone(folder):
                    self._connection = self._connect()
            except BaseException:
                self.close()
                raise

    # -- in and out ----------------------------------------------------------

    def apply(self, steps: Sequence[Step]) -> list[bool]:
        """Do all of this in one transaction; what was added is durable then.

        Returns:
            For each step whether the entry is, or was, this process's own.

        Raises:
            StoreFailure: nothing of it is done.
        """
        urgent = any(isinstance(step, Add) for step in steps)
        with self._transaction(durably=urgent) as connection:
            return [self._step(connection, step) for step in steps]

    def _step(self, c: sqlite3.Connection, step: Step) -> bool:
        if isinstance(step, Again):
            c.execute(
                "UPDATE entries SET due = min(due, ?) WHERE owner = ? AND why IS NOT NULL",
                (step.at, self.owner),
            )
            return True
        raw = step.digest.raw
        match step:
            case Add():
                # Whoever had a copy before may have deleted it: all are asked again.
                c.execute("DELETE FROM copies WHERE digest = ?", (raw,))
                found = c.execute("SELECT owner FROM entries WHERE digest = ?", (raw,)).fetchone()
                if found is None:
                    c.execute(
                        "INSERT INTO entries VALUES (?, ?, ?, ?, NULL)",
                        (raw, self.owner, step.at, step.at),
                    )
                    return True
                # Whoever has it looks again, whatever it waits for.
                c.execute("UPDATE entries SET due = min(due, ?) WHERE digest = ?", (step.at, raw))
                return bool(found[0] == self.owner)
            case Drop():
                c.execute("DELETE FROM copies WHERE digest = ?", (raw,))
                c.execute("DELETE FROM entries WHERE digest = ?", (raw,))
                return True
            case Done():
                # Unless it was deleted meanwhile, and perhaps stored anew.
                gone = c.execute(
                    "DELETE FROM entries WHERE digest = ? AND owner = ?", (raw, self.owner)
                )
                if gone.rowcount:
                    self._enter_copies(c, raw, step.held)
                return bool(gone.rowcount)
            case Wait():
                kept = c.execute(
                    "UPDATE entries SET due = ?, why = ? WHERE digest = ? AND owner = ?",
                    (step.due, step.why, raw, self.owner),
                )
                if kept.rowcount:
                    self._enter_copies(c, raw, step.held)
                    c.execute("DELETE FROM waits WHERE digest = ?", (raw,))
                    c.executemany(
                        "INSERT INTO waits (peer, digest) VALUES (?, ?)",
                        [(peer, raw) for peer in step.peers],
                    )
                return bool(kept.rowcount)

    def _enter_copies(self, c: sqlite3.Connection, raw: bytes, held: tuple[str, ...]) -> None:
        c.executemany("INSERT OR IGNORE INTO peers (url) VALUES (?)", [(url,) for url in held])
        c.executemany(
            "INSERT OR IGNORE INTO copies SELECT ?, number FROM peers WHERE url = ?",
            [(raw, url) for url in held],
        )

    def due(self, now: float, limit: int) -> list[Digest]:
        """Return what this process should look at now, the longest overdue first.

        Args:
            now: seconds since 1970.
            limit: at most so many.

        Raises:
            StoreFailure: the queue cannot be read.
        """
        rows = self._read(
            "SELECT digest FROM entries WHERE owner = ? AND due <= ? ORDER BY due LIMIT ?",
            (self.owner, now, limit),
        )
        return [Digest(raw) for (raw,) in rows]

    def waiting_for(self, peer: str, limit: int) -> list[Digest]:
        """Return what waits for a peer, and is this process's own; the first one first.

        Raises:
            StoreFailure: the queue cannot be read.
        """
        rows = self._read(
            # CROSS: SQLite must walk the peer's own, which are in order already.
            "SELECT waits.digest FROM waits CROSS JOIN entries ON entries.digest = waits.digest"
            " WHERE waits.peer = ? AND entries.owner = ? ORDER BY waits.number LIMIT ?",
            (peer, self.owner, limit),
        )
        return [Digest(raw) for (raw,) in rows]

    def awaited(self) -> list[str]:
        """Return the URLs of the peers that anything waits for.

        Raises:
            StoreFailure: the queue cannot be read.
        """
        # One step for each peer, whatever waits for it.
        rows = self._read(
            "WITH RECURSIVE each(peer) AS (SELECT min(peer) FROM waits UNION ALL"
            " SELECT (SELECT min(peer) FROM waits WHERE peer > each.peer) FROM each"
            " WHERE each.peer IS NOT NULL) SELECT peer FROM each WHERE peer IS NOT NULL",
            (),
        )
        return [peer for (peer,) in rows]

    def copies(self, digest: Digest) -> list[str]:
        """Return the URLs of the peers that are known to have a blob, in order.

        Raises:
            StoreFailure: the queue cannot be read.
        """
        rows = self._read(
            "SELECT url FROM copies JOIN peers ON number = peer WHERE digest = ? ORDER BY url",
            (digest.raw,),
        )
        return [url for (url,) in rows]

    def length(self) -> Length:
        """Return how the queue is, of all processes together.

        Raises:
            StoreFailure: the queue cannot be read.
        """
        ((entries, stuck, oldest),) = self._read(
            "SELECT entries, stuck, (SELECT min(since) FROM entries) FROM totals", ()
        )
        return Length(entries, stuck, oldest)

    # -- whose it is ----------------------------------------------------------

    def adopt(self, latest: float) -> int:
        """Take over what belongs to processes that are gone.

        Args:
            latest: seconds since 1970; what is due later than that was entered
                by another clock, and is due now.

        Returns:
            How many entries.

        Raises:
            StoreFailure: the queue cannot be read or written.
        """
        count = 0
        with _failing("adopt copies"), self._searching():
            owners = {name for name in os.listdir(self._folder) if _is_owner(name)}
            owners |= {owner for (owner,) in self._read(_OWNERS, ())}
            for owner in owners - {self.owner}:
                if self._lives(owner):
                    continue
                count += self._take_from(owner)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._folder}/{owner}")
        with self._transaction() as connection:
            connection.execute(
                "UPDATE entries SET due = 0 WHERE owner = ? AND due > ?", (self.owner, latest)
            )
        return count

    def _take_from(self, owner: str) -> int:
        count = 0
        while True:
            with self._transaction() as connection:
                taken = connection.execute(
                    "UPDATE entries SET owner = ? WHERE digest IN"
                    " (SELECT digest FROM entries WHERE owner = ? LIMIT ?)",
                    (self.owner, owner, _ADOPTED_AT_ONCE),
                ).rowcount
            count += taken
            if taken < _ADOPTED_AT_ONCE:
                return count

    def _lives(self, owner: str) -> bool:
        try:
            fd = os.open(f"{self._folder}/{owner}", _OPENED)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _claim(self) -> None:
        """Make the file whose lock says that this process lives."""
        with self._searching():
            self._owner_fd = os.open(
                f"{self._folder}/{self.owner}", _OPENED | os.O_CREAT | os.O_EXCL, 0o600
            )
            fcntl.flock(self._owner_fd, fcntl.LOCK_EX)

    @contextlib.contextmanager
    def _searching(self) -> Iterator[None]:
        """Hold the lock under which owners come, and are looked for."""
        fd = os.open(f"{self._folder}/owners", _OPENED | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close it; what is left is adopted by whoever comes next. Harmless when repeated."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            fd, self._owner_fd = self._owner_fd, -1
            if fd >= 0:
                os.close(fd)

    # -- SQLite ---------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        made = not os.path.exists(self._path)
        try:
            connection = self._opened()
        except sqlite3.Error as error:
            if not schema.is_spoiled(error) and "no such" not in str(error):
                raise
            schema.set_aside(self._path)
            self.set_aside = made = True
            connection = self._opened()
        if made:
            durable.sync_folder(self._folder)
        return connection

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # Nothing, except on macOS: the same as for the store's own files.
            connection.execute("PRAGMA fullfsync=ON")
            connection.execute("PRAGMA checkpoint_fullfsync=ON")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            self._check(version)
            if version == 0:
                connection.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={VERSION};COMMIT;")
            # A damaged file shows itself here rather than at the first PUT.
            for table in ("entries", "waits", "peers", "copies", "totals"):
                connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 - constants
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, version: int) -> None:
        if version > VERSION:
            raise BrokenStore(
                self._path, f"is version {version} of the queue; this program knows {VERSION}"
            )

    @contextlib.contextmanager
    def _transaction(self, *, durably: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock, _failing("write the queue of copies"):
            connection = self._open_connection()
            # With NORMAL a commit waits for no disk: a loss of power may undo it.
            connection.execute(f"PRAGMA synchronous={'FULL' if durably else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # Some errors (a full disk) have rolled back already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock, _failing("read the queue of copies"):
            return self._open_connection().execute(query, values).fetchall()

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise OSError(errno.EBADF, "the queue of copies is closed")
        return self._connection


_OPENED = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNERS = (
    "WITH RECURSIVE each(owner) AS (SELECT min(owner) FROM entries UNION ALL"
    " SELECT (SELECT min(owner) FROM entries WHERE owner > each.owner) FROM each"
    " WHERE each.owner IS NOT NULL) SELECT owner FROM each WHERE owner IS NOT NULL"
)


def _is_owner(name: str) -> bool:
    return len(name) == 16 and not name.strip("0123456789abcdef")


@contextlib.contextmanager
def _failing(operation: str) -> Iterator[None]:
    """Say what was done when SQLite or the operating system refused."""
    try:
        yield
    except sqlite3.Error as error:
        code = errno.ENOSPC if schema.is_full(error) else errno.EIO
        raise StoreFailure(operation, OSError(code, str(error))) from error
    except OSError as error:
        raise StoreFailure(operation, error) from error

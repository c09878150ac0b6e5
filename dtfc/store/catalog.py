"""The index of what the tree holds: names, sizes, and the memory of deletions.

The tree decides; the catalog only says it faster. So nothing here may stop a
PUT or a DELETE: when SQLite fails (a full disk, a damaged file), the failure is
swallowed, ``needs_reindex`` is set and stays set on disk, and :meth:`Catalog.reindex`
makes the catalog agree with the tree again.

Whoever changes a blob notes its digest as unsettled before, and clears that
together with what became of it. What a killed process left unsettled is looked
up in the tree by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from dtfc.digest import Digest
from dtfc.errors import Draining, StoreFailure
from dtfc.store import durable, schema
from dtfc.store.facts import BlobInfo
from dtfc.store.listing import (
    NameRow,
    Page,
    Reindexed,
    Tombstone,
    Totals,
    comparable,
    cursor,
    parse_cursor,
    prefix_end,
)

__all__ = ["Catalog", "NameRow", "Page", "Reindexed", "Tombstone", "Totals", "Tree"]

MOST_ROWS = 1000
_BATCH = 1000


class Tree(Protocol):
    """What the catalog is rebuilt from."""

    def folders(self) -> Iterator[Digest]:
        """Every digest that has a blob or a marker."""

    def keeps(self, digest: Digest) -> bool:
        """Whether a blob's bytes are here, and no tombstone."""

    def settle(self, digest: Digest) -> None:
        """Enter what the tree says of a digest, while nobody can change it."""


class Catalog:
    """The SQLite file of one store; many threads and processes may use it.

    Args:
        folder: where the file lies.
        populated: tells whether the tree may hold blobs; asked when the file
            has to be made.
        shows: tells whether a blob is here and may be read; asked for every
            row that is listed, because a marker is made without our knowing.

    Raises:
        BrokenStore: it is of a later version.
    """

    def __init__(
        self,
        folder: str,
        *,
        populated: Callable[[], bool],
        shows: Callable[[Digest], bool] = lambda _: True,
    ) -> None:
        self._folder = folder
        self._populated = populated
        self._shows = shows
        self._path = f"{folder}/catalog.sqlite"
        self._wanted = f"{folder}/reindex"
        self._running = f"{folder}/reindexing"
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._missed = False
        with contextlib.suppress(sqlite3.Error, OSError):
            self._connect()

    # -- what must not fail -------------------------------------------------

    def begin(self, digest: Digest) -> None:
        """Note that a blob is about to change; call it with the blob's lock held."""
        self._write(
            lambda c: c.execute("INSERT OR IGNORE INTO unsettled VALUES (?)", (digest.raw,))
        )

    def abandon(self, digest: Digest) -> None:
        """Note that it did not change after all."""
        self._write(lambda c: _settled(c, digest))

    def record(self, info: BlobInfo) -> None:
        """Enter a blob and its names; forget that it was ever deleted."""

        def work(c: sqlite3.Connection) -> None:
            raw = info.digest.raw
            c.execute(
                "INSERT INTO blobs VALUES (?1, ?2, ?3, ?4) ON CONFLICT (digest) DO UPDATE"
                " SET length = ?2, stored_at = ?3, name = ?4",
                (raw, info.length, info.stored_at, info.name),
            )
            known = {row[0] for row in c.execute("SELECT name FROM names WHERE digest = ?", (raw,))}
            c.executemany(
                "DELETE FROM names WHERE name = ? AND digest = ?",
                [(name, raw) for name in known.difference(info.names)],
            )
            c.executemany(
                "INSERT OR REPLACE INTO names VALUES (?, ?, ?)",
                [(name, raw, info.stored_at) for name in set(info.names) - known],
            )
            c.execute("DELETE FROM tombstones WHERE digest = ?", (raw,))
            _settled(c, info.digest)

        self._write(work)

    def record_new(self, infos: Sequence[BlobInfo]) -> None:
        """Enter blobs that had not even a folder before, all at once."""

        def work(c: sqlite3.Connection) -> None:
            raw = [(info.digest.raw,) for info in infos]
            c.executemany("DELETE FROM names WHERE digest = ?", raw)
            c.executemany("DELETE FROM tombstones WHERE digest = ?", raw)
            c.executemany(
                "INSERT INTO blobs VALUES (?1, ?2, ?3, ?4) ON CONFLICT (digest) DO UPDATE"
                " SET length = ?2, stored_at = ?3, name = ?4",
                [(info.digest.raw, info.length, info.stored_at, info.name) for info in infos],
            )
            c.executemany(
                "INSERT OR REPLACE INTO names VALUES (?, ?, ?)",
                [
                    (name, info.digest.raw, info.stored_at)
                    for info in infos
                    for name in set(info.names)
                ],
            )

        self._write(work)

    def forget(self, digest: Digest, tombstone: Tombstone | None = None) -> None:
        """Take a blob out, and remember its deletion if that is what it was."""

        def work(c: sqlite3.Connection) -> None:
            c.execute("DELETE FROM blobs WHERE digest = ?", (digest.raw,))
            c.execute("DELETE FROM names WHERE digest = ?", (digest.raw,))
            c.execute("DELETE FROM verified WHERE digest = ?", (digest.raw,))
            if tombstone is not None:
                c.execute(
                    "INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)",
                    (digest.raw, tombstone.at, tombstone.node),
                )
            _settled(c, digest)

        self._write(work)

    @property
    def needs_reindex(self) -> bool:
        """Whether the catalog may disagree with the tree; survives a restart."""
        return self._missed or os.path.exists(self._wanted) or os.path.exists(self._running)

    def require_reindex(self, *, spoiled: bool = False) -> None:
        """Note that the catalog may disagree with the tree.

        Args:
            spoiled: the file is damaged: whoever opens it next sets it aside.
        """
        new = not os.path.exists(self._wanted)
        try:
            with open(self._wanted, "ab") as file:
                file.write(b"damaged\n" if spoiled else b"")
            if new:
                # Else it is lost, should the store be closed and the power fail.
                durable.sync_folder(self._folder)
        except OSError:
            self._missed = True

    # -- what may -----------------------------------------------------------

    def by_name(
        self,
        *,
        name: str | None = None,
        prefix: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page:
        """List names and the blobs that have them, and that may be read right now.

        A page may hold fewer rows than its limit, even none, and others follow
        all the same.

        Args:
            name: only this one.
            prefix: only those that begin with it.
            after: the ``next`` of the page before.
            limit: rows to a page, 1 to 1000.

        Raises:
            BadInput: ``after`` is nothing that this method gave out.
            StoreFailure: the catalog cannot be read.
        """
        where, values = ["1"], list[Any]()
        if name is not None:
            where.append("names.name = ?")
            values.append(comparable(name))
        if prefix:
            where.append("names.name >= ?")
            values.append(comparable(prefix))
            end = prefix_end(comparable(prefix))
            if end is not None:
                where.append("names.name < ?")
                values.append(end)
        if after is not None:
            where.append("(names.name, names.digest) > (?, ?)")
            values.extend(parse_cursor(after))
        limit = max(1, min(limit, MOST_ROWS))
        found = self._read(
            "SELECT names.name, names.digest, blobs.length, blobs.stored_at"  # noqa: S608 - constants
            # CROSS: SQLite must walk the names, which are in order already.
            " FROM names CROSS JOIN blobs ON blobs.digest = names.digest"
            f" WHERE {' AND '.join(where)} ORDER BY names.name, names.digest LIMIT ?",
            (*values, limit + 1),
        )
        rows = [NameRow(row[0], Digest(row[1]), row[2], row[3]) for row in found[:limit]]
        following = cursor(rows[-1]) if len(found) > limit else None
        try:
            shown = {digest for digest in {row.digest for row in rows} if self._shows(digest)}
        except OSError as error:
            raise StoreFailure("look at a blob", error) from error
        return Page(tuple(row for row in rows if row.digest in shown), following)

    def totals(self) -> Totals:
        """Say how many blobs are here, and how many bytes.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return Totals(*self._read("SELECT blobs, bytes FROM totals", ())[0])

    def tombstones(self, after: Digest | None = None, limit: int = _BATCH) -> list[Tombstone]:
        """List the deletions that are remembered, by digest.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        rows = self._read(
            "SELECT digest, at, node FROM tombstones WHERE digest > ? ORDER BY digest LIMIT ?",
            (after.raw if after else b"", limit),
        )
        return [Tombstone(Digest(digest), at, node) for digest, at, node in rows]

    def digests(self, after: Digest | None = None, limit: int = _BATCH) -> list[Digest]:
        """List the blobs that are entered, by digest.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        rows = self._read(
            "SELECT digest FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?",
            (after.raw if after else b"", limit),
        )
        return [Digest(raw) for (raw,) in rows]

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is entered.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return bool(self._read("SELECT 1 FROM blobs WHERE digest = ?", (digest.raw,)))

    def length_of(self, digest: Digest) -> int | None:
        """Return how many bytes a blob had when it was entered; None if it is not.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        rows = self._read("SELECT length FROM blobs WHERE digest = ?", (digest.raw,))
        return int(rows[0][0]) if rows else None

    def note_verified(self, digests: Sequence[Digest], at: float) -> None:
        """Note that every byte of these blobs was read and found right.

        Args:
            digests: which.
            at: when, in seconds since 1970.
        """

        def work(c: sqlite3.Connection) -> None:
            c.executemany(
                "INSERT OR REPLACE INTO verified VALUES (?, ?)",
                [(digest.raw, at) for digest in digests],
            )

        self._write(work)

    def verified_at(self, digest: Digest) -> float | None:
        """Return when a blob was last found right, in seconds since 1970; None if never.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        rows = self._read("SELECT at FROM verified WHERE digest = ?", (digest.raw,))
        return float(rows[0][0]) if rows else None

    def unsettled(self) -> list[Digest]:
        """List what was about to change when its process was killed, or is right now."""
        try:
            return [Digest(raw) for (raw,) in self._read("SELECT digest FROM unsettled", ())]
        except StoreFailure:
            return []

    def reindex(self, tree: Tree, stopped: Callable[[], bool]) -> Reindexed:
        """Make the catalog agree with the tree, while PUTs and DELETEs go on.

        Each digest is looked up and entered under its own lock, so what this
        walk has seen and a DELETE has removed since is not entered again.
        Deletions that are remembered stay remembered.

        Args:
            tree: what is so.
            stopped: asked before each digest; True gives up.

        Raises:
            Draining: it was given up; ``needs_reindex`` stays set.
            StoreFailure: the tree cannot be listed, or the catalog not read;
                ``needs_reindex`` stays set.
        """
        # A file that was found to be damaged is set aside by this.
        self.totals()
        with contextlib.suppress(OSError):
            # From here on a new failure leaves a new note.
            with open(self._wanted, "ab"):
                pass
            os.replace(self._wanted, self._running)
            durable.sync_folder(self._folder)
        self._missed = False
        folders = stale = 0
        for digest in tree.folders():
            if stopped():
                raise Draining
            tree.settle(digest)
            folders += 1
        last: Digest | None = None
        while batch := self.digests(last):
            for digest in batch:
                if stopped():
                    raise Draining
                if not tree.keeps(digest):
                    tree.settle(digest)
                    stale += 1
            last = batch[-1]
        totals = self.totals()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._running)
        return Reindexed(folders, totals.blobs, totals.bytes, stale)

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()

    # -- for what else is kept in the same file -------------------------------

    def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do something in a transaction; a failure means a reindex, and nothing is raised."""
        self._write(work)

    def read(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Ask something.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return self._read(query, values)

    # -- SQLite -------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        """Return a connection to the file that is in force now."""
        if self._connection is not None and self._inode == _inode(self._path):
            return self._connection
        # Another process may have set the file aside.
        self.close()
        with schema.alone(self._folder):
            if _said_damaged(self._wanted):
                schema.set_aside(self._path)
                self._replace_note()
            if not os.path.exists(self._path) and self._populated():
                self.require_reindex()
            try:
                connection = schema.connect(self._path)
            except sqlite3.Error as error:
                # A file without the tables of its version is as good as damaged.
                if not schema.is_spoiled(error) and "no such" not in str(error):
                    raise
                schema.set_aside(self._path)
                self._replace_note()
                connection = schema.connect(self._path)
            self._connection = connection
            self._inode = _inode(self._path)
        return connection

    def _replace_note(self) -> None:
        """Ask for a reindex, and no longer for setting the file aside."""
        try:
            with open(self._wanted, "wb"):
                pass
        except OSError:
            self._missed = True

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        with self._lock:
            try:
                connection = self._connect()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    work(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    # Some errors (a full disk) have rolled back already.
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                self._note(error)

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connect().execute(query, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, sqlite3.Error) and schema.is_spoiled(error):
                    self._note(error)
                raise StoreFailure("read its catalog", OSError(errno.EIO, str(error))) from error

    def _note(self, error: Exception) -> None:
        spoiled = isinstance(error, sqlite3.Error) and schema.is_spoiled(error)
        self.require_reindex(spoiled=spoiled)
        if spoiled:
            # The next use opens it again, and so sets it aside.
            self.close()


def _settled(connection: sqlite3.Connection, digest: Digest) -> None:
    connection.execute("DELETE FROM unsettled WHERE digest = ?", (digest.raw,))


def _inode(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _said_damaged(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False

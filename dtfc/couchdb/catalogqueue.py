"""Which blobs' names have changed here and are to be published (blocks).

The queue is in the catalog's own file, and triggers fill it: what is named or
deleted, by whichever process, and that it is to be published, are one transaction.

Rules of this file: table and triggers come and go together. A trigger without its
table would have the catalog fail.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from dtfc.digest import Digest
from dtfc.store.catalog import Catalog

_MADE = """
CREATE TABLE IF NOT EXISTS publish (
    digest BLOB PRIMARY KEY, change INTEGER NOT NULL, due REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS publish_due ON publish (due);
CREATE TRIGGER IF NOT EXISTS publish_name AFTER INSERT ON names BEGIN
    INSERT OR REPLACE INTO publish VALUES (new.digest, abs(random()), 0);
END;
CREATE TRIGGER IF NOT EXISTS publish_deletion AFTER INSERT ON deletions BEGIN
    INSERT OR REPLACE INTO publish VALUES (new.digest, abs(random()), 0);
END
"""
_GONE = """
DROP TRIGGER IF EXISTS publish_name;
DROP TRIGGER IF EXISTS publish_deletion;
DROP TABLE IF EXISTS publish
"""
_ALL = (
    """
INSERT OR IGNORE INTO publish SELECT digest, abs(random()), 0 FROM names
WHERE digest >= ? AND digest < ? GROUP BY digest
""",
    """
INSERT OR IGNORE INTO publish SELECT digest, abs(random()), 0 FROM deletions
WHERE digest >= ? AND digest < ? AND deleted
""",
)
_THERE = "SELECT 1 FROM sqlite_schema WHERE name = 'publish'"


@dataclass(frozen=True, slots=True)
class Changed:
    """A blob whose names are to be published.

    Args:
        digest: of it.
        change: which change that is: another number for each.
        length: in bytes; None if the blob is not in the catalog.
        names: that it has here.
        gone: whether it was deleted everywhere.
    """

    digest: Digest
    change: int
    length: int | None
    names: frozenset[str]
    gone: bool


class CatalogQueue:
    """The queue.

    Args:
        catalog: whose names are published.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def is_there(self) -> bool:
        """Tell whether there is a queue; with another catalog there is none.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return bool(self._catalog.read(_THERE))

    def begin(self) -> None:
        """Make a queue: what changes from now on is on it."""
        self._do(_statements(_MADE))

    def end(self) -> None:
        """Keep no queue any more.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        if self.is_there():
            self._do(_GONE.split(";"))

    def _do(self, statements: Sequence[str], values: Sequence[object] = ()) -> None:
        def work(c: sqlite3.Connection) -> None:
            for each in statements:
                c.execute(each, values)

        self._catalog.write(work)

    def fill(self) -> None:
        """Put everything on it.

        In pieces, for nothing can be stored meanwhile.
        """
        for first in range(256):
            low = bytes([first])
            high = bytes([first + 1]) if first < 255 else b"\xff" * 65
            self._do(_ALL, (low, high))

    def some(self, now: float, limit: int) -> list[Changed]:
        """Return what is to be published by now, with all that is known of it here.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        rows = self._catalog.read(
            "SELECT p.digest, p.change, b.length, coalesce(d.deleted, 0) FROM publish p"
            " LEFT JOIN blobs b ON b.digest = p.digest LEFT JOIN deletions d ON d.digest = p.digest"
            " WHERE p.due <= ? ORDER BY p.due LIMIT ?",
            (now, limit),
        )
        return [
            Changed(
                Digest(raw),
                change,
                length,
                names := frozenset(
                    row[0]
                    for row in self._catalog.read("SELECT name FROM names WHERE digest = ?", (raw,))
                ),
                bool(deleted) and not names,
            )
            for raw, change, length, deleted in rows
        ]

    def done(self, changed: Sequence[Changed]) -> None:
        """Take off what is published, unless it has changed again since."""
        pairs = [(each.digest.raw, each.change) for each in changed]
        self._catalog.write(
            lambda c: c.executemany("DELETE FROM publish WHERE digest = ? AND change = ?", pairs)
        )

    def put_off(self, changed: Sequence[Changed], due: float) -> None:
        """Publish these later."""
        rows = [(due, each.digest.raw, each.change) for each in changed]
        self._catalog.write(
            lambda c: c.executemany(
                "UPDATE publish SET due = ? WHERE digest = ? AND change = ?", rows
            )
        )

    def try_again(self) -> None:
        """Put nothing off any more: what was put off was so by another start's ticks."""
        self._catalog.write(lambda c: c.execute("UPDATE publish SET due = 0 WHERE due <> 0"))

    def count(self) -> int:
        """Return how many blobs' names are to be published.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return int(self._catalog.read("SELECT count(*) FROM publish")[0][0])


def _statements(text: str) -> list[str]:
    """Return the statements of a text: a trigger's own end with it."""
    found = [""]
    for line in text.strip().splitlines():
        found[-1] += line + "\n"
        inside = found[-1].startswith("CREATE TRIGGER") and not line.startswith("END")
        if line.endswith(";") and not inside:
            found.append("")
    return [each for each in found if each]

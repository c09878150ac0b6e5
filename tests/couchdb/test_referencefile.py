"""What damage, other versions and refusals leave of the file of references."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dtfc.couchdb.documents import Reference
from dtfc.couchdb.referencefile import VERSION, ReferenceFile
from dtfc.couchdb.references import DatabaseState, DocumentState, References
from dtfc.digest import Digest
from dtfc.errors import BrokenStore, StoreFailure

DIGEST = Digest.of(b"1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "references.sqlite"


def test_it_is_there_again_at_the_next_start(path: Path) -> None:
    first = ReferenceFile(str(path))
    leaves = (("1-a", (Reference("x", DIGEST),)),)
    References(first).apply("photos", [DocumentState("a", leaves)], "5")
    first.close()
    second = ReferenceFile(str(path))

    assert References(second).referenced(DIGEST)
    assert not second.was_spoiled
    second.close()


def test_two_may_have_it_open(path: Path) -> None:
    files = [ReferenceFile(str(path)) for _ in range(2)]
    leaves = (("1-a", (Reference("x", DIGEST),)),)
    References(files[0]).apply("photos", [DocumentState("a", leaves)], "5")

    assert References(files[1]).referenced(DIGEST)
    for file in files:
        file.close()


@pytest.mark.parametrize(
    "damage", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 8000]
)
def test_a_damaged_file_is_set_aside(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    file = ReferenceFile(str(path))

    assert file.was_spoiled
    assert References(file).state("photos") == DatabaseState()
    assert len(list(path.parent.glob("*.damaged-*"))) == 1
    file.close()


def of_version(path: Path, version: int) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE other (one)")
    other.execute(f"PRAGMA user_version={version}")
    other.close()


def test_one_of_an_earlier_version_is_set_aside(path: Path) -> None:
    of_version(path, VERSION - 1)
    file = ReferenceFile(str(path))

    assert file.was_spoiled
    assert References(file).databases() == []
    file.close()


def test_one_of_a_later_version_is_left_alone(path: Path) -> None:
    of_version(path, VERSION + 1)
    with pytest.raises(BrokenStore, match=f"version {VERSION + 1}"):
        ReferenceFile(str(path))
    assert path.exists()


def test_where_it_cannot_be_made_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreFailure):
        ReferenceFile(str(tmp_path / "nowhere" / "references.sqlite"))


def test_a_write_that_fails_leaves_nothing_of_itself(path: Path) -> None:
    file = ReferenceFile(str(path))

    def work(c: sqlite3.Connection) -> None:
        c.execute("INSERT INTO collected VALUES (x'00', 1)")
        c.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StoreFailure):
        file.write(work)
    assert file.read(lambda c: c.execute("SELECT count(*) FROM collected").fetchone()) == (0,)
    file.close()

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import BadInput, BrokenStore, Draining, StoreFailure
from dtfc.store import schema
from dtfc.store.blobs import Store, open_store
from dtfc.store.catalog import Catalog, Tombstone
from dtfc.store.facts import BlobInfo
from dtfc.store.listing import NameRow, Page, prefix_end

NAME = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1, max_size=6
) | st.sampled_from(["%", "_", "a%b", "a_b", "A", "ä", "\U0010ffff", "퟿", "", "a'b", '"'])


def digest_of(number: int) -> Digest:
    return Digest.of(number.to_bytes(4, "big"))


def info(number: int, *names: str, length: int = 10) -> BlobInfo:
    return BlobInfo(digest_of(number), length, float(number), names[-1] if names else None, names)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "catalog").mkdir()
    return str(tmp_path / "catalog")


@pytest.fixture
def catalog(folder: str) -> Iterator[Catalog]:
    opened = Catalog(folder, populated=lambda: False)
    yield opened
    opened.close()


def names(page: Page) -> list[str]:
    return [row.name for row in page.rows]


def put(store: Store, data: bytes, name: str | None = "name") -> Digest:
    intake = store.intake(len(data))
    intake.write([data])
    return intake.commit(name).info.digest


def test_new_catalog_is_empty_and_in_order(catalog: Catalog) -> None:
    assert catalog.by_name() == Page((), None)
    assert catalog.totals() == (0, 0)
    assert not catalog.needs_reindex


def test_recorded_blob_is_listed_under_each_name(catalog: Catalog) -> None:
    catalog.record(info(1, "b", "a"))
    assert catalog.by_name().rows == (
        NameRow("a", digest_of(1), 10, 1.0),
        NameRow("b", digest_of(1), 10, 1.0),
    )


def test_name_that_was_lost_is_no_longer_listed(catalog: Catalog) -> None:
    catalog.record(info(1, "a", "b"))
    catalog.record(info(1, "b", "c"))
    assert names(catalog.by_name()) == ["b", "c"]


def test_totals_follow(catalog: Catalog) -> None:
    catalog.record(info(1, length=5))
    catalog.record(info(2, length=7))
    assert catalog.totals() == (2, 12)
    catalog.record(info(2, length=9))
    assert catalog.totals() == (2, 14)
    catalog.forget(digest_of(1))
    assert catalog.totals() == (1, 9)
    catalog.forget(digest_of(1))
    assert catalog.totals() == (1, 9)


def test_forgotten_blob_is_not_listed(catalog: Catalog) -> None:
    catalog.record(info(1, "a"))
    catalog.forget(digest_of(1))
    assert catalog.by_name().rows == ()


def test_deletion_is_remembered(catalog: Catalog) -> None:
    stone = Tombstone(digest_of(1), "2026-01-01", "node")
    catalog.forget(digest_of(1), stone)
    assert catalog.tombstones() == [stone]
    assert catalog.tombstones(after=digest_of(1)) == []


def test_stored_again_is_no_longer_deleted(catalog: Catalog) -> None:
    catalog.forget(digest_of(1), Tombstone(digest_of(1), "2026-01-01", None))
    catalog.record(info(1, "a"))
    assert catalog.tombstones() == []


@given(
    blobs=st.dictionaries(st.integers(0, 30), st.lists(NAME, max_size=4, unique=True), max_size=15),
    prefix=st.none() | NAME | st.just(""),
    limit=st.integers(1, 5),
)
def test_pages_are_the_whole_list_in_order(
    blobs: dict[int, list[str]], prefix: str | None, limit: int
) -> None:
    expected = sorted(
        (name, digest_of(number).raw)
        for number, given_names in blobs.items()
        for name in given_names
        if name.startswith(prefix or "")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "connect", in_memory)
        patch.setattr(Catalog, "_connect", keeps_connection)
        catalog = Catalog("/nowhere", populated=lambda: False)
        for number, given_names in blobs.items():
            catalog.record(info(number, *given_names))
        found: list[tuple[str, bytes]] = []
        after = None
        while True:
            page = catalog.by_name(prefix=prefix, after=after, limit=limit)
            assert len(page.rows) <= limit
            found.extend((row.name, row.digest.raw) for row in page.rows)
            after = page.next
            if after is None:
                break
        catalog.close()
    assert found == expected


def in_memory(_path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(schema.TABLES)
    return connection


def keeps_connection(catalog: Catalog) -> sqlite3.Connection:
    if catalog._connection is None:
        catalog._connection = schema.connect("")
    return catalog._connection


@given(text=NAME, prefix=NAME)
def test_end_of_a_prefix(text: str, prefix: str) -> None:
    end = prefix_end(prefix)
    inside = text >= prefix and (end is None or text < end)
    assert inside == text.startswith(prefix)


def test_exact_name(catalog: Catalog) -> None:
    catalog.record(info(1, "a", "a%", "ab"))
    assert names(catalog.by_name(name="a%")) == ["a%"]


def test_half_a_character_in_a_question_matches_nothing(catalog: Catalog) -> None:
    catalog.record(info(1, "a"))
    assert names(catalog.by_name(name="\ud800")) == []


@pytest.mark.parametrize(
    "after", ["", "x", "=", "é", "eyJhIjoxfQ", "WyJhIiwgMV0", "WyJhIiwgImFiIl0", "bnVsbA", "W10"]
)
def test_cursor_that_nobody_gave_out(catalog: Catalog, after: str) -> None:
    with pytest.raises(BadInput):
        catalog.by_name(after=after)


@pytest.mark.parametrize("limit", [-1, 0, 10**9])
def test_limit_is_kept_in_bounds(catalog: Catalog, limit: int) -> None:
    catalog.record(info(1, "a"))
    assert names(catalog.by_name(limit=limit)) == ["a"]


def test_what_is_known_survives(folder: str) -> None:
    catalog = Catalog(folder, populated=lambda: True)
    assert catalog.needs_reindex
    catalog.record(info(1, "a"))
    catalog.close()
    catalog = Catalog(folder, populated=lambda: False)
    assert names(catalog.by_name()) == ["a"]
    assert catalog.needs_reindex
    catalog.close()


@pytest.mark.parametrize("content", [b"x" * 8192, b"SQLite format 3\0" + bytes(100)])
def test_damaged_file_is_set_aside(folder: str, content: bytes) -> None:
    Path(folder, "catalog.sqlite").write_bytes(content)
    catalog = Catalog(folder, populated=lambda: False)
    assert catalog.needs_reindex
    catalog.record(info(1, "a"))
    assert names(catalog.by_name()) == ["a"]
    catalog.close()
    aside = [name for name in os.listdir(folder) if ".damaged-" in name]
    assert Path(folder, aside[0]).read_bytes() == content


def test_file_without_our_tables_is_set_aside(folder: str) -> None:
    with sqlite3.connect(f"{folder}/catalog.sqlite") as connection:
        connection.execute("PRAGMA user_version=1")
    connection.close()
    catalog = Catalog(folder, populated=lambda: False)
    assert catalog.needs_reindex
    assert catalog.totals() == (0, 0)
    catalog.close()


def test_file_damaged_in_use_is_set_aside(folder: str) -> None:
    catalog = Catalog(folder, populated=lambda: False)
    for number in range(500):
        catalog.record(info(number, f"{number}" * 50))
    catalog.close()
    path = Path(folder, "catalog.sqlite")
    content = path.read_bytes()
    path.write_bytes(content[:12288] + b"\xff" * (len(content) - 12288))
    catalog = Catalog(folder, populated=lambda: False)
    for number in range(500):
        catalog.record(info(number, "new"))
    assert catalog.needs_reindex
    catalog.record(info(1, "a"))
    assert catalog.by_name(name="a").rows
    catalog.close()


def test_catalog_of_a_later_version_is_not_touched(folder: str) -> None:
    with sqlite3.connect(f"{folder}/catalog.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(BrokenStore, match="version 99"):
        Catalog(folder, populated=lambda: False)


def fails(_path: str) -> sqlite3.Connection:
    raise sqlite3.OperationalError("database or disk is full")


def test_failing_sqlite_stops_no_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "connect", fails)
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    digest = put(store, b"x")
    assert store.holds(digest)
    assert store.needs_reindex
    with pytest.raises(StoreFailure, match="disk is full"):
        store.catalog.by_name()
    store.delete(digest)
    store.close()
    monkeypatch.undo()
    store = open_store(str(tmp_path), reserve=0)
    wanted = [store.needs_reindex]
    store.reindex()
    wanted.append(store.needs_reindex)
    assert wanted == [True, False]
    assert [stone.digest for stone in store.catalog.tombstones()] == [digest]
    store.close()


def test_sqlite_that_works_again_is_used_again(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "connect", fails)
    catalog = Catalog(folder, populated=lambda: False)
    monkeypatch.undo()
    catalog.record(info(1, "a"))
    assert names(catalog.by_name()) == ["a"]
    catalog.close()


def test_file_set_aside_by_another_process_is_left(folder: str) -> None:
    mine, theirs = (
        Catalog(folder, populated=lambda: False),
        Catalog(folder, populated=lambda: False),
    )
    theirs.require_reindex(spoiled=True)
    theirs.close()
    theirs.record(info(1, "a"))
    assert names(mine.by_name()) == ["a"]
    mine.close()
    theirs.close()


def test_every_put_is_entered_before_it_is_acknowledged(small: Store) -> None:
    digest = put(small, b"x", "a")
    assert small.catalog.by_name(name="a").rows[0].digest == digest
    assert small.catalog.unsettled() == []


def test_what_was_killed_in_between_is_looked_up(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    stored, deleted = put(store, b"stored", "s"), put(store, b"deleted", "d")
    never = Digest.of(b"never came")
    store.close()
    with sqlite3.connect(f"{store.layout.own('catalog')}/catalog.sqlite") as connection:
        connection.execute("DELETE FROM blobs WHERE digest = ?", (stored.raw,))
        connection.execute("DELETE FROM names WHERE digest = ?", (stored.raw,))
        connection.executemany(
            "INSERT INTO unsettled VALUES (?)", [(each.raw,) for each in (stored, deleted, never)]
        )
    connection.close()
    os.unlink(store.layout.data(deleted))
    store = open_store(str(tmp_path), reserve=0)
    assert names(store.catalog.by_name()) == ["s"]
    assert store.catalog.digests() == [stored]
    assert store.catalog.unsettled() == []
    store.close()


def test_reindex_agrees_with_the_tree(store: Store) -> None:
    digests = [put(store, bytes([number]), f"n{number}") for number in range(10)]
    store.delete(digests[0])
    before = (store.catalog.by_name(), store.catalog.totals(), store.catalog.tombstones())
    store.close()
    for name in os.listdir(store.layout.own("catalog")):
        os.unlink(f"{store.layout.own('catalog')}/{name}")
    again = open_store(store.layout.basedir, reserve=0)
    assert again.needs_reindex
    assert again.reindex().blobs == 9
    after = (again.catalog.by_name(), again.catalog.totals(), again.catalog.tombstones())
    again.close()
    assert after == before


def test_reindex_takes_out_what_is_not_there(small: Store) -> None:
    small.catalog.record(info(1, "ghost"))
    assert small.reindex().stale == 1
    assert small.catalog.by_name().rows == ()


def test_what_an_operator_denies_is_not_listed_as_long_as_it_is(small: Store) -> None:
    marker = Path(small.layout.marker(put(small, b"x", "a"), 403))
    marker.touch()
    small.reindex()
    assert small.catalog.by_name().rows == ()
    marker.unlink()
    assert names(small.catalog.by_name()) == ["a"]


def test_page_whose_rows_are_all_denied_leads_on(small: Store) -> None:
    for number in range(3):
        digest = put(small, bytes([number]), f"n{number}")
        if number < 2:
            Path(small.layout.marker(digest, 403)).touch()
    first = small.catalog.by_name(limit=2)
    assert first.rows == ()
    assert names(small.catalog.by_name(after=first.next, limit=2)) == ["n2"]


def test_blob_that_cannot_be_looked_at_is_a_failure(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(small, b"x", "a")

    def bad(*_: object, **__: object) -> None:
        raise OSError(5, "bad")

    monkeypatch.setattr(os, "stat", bad)
    monkeypatch.setattr("dtfc.store.catalog._inode", lambda _: small.catalog._inode)
    with pytest.raises(StoreFailure, match="bad"):
        small.catalog.by_name()


def test_reindex_remembers_deletions_whose_marker_was_removed(small: Store) -> None:
    small.delete(digest_of(1))
    os.unlink(small.layout.marker(digest_of(1), 404))
    small.reindex()
    assert [stone.digest for stone in small.catalog.tombstones()] == [digest_of(1)]


def test_reindex_does_not_bring_back_what_is_deleted_meanwhile(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = sorted(put(small, bytes([number])) for number in range(4))
    real = small.settle

    def settle(digest: Digest) -> None:
        # The walk has seen this one; it goes before it is entered.
        small.delete(digest)
        real(digest)

    monkeypatch.setattr(small, "settle", settle)
    small.reindex()
    assert small.catalog.digests() == []
    assert [stone.digest for stone in small.catalog.tombstones()] == digests


def test_reindex_that_is_cut_off_is_still_wanted(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(small, b"x")
    small.catalog.require_reindex()

    def dies(_digest: Digest) -> None:
        raise StoreFailure("look", OSError(5, "bad"))

    monkeypatch.setattr(small, "settle", dies)
    with pytest.raises(StoreFailure):
        small.reindex()
    assert small.needs_reindex
    monkeypatch.undo()
    small.reindex()
    assert not small.needs_reindex


def test_failure_during_a_reindex_asks_for_another(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(small, b"x")
    real = small.settle

    def settle(digest: Digest) -> None:
        small.catalog.require_reindex()
        real(digest)

    monkeypatch.setattr(small, "settle", settle)
    small.reindex()
    assert small.needs_reindex


def test_reindex_can_be_given_up_and_is_then_still_wanted(small: Store) -> None:
    for number in range(5):
        put(small, b"%d" % number, f"{number}")
    small.catalog.require_reindex()
    asked: list[None] = []

    def enough() -> bool:
        asked.append(None)
        return len(asked) > 2

    with pytest.raises(Draining):
        small.reindex(enough)
    assert small.needs_reindex
    assert small.reindex().blobs == 5
    assert not small.needs_reindex

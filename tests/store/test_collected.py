"""Garbage moves aside, comes back whole, and is never in both places or in none."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, Denied, StaysDeleted, StoreFailure
from dtfc.store.blobs import Store, open_store

if TYPE_CHECKING:
    from tests.store.conftest import FailingDisk

BYTES = b"perhaps garbage"
DIGEST = Digest.of(BYTES)


class Cut(BaseException):
    """The process ends here."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    yield store
    store.close()


def put(store: Store, name: str | None = "a name") -> None:
    intake = store.intake(len(BYTES))
    intake.write([BYTES])
    intake.commit(name)


def collect(store: Store) -> bool:
    seen = store.collected.look(DIGEST)
    return seen is not None and store.collected.collect(seen) is not None


def is_here(store: Store) -> bool:
    try:
        with store.open(DIGEST) as blob:
            return os.pread(blob.fd, 100, 0) == BYTES
    except Absent:
        return False


def lying(store: Store) -> list[tuple[Digest, int, str | None]]:
    return [(each.digest, each.length, each.name) for each in store.collected.lying()]


def test_what_is_collected_is_not_here(store: Store) -> None:
    put(store)
    assert collect(store)
    assert not is_here(store)
    assert not store.catalog.has(DIGEST)
    assert lying(store) == [(DIGEST, len(BYTES), "a name")]


def test_it_left_no_tombstone(store: Store) -> None:
    put(store)
    collect(store)
    with pytest.raises(Absent) as caught:
        store.stat(DIGEST)
    assert not caught.value.deleted
    assert list(store.catalog.tombstones()) == []


def test_it_comes_back_with_all_its_names(store: Store) -> None:
    put(store)
    store.store_again(DIGEST, "another")
    before = store.stat(DIGEST)
    collect(store)
    assert store.collected.restore(DIGEST) == before
    assert store.stat(DIGEST) == before
    assert is_here(store)
    assert lying(store) == []
    assert [*store.catalog.digests(None)] == [DIGEST]


def test_what_was_stored_again_is_not_collected(store: Store) -> None:
    put(store)
    seen = store.collected.look(DIGEST)
    assert seen is not None
    put(store)
    assert store.collected.collect(seen) is None
    assert is_here(store)


def test_every_put_gives_another_stamp(store: Store) -> None:
    stamps = []
    for _ in range(200):
        put(store)
        stamps.append(store.collected.look(DIGEST))
    assert len(set(stamps)) == 200


def test_a_put_after_it_was_collected_is_a_put(store: Store) -> None:
    put(store, "old name")
    collect(store)
    put(store, "new name")
    assert store.stat(DIGEST).names == ("new name",)
    # Nothing is lost by restoring what is here already.
    store.collected.restore(DIGEST)
    assert is_here(store)
    assert lying(store) == []


def test_a_load_of_it_is_allowed(store: Store) -> None:
    put(store)
    collect(store)
    store.may_copy(DIGEST)
    store.partial(DIGEST).close()
    assert not store.holds(DIGEST)


@pytest.mark.parametrize("everywhere", [False, True])
def test_what_is_deleted_meanwhile_stays_deleted(store: Store, *, everywhere: bool) -> None:
    put(store)
    collect(store)
    if everywhere:
        store.delete_everywhere(DIGEST, "0" * 32)
    else:
        store.delete(DIGEST)
    assert lying(store) == []
    with pytest.raises(Absent):
        store.collected.restore(DIGEST)


def test_a_tombstone_by_hand_keeps_it_away(store: Store) -> None:
    put(store)
    collect(store)
    other = Digest.of(b"other")
    store.delete(other)
    stone = Path(store.layout.marker(other, 404)).read_bytes()
    Path(store.layout.marker(DIGEST, 404)).write_bytes(stone)
    with pytest.raises(StaysDeleted):
        store.collected.restore(DIGEST)
    assert lying(store) == [(DIGEST, len(BYTES), "a name")]


def test_what_an_operator_denies_stays_denied(store: Store) -> None:
    put(store)
    Path(store.layout.marker(DIGEST, 403)).touch()
    assert collect(store)
    store.collected.restore(DIGEST)
    with pytest.raises(Denied):
        store.open(DIGEST)
    os.unlink(store.layout.marker(DIGEST, 403))
    assert is_here(store)


def test_what_was_deleted_is_not_collected(store: Store) -> None:
    put(store)
    store.delete(DIGEST)
    assert not collect(store)


def test_its_time_may_be_over(store: Store) -> None:
    put(store)
    collect(store)
    assert store.collected.drop(DIGEST)
    assert not store.collected.drop(DIGEST)
    with pytest.raises(Absent):
        store.collected.restore(DIGEST)


def test_who_reads_it_reads_on(store: Store) -> None:
    put(store)
    with store.open(DIGEST) as blob:
        collect(store)
        store.collected.drop(DIGEST)
        assert os.pread(blob.fd, 100, 0) == BYTES


def test_strange_things_among_them_are_passed_over(store: Store) -> None:
    base = Path(store.layout.own("collected"))
    (base / "note").write_text("by hand")
    (base / DIGEST.hex).mkdir()
    (base / Digest.of(b"x").hex).symlink_to("/etc")
    assert lying(store) == []
    assert store.collected.sweep() == 0


CALLS = ("mkdir", "link", "rename", "unlink", "fsync")


def cut_at(patch: pytest.MonkeyPatch, nth: int) -> Callable[[], bool]:
    """Let the process end right before the n-th change to the disk; tell whether it did."""
    seen = 0

    def cutting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen >= nth:
                raise Cut
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        patch.setattr(os, name, cutting(getattr(os, name)))
    return lambda: seen >= nth


@pytest.mark.parametrize("act", ["collect", "restore"])
def test_cut_off_anywhere_it_is_in_one_place_with_its_name(
    tmp_path: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = set()
    for nth in range(1, 60):
        base = str(tmp_path / f"{nth}")
        store = open_store(base, fan_out=2, reserve=0)
        put(store)
        if act == "restore":
            collect(store)
        with monkeypatch.context() as patch:
            was_cut = cut_at(patch, nth)
            with contextlib.suppress(Cut):
                collect(store) if act == "collect" else store.collected.restore(DIGEST)
        store.close()
        store = open_store(base, reserve=0)
        here, there = is_here(store), store.collected.has(DIGEST)
        assert here != there, nth
        assert store.catalog.has(DIGEST) == here
        places.add(here)
        if there:
            store.collected.restore(DIGEST)
        assert store.stat(DIGEST).names == ("a name",), nth
        store.collected.sweep()
        assert os.listdir(store.layout.own("collected")) == []
        store.close()
        if not was_cut():
            break
    else:
        pytest.fail("there are more steps than were tried")
    assert places == {True, False}


@pytest.mark.parametrize("call", ["rename", "mkdir", "fsync"])
def test_a_disk_that_refuses_loses_nothing(store: Store, disk: FailingDisk, call: str) -> None:
    put(store)
    disk.fail(call, errno.EIO, 1)
    with pytest.raises(StoreFailure):
        collect(store)
    disk.heal()
    assert is_here(store)
    assert store.catalog.has(DIGEST)

"""Deletions everywhere, as far as one store goes: records, revivals, and what a crash leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, Denied, NoSpace, StaysDeleted, StoreFailure
from dtfc.store.blobs import Store, open_store
from dtfc.store.facts import Stored
from dtfc.store.records import Record

if TYPE_CHECKING:
    from tests.store.conftest import FailingDisk

DATA = b"to be or not to be"
DIGEST = Digest.of(DATA)
ID = "ab" * 16
FAR = "cd" * 16


def put(store: Store, *, deliberate: bool = True, name: str | None = "name") -> Stored:
    intake = store.intake(len(DATA))
    intake.write([DATA])
    return intake.commit(name, deliberate=deliberate)


def told(counter: int, *, deleted: bool = True) -> Record:
    return Record(DIGEST, counter, deleted=deleted, id=ID, at="2026-01-01", node=FAR)


def touch(store: Store, status: Literal[403, 404]) -> Path:
    os.makedirs(store.layout.folder(DIGEST), exist_ok=True)
    path = Path(store.layout.marker(DIGEST, status))
    path.touch()
    return path


def inside(store: Store) -> list[str]:
    return sorted(os.listdir(store.layout.folder(DIGEST)))


def rank(store: Store) -> tuple[int, bool] | None:
    found = store.memory.get(DIGEST)
    return None if found is None else found.rank


def gone(store: Store) -> bool:
    try:
        store.stat(DIGEST)
    except Absent as absent:
        return absent.deleted
    return False


class TestHearingAgain:
    def test_what_the_disk_refused_the_first_time_is_done(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store)
        real = os.unlink

        def refused(path: Any, **options: Any) -> None:
            if path == "data":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(path, **options)

        monkeypatch.setattr(os, "unlink", refused)
        with pytest.raises(StoreFailure):
            store.hear(told(1))
        assert "data" in inside(store)
        monkeypatch.undo()

        store.hear(told(1))

        assert inside(store) == ["404"]
        assert rank(store) == (1, True)


class TestDeletingEverywhere:
    def test_it_is_gone_and_remembered(self, store: Store) -> None:
        put(store)
        deleted = store.delete_everywhere(DIGEST, ID)
        assert gone(store)
        assert inside(store) == ["404"]
        assert deleted.info is not None
        assert deleted.record == store.memory.get(DIGEST)

    def test_the_tombstone_holds_the_record(self, store: Store) -> None:
        put(store)
        deleted = store.delete_everywhere(DIGEST, ID)
        assert json.loads(Path(store.layout.marker(DIGEST, 404)).read_text()) == {
            "deleted": deleted.at,
            "node": store.node_id,
            "length": len(DATA),
            "name": "name",
            "counter": 1,
            "id": ID,
        }

    def test_what_is_not_here_is_remembered_too(self, store: Store) -> None:
        assert store.delete_everywhere(DIGEST, ID).info is None
        assert rank(store) == (1, True)

    def test_the_second_time_counts_on(self, store: Store) -> None:
        store.delete_everywhere(DIGEST, ID)
        store.delete_everywhere(DIGEST, "ef" * 16)
        assert rank(store) == (2, True)

    def test_it_has_a_receipt(self, store: Store) -> None:
        store.delete_everywhere(DIGEST, ID)
        receipt = store.memory.receipt(ID)
        assert receipt is not None
        assert (receipt.digest, receipt.counter) == (DIGEST, 1)
        assert store.memory.unaddressed(10) == [ID]

    def test_an_operators_404_stays_and_the_record_lies_beside_it(self, store: Store) -> None:
        put(store)
        marker = touch(store, 404)
        store.delete_everywhere(DIGEST, ID)
        assert inside(store) == ["404", "deletion"]
        assert marker.read_bytes() == b""

    def test_a_tombstone_for_this_node_alone_stays(self, store: Store) -> None:
        store.delete(DIGEST)
        before = Path(store.layout.marker(DIGEST, 404)).read_bytes()
        store.delete_everywhere(DIGEST, ID)
        assert Path(store.layout.marker(DIGEST, 404)).read_bytes() == before
        assert rank(store) == (1, True)

    def test_it_stays_deleted_when_the_operator_takes_his_marker_away(self, store: Store) -> None:
        marker = touch(store, 404)
        store.delete_everywhere(DIGEST, ID)
        marker.unlink()
        assert gone(store)
        with pytest.raises(Absent):
            put(store, deliberate=False)

    def test_the_record_is_durable_before_the_first_byte_goes(
        self, store: Store, disk: FailingDisk
    ) -> None:
        put(store)
        disk.record()
        store.delete_everywhere(DIGEST, ID)
        folder = store.layout.folder(DIGEST)
        placed = disk.calls.index(("rename", f"{folder}/404"))
        synced = disk.calls.index(("fsync", folder), placed)
        assert placed < synced < disk.calls.index(("unlink", f"{folder}/data"))

    def test_a_full_disk_is_no_obstacle(self, store: Store, disk: FailingDisk) -> None:
        put(store)
        disk.fail("pwritev", errno.ENOSPC, 1)
        store.delete_everywhere(DIGEST, ID)
        assert disk.fired == 1
        assert rank(store) == (1, True)
        assert gone(store)

    def test_a_disk_that_stays_full_is_told(self, store: Store, disk: FailingDisk) -> None:
        put(store)
        disk.fail("pwritev", errno.ENOSPC, 1, ever_after=True)
        with pytest.raises(NoSpace):
            store.delete_everywhere(DIGEST, ID)
        assert gone(store)
        assert rank(store) is None


class TestHearing:
    def test_a_deletion_takes_the_blob(self, store: Store) -> None:
        put(store)
        heard = store.hear(told(4))
        assert heard.changed
        assert heard.info is not None
        assert gone(store)
        assert rank(store) == (4, True)

    def test_one_of_what_is_not_here_does_not_eat_into_the_reserve(self, store: Store) -> None:
        store.set_reserve(1 << 60)
        with pytest.raises(NoSpace):
            store.hear(told(4))
        assert rank(store) is None

    def test_one_of_what_is_here_may(self, store: Store) -> None:
        put(store)
        store.set_reserve(1 << 60)
        store.hear(told(4))
        assert gone(store)

    def test_one_of_what_is_not_here_blocks_it(self, store: Store) -> None:
        store.hear(told(4))
        with pytest.raises(Absent):
            put(store, deliberate=False)

    def test_no_receipt_is_made_of_another_nodes_deletion(self, store: Store) -> None:
        store.hear(told(4))
        assert store.memory.receipt(ID) is None

    @pytest.mark.parametrize("again", [told(4), told(3), told(4, deleted=False)])
    def test_the_same_or_an_older_one_changes_nothing(self, store: Store, again: Record) -> None:
        store.hear(told(4))
        heard = store.hear(again)
        assert not heard.changed
        assert heard.known.rank == (4, True)

    def test_an_older_deletion_does_not_touch_what_came_back(self, store: Store) -> None:
        store.hear(told(4))
        put(store)
        assert not store.hear(told(4)).changed
        assert store.stat(DIGEST).length == len(DATA)

    def test_a_revival_lifts_the_tombstone(self, store: Store) -> None:
        store.hear(told(4))
        store.hear(told(5, deleted=False))
        assert inside(store) == ["deletion"]
        with pytest.raises(Absent) as raised:
            store.stat(DIGEST)
        assert not raised.value.deleted
        assert put(store, deliberate=False).new

    def test_a_revival_leaves_a_tombstone_of_this_node_alone(self, store: Store) -> None:
        store.delete(DIGEST)
        store.hear(told(4))
        store.hear(told(5, deleted=False))
        assert gone(store)
        assert rank(store) == (5, False)

    @pytest.mark.parametrize("status", [403, 404])
    def test_a_revival_leaves_an_operators_marker(
        self, store: Store, status: Literal[403, 404]
    ) -> None:
        touch(store, status)
        store.hear(told(4))
        store.hear(told(5, deleted=False))
        assert str(status) in inside(store)
        with pytest.raises(Absent if status == 404 else Denied):
            store.stat(DIGEST)

    def test_a_deletion_leaves_an_operators_403(self, store: Store) -> None:
        put(store)
        touch(store, 403)
        store.hear(told(4))
        assert inside(store) == ["403", "404"]

    def test_a_deletion_after_a_revival_leaves_one_record(self, store: Store) -> None:
        store.hear(told(4))
        store.hear(told(5, deleted=False))
        store.hear(told(6))
        assert inside(store) == ["404"]
        assert gone(store)

    def test_what_the_operator_took_out_of_the_tree_is_not_deleted_by_the_same_again(
        self, store: Store
    ) -> None:
        store.hear(told(4))
        os.unlink(store.layout.marker(DIGEST, 404))
        put(store, deliberate=False)
        assert not store.hear(told(4)).changed
        assert store.stat(DIGEST).length == len(DATA)


class TestComingBack:
    def test_a_clients_put_revives(self, store: Store) -> None:
        store.hear(told(4))
        stored = put(store)
        assert stored.revival is not None
        assert stored.revival.rank == rank(store) == (5, False)
        assert inside(store) == ["data", "deletion", "filename"]

    def test_a_copy_does_not(self, store: Store) -> None:
        store.hear(told(4))
        with pytest.raises(Absent):
            put(store, deliberate=False)
        with pytest.raises(StaysDeleted):
            store.may_copy(DIGEST)
        assert gone(store)

    def test_a_copy_of_what_was_deleted_here_alone_is_refused_too(self, store: Store) -> None:
        store.delete(DIGEST)
        with pytest.raises(StaysDeleted):
            store.may_copy(DIGEST)

    def test_a_copy_of_what_came_back_is_taken(self, store: Store) -> None:
        store.hear(told(5, deleted=False))
        store.may_copy(DIGEST)
        assert put(store, deliberate=False).new

    def test_a_put_of_what_was_never_deleted_leaves_no_record(self, store: Store) -> None:
        assert put(store).revival is None
        assert inside(store) == ["data", "filename"]

    def test_a_put_of_what_was_deleted_here_alone_leaves_none(self, store: Store) -> None:
        store.delete(DIGEST)
        assert put(store).revival is None

    def test_the_second_put_is_no_second_revival(self, store: Store) -> None:
        store.hear(told(4))
        put(store)
        assert put(store).revival is None

    @pytest.mark.parametrize("marked", [False, True], ids=["tombstone", "operator's"])
    def test_where_the_record_of_a_revival_has_no_room_nothing_is_stored(
        self, store: Store, disk: FailingDisk, *, marked: bool
    ) -> None:
        if marked:
            marker = touch(store, 404)
        store.hear(told(4))
        if marked:
            marker.unlink()
        # Its bytes and its name are written before.
        disk.fail("pwritev", errno.ENOSPC, 3)
        with pytest.raises(NoSpace):
            put(store)
        assert disk.fired == 1
        assert gone(store)
        assert "data" not in inside(store)
        assert rank(store) == (4, True)
        assert put(store).revival is not None

    def test_the_revival_is_durable_before_the_tombstone_goes(
        self, store: Store, disk: FailingDisk
    ) -> None:
        store.hear(told(4))
        disk.record()
        put(store)
        folder = store.layout.folder(DIGEST)
        linked = disk.calls.index(("link", f"{folder}/data"))
        written = disk.calls.index(("rename", f"{folder}/deletion"))
        lifted = disk.calls.index(("unlink", f"{folder}/404"))
        assert ("fsync", folder) in disk.calls[linked:written]
        assert ("fsync", folder) in disk.calls[written:lifted]
        assert ("fsync", folder) in disk.calls[lifted:]


class TestTheTreeRemembers:
    def reindexed(self, store: Store, base: str) -> Store:
        store.close()
        shutil.rmtree(f"{base}/.dtfc/catalog")
        again = open_store(base, reserve=0)
        again.reindex()
        return again

    @pytest.mark.parametrize("deleted", [True, False])
    def test_a_record(self, tmp_path: Path, *, deleted: bool) -> None:
        base = str(tmp_path)
        store = open_store(base, fan_out=2, reserve=0)
        store.hear(told(4, deleted=deleted))
        again = self.reindexed(store, base)
        assert again.memory.get(DIGEST) == told(4, deleted=deleted)
        again.close()

    def test_a_record_beside_an_operators_marker(self, tmp_path: Path) -> None:
        base = str(tmp_path)
        store = open_store(base, fan_out=2, reserve=0)
        touch(store, 404)
        store.hear(told(4))
        again = self.reindexed(store, base)
        assert again.memory.get(DIGEST) == told(4)
        again.close()

    def test_the_receipt_of_this_nodes_own_deletion(self, tmp_path: Path) -> None:
        base = str(tmp_path)
        store = open_store(base, fan_out=2, reserve=0)
        store.delete_everywhere(DIGEST, ID)
        store.memory.address(ID, ["http://a"])
        again = self.reindexed(store, base)
        assert again.memory.unaddressed(10) == [ID]
        again.close()

    def test_a_catalog_of_the_version_before_is_kept(self, tmp_path: Path) -> None:
        import sqlite3  # noqa: PLC0415 - here alone

        from dtfc.store import schema  # noqa: PLC0415

        base = str(tmp_path)
        open_store(base, fan_out=2, reserve=0).close()
        path = f"{base}/.dtfc/catalog/catalog.sqlite"
        os.unlink(path)
        old = sqlite3.connect(path)
        old.executescript(f"BEGIN;{schema.TABLES}PRAGMA user_version=2;COMMIT;")
        old.execute("INSERT INTO tombstones VALUES (?, 'then', 'a')", (DIGEST.raw,))
        old.commit()
        old.close()
        store = open_store(base, reserve=0)
        assert [each.digest for each in store.catalog.tombstones()] == [DIGEST]
        assert store.hear(told(1)).changed
        assert rank(store) == (1, True)
        store.close()


def test_a_tombstone_that_was_not_lifted_denies_nothing_under_a_later_revival(
    store: Store,
) -> None:
    store.hear(told(4))
    stone = Path(store.layout.marker(DIGEST, 404))
    line = stone.read_bytes()
    put(store)
    stone.write_bytes(line)
    assert store.stat(DIGEST).length == len(DATA)
    store.settle(DIGEST)
    assert inside(store) == ["data", "deletion", "filename"]
    assert store.stat(DIGEST).length == len(DATA)


class Cut(BaseException):
    """The process ends here."""


def cut_at(patch: pytest.MonkeyPatch, nth: int, error: BaseException) -> list[int]:
    """Let the n-th call that changes the disk fail, whichever it is."""
    seen: list[int] = []

    def failing(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(1)
            if len(seen) == nth:
                raise error
            return real(*args, **kwargs)

        return call

    for name in ("fsync", "rename", "unlink", "link"):
        patch.setattr(os, name, failing(getattr(os, name)))
    return seen


class TestCutOff:
    """Whatever step a process dies at, or the disk refuses."""

    @pytest.mark.parametrize("error", [Cut(), OSError(errno.EIO, "bad")])
    def test_a_deletion_is_made_or_not(self, tmp_path: Path, error: BaseException) -> None:
        for nth in range(1, 40):
            base = str(tmp_path / str(nth))
            store = open_store(base, fan_out=2, reserve=0)
            put(store)
            done = self.cut(nth, error, lambda s=store: s.delete_everywhere(DIGEST, ID))
            store.close()
            store = open_store(base, reserve=0)
            if gone(store):
                assert rank(store) == (1, True)
                assert inside(store) == ["404"]
                assert store.memory.receipt(ID) is not None
            else:
                assert not done
                assert rank(store) is None
                assert store.stat(DIGEST).names == ("name",)
            store.close()
            if done:
                return
        pytest.fail("it never got through")

    @pytest.mark.parametrize("error", [Cut(), OSError(errno.EIO, "bad")])
    def test_a_revival_is_made_or_not(self, tmp_path: Path, error: BaseException) -> None:
        for nth in range(1, 40):
            base = str(tmp_path / str(nth))
            store = open_store(base, fan_out=2, reserve=0)
            store.hear(told(4))
            done = self.cut(nth, error, lambda s=store: put(s))
            store.close()
            store = open_store(base, reserve=0)
            if gone(store):
                assert not done
                assert rank(store) == (4, True)
                assert "deletion" not in inside(store)
            else:
                assert rank(store) == (5, False)
                assert store.stat(DIGEST).names == ("name",)
            store.close()
            if done:
                return
        pytest.fail("it never got through")

    @pytest.mark.parametrize("deleted", [True, False])
    def test_what_was_told_can_be_told_again(self, tmp_path: Path, *, deleted: bool) -> None:
        for nth in range(1, 40):
            base = str(tmp_path / str(nth))
            store = open_store(base, fan_out=2, reserve=0)
            if deleted:
                put(store)
            else:
                store.hear(told(4))
            record = told(5, deleted=deleted)
            done = self.cut(nth, Cut(), lambda s=store, r=record: s.hear(r))
            store.close()
            store = open_store(base, reserve=0)
            store.hear(record)
            assert rank(store) == record.rank
            assert inside(store) == (["404"] if deleted else ["deletion"])
            store.close()
            if done:
                return
        pytest.fail("it never got through")

    def cut(self, nth: int, error: BaseException, work: Any) -> bool:
        with pytest.MonkeyPatch.context() as patch:
            cut_at(patch, nth, error)
            try:
                work()
            except (Cut, StoreFailure):
                return False
        return True

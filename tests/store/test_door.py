from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, BadName, Denied, NoSpace, StoreFailure
from dtfc.store.blobs import Store, open_store
from dtfc.store.facts import Stored

if TYPE_CHECKING:
    from tests.store.conftest import FailingDisk

DATA = b"to be or not to be"
DIGEST = Digest.of(DATA)


def put(store: Store, name: str | None = "name", data: bytes = DATA) -> Stored:
    intake = store.intake(len(data))
    intake.write([data])
    return intake.commit(name)


def touch(store: Store, status: Literal[403, 404]) -> Path:
    os.makedirs(store.layout.folder(DIGEST), exist_ok=True)
    path = Path(store.layout.marker(DIGEST, status))
    path.touch()
    return path


def inside(store: Store) -> list[str]:
    return sorted(os.listdir(store.layout.folder(DIGEST)))


def test_deleted_blob_is_gone_and_says_so(store: Store) -> None:
    info = put(store).info
    assert store.delete(DIGEST).info == info
    with pytest.raises(Absent) as raised:
        store.open(DIGEST)
    assert raised.value.deleted
    assert inside(store) == ["404"]


def test_tombstone_is_a_line_of_json(store: Store) -> None:
    put(store)
    deleted = store.delete(DIGEST)
    text = Path(store.layout.marker(DIGEST, 404)).read_text()
    assert text.endswith("\n")
    assert json.loads(text) == {
        "deleted": deleted.at,
        "node": store.node_id,
        "length": len(DATA),
        "name": "name",
    }


def test_unknown_digest_is_blocked_all_the_same(store: Store) -> None:
    assert store.delete(DIGEST).info is None
    marker = store.marker(DIGEST)
    assert marker is not None
    assert not marker.by_operator


def test_deleting_twice_keeps_the_first_tombstone(store: Store) -> None:
    put(store)
    first = store.delete(DIGEST)
    second = store.delete(DIGEST)
    assert second.info is None
    assert second.at == first.at


def test_deleting_takes_the_chunk_map_too(store: Store) -> None:
    put(store)
    Path(store.layout.folder(DIGEST), "chunks").touch()
    store.delete(DIGEST)
    assert inside(store) == ["404"]


def test_open_blob_stays_readable_when_it_is_deleted(store: Store) -> None:
    put(store)
    with store.open(DIGEST) as blob:
        store.delete(DIGEST)
        assert os.pread(blob.fd, 100, 0) == DATA


def test_deliberate_put_lifts_a_tombstone(store: Store) -> None:
    put(store, "old")
    store.delete(DIGEST)
    stored = put(store, "new")
    assert stored.new
    assert stored.info.names == ("new",)
    assert inside(store) == ["data", "filename"]


def test_tombstone_is_lifted_only_after_the_bytes_are_durable(
    store: Store, disk: FailingDisk
) -> None:
    store.delete(DIGEST)
    disk.record()
    put(store)
    folder = store.layout.folder(DIGEST)
    linked = disk.calls.index(("link", f"{folder}/data"))
    lifted = disk.calls.index(("unlink", f"{folder}/404"))
    assert ("fsync", folder) in disk.calls[linked:lifted]
    assert ("fsync", folder) in disk.calls[lifted:]


def test_put_that_fails_leaves_the_tombstone(store: Store, disk: FailingDisk) -> None:
    store.delete(DIGEST)
    disk.fail("link", errno.EIO, 1)
    with pytest.raises(StoreFailure):
        put(store)
    disk.heal()
    with pytest.raises(Absent) as raised:
        store.stat(DIGEST)
    assert raised.value.deleted


def test_tombstone_is_durable_before_the_first_byte_goes(store: Store, disk: FailingDisk) -> None:
    put(store)
    disk.record()
    store.delete(DIGEST)
    folder = store.layout.folder(DIGEST)
    drafted = next(at for at, (call, path) in enumerate(disk.calls) if "/dtfc-" in path)
    placed = disk.calls.index(("rename", f"{folder}/404"))
    synced = disk.calls.index(("fsync", folder), placed)
    gone = disk.calls.index(("unlink", f"{folder}/data"))
    assert disk.calls[drafted][0] == "fsync"
    assert drafted < placed < synced < gone
    assert ("fsync", folder) in disk.calls[gone:]


@pytest.mark.parametrize("call", ["fsync", "rename", "unlink"])
def test_deletion_that_fails_can_be_asked_for_again(tmp_path: Path, call: str) -> None:
    """The n-th call fails; afterwards the blob is whole or denied, and a new attempt works."""
    for nth in range(1, 12):
        base = str(tmp_path / str(nth))
        store = open_store(base, fan_out=2, reserve=0)
        put(store)
        patch = pytest.MonkeyPatch()
        fired = fail_once(patch, call, nth)
        try:
            store.delete(DIGEST)
        except StoreFailure:
            patch.undo()
            marker = store.marker(DIGEST)
            assert marker is not None or store.stat(DIGEST).length == len(DATA)
            store.close()
            store = open_store(base, reserve=0)
            store.delete(DIGEST)
        patch.undo()
        assert inside(store) == ["404"]
        store.close()
        if not fired:
            return
    pytest.fail("it never stopped failing")


def fail_once(patch: pytest.MonkeyPatch, call: str, nth: int) -> list[int]:
    real = getattr(os, call)
    seen = 0
    fired: list[int] = []

    def once(*args: object, **kwargs: object) -> object:
        nonlocal seen
        seen += 1
        if seen == nth:
            fired.append(nth)
            raise OSError(errno.EIO, "bad")
        return real(*args, **kwargs)

    patch.setattr(os, call, once)
    return fired


def test_full_disk_is_no_obstacle_to_a_deletion(store: Store, disk: FailingDisk) -> None:
    put(store)
    disk.fail("pwritev", errno.ENOSPC, 1)
    assert store.delete(DIGEST).info is not None
    assert disk.fired == 1
    marker = store.marker(DIGEST)
    assert marker is not None
    assert not marker.by_operator
    assert inside(store) == ["404"]


def test_disk_that_stays_full_is_no_obstacle_either(store: Store, disk: FailingDisk) -> None:
    put(store)
    disk.fail("pwritev", errno.ENOSPC, 1, ever_after=True)
    assert store.delete(DIGEST).info is not None
    with pytest.raises(Absent) as raised:
        store.stat(DIGEST)
    assert raised.value.deleted
    assert inside(store) == ["404"]


@pytest.mark.parametrize("status", [403, 404])
def test_operators_marker_denies_a_put(store: Store, status: Literal[403, 404]) -> None:
    touch(store, status)
    with pytest.raises(Denied) as raised:
        put(store)
    assert f"{store.layout.relative(DIGEST)}/{status}" in raised.value.remedy
    assert inside(store) == [str(status)]


def test_operators_404_hides_a_blob_that_is_still_there(store: Store) -> None:
    put(store)
    touch(store, 404)
    with pytest.raises(Absent) as raised:
        store.open(DIGEST)
    assert raised.value.deleted


def test_operators_403_denies_a_blob(store: Store) -> None:
    put(store)
    touch(store, 403)
    with pytest.raises(Denied):
        store.open(DIGEST)


def test_operators_marker_is_looked_at_every_time(store: Store) -> None:
    put(store)
    marker = touch(store, 403)
    with pytest.raises(Denied):
        store.stat(DIGEST)
    marker.unlink()
    assert store.stat(DIGEST).length == len(DATA)


def test_deleting_frees_the_disk_and_keeps_the_operators_marker(store: Store) -> None:
    put(store)
    touch(store, 404)
    assert store.delete(DIGEST).info is not None
    # The names, which are none, are what is remembered of it.
    assert inside(store) == ["404", "filename"]
    marker = store.marker(DIGEST)
    assert marker is not None
    assert marker.by_operator


def test_deleting_under_a_403_is_remembered_beside_it(store: Store) -> None:
    put(store)
    marker = touch(store, 403)
    store.delete(DIGEST)
    assert inside(store) == ["403", "404"]
    marker.unlink()
    with pytest.raises(Absent):
        store.stat(DIGEST)


def test_put_over_a_deletion_that_was_cut_off_begins_anew(store: Store) -> None:
    put(store, "old")
    line = json.dumps({"deleted": "2026-01-01T00:00:00+00:00", "node": store.node_id})
    Path(store.layout.marker(DIGEST, 404)).write_text(line + "\n")
    stored = put(store, "new")
    assert stored.new
    assert stored.info.names == ("new",)


def test_name_is_added(store: Store) -> None:
    put(store, "a")
    store.store_again(DIGEST, "b")
    assert store.stat(DIGEST).names == ("a", "b")


def test_name_is_durable_when_it_is_acknowledged(store: Store, disk: FailingDisk) -> None:
    put(store, "a")
    disk.record()
    store.store_again(DIGEST, "b")
    folder = store.layout.folder(DIGEST)
    placed = disk.calls.index(("rename", f"{folder}/filename"))
    assert ("fsync", folder) in disk.calls[placed:]


def test_name_of_what_is_not_here(store: Store) -> None:
    with pytest.raises(Absent):
        store.store_again(DIGEST, "a")


def test_name_of_what_was_deleted(store: Store) -> None:
    store.delete(DIGEST)
    with pytest.raises(Absent) as raised:
        store.store_again(DIGEST, "a")
    assert raised.value.deleted


def test_name_of_what_is_forbidden(store: Store) -> None:
    put(store)
    touch(store, 403)
    with pytest.raises(Denied):
        store.store_again(DIGEST, "b")


def test_name_that_cannot_be_kept(store: Store) -> None:
    put(store)
    with pytest.raises(BadName):
        store.store_again(DIGEST, "")


def test_names_are_bounded(small: Store) -> None:
    put(small, None)
    lines = "".join(f"{number}\n" for number in range(1500))
    Path(small.layout.names(DIGEST)).write_text(lines)
    small.store_again(DIGEST, "new")
    names = Path(small.layout.names(DIGEST)).read_text().split()
    assert len(names) == 1000
    assert (names[0], names[-1]) == ("501", "new")


def in_threads(*works: object) -> list[BaseException]:
    errors: list[BaseException] = []

    def run(work: object) -> None:
        try:
            assert callable(work)
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return errors


def test_many_puts_of_one_blob_at_once(store: Store) -> None:
    outcomes: list[Stored] = []
    errors = in_threads(
        *(lambda number=number: outcomes.append(put(store, f"n{number}")) for number in range(12))
    )
    assert errors == []
    assert [each.new for each in outcomes].count(True) == 1
    assert set(store.stat(DIGEST).names) == {f"n{number}" for number in range(12)}


def test_puts_and_deletes_at_once_end_in_one_of_the_two_states(small: Store) -> None:
    for _ in range(15):
        errors = in_threads(
            lambda: put(small),
            lambda: small.delete(DIGEST),
            lambda: put(small),
            lambda: small.delete(DIGEST),
        )
        assert errors == []
        assert inside(small) in (["404"], ["data", "filename"])
        assert bool(small.catalog.by_name().rows) == small.holds(DIGEST)


def test_puts_and_deletes_of_two_processes(tmp_path: Path) -> None:
    base = str(tmp_path)
    open_store(base, fan_out=2, reserve=0).close()
    children = []
    for role in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                store = open_store(base, reserve=0)
                for _ in range(20):
                    if role % 2:
                        store.delete(DIGEST)
                    else:
                        put(store)
                store.close()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert statuses == [0, 0, 0, 0]
    store = open_store(base, reserve=0)
    assert inside(store) in (["404"], ["data", "filename"])
    assert (len(store.catalog.by_name().rows) == 1) == store.holds(DIGEST)
    assert not store.needs_reindex
    store.close()


def test_no_space_for_the_folders_is_no_space(store: Store, disk: FailingDisk) -> None:
    disk.fail("mkdir", errno.ENOSPC, 1)
    with pytest.raises(NoSpace):
        put(store)

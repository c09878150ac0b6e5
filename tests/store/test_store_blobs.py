from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, BrokenStore, NoSpace, StoreFailure
from dtfc.store.blobs import Store, open_store

if TYPE_CHECKING:
    from tests.store.conftest import FailingDisk

DATA = b"x" * 5000
DIGEST = Digest.of(DATA)


def put(store: Store, data: bytes = DATA, name: str | None = "name") -> Digest:
    intake = store.intake(len(data))
    intake.write([data])
    return intake.commit(name).info.digest


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_not_here_is_absent_and_not_deleted(store: Store) -> None:
    with pytest.raises(Absent) as raised:
        store.open(DIGEST)
    assert not raised.value.deleted
    assert not store.holds(DIGEST)
    assert store.marker(DIGEST) is None


def test_open_and_stat_tell_the_same(store: Store) -> None:
    put(store)
    with store.open(DIGEST) as blob:
        assert blob.info == store.stat(DIGEST)
        assert blob.length == len(DATA)
    assert store.holds(DIGEST)


def test_open_blob_can_be_closed_twice(store: Store) -> None:
    put(store)
    blob = store.open(DIGEST)
    blob.close()
    blob.close()
    assert blob.fd == -1


def test_descriptor_is_not_inherited(store: Store) -> None:
    put(store)
    with store.open(DIGEST) as blob:
        assert not os.get_inheritable(blob.fd)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "socket"])
def test_only_a_regular_file_is_a_blob(tmp_path: Path, kind: str) -> None:
    # A short path: a socket's may have at most 108 bytes.
    store = open_store(str(tmp_path / "s"), fan_out=2, reserve=0)
    folder = store.layout.folder(DIGEST)
    os.makedirs(folder)
    (tmp_path / "secret").write_bytes(DATA)
    if kind == "link":
        os.symlink(tmp_path / "secret", f"{folder}/data")
    elif kind == "fifo":
        os.mkfifo(f"{folder}/data")
    elif kind == "folder":
        os.mkdir(f"{folder}/data")
    else:
        here = os.getcwd()
        os.chdir(folder)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("data")
        os.chdir(here)
    for ask in (store.open, store.stat):
        with pytest.raises(Absent):
            ask(DIGEST)
    assert not store.holds(DIGEST)
    assert list(store.walk()) == []
    store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_device_is_no_blob(small: Store) -> None:
    folder = small.layout.folder(DIGEST)
    os.makedirs(folder)
    try:
        os.mknod(f"{folder}/data", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip(reason="this container does not let root make a device")
    with pytest.raises(Absent):
        small.open(DIGEST)


def test_file_that_becomes_a_link_while_it_is_opened(
    small: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(small)
    path = small.layout.data(DIGEST)
    (tmp_path / "secret").write_bytes(DATA)
    real = os.open

    def swapped(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if name == "data":
            os.unlink(path)
            os.symlink(tmp_path / "secret", path)
        return real(name, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(Absent):
        small.open(DIGEST)


def test_blob_deleted_between_marker_and_opening_is_deleted(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(small)
    real = os.stat
    done: list[bool] = []

    def slow(*args: object, **kwargs: object) -> os.stat_result:
        if args[0] == "data" and not done:
            done.append(True)
            small.delete(DIGEST)
        return real(*args, **kwargs)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(os, "stat", slow)
    with pytest.raises(Absent) as raised:
        small.open(DIGEST)
    assert raised.value.deleted


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("nth", [1, 2])
def test_what_cannot_be_opened_is_a_failure_not_absent(
    small: Store, disk: FailingDisk, number: int, nth: int
) -> None:
    put(small)
    disk.fail("open", number, nth)
    before = open_fds()
    with pytest.raises(StoreFailure):
        small.open(DIGEST)
    assert open_fds() == before


def test_nothing_stays_open(store: Store) -> None:
    put(store)
    before = open_fds()
    for _ in range(3):
        store.stat(DIGEST)
        store.open(DIGEST).close()
        put(store, name="other")
        store.delete(DIGEST)
        put(store)
        list(store.walk())
        store.reindex()
        store.writable()
    assert open_fds() == before


def test_walk_yields_what_has_data(store: Store) -> None:
    digests = {put(store, bytes([number])) for number in range(20)}
    gone = min(digests)
    store.delete(gone)
    assert list(store.walk()) == sorted(digests - {gone})


def test_walk_yields_what_an_operator_denies(store: Store) -> None:
    put(store)
    Path(store.layout.marker(DIGEST, 404)).touch()
    assert list(store.walk()) == [DIGEST]


def test_space_tells_the_reserve(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), reserve=12345)
    assert store.space().reserve == 12345
    assert 0 < store.space().free <= store.space().total
    store.close()


def test_writable_store_says_nothing(store: Store) -> None:
    store.writable()
    assert os.listdir(store.layout.own("tmp")) == []


@pytest.mark.parametrize("call", ["open", "pwrite", "fsync"])
def test_store_that_is_not_writable(store: Store, disk: FailingDisk, call: str) -> None:
    disk.fail(call, errno.EROFS, 1)
    with pytest.raises(StoreFailure):
        store.writable()


def test_store_with_only_its_reserve_left_is_not_writable(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), reserve=1 << 60)
    with pytest.raises(NoSpace):
        store.writable()
    store.close()


def test_full_disk_is_no_obstacle_to_reading_and_deleting(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    put(store)
    store.close()
    store = open_store(str(tmp_path), reserve=1 << 60)
    with pytest.raises(NoSpace):
        store.intake(0)
    assert store.stat(DIGEST).length == len(DATA)
    assert store.delete(DIGEST).info is not None
    store.close()


def test_store_is_the_same_after_it_was_opened_again(tmp_path: Path, fan_out: int) -> None:
    store = open_store(str(tmp_path), fan_out=fan_out, reserve=0)
    put(store)
    info, node = store.stat(DIGEST), store.node_id
    store.close()
    store = open_store(str(tmp_path), reserve=0)
    assert (store.stat(DIGEST), store.node_id) == (info, node)
    assert not store.needs_reindex
    store.close()


def test_opening_sweeps_the_crumbs_of_a_killed_process(tmp_path: Path) -> None:
    open_store(str(tmp_path)).close()
    (tmp_path / ".dtfc" / "tmp" / "dtfc-0123456789abcdef").write_bytes(b"half a blo")
    store = open_store(str(tmp_path))
    assert os.listdir(store.layout.own("tmp")) == []
    store.close()


def test_opening_spares_what_another_process_is_writing(tmp_path: Path) -> None:
    first = open_store(str(tmp_path), reserve=0, anonymous_files=False)
    intake = first.intake(None)
    intake.write([DATA])
    second = open_store(str(tmp_path), reserve=0)
    intake.commit(None)
    assert second.stat(DIGEST).length == len(DATA)
    second.close()
    first.close()


def test_temp_that_cannot_serve_is_told(tmp_path: Path, disk: FailingDisk) -> None:
    open_store(str(tmp_path / "store"), fan_out=2).close()
    disk.fail("link", errno.EXDEV, 1)
    store = open_store(str(tmp_path / "store"), temp=str(tmp_path / "t"), reserve=0)
    assert str(tmp_path / "t") in (store.temp_refused or "")
    assert put(store) == DIGEST
    store.close()


def test_store_of_a_later_version_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / ".dtfc").mkdir()
    (tmp_path / ".dtfc" / "format").write_text('{"version": 99}')
    with pytest.raises(BrokenStore):
        open_store(str(tmp_path))


def test_failed_opening_leaves_nothing_open(tmp_path: Path) -> None:
    open_store(str(tmp_path)).close()
    os.unlink(tmp_path / ".dtfc" / "catalog" / "catalog.sqlite")
    os.rmdir(tmp_path / ".dtfc" / "partial")
    (tmp_path / ".dtfc" / "partial").touch()
    before = open_fds()
    with pytest.raises(BrokenStore):
        open_store(str(tmp_path))
    assert open_fds() == before


def test_closed_store_fails_and_harms_nobody(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), reserve=0)
    store.close()
    store.close()
    with pytest.raises(StoreFailure):
        store.stat(DIGEST)

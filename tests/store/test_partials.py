from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, Busy, Denied, NoSpace, StoreFailure, WrongDigest
from dtfc.store.blobs import Store, open_store
from dtfc.store.chunkmap import CHUNK
from tests.store.conftest import FailingDisk, tear_writes

DATA = bytes(range(256)) * 1000
DIGEST = Digest.of(DATA)


def path_of(store: Store) -> str:
    return f"{store.layout.own('partial')}/{DIGEST.hex}"


def left_behind(store: Store, data: bytes = DATA[:1000]) -> None:
    """Leave the partial that an earlier process wrote."""
    partial = store.partial(DIGEST)
    partial.write([data])
    partial.close()


def content(store: Store) -> bytes:
    with store.open(DIGEST) as blob:
        return os.pread(blob.fd, blob.length + 1, 0)


def test_new_partial_is_empty(store: Store) -> None:
    partial = store.partial(DIGEST)
    assert partial.absorb() == partial.length == 0
    partial.discard()


def test_whole_partial_becomes_the_blob(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA[:5], DATA[5:]])
    stored = partial.commit("name")
    partial.close()
    assert stored.new
    assert stored.info == store.stat(DIGEST)
    assert content(store) == DATA


def test_commit_takes_the_partial_away(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    partial.commit(None)
    partial.close()
    assert os.listdir(store.layout.own("partial")) == []
    assert os.stat(store.layout.data(DIGEST)).st_nlink == 1
    assert os.stat(store.layout.data(DIGEST)).st_mode & 0o777 == 0o444


def test_closed_partial_is_gone_on_with(store: Store) -> None:
    left_behind(store)
    partial = store.partial(DIGEST)
    assert partial.absorb() == 1000
    partial.write([DATA[1000:]])
    assert partial.commit(None).info.length == len(DATA)
    partial.close()


def test_what_was_left_is_hashed_without_being_asked(store: Store) -> None:
    left_behind(store)
    partial = store.partial(DIGEST)
    partial.write([DATA[1000:]])
    assert partial.commit(None).new
    partial.close()


def test_bytes_so_far_can_be_read_by_others(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA[:1000]])
    assert os.pread(partial.fd, partial.length, 0) == DATA[:1000]
    partial.discard()


def test_bytes_can_be_read_on_after_the_commit(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    partial.commit(None)
    assert os.pread(partial.fd, 10, 0) == DATA[:10]
    partial.close()
    assert partial.fd == -1


def test_partial_is_no_blob(store: Store) -> None:
    left_behind(store, DATA)
    assert not store.holds(DIGEST)


def test_second_load_in_this_process_is_busy(store: Store) -> None:
    partial = store.partial(DIGEST)
    with pytest.raises(Busy):
        store.partial(DIGEST)
    partial.discard()


def test_second_load_in_another_process_is_busy(store: Store) -> None:
    partial = store.partial(DIGEST)
    child = os.fork()
    if child == 0:
        try:
            store.partial(DIGEST)
        except Busy:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    partial.discard()


def test_load_that_was_let_go_is_not_busy(store: Store) -> None:
    store.partial(DIGEST).close()
    store.partial(DIGEST).discard()
    store.partial(DIGEST).discard()


def test_wrong_bytes_are_never_stored(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA[:-1] + b"!"])
    with pytest.raises(WrongDigest):
        partial.commit(None)
    assert not store.holds(DIGEST)
    partial.discard()


def test_restart_begins_with_nothing(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([b"wrong"])
    with pytest.raises(WrongDigest):
        partial.commit(None)
    partial.restart()
    assert partial.length == 0
    partial.write([DATA])
    assert partial.commit(None).new
    assert content(store) == DATA
    partial.close()


def test_discard_leaves_nothing(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    partial.discard()
    partial.discard()
    assert os.listdir(store.layout.own("partial")) == []


def test_discard_after_commit_spares_the_blob(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    partial.commit(None)
    partial.discard()
    assert content(store) == DATA


def test_restart_after_commit_spares_the_blob(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    partial.commit(None)
    os.link(store.layout.data(DIGEST), f"{store.layout.own('partial')}/left")
    with pytest.raises(StoreFailure):
        partial.restart()
    assert content(store) == DATA
    partial.close()


def test_write_after_commit_spares_the_blob(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    partial.commit(None)
    with pytest.raises(ValueError, match="sealed"):
        partial.write([b"more"])
    assert content(store) == DATA
    partial.close()


def test_load_of_what_is_here_already(store: Store) -> None:
    for new in (True, False):
        partial = store.partial(DIGEST)
        partial.write([DATA])
        assert partial.commit("x").new is new
        partial.close()


def test_load_never_brings_back_what_was_deleted(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    store.delete(DIGEST)
    with pytest.raises(Absent) as raised:
        partial.commit(None)
    assert raised.value.deleted
    partial.discard()
    assert not os.path.exists(store.layout.data(DIGEST))


def test_load_stops_at_an_operators_404(store: Store) -> None:
    os.makedirs(store.layout.folder(DIGEST))
    Path(store.layout.marker(DIGEST, 404)).touch()
    partial = store.partial(DIGEST)
    partial.write([DATA])
    with pytest.raises(Absent):
        partial.commit(None)
    partial.discard()


def test_load_stops_at_an_operators_403(store: Store) -> None:
    os.makedirs(store.layout.folder(DIGEST))
    Path(store.layout.marker(DIGEST, 403)).touch()
    partial = store.partial(DIGEST)
    partial.write([DATA])
    with pytest.raises(Denied):
        partial.commit(None)
    partial.discard()


def test_the_whole_can_be_compared_before_it_is_stored(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA[:5], DATA[5:]])
    partial.compare()
    assert not os.path.exists(store.layout.data(DIGEST))
    partial.commit(None)
    partial.close()
    assert content(store) == DATA


def test_a_wrong_whole_is_known_before_it_is_stored(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA[:-1] + b"?"])
    with pytest.raises(WrongDigest):
        partial.compare()
    partial.discard()


def test_so_is_what_was_deleted_meanwhile(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    store.delete(DIGEST)
    with pytest.raises(Absent) as raised:
        partial.compare()
    assert raised.value.deleted
    partial.discard()


def test_so_is_what_an_operator_denies(store: Store) -> None:
    os.makedirs(store.layout.folder(DIGEST))
    Path(store.layout.marker(DIGEST, 403)).touch()
    partial = store.partial(DIGEST)
    partial.write([DATA])
    with pytest.raises(Denied):
        partial.compare()
    partial.discard()


def test_more_than_fits_is_refused_once_it_is_known(store: Store) -> None:
    partial = store.partial(DIGEST)
    with pytest.raises(NoSpace):
        partial.reserve(1 << 60)
    partial.reserve(len(DATA))
    partial.discard()


def test_failed_write_keeps_what_was_there(store: Store) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA[:1000]])
    with pytest.MonkeyPatch.context() as patch:
        tear_writes(patch, errno.ENOSPC)
        with pytest.raises(NoSpace):
            partial.write([DATA[1000:]])
    assert os.fstat(partial.fd).st_size == partial.length == 1000
    partial.write([DATA[1000:]])
    assert partial.commit(None).new
    partial.close()


def test_a_failed_write_that_was_hashed_meanwhile_was_not_hashed(small: Store) -> None:
    data = os.urandom(2 * CHUNK + 5)
    partial = small.partial(Digest.of(data))
    partial.write([data[:CHUNK]])
    with pytest.MonkeyPatch.context() as patch:
        tear_writes(patch, errno.ENOSPC)
        with pytest.raises(NoSpace):
            partial.write([data[CHUNK:]])
    assert partial.length == CHUNK
    partial.write([data[CHUNK:]])
    assert partial.commit(None).new
    partial.close()
    made = small.repair.read_map(Digest.of(data), len(data))
    assert made is not None
    assert made.hash_of(1) == hashlib.sha256(data[CHUNK : 2 * CHUNK]).digest()


def test_torn_write_that_cannot_be_cut_is_hashed_again(store: Store, disk: FailingDisk) -> None:
    partial = store.partial(DIGEST)
    partial.absorb()
    disk.fail("ftruncate", errno.EIO, 1)
    with pytest.MonkeyPatch.context() as patch:
        tear_writes(patch, errno.EIO)
        with pytest.raises(StoreFailure):
            partial.write([DATA])
    disk.heal()
    assert partial.absorb() == 10
    partial.write([DATA[10:]])
    assert partial.commit(None).new
    partial.close()


def test_failed_sync_takes_the_partial_away(store: Store, disk: FailingDisk) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    disk.fail("fsync", errno.EIO, 1)
    with pytest.raises(StoreFailure):
        partial.commit(None)
    assert not store.holds(DIGEST)
    assert os.listdir(store.layout.own("partial")) == []


def test_full_disk_at_the_commit_keeps_the_partial(store: Store, disk: FailingDisk) -> None:
    partial = store.partial(DIGEST)
    partial.write([DATA])
    disk.fail("link", errno.ENOSPC, 1)
    with pytest.raises(NoSpace):
        partial.commit(None)
    disk.heal()
    assert partial.commit(None).new
    partial.close()


def test_commit_cut_off_before_the_link_is_gone_on_with(store: Store) -> None:
    left_behind(store, DATA)
    os.chmod(path_of(store), 0o444)
    partial = store.partial(DIGEST)
    assert os.stat(path_of(store)).st_mode & 0o777 == 0o600
    assert partial.absorb() == len(DATA)
    assert partial.commit(None).new
    partial.close()


def test_commit_cut_off_after_the_link_never_harms_the_blob(store: Store) -> None:
    left_behind(store, DATA)
    os.makedirs(store.layout.folder(DIGEST))
    os.link(path_of(store), store.layout.data(DIGEST))
    partial = store.partial(DIGEST)
    partial.restart()
    partial.write([b"other"])
    partial.discard()
    assert content(store) == DATA


@pytest.mark.parametrize("kind", ["fifo", "file of another"])
def test_what_is_no_partial_is_replaced(store: Store, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path_of(store))
    else:
        Path(path_of(store)).write_bytes(b"x")
        os.link(path_of(store), f"{path_of(store)}.other")
    partial = store.partial(DIGEST)
    assert partial.absorb() == 0
    partial.discard()


def test_link_in_the_place_of_a_partial_is_not_followed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    os.symlink(tmp_path / "precious", path_of(store))
    with pytest.raises(StoreFailure):
        store.partial(DIGEST)
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_partials_expire_by_their_last_byte(store: Store) -> None:
    left_behind(store)
    os.utime(path_of(store), (1000, 1000))
    assert store.expire_partials(60, 1060) == 0
    assert store.expire_partials(60, 1061) == 1
    assert os.listdir(store.layout.own("partial")) == []


def test_partial_in_use_never_expires(store: Store) -> None:
    partial = store.partial(DIGEST)
    assert store.expire_partials(0, 1 << 40) == 0
    partial.discard()


def test_deleting_drops_the_partial(store: Store) -> None:
    left_behind(store)
    store.delete(DIGEST)
    assert os.listdir(store.layout.own("partial")) == []


def test_opening_the_store_removes_a_partial_that_is_stored(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    left_behind(store, DATA)
    os.makedirs(store.layout.folder(DIGEST))
    os.link(path_of(store), store.layout.data(DIGEST))
    store.close()
    store = open_store(str(tmp_path), reserve=0)
    assert os.listdir(store.layout.own("partial")) == []
    assert content(store) == DATA
    store.close()


def test_opening_the_store_keeps_a_partial_that_is_not(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), fan_out=2, reserve=0)
    left_behind(store)
    store.close()
    store = open_store(str(tmp_path), reserve=0)
    partial = store.partial(DIGEST)
    assert partial.absorb() == 1000
    partial.discard()
    store.close()

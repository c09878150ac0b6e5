"""Healed bytes take the place of damaged ones; what cannot be healed is put aside."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, NoSpace, StoreFailure
from dtfc.store.blobs import Store
from dtfc.store.chunkmap import CHUNK
from dtfc.store.volume import write_all

if TYPE_CHECKING:
    from tests.store.conftest import FailingDisk

LARGE = os.urandom(2 * CHUNK + 5)


def put(store: Store, data: bytes, name: str | None = None) -> Digest:
    intake = store.intake(len(data))
    intake.write([data])
    return intake.commit(name).info.digest


def data_file(store: Store, digest: Digest) -> Path:
    return Path(store.layout.basedir) / store.layout.relative(digest) / "data"


def flip(store: Store, digest: Digest, at: int = 0) -> None:
    path = data_file(store, digest)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))
    path.chmod(0o444)


def content_of(store: Store, digest: Digest) -> bytes:
    with store.open(digest) as blob:
        return os.pread(blob.fd, blob.length + 1, 0)


def inode_of(store: Store, digest: Digest) -> int:
    return data_file(store, digest).stat().st_ino


def heal(store: Store, digest: Digest, data: bytes, inode: int) -> bool:
    scratch = store.repair.scratch()
    try:
        write_all(scratch.fd, [data], 0)
        return store.repair.put_right(digest, scratch, inode)
    finally:
        scratch.drop()


def test_a_large_blob_is_stored_with_its_map(store: Store) -> None:
    digest = put(store, LARGE)
    found = store.repair.read_map(digest, len(LARGE))
    assert found is not None
    assert len(found) == 3


def test_a_blob_of_one_chunk_has_no_map(store: Store) -> None:
    digest = put(store, LARGE[:CHUNK])
    assert not (data_file(store, digest).parent / "chunks").exists()


def test_a_loaded_blob_is_stored_with_its_map(store: Store) -> None:
    digest = Digest.of(LARGE)
    partial = store.partial(digest)
    partial.absorb()
    partial.write([LARGE[:100]])
    partial.close()
    partial = store.partial(digest)
    partial.write([LARGE[100:]])
    partial.commit(None)
    partial.close()
    assert store.repair.read_map(digest, len(LARGE)) is not None


def test_a_damaged_map_is_none(store: Store) -> None:
    digest = put(store, LARGE)
    path = data_file(store, digest).parent / "chunks"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert store.repair.read_map(digest, len(LARGE)) is None


def test_a_map_is_written_again(store: Store) -> None:
    digest = put(store, LARGE)
    made = store.repair.read_map(digest, len(LARGE))
    assert made is not None
    (data_file(store, digest).parent / "chunks").unlink()
    store.repair.write_map(made)
    assert store.repair.read_map(digest, len(LARGE)) == made


def test_a_map_of_what_has_gone_is_not_written(store: Store) -> None:
    digest = put(store, LARGE)
    made = store.repair.read_map(digest, len(LARGE))
    assert made is not None
    store.delete(digest)
    store.repair.write_map(made)
    assert not (data_file(store, digest).parent / "chunks").exists()


def test_a_deletion_takes_the_map_along(store: Store) -> None:
    digest = put(store, LARGE)
    store.delete(digest)
    assert os.listdir(data_file(store, digest).parent) == ["404"]


def test_a_put_of_a_rotten_blob_stores_it_again(store: Store) -> None:
    digest = put(store, LARGE, "a.bin")
    flip(store, digest, CHUNK)
    stored_again = put(store, LARGE, "b.bin")
    assert stored_again == digest
    assert content_of(store, digest) == LARGE
    assert store.stat(digest).names == ("a.bin", "b.bin")


def test_a_put_of_a_sound_blob_leaves_it_alone(store: Store) -> None:
    digest = put(store, LARGE)
    inode = inode_of(store, digest)
    put(store, LARGE)
    assert inode_of(store, digest) == inode


def test_healed_bytes_take_the_place_of_damaged_ones(store: Store) -> None:
    digest = put(store, b"right", "name")
    stored_at = store.stat(digest).stored_at
    flip(store, digest)
    os.utime(data_file(store, digest), (stored_at, stored_at))
    assert heal(store, digest, b"right", inode_of(store, digest))
    assert content_of(store, digest) == b"right"
    assert store.stat(digest).names == ("name",)
    assert abs(store.stat(digest).stored_at - stored_at) < 0.01
    assert data_file(store, digest).stat().st_mode & 0o777 == 0o444


def test_what_was_replaced_meanwhile_is_left_alone(store: Store) -> None:
    digest = put(store, b"right")
    assert not heal(store, digest, b"other", inode_of(store, digest) + 1)
    assert content_of(store, digest) == b"right"


def test_what_was_deleted_meanwhile_does_not_come_back(store: Store) -> None:
    digest = put(store, b"right")
    inode = inode_of(store, digest)
    store.delete(digest)
    assert not heal(store, digest, b"right", inode)
    with pytest.raises(Absent):
        store.open(digest)


def test_a_blob_in_quarantine_is_not_here(store: Store) -> None:
    digest = put(store, b"bad", "name")
    assert store.repair.quarantine(digest, inode_of(store, digest))
    with pytest.raises(Absent):
        store.open(digest)
    assert [each for each, _ in store.repair.quarantined()] == [digest]
    assert store.catalog.totals().blobs == 0


def test_a_blob_that_was_replaced_meanwhile_is_not_put_aside(store: Store) -> None:
    digest = put(store, b"good")
    assert not store.repair.quarantine(digest, inode_of(store, digest) + 1)
    assert content_of(store, digest) == b"good"


def test_a_blob_that_comes_back_from_quarantine_has_its_names(store: Store) -> None:
    digest = put(store, b"blob", "its name")
    inode = inode_of(store, digest)
    store.repair.quarantine(digest)
    assert heal(store, digest, b"blob", inode)
    assert store.stat(digest).names == ("its name",)
    assert not store.repair.quarantined()
    assert store.catalog.totals().blobs == 1


def test_a_put_of_a_blob_in_quarantine_keeps_its_names(store: Store) -> None:
    digest = put(store, b"blob", "old")
    store.repair.quarantine(digest)
    put(store, b"blob", "new")
    assert store.stat(digest).names == ("old", "new")


def test_a_put_without_a_name_keeps_those_of_a_blob_in_quarantine(store: Store) -> None:
    digest = put(store, b"blob", "old")
    store.repair.quarantine(digest)
    put(store, b"blob")
    assert store.stat(digest).names == ("old",)


def test_a_put_that_fails_keeps_the_names_of_a_blob_in_quarantine(
    store: Store, disk: FailingDisk
) -> None:
    digest = put(store, LARGE, "old")
    store.repair.quarantine(digest)
    intake = store.intake(len(LARGE))
    intake.write([LARGE])
    # The bytes, the new name's file, and then the folder.
    disk.fail("fsync", errno.EIO, 3)
    with pytest.raises(StoreFailure):
        intake.commit("new")
    disk.heal()
    names = (data_file(store, digest).parent / "filename").read_text()
    assert "old" in names.split()
    assert not data_file(store, digest).exists()


def test_a_deletion_empties_the_quarantine_too(store: Store) -> None:
    digest = put(store, b"private")
    store.repair.quarantine(digest)
    store.delete(digest)
    assert not store.repair.quarantined()
    assert os.listdir(store.layout.own("quarantine")) == []


def test_what_came_into_quarantine_by_other_hands_is_listed(store: Store) -> None:
    assert store.repair.quarantined() == []
    digest = Digest.of(b"x")
    path = Path(store.layout.own("quarantine")) / f"{digest.hex}.17"
    path.write_bytes(b"y")
    assert store.repair.quarantined() == [(digest, str(path))]


def test_a_map_beside_no_bytes_is_removed(store: Store) -> None:
    digest = put(store, LARGE)
    data_file(store, digest).unlink()
    assert store.repair.drop_map(digest)
    assert not store.repair.drop_map(digest)


def test_the_map_of_a_blob_in_quarantine_stays(store: Store) -> None:
    digest = put(store, LARGE)
    store.repair.quarantine(digest)
    assert not store.repair.drop_map(digest)
    assert store.repair.read_map(digest, len(LARGE)) is not None


def test_a_full_disk_makes_no_map_and_no_harm(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(store, LARGE)
    made = store.repair.read_map(digest, len(LARGE))
    assert made is not None
    (data_file(store, digest).parent / "chunks").unlink()

    def full(_needed: int) -> None:
        raise NoSpace(1, 0, 0)

    monkeypatch.setattr(store.repair, "_volume", _Full(store.repair._volume, full))
    store.repair.write_map(made)
    assert not (data_file(store, digest).parent / "chunks").exists()


class _Full:
    """A volume without room."""

    def __init__(self, volume: object, full: object) -> None:
        self._volume = volume
        self.require_room = full

    def __getattr__(self, name: str) -> object:
        return getattr(self._volume, name)


def test_what_comes_into_quarantine_within_a_tick_of_the_clock_is_listed(store: Store) -> None:
    first, second = put(store, b"first"), put(store, b"second")
    store.repair.quarantine(first)
    folder = store.layout.own("quarantine")
    facts = os.stat(folder)
    assert store.repair.is_quarantined(first)
    store.repair.quarantine(second)
    # As a kernel does whose clock has not ticked in between.
    os.utime(folder, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert store.repair.is_quarantined(second)


def test_a_quarantine_that_does_not_change_is_listed_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(store, b"blob")
    store.repair.quarantine(digest)
    os.utime(store.layout.own("quarantine"), (1, 1))
    assert store.repair.is_quarantined(digest)
    monkeypatch.setattr(os, "listdir", None)
    assert store.repair.is_quarantined(digest)

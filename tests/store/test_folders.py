from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dtfc.digest import Digest
from dtfc.errors import StoreFailure
from dtfc.store.folders import Folders
from dtfc.store.layout import Layout, open_layout
from dtfc.store.volume import Volume

if TYPE_CHECKING:
    from tests.store.conftest import FailingDisk

DIGEST = Digest.of(b"a blob")


@pytest.fixture
def layout(tmp_path: Path, fan_out: int) -> Layout:
    return open_layout(str(tmp_path / "store"), fan_out)


@pytest.fixture(params=[True, False], ids=["openat2", "level-by-level"])
def folders(layout: Layout, request: pytest.FixtureRequest) -> Iterator[Folders]:
    opened = Folders(layout, Volume(layout), one_call=request.param)
    yield opened
    opened.close()


def is_found(folders: Folders, digest: Digest) -> bool:
    fd = folders.open(digest)
    if fd is None:
        return False
    os.close(fd)
    return True


def fsynced(disk: FailingDisk) -> list[str]:
    return [path for name, path in disk.calls if name == "fsync"]


def chain(layout: Layout, digest: Digest) -> list[str]:
    """Return every folder from the store's own to the blob's."""
    paths = [layout.basedir]
    for name in layout.levels(digest):
        paths.append(f"{paths[-1]}/{name}")
    return paths


def test_folder_that_is_not_there(folders: Folders) -> None:
    assert not is_found(folders, DIGEST)


def test_folder_that_was_made_is_found(folders: Folders, layout: Layout) -> None:
    with folders.making(DIGEST) as fd:
        assert os.path.samestat(os.fstat(fd), os.stat(layout.folder(DIGEST)))
    assert is_found(folders, DIGEST)


def test_making_makes_no_other_folder(folders: Folders, layout: Layout) -> None:
    with folders.making(DIGEST):
        pass
    shards = [name for name in os.listdir(layout.basedir) if name != ".dtfc"]
    assert shards == [DIGEST.hex[:2]]


def test_link_at_any_level_leads_nowhere(folders: Folders, layout: Layout, tmp_path: Path) -> None:
    with folders.making(DIGEST):
        pass
    for path in chain(layout, DIGEST)[1:]:
        aside = str(tmp_path / "aside")
        os.rename(path, aside)
        os.symlink(aside, path)
        assert not is_found(folders, DIGEST), path
        os.unlink(path)
        os.rename(aside, path)
    assert is_found(folders, DIGEST)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_nothing_is_made_behind_a_link(
    folders: Folders, layout: Layout, tmp_path: Path, level: int
) -> None:
    path = chain(layout, DIGEST)[level]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(StoreFailure), folders.making(DIGEST):
        pass
    assert os.listdir(tmp_path / "elsewhere") == []


def test_file_in_the_place_of_a_folder(folders: Folders, layout: Layout) -> None:
    Path(chain(layout, DIGEST)[1]).touch()
    assert not is_found(folders, DIGEST)
    with pytest.raises(StoreFailure), folders.making(DIGEST):
        pass


def test_existing_makes_nothing(folders: Folders, layout: Layout) -> None:
    with folders.existing(DIGEST) as fd:
        assert fd is None
    assert os.listdir(layout.basedir) == [".dtfc"]


def test_every_folder_to_a_new_blob_is_synced(
    folders: Folders, layout: Layout, disk: FailingDisk
) -> None:
    disk.record()
    with folders.making(DIGEST) as fd:
        folders.sync(DIGEST, fd)
    assert set(fsynced(disk)) == set(chain(layout, DIGEST))


def test_folder_made_by_somebody_else_is_not_taken_for_durable(
    folders: Folders, layout: Layout, disk: FailingDisk
) -> None:
    os.makedirs(layout.folder(DIGEST))
    disk.record()
    with folders.making(DIGEST) as fd:
        folders.sync(DIGEST, fd)
    assert set(fsynced(disk)) == set(chain(layout, DIGEST))


def test_what_was_synced_once_is_not_synced_again(
    folders: Folders, layout: Layout, disk: FailingDisk
) -> None:
    with folders.making(DIGEST) as fd:
        folders.sync(DIGEST, fd)
    disk.record()
    with folders.making(DIGEST) as fd:
        folders.sync(DIGEST, fd)
    assert fsynced(disk) == [layout.folder(DIGEST)]


def test_shard_known_to_be_durable_is_left_out_for_other_blobs(
    folders: Folders, layout: Layout, disk: FailingDisk
) -> None:
    neighbour = Digest(DIGEST.raw[:2] + bytes(62))
    with folders.making(DIGEST) as fd:
        folders.sync(DIGEST, fd)
    disk.record()
    with folders.making(neighbour) as fd:
        folders.sync(neighbour, fd)
    assert set(fsynced(disk)) == set(chain(layout, neighbour)[2:])


def test_shard_that_vanished_and_was_made_again_is_synced_again(
    folders: Folders, layout: Layout, disk: FailingDisk
) -> None:
    with folders.making(DIGEST) as fd:
        folders.sync(DIGEST, fd)
    shutil.rmtree(chain(layout, DIGEST)[1])
    disk.record()
    with folders.making(DIGEST) as fd:
        folders.sync(DIGEST, fd)
    assert set(fsynced(disk)) == set(chain(layout, DIGEST))


def test_failed_sync_of_a_folder_is_never_tried_again(folders: Folders, disk: FailingDisk) -> None:
    disk.fail("fsync", errno.EIO, 1)
    with folders.making(DIGEST) as fd:
        with pytest.raises(StoreFailure):
            folders.sync(DIGEST, fd)
        with pytest.raises(StoreFailure, match="failed before"):
            folders.sync(DIGEST, fd)
    assert disk.fired == 1


def test_failed_sync_of_a_folder_spares_other_folders(folders: Folders, disk: FailingDisk) -> None:
    disk.fail("fsync", errno.EIO, 1)
    with folders.making(DIGEST) as fd, pytest.raises(StoreFailure):
        folders.sync(DIGEST, fd)
    other = Digest.of(b"other")
    with folders.making(other) as fd:
        folders.sync(other, fd)


def test_walk_finds_every_folder_in_order(folders: Folders) -> None:
    digests = [Digest.of(bytes([number])) for number in range(40)]
    for digest in digests:
        with folders.making(digest):
            pass
    assert [digest for digest, _ in folders.walk()] == sorted(digests)


def test_walk_gives_the_folder_of_each_digest(folders: Folders, layout: Layout) -> None:
    with folders.making(DIGEST):
        pass
    for digest, fd in folders.walk():
        assert os.path.samestat(os.fstat(fd), os.stat(layout.folder(digest)))


def test_walk_passes_over_what_is_no_folder_of_ours(folders: Folders, layout: Layout) -> None:
    with folders.making(DIGEST):
        pass
    for name in ("AB", "abc", "zz", "a", "lost+found"):
        os.mkdir(f"{layout.basedir}/{name}")
    Path(layout.basedir, "ff").touch()
    os.symlink(layout.basedir, f"{layout.basedir}/00")
    assert [digest for digest, _ in folders.walk()] == [DIGEST]


def test_walk_that_cannot_list_says_so(folders: Folders, disk: FailingDisk) -> None:
    with folders.making(DIGEST):
        pass
    disk.fail("listdir", errno.EIO, 2)
    with pytest.raises(StoreFailure):
        list(folders.walk())


def test_walk_leaves_nothing_open(folders: Folders) -> None:
    for number in range(5):
        with folders.making(Digest.of(bytes([number]))):
            pass
    before = len(os.listdir("/proc/self/fd"))
    walk = folders.walk()
    next(walk)
    walk.close()
    list(folders.walk())
    assert len(os.listdir("/proc/self/fd")) == before


def prepared(tmp_path: Path) -> int:
    """Return the descriptor of a folder that holds a prepared one, ``draft``."""
    (tmp_path / "drafts/draft").mkdir(parents=True)
    (tmp_path / "drafts/draft/data").write_bytes(b"x")
    return os.open(tmp_path / "drafts", os.O_RDONLY)


def test_a_prepared_folder_is_moved_into_place(
    folders: Folders, layout: Layout, tmp_path: Path
) -> None:
    source = prepared(tmp_path)
    folders.adopt(DIGEST, source, "draft")
    os.close(source)
    assert Path(layout.data(DIGEST)).read_bytes() == b"x"
    assert os.listdir(tmp_path / "drafts") == []


def test_a_folder_that_is_there_is_not_replaced(
    folders: Folders, layout: Layout, tmp_path: Path
) -> None:
    with folders.making(DIGEST):
        pass
    source = prepared(tmp_path)
    with pytest.raises(FileExistsError):
        folders.adopt(DIGEST, source, "draft")
    os.close(source)
    assert os.listdir(layout.folder(DIGEST)) == []


def test_nothing_is_moved_behind_a_link(folders: Folders, layout: Layout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.symlink(elsewhere, Path(layout.basedir) / layout.levels(DIGEST)[0])
    source = prepared(tmp_path)
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the kernel's calls
        folders.adopt(DIGEST, source, "draft")
    os.close(source)
    assert os.listdir(elsewhere) == []


def test_a_prepared_folder_counts_as_not_durable(
    folders: Folders, layout: Layout, tmp_path: Path, disk: FailingDisk
) -> None:
    source = prepared(tmp_path)
    folders.adopt(DIGEST, source, "draft")
    os.close(source)
    disk.record()
    with folders.making(DIGEST) as leaf:
        folders.sync(DIGEST, leaf)
    synced = {path for function, path in disk.calls if function == "fsync"}
    assert {layout.folder(DIGEST), os.path.dirname(layout.folder(DIGEST))} <= synced

"""A tree as the 2015 program made it is served as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Absent, BrokenStore, Denied
from dtfc.store.blobs import Store, open_store


def lay(base: Path, data: bytes, names: bytes | None) -> Path:
    """Make a blob's folder by hand: one for every two characters."""
    text = Digest.of(data).hex
    folder = base.joinpath(*(text[at : at + 2] for at in range(0, 128, 2)))
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(data)
    if names is not None:
        (folder / "filename").write_bytes(names)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    lay(tmp_path, b"plain", b"plain.txt\n")
    lay(tmp_path, b"many", b"first.txt\nsecond.txt\nfirst.txt\nlast.txt")
    lay(tmp_path, b"junk", b"\r\n\nold\xff.jpg\r\n")
    lay(tmp_path, b"nameless", None)
    (lay(tmp_path, b"deleted", b"gone.txt\n") / "404").touch()
    (lay(tmp_path, b"forbidden", b"no.txt\n") / "403").touch()
    return tmp_path


def opened(base: Path) -> Store:
    return open_store(str(base), reserve=0)


def snapshot(base: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in base.rglob("*")
        if path.is_file() and ".dtfc" not in path.parts
    }


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"plain", ("plain.txt",)),
        (b"many", ("second.txt", "first.txt", "last.txt")),
        (b"junk", ("old�.jpg",)),
        (b"nameless", ()),
    ],
)
def test_blob_is_served(base: Path, data: bytes, names: tuple[str, ...]) -> None:
    store = opened(base)
    with store.open(Digest.of(data)) as blob:
        assert os.pread(blob.fd, 100, 0) == data
        assert blob.info.names == names
    store.close()


def test_empty_404_is_a_404_with_the_data_still_there(base: Path) -> None:
    store = opened(base)
    with pytest.raises(Absent) as raised:
        store.open(Digest.of(b"deleted"))
    assert raised.value.deleted
    store.close()


def test_empty_404_denies_a_put(base: Path) -> None:
    store = opened(base)
    intake = store.intake(None)
    intake.write([b"deleted"])
    with pytest.raises(Denied):
        intake.commit("again")
    store.close()


def test_empty_403_denies(base: Path) -> None:
    store = opened(base)
    with pytest.raises(Denied):
        store.open(Digest.of(b"forbidden"))
    store.close()


def test_nothing_in_the_tree_is_converted(base: Path) -> None:
    before = snapshot(base)
    store = opened(base)
    store.reindex()
    store.close()
    assert snapshot(base) == before


def test_catalog_has_to_be_made(base: Path) -> None:
    store = opened(base)
    assert store.needs_reindex
    done = store.reindex()
    assert (done.folders, done.blobs) == (6, 6)
    assert [row.name for row in store.catalog.by_name().rows] == [
        "first.txt",
        "last.txt",
        "old�.jpg",
        "plain.txt",
        "second.txt",
    ]
    store.close()
    store = opened(base)
    assert not store.needs_reindex
    store.close()


def test_put_of_what_is_there_adds_its_name(base: Path) -> None:
    store = opened(base)
    intake = store.intake(None)
    intake.write([b"many"])
    stored = intake.commit("newest.txt")
    assert not stored.new
    assert stored.info.names == ("second.txt", "first.txt", "last.txt", "newest.txt")
    store.close()


def test_deleted_by_operator_can_be_freed(base: Path) -> None:
    store = opened(base)
    digest = Digest.of(b"deleted")
    assert store.delete(digest).info is not None
    folder = Path(store.layout.folder(digest))
    # No name is left in it: it says that the bytes were taken away on purpose.
    assert sorted(os.listdir(folder)) == ["404", "filename"]
    assert (folder / "filename").read_bytes().strip() == b""
    store.close()


def test_other_fan_out_is_refused(base: Path) -> None:
    with pytest.raises(BrokenStore, match="this store has fan-out 64"):
        open_store(str(base), fan_out=2)

"""A pass reads every byte, and finds what is not as it should be."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from dtfc.digest import Digest
from dtfc.errors import StoreFailure
from dtfc.integrity.scrubbing import Finding, Reader, Scrub
from dtfc.store.chunkmap import CHUNK


def scrub(spoilt: Any, **options: Any) -> Scrub:
    made = Scrub(spoilt.store, Reader(lambda *_: True), **options)
    for _ in made.steps():
        pass
    return made


LARGE = os.urandom(CHUNK + 4097)


def test_a_sound_store_has_nothing_to_find(spoilt: Any) -> None:
    for data in (b"", b"a", b"b" * 5000, LARGE):
        spoilt.put(data)
    found = scrub(spoilt)
    assert found.findings == []
    assert found.tally.blobs == 4
    assert found.tally.bytes == 5001 + len(LARGE)


@pytest.mark.parametrize("data", [b"a", b"b" * 5000, LARGE])
def test_one_bit_is_found(spoilt: Any, data: bytes) -> None:
    spoilt.put(b"a sound one")
    digest = spoilt.put(data)
    spoilt.flip(digest, len(data) - 1)
    assert scrub(spoilt).findings == [Finding("corrupt", digest.hex, digest)]


def test_a_blob_that_was_cut_is_found(spoilt: Any) -> None:
    digest = spoilt.put(b"whole")
    path = spoilt.folder(digest) / "data"
    path.chmod(0o644)
    path.write_bytes(b"who")
    path.chmod(0o444)
    assert scrub(spoilt).findings == [Finding("corrupt", digest.hex, digest)]


def test_a_blob_that_has_gone_is_found(spoilt: Any) -> None:
    digest = spoilt.put(b"here")
    (spoilt.folder(digest) / "data").unlink()
    assert scrub(spoilt).findings == [Finding("missing", digest.hex, digest)]


def test_a_deleted_blob_is_not_missing(spoilt: Any) -> None:
    spoilt.store.delete(spoilt.put(b"gone"))
    assert scrub(spoilt).findings == []


def test_a_blob_in_quarantine_is_not_missing(spoilt: Any) -> None:
    spoilt.store.repair.quarantine(spoilt.put(LARGE))
    assert scrub(spoilt).findings == []


def test_a_blob_that_an_operator_denies_is_read_all_the_same(spoilt: Any) -> None:
    digest = spoilt.put(b"denied")
    (spoilt.folder(digest) / "403").touch()
    spoilt.flip(digest)
    assert [each.kind for each in scrub(spoilt).findings] == ["corrupt"]


def test_data_that_could_be_written_to_is_made_read_only(spoilt: Any) -> None:
    digest = spoilt.put(b"data")
    path = spoilt.folder(digest) / "data"
    path.chmod(0o644)
    assert [each.kind for each in scrub(spoilt).findings] == ["mode"]
    assert path.stat().st_mode & 0o777 == 0o444


def test_who_only_looks_changes_nothing(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    (spoilt.folder(digest) / "data").chmod(0o600)
    (spoilt.folder(digest) / "chunks").unlink()
    scrub(spoilt, mend=False)
    assert (spoilt.folder(digest) / "data").stat().st_mode & 0o777 == 0o600
    assert not (spoilt.folder(digest) / "chunks").exists()


def test_a_missing_map_is_made(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    made = (spoilt.folder(digest) / "chunks").read_bytes()
    (spoilt.folder(digest) / "chunks").unlink()
    assert scrub(spoilt).findings == []
    assert (spoilt.folder(digest) / "chunks").read_bytes() == made


def test_a_map_of_nothing_is_removed(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    (spoilt.folder(digest) / "data").unlink()
    found = scrub(spoilt)
    assert [each.kind for each in found.findings] == ["map", "missing"]
    assert not (spoilt.folder(digest) / "chunks").exists()


def test_what_does_not_belong_there_is_told_and_left(spoilt: Any) -> None:
    digest = spoilt.put(b"data")
    (spoilt.folder(digest) / "notes.txt").touch()
    base = spoilt.folder(digest).parent.parent.parent
    (base / "README").touch()
    (base / digest.hex[:2] / "zz").mkdir()
    (base / "ff").touch()
    found = {each.where for each in scrub(spoilt).findings}
    relative = spoilt.store.layout.relative(digest)
    assert found == {"README", f"{digest.hex[:2]}/zz", "ff", f"{relative}/notes.txt"}
    assert (spoilt.folder(digest) / "notes.txt").exists()


def test_a_pass_is_taken_up_where_it_was(spoilt: Any) -> None:
    digests = sorted(spoilt.put(os.urandom(10)) for _ in range(20))
    first = Scrub(spoilt.store, Reader(lambda *_: True))
    steps = first.steps()
    while first.cursor is None or first.cursor < digests[9]:
        next(steps)
    assert first.cursor == digests[9]
    assert scrub(spoilt, after=first.cursor).tally.blobs == 10


def test_one_blob_can_be_looked_at_alone(spoilt: Any) -> None:
    bad, good = spoilt.put(b"bad"), spoilt.put(b"good")
    spoilt.flip(bad)
    alone = Scrub(spoilt.store, Reader(lambda *_: True))
    for _ in alone.one(good):
        pass
    assert alone.findings == []
    for _ in alone.one(bad):
        pass
    assert alone.findings == [Finding("corrupt", bad.hex, bad)]


def test_where_the_file_system_reads_only_through_the_cache_it_does(
    spoilt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.preadv
    refused: list[int] = []

    def picky(fd: int, buffers: Any, offset: int) -> int:
        if len(buffers[0]) % 4096 == 0 and not refused:
            refused.append(offset)
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(fd, buffers, offset)

    digest = spoilt.put(LARGE)
    monkeypatch.setattr(os, "preadv", picky)
    assert scrub(spoilt).findings == []
    assert refused == [0]
    spoilt.flip(digest, 5)
    assert [each.kind for each in scrub(spoilt).findings] == ["corrupt"]


def test_what_was_read_right_is_remembered_with_its_time(spoilt: Any) -> None:
    right, wrong = spoilt.put(b"right"), spoilt.put(b"wrong")
    spoilt.flip(wrong)
    found = scrub(spoilt)
    assert found.right == [right]
    assert wrong not in found.right
    assert Digest.of(b"right") == right


def test_a_block_that_the_disk_cannot_read_is_found(
    spoilt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, sound = spoilt.put(LARGE), spoilt.put(b"a sound one")
    inode = (spoilt.folder(bad) / "data").stat().st_ino
    real = os.preadv

    def broken(fd: int, buffers: Any, offset: int) -> int:
        if os.fstat(fd).st_ino == inode:
            if len(buffers[0]) % 4096 == 0:
                raise OSError(errno.EIO, "Input/output error")
            raise OSError(errno.EINVAL, "what O_DIRECT says of a buffer that is not aligned")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", broken)
    found = scrub(spoilt)
    assert found.findings == [Finding("corrupt", bad.hex, bad)]
    assert found.findings[0].inode == inode
    assert found.right == [sound]


def test_what_may_not_be_read_is_told_and_the_rest_is_read(
    spoilt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = sorted((spoilt.put(each) for each in (b"1", b"2", b"3")), key=lambda each: each.raw)
    inode = spoilt.folder(digests[1]).stat().st_ino
    real = Reader.open

    def forbidden(self: Reader, folder: int) -> int | None:
        if os.fstat(folder).st_ino == inode:
            raise OSError(errno.EACCES, "Permission denied")
        return real(self, folder)

    monkeypatch.setattr(Reader, "open", forbidden)
    found = scrub(spoilt)
    assert found.findings == [Finding("unreadable", digests[1].hex, digests[1])]
    assert found.right == [digests[0], digests[2]]


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_is_read(
    spoilt: Any, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    digests = sorted((spoilt.put(b"%d" % each) for each in range(5)), key=lambda each: each.raw)
    top = digests[2].hex[:2]
    base = Path(spoilt.store.layout.basedir)
    inode = (base / top).stat().st_ino
    real = os.listdir

    def broken(where: Any = ".") -> list[str]:
        if isinstance(where, int) and os.fstat(where).st_ino == inode:
            raise OSError(reason, os.strerror(reason))
        return real(where)

    monkeypatch.setattr(os, "listdir", broken)
    found = scrub(spoilt)
    assert found.findings == [Finding("unreadable", top)]
    assert found.right == [each for each in digests if each.hex[:2] != top]


def test_what_lies_in_a_folder_that_cannot_be_read_is_not_missing(
    spoilt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = spoilt.put(b"1")
    monkeypatch.setattr(
        type(spoilt.store),
        "keeps",
        lambda *_: (_ for _ in ()).throw(StoreFailure("look", OSError())),
    )
    assert list(spoilt.store.missing()) == [None]
    assert spoilt.store.catalog.has(digest)


def test_the_look_at_the_catalog_can_be_paced(spoilt: Any) -> None:
    for number in range(5):
        spoilt.put(b"%d" % number)
    made = Scrub(spoilt.store, Reader(lambda *_: True))
    # A chunk and its end each; then one step for each that is in the catalog.
    assert len(list(made.steps())) == 5 * 2 + 5

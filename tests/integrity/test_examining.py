"""Chunks and wholes, compared with what they must hash to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.integrity.examining import Examined, examine, is_right, read_chunk
from dtfc.store.chunkmap import CHUNK, ChunkHashes, ChunkMap

CONTENT = os.urandom(2 * CHUNK + 1000)
DIGEST = Digest.of(CONTENT)


def map_of(content: bytes, digest: Digest = DIGEST) -> ChunkMap:
    hashes = ChunkHashes()
    hashes.take([content])
    return ChunkMap(digest, len(content), hashes.finish())


def look(
    tmp_path: Path, content: bytes, digest: Digest = DIGEST, chunk_map: ChunkMap | None = None
) -> Examined:
    path = tmp_path / "data"
    path.write_bytes(content)
    with path.open("rb") as file:
        return examine(file.fileno(), digest, len(CONTENT), chunk_map)


def flipped(at: int) -> bytes:
    changed = bytearray(CONTENT)
    changed[at] ^= 1
    return bytes(changed)


def test_a_blob_that_is_right_gives_its_map(tmp_path: Path) -> None:
    assert look(tmp_path, CONTENT) == Examined(right=True, bad=(), made=map_of(CONTENT))


@pytest.mark.parametrize(("at", "chunk"), [(0, 0), (CHUNK, 1), (len(CONTENT) - 1, 2)])
def test_the_map_tells_which_chunk_is_wrong(tmp_path: Path, at: int, chunk: int) -> None:
    found = look(tmp_path, flipped(at), chunk_map=map_of(CONTENT))
    assert found == Examined(right=False, bad=(chunk,), made=None)


def test_without_a_map_only_the_whole_is_known_to_be_wrong(tmp_path: Path) -> None:
    assert look(tmp_path, flipped(7)) == Examined(right=False, bad=(), made=None)


def test_a_map_that_lies_is_made_anew(tmp_path: Path) -> None:
    lying = ChunkMap(DIGEST, len(CONTENT), bytes(96))
    assert look(tmp_path, CONTENT, chunk_map=lying).made == map_of(CONTENT)


def test_a_file_that_ends_early_is_wrong_where_it_ends(tmp_path: Path) -> None:
    found = look(tmp_path, CONTENT[:CHUNK], chunk_map=map_of(CONTENT))
    assert found.bad == (1, 2)


def test_a_blob_of_one_chunk_needs_no_map(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"wrong")
    with path.open("rb") as file:
        assert examine(file.fileno(), Digest.of(b"right"), 5, None).bad == (0,)


def test_what_the_disk_cannot_read_is_wrong_and_the_rest_is_not(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(CONTENT)

    def read(fd: int, index: int, length: int) -> memoryview | None:
        return None if index == 1 else read_chunk(fd, index, length)

    with path.open("rb") as file:
        found = examine(file.fileno(), DIGEST, len(CONTENT), map_of(CONTENT), read=read)
    assert found.bad == (1,)


def test_a_read_error_of_the_disk_is_no_content(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    assert read_chunk(0, 0, 10) is None


def test_another_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> int:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(OSError, match="Bad file"):
        read_chunk(0, 0, 10)


def test_a_second_chunk_without_a_map_is_never_right() -> None:
    assert not is_right(CONTENT, 1, DIGEST, None)

"""The chunk map: made in one pass, believed only if it is whole and this blob's."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.store.chunkmap import CHUNK, ChunkHashes, ChunkMap, count_of, map_size, read_map

CONTENT = bytes(range(256)) * 10000  # two chunks and a part of one
DIGEST = Digest.of(CONTENT)


def map_of(content: bytes) -> ChunkMap:
    hashes = ChunkHashes()
    hashes.take([content])
    return ChunkMap(Digest.of(content), len(content), hashes.finish())


MAP = map_of(CONTENT)


def expected(content: bytes) -> list[bytes]:
    return [
        hashlib.sha256(content[at : at + CHUNK]).digest() for at in range(0, len(content), CHUNK)
    ]


@settings(max_examples=20)
@given(st.lists(st.integers(1, 2 * CHUNK), max_size=6))
def test_blocks_cut_in_whatever_way_give_the_same_hashes(cuts: list[int]) -> None:
    hashes = ChunkHashes()
    at = 0
    for cut in cuts:
        hashes.take([CONTENT[at : at + cut]])
        at += cut
    hashes.take([CONTENT[at:]])
    assert hashes.finish() == b"".join(expected(CONTENT))


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_map_has_a_hash_for_each_chunk(length: int) -> None:
    content = b"x" * length
    made = map_of(content)
    assert [made.hash_of(each) for each in range(len(made))] == expected(content)
    assert len(made) == count_of(length)


def test_a_file_is_read_back() -> None:
    made = MAP
    content = made.content()
    assert len(content) == map_size(len(CONTENT))
    assert read_map(content, DIGEST, len(CONTENT)) == made


@given(st.data())
def test_a_file_with_any_bit_changed_is_no_map(data: st.DataObject) -> None:
    content = bytearray(MAP.content())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    assert read_map(bytes(content), DIGEST, len(CONTENT)) is None


@given(st.integers(0, map_size(len(CONTENT)) - 1))
def test_a_file_that_was_cut_is_no_map(length: int) -> None:
    assert read_map(MAP.content()[:length], DIGEST, len(CONTENT)) is None


def test_a_file_with_something_behind_it_is_no_map() -> None:
    assert read_map(MAP.content() + b"\0", DIGEST, len(CONTENT)) is None


def test_the_map_of_another_blob_is_none() -> None:
    other = CONTENT[:-1] + b"\0"
    assert read_map(MAP.content(), Digest.of(other), len(other)) is None


def test_garbage_is_no_map() -> None:
    assert read_map(b"\0" * map_size(len(CONTENT)), DIGEST, len(CONTENT)) is None

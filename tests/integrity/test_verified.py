"""What was verified is remembered for one state of a file, while it is open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.integrity.verified import Generation, MapsInUse, Record, Verified, generation_of
from dtfc.store.chunkmap import CHUNK, ChunkMap


def a_generation(number: int = 0, size: int = 3 * CHUNK) -> Generation:
    return Generation(1, number, size, 0, 0)


def test_nothing_is_verified_at_first() -> None:
    assert not Record(a_generation()).covers(0, 1)


@pytest.mark.parametrize(
    ("start", "stop", "covered"),
    [
        (CHUNK, 2 * CHUNK, True),
        (CHUNK + 5, CHUNK + 6, True),
        (CHUNK - 1, CHUNK + 1, False),
        (2 * CHUNK - 1, 2 * CHUNK + 1, False),
        (0, 3 * CHUNK, False),
    ],
)
def test_a_stretch_is_covered_if_each_of_its_chunks_is(
    start: int, stop: int, *, covered: bool
) -> None:
    record = Record(a_generation())
    record.note(1)
    assert record.covers(start, stop) is covered


def test_what_is_forgotten_is_not_covered() -> None:
    record = Record(a_generation())
    record.note_all()
    record.forget(2)
    assert record.covers(0, 2 * CHUNK)
    assert not record.covers(2 * CHUNK, 3 * CHUNK)


def test_a_write_makes_another_generation(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    with path.open("r+b") as file:
        before = generation_of(file.fileno())
        os.utime(path, (1, 1))
        assert generation_of(file.fileno()) != before


def test_all_who_have_a_file_open_share_its_record() -> None:
    verified = Verified()
    verified.take(a_generation()).note(0)
    assert verified.take(a_generation()).covers(0, 1)


def test_the_record_of_another_generation_is_another() -> None:
    verified = Verified()
    verified.take(a_generation(1)).note(0)
    assert not verified.take(a_generation(2)).covers(0, 1)


def test_with_the_last_one_who_closes_it_all_is_forgotten() -> None:
    verified = Verified()
    one, other = verified.take(a_generation()), verified.take(a_generation())
    one.note(0)
    verified.give_back(one)
    assert verified.take(a_generation()).covers(0, 1)
    verified.give_back(one)
    verified.give_back(other)
    assert len(verified) == 0
    assert not verified.take(a_generation()).covers(0, 1)


def a_map(number: int, chunks: int = 4) -> ChunkMap:
    return ChunkMap(Digest.of(bytes([number])), chunks * CHUNK, bytes(32 * chunks))


def test_a_map_in_use_is_at_hand() -> None:
    maps = MapsInUse()
    maps.keep(a_map(1))
    assert maps.get(a_map(1).digest, 4 * CHUNK) == a_map(1)


def test_a_map_of_another_length_is_not() -> None:
    maps = MapsInUse()
    maps.keep(a_map(1))
    assert maps.get(a_map(1).digest, 4 * CHUNK - 1) is None


def test_maps_that_were_not_needed_the_longest_make_room() -> None:
    maps = MapsInUse(most_bytes=3 * 4 * 32)
    for number in range(3):
        maps.keep(a_map(number))
    assert maps.get(a_map(0).digest, 4 * CHUNK)
    maps.keep(a_map(3))
    assert maps.get(a_map(1).digest, 4 * CHUNK) is None
    assert maps.get(a_map(0).digest, 4 * CHUNK)


def test_one_that_is_larger_than_the_bound_is_kept_while_it_is_the_latest() -> None:
    maps = MapsInUse(most_bytes=10)
    maps.keep(a_map(1))
    assert len(maps) == 1
    maps.keep(a_map(2))
    assert len(maps) == 1

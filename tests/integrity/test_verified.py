"""What was verified is remembered for one state of a file, within a bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtfc.integrity.verified import Generation, Record, Verified, generation_of
from dtfc.store.chunkmap import CHUNK


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


def test_a_record_is_found_again() -> None:
    verified = Verified()
    verified.of(a_generation()).note(0)
    assert verified.of(a_generation()).covers(0, 1)


def test_the_record_of_another_generation_is_another() -> None:
    verified = Verified()
    verified.of(a_generation(1)).note(0)
    assert not verified.of(a_generation(2)).covers(0, 1)


def test_what_was_not_asked_for_the_longest_makes_room() -> None:
    verified = Verified(most_bytes=3000)
    verified.of(a_generation(0)).note(0)
    for number in range(1, 20):
        verified.of(a_generation(number))
        verified.of(a_generation(19)).note(0)
    assert not verified.of(a_generation(0)).covers(0, 1)
    assert verified.of(a_generation(19)).covers(0, 1)
    assert len(verified) < 10


def test_one_that_is_larger_than_the_bound_is_kept_while_it_is_the_latest() -> None:
    verified = Verified(most_bytes=10)
    verified.of(a_generation(1)).note(0)
    assert verified.of(a_generation(1)).covers(0, 1)

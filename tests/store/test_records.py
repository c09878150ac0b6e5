from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import BadInput
from dtfc.store.records import (
    HIGHEST,
    Record,
    from_plain,
    newest,
    next_deletion,
    next_revival,
)

DIGEST = Digest.of(b"x")
ID = "ab" * 16
NODE = "cd" * 16


def record(counter: int = 1, *, deleted: bool = True, at: str = "2026-01-01") -> Record:
    return Record(DIGEST, counter, deleted=deleted, id=ID, at=at, node=NODE)


def test_the_first_deletion_counts_one() -> None:
    assert next_deletion(None, DIGEST, name=ID, at="now", node=NODE).rank == (1, True)


def test_a_deletion_is_newer_than_all_that_was_known() -> None:
    known = record(7, deleted=False)
    assert next_deletion(known, DIGEST, name=ID, at="now", node=NODE).newer_than(known)


def test_a_revival_is_newer_than_the_deletion() -> None:
    known = record(7)
    revival = next_revival(known, name=ID, at="now", node=NODE)
    assert (revival.counter, revival.deleted) == (8, False)
    assert revival.newer_than(known)


def test_at_the_same_counter_the_deletion_counts() -> None:
    assert record(3).newer_than(record(3, deleted=False))
    assert not record(3, deleted=False).newer_than(record(3))


def test_the_same_record_is_not_newer() -> None:
    assert not record(3).newer_than(record(3))


def test_a_time_decides_nothing() -> None:
    assert not record(3, at="2099-01-01").newer_than(record(3, at="1970-01-01"))
    assert newest(record(2, at="2099-01-01"), record(3)) == record(3)


def test_at_the_highest_counter_a_deletion_still_wins() -> None:
    known = record(HIGHEST, deleted=False)
    assert next_deletion(known, DIGEST, name=ID, at="now", node=NODE).newer_than(known)


def test_at_the_highest_counter_nothing_comes_back() -> None:
    with pytest.raises(BadInput, match="at its end"):
        next_revival(record(HIGHEST), name=ID, at="now", node=NODE)


@given(counter=st.integers(1, HIGHEST), deleted=st.booleans())
def test_what_is_sent_is_what_is_read(counter: int, *, deleted: bool) -> None:
    sent = record(counter, deleted=deleted)
    assert from_plain(json.loads(json.dumps(sent.plain()))) == sent


@pytest.mark.parametrize(
    "change",
    [
        {"sha512": "ab"},
        {"sha512": 5},
        {"sha512": None},
        {"kind": "gone"},
        {"kind": None},
        {"counter": 0},
        {"counter": True},
        {"counter": 1.0},
        {"counter": HIGHEST + 1},
        {"counter": "1"},
        {"id": "x"},
        {"id": None},
        {"id": "AB" * 16},
        {"node": "x" * 32},
        {"node": 3},
        {"at": "x" * 41},
        {"at": "a\nb"},
        {"at": 5},
        {"at": "é"},
    ],
)
def test_nonsense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        from_plain(record().plain() | change)


@pytest.mark.parametrize("given_", [None, [], "x", 5, {}])
def test_what_is_no_record_is_refused(given_: object) -> None:
    with pytest.raises(BadInput):
        from_plain(given_)


@given(st.permutations([record(1), record(2, deleted=False), record(2), record(1, deleted=False)]))
def test_the_order_of_hearing_makes_no_difference(heard: list[Record]) -> None:
    assert newest(*heard) == record(2)

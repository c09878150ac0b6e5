"""What nodes say to one another about deletions, as values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import BadInput
from dtfc.peers.agreement import (
    LONGEST_WAIT,
    MOST_BYTES,
    MOST_RANGES,
    MOST_RECORDS,
    Allowance,
    Answer,
    Heard,
    Question,
    Told,
    compare,
    differing,
    parse_answer,
    parse_heard,
    parse_question,
    parse_records,
    records_body,
    wait_after,
)
from dtfc.store.memory import Range
from dtfc.store.records import Record

HASH = "ab" * 16


def record(first: str = "00", counter: int = 1, *, deleted: bool = True) -> Record:
    digest = Digest(bytes.fromhex(first.ljust(128, "0")))
    return Record(digest, counter, deleted=deleted, id="ab" * 16, at="2026", node="cd" * 16)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(HASH),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["ranges", "records", "left", "parts", "more", "taken", "newer", "a"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class TestMessages:
    def test_a_question(self) -> None:
        asked = Question({"": HASH, "0a": ""})
        assert parse_question(asked.body()) == asked

    def test_a_further_page(self) -> None:
        asked = Question({"0a": ""}, record("0a").digest)
        assert parse_question(asked.body()) == asked

    def test_an_answer(self) -> None:
        asked = Question({"": HASH, "0": HASH, "ab": ""})
        said = Answer({"": Told({"0": HASH}), "0": Told(None, (record("01"),), more=True)}, ("ab",))
        assert parse_answer(said.body(), asked) == said

    def test_records(self) -> None:
        told = (record("01"), record("02", 7, deleted=False))
        assert parse_records(records_body(told)) == told

    def test_what_was_heard(self) -> None:
        told = [record("01"), record("02")]
        heard = Heard(2, (record("02", 5),))
        assert parse_heard(heard.body(), told) == heard

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xff",
            b"[" * 10_000,
            b"{}",
            b'{"ranges": {}}',
            b'{"ranges": {"g": ""}}',
            b'{"ranges": {"00000": ""}}',
            b'{"ranges": {"0A": ""}}',
            b'{"ranges": {"": "ab"}}',
            b'{"ranges": {"": 5}}',
            b'{"ranges": {"": ""}, "after": 5}',
            b'{"ranges": {"": ""}, "after": "00"}',
            b'{"ranges": {"0": "", "1": ""}, "after": "%s"}' % (b"00" * 64),
            json.dumps({"ranges": {f"{n:03x}": "" for n in range(MOST_RANGES + 1)}}).encode(),
            b" " * (MOST_BYTES + 1),
        ],
    )
    def test_what_is_no_question(self, body: bytes) -> None:
        with pytest.raises(BadInput):
            parse_question(body)

    @pytest.mark.parametrize(
        "told",
        [
            {"ranges": []},
            {"ranges": {}, "left": {}},
            {"ranges": {"1": {"records": []}}},
            {"ranges": {}, "left": ["1"]},
            {"ranges": {"0": {"records": []}}, "left": ["0"]},
            {"ranges": {"0": 5}},
            {"ranges": {"0": {}}},
            {"ranges": {"0": {"parts": []}}},
            {"ranges": {"0": {"parts": {"00": HASH}}}},
            {"ranges": {"0": {"parts": {"": HASH}}}},
            {"ranges": {"0": {"parts": {"g": HASH}}}},
            {"ranges": {"0": {"parts": {"0": 5}}}},
            {"ranges": {"abcd": {"parts": {"0": HASH}}}},
            {"ranges": {"0": {"records": [record("10").plain()]}}},
            {"ranges": {"0": {"records": [record("02").plain(), record("01").plain()]}}},
            {"ranges": {"0": {"records": [record("01").plain()] * 2}}},
            {"ranges": {"0": {"records": [], "more": True}}},
            {"ranges": {"0": {"records": [], "more": 1}}},
        ],
    )
    def test_what_is_no_answer(self, told: object) -> None:
        with pytest.raises(BadInput):
            parse_answer(json.dumps(told).encode(), Question({"0": HASH, "abcd": HASH}))

    @pytest.mark.parametrize(
        "said",
        [
            {},
            {"taken": 2},
            {"taken": -1},
            {"taken": True},
            {"taken": 1, "newer": [record("01").plain()]},
            {"taken": 1, "newer": [record("02", 9).plain()]},
        ],
    )
    def test_what_nobody_says_to_a_record(self, said: object) -> None:
        with pytest.raises(BadInput):
            parse_heard(json.dumps(said).encode(), [record("01")])

    def test_too_many_records(self) -> None:
        with pytest.raises(BadInput):
            parse_records(records_body([record("01")] * (MOST_RECORDS + 1)))

    @given(JSON)
    def test_whatever_comes_is_read_or_refused(self, given_: object) -> None:
        body = json.dumps(given_).encode()
        for read in (
            parse_question,
            parse_records,
            lambda each: parse_answer(each, Question({"": HASH})),
            lambda each: parse_heard(each, [record("01")]),
        ):
            try:
                read(body)
            except BadInput:
                continue


class TestDecisions:
    def test_parts_that_differ(self) -> None:
        ours = Range(b"x", 3, {"0": b"same", "1": b"ours", "2": b"only ours"})
        told = Told({"0": b"same".hex(), "1": b"theirs".hex(), "3": b"only theirs".hex()})
        assert differing("ab", ours, told) == {
            "ab1": b"ours".hex(),
            "ab2": b"only ours".hex(),
            "ab3": "",
        }

    def test_what_goes_which_way(self) -> None:
        found = compare(
            [record("01"), record("02", 2), record("03", 2), record("05", 3, deleted=False)],
            [record("02", 3), record("03", 1), record("04"), record("05", 3)],
        )
        assert found.take == (record("02", 3), record("04"), record("05", 3))
        assert found.give == (record("01"), record("03", 2))

    @given(
        st.dictionaries(st.integers(0, 9), st.tuples(st.integers(1, 3), st.booleans())),
        st.dictionaries(st.integers(0, 9), st.tuples(st.integers(1, 3), st.booleans())),
    )
    def test_both_know_the_same_afterwards(
        self, one: dict[int, tuple[int, bool]], other: dict[int, tuple[int, bool]]
    ) -> None:
        ours = [record(f"0{n}", c, deleted=d) for n, (c, d) in one.items()]
        theirs = [record(f"0{n}", c, deleted=d) for n, (c, d) in other.items()]
        found = compare(ours, theirs)
        after_ours = {each.digest: each for each in [*ours, *found.take]}
        after_theirs = {each.digest: each for each in [*theirs, *found.give]}
        assert after_ours == after_theirs


class TestWaiting:
    def test_longer_each_time(self) -> None:
        assert [wait_after(n, 0.5) for n in (1, 2, 3)] == [5, 10, 20]

    @given(st.integers(1, 10_000), st.floats(0, 1))
    def test_never_for_ever(self, failures: int, chance: float) -> None:
        assert 3 <= wait_after(failures, chance) <= 1.25 * LONGEST_WAIT


class TestAllowance:
    def test_so_many_and_no_more(self) -> None:
        allowance = Allowance(60)
        assert [allowance.take(0.0) for _ in range(61)] == [True] * 60 + [False]

    def test_more_come_with_time(self) -> None:
        allowance = Allowance(60)
        while allowance.take(0.0):
            pass
        assert [allowance.take(3.0) for _ in range(4)] == [True, True, True, False]

    def test_what_was_not_used_is_not_kept_for_long(self) -> None:
        allowance = Allowance(60)
        allowance.take(0.0)
        assert sum(allowance.take(1e6) for _ in range(100)) == 60

    def test_a_clock_that_goes_back_gives_nothing(self) -> None:
        allowance = Allowance(1)
        assert allowance.take(100.0)
        assert not allowance.take(0.0)
        assert not allowance.take(59.0)

    @given(st.integers(1, 100_000))
    def test_who_waits_gets_some(self, per_minute: int) -> None:
        allowance = Allowance(per_minute)
        while allowance.take(0.0):
            pass
        assert 1 <= allowance.wait() <= 60
        assert allowance.take(float(allowance.wait()))

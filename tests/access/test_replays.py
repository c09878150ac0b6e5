"""A request is obeyed once, whatever order they come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.access.replays import WINDOW, Senders, size_for
from dtfc.errors import BadSignature, TooManySenders

A = "aaaaaaaaaaaaaaaa"


def table(senders: int = 4) -> Senders:
    return Senders(bytearray(size_for(senders)))


def takes(senders: Senders, number: int, sender: str = A) -> bool:
    try:
        senders.note(sender, number, 100.0, 0.0)
    except BadSignature:
        return False
    return True


def test_once_only() -> None:
    senders = table()

    assert takes(senders, 5)
    assert not takes(senders, 5)


def test_senders_do_not_meet() -> None:
    senders = table()

    assert takes(senders, 5)
    assert takes(senders, 5, "a" * 15 + "b")
    assert takes(senders, 5, "00aaaaaaaaaaaaaa")


def test_what_was_overtaken_may_come_later() -> None:
    senders = table()

    assert takes(senders, WINDOW)
    assert takes(senders, 1)
    assert not takes(senders, 1)


def test_what_was_overtaken_by_too_many_is_refused() -> None:
    senders = table()
    takes(senders, WINDOW)

    assert not takes(senders, 0)


def test_a_number_that_no_count_reaches() -> None:
    assert not takes(table(), 2**63)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, "bb" * 8, "00" * 7 + "01"]),
            st.one_of(st.integers(0, 40), st.integers(0, 3 * WINDOW)),
        ),
        max_size=60,
    )
)
def test_never_twice_and_never_refused_without_reason(given_: list[tuple[str, int]]) -> None:
    senders = table()
    seen: dict[str, set[int]] = {}
    for sender, number in given_:
        known = seen.setdefault(sender, set())
        refused = number in known or (bool(known) and number <= max(known) - WINDOW)

        assert takes(senders, number, sender) is not refused
        known.add(number)


def test_a_full_table_forgets_whose_requests_are_too_old_by_now() -> None:
    senders = table(2)
    senders.note("11" * 8, 1, 100.0, 0.0)
    senders.note("22" * 8, 1, 200.0, 0.0)

    senders.note("33" * 8, 1, 300.0, 101.5)

    with pytest.raises(BadSignature):
        senders.note("22" * 8, 1, 200.0, 101.5)
    with pytest.raises(BadSignature):
        senders.note("33" * 8, 1, 300.0, 101.5)


def test_a_full_table_says_when_to_come_back() -> None:
    senders = table(2)
    senders.note("11" * 8, 1, 100.0, 0.0)
    senders.note("22" * 8, 1, 200.0, 0.0)

    with pytest.raises(TooManySenders) as caught:
        senders.note("33" * 8, 1, 300.0, 60.0)

    assert (caught.value.most, caught.value.retry_after) == (2, 42)


def test_a_sender_is_remembered_until_its_last_request_is_too_old() -> None:
    senders = table(1)
    senders.note(A, 1, 500.0, 0.0)
    senders.note(A, 2, 100.0, 0.0)

    with pytest.raises(TooManySenders):
        senders.note("22" * 8, 1, 600.0, 400.0)

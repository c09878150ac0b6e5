"""How long the place of a worker that died stays empty."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtfc.daemon.comeback import LONGEST_PAUSE, QUICK, Comeback


def test_one_that_served_is_replaced_at_once() -> None:
    comeback = Comeback()
    assert [comeback.after(QUICK) for _ in range(5)] == [0.0] * 5


def test_quick_deaths_in_a_row_wait_longer_and_longer() -> None:
    comeback = Comeback()
    pauses = [comeback.after(1.0) for _ in range(9)]
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_one_that_served_for_a_while_forgives_the_earlier_ones() -> None:
    comeback = Comeback()
    for _ in range(6):
        comeback.after(0.1)
    assert comeback.after(3600.0) == 0.0
    assert comeback.after(0.1) == 0.0
    assert comeback.after(0.1) == 0.5


@given(st.lists(st.floats(0, 2 * QUICK), max_size=100))
def test_no_pause_is_longer_than_the_longest(lives: list[float]) -> None:
    comeback = Comeback()
    assert all(0 <= comeback.after(lived) <= LONGEST_PAUSE for lived in lives)

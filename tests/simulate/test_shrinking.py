"""Of a story that breaks something, what matters is left."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from simulate.shrinking import shrunk


@given(st.sets(st.integers(0, 59), min_size=1, max_size=4))
def test_only_the_steps_that_matter_are_left(matter: set[int]) -> None:
    assert set(shrunk(range(60), lambda steps: matter <= set(steps), 1000)) == matter


def test_no_more_tries_are_made_than_allowed() -> None:
    asked: list[Sequence[int]] = []

    def breaks(steps: Sequence[int]) -> bool:
        asked.append(steps)
        return False

    shrunk(range(1000), breaks, 10)
    assert len(asked) == 10

from __future__ import annotations

import pytest

from bench.compare import Row, Target, missing


def row(ours: list[float], theirs: list[float], target: Target | None = None) -> Row:
    return Row("1", "work", "s", "peer", ours, theirs, target)


def test_the_ratio_is_the_median_of_the_pairs_ratios() -> None:
    # The ratio of the medians would be 3; a machine that was slow for one pair is slow for both.
    assert row([1, 30, 9], [1, 10, 3]).ratio == 3
    assert row([10, 2, 30], [10, 1, 60]).ratio == 1


def test_pairs_are_taken_by_turns() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    taken = row([], [])
    taken.measure_pairs(2, lambda n: side(f"a{n}"), lambda n: side(f"b{n}"))
    assert order == ["a1", "b1", "a2", "b2"]
    assert (taken.ours, taken.theirs) == ([1, 3], [2, 4])


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(">=", 2), True),
        (Target(">=", 2.1), False),
        (Target("<=", 2), True),
        (Target("<=", 1.9), False),
        (Target("<=", 4, of="value"), True),
        (Target("<=", 3.9, of="value"), False),
        (None, None),
    ],
)
def test_a_target_is_met_at_its_bound(target: Target | None, met: object) -> None:
    assert row([4], [2], target).met is met


def test_what_was_not_measured_meets_no_target() -> None:
    assert row([], [], Target("<=", 1)).met is None


def test_what_is_missing_says_why() -> None:
    assert missing("14", "PUT", "no such program").note == "not measured: no such program"

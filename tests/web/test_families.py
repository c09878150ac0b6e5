"""What several processes count together."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.web.families import Family, Sums, from_plain

Rule = Literal["sum", "max", "same"]


def counter(value: float, **labels: str) -> Family:
    return Family("c", "Counted.", "counter", "sum", {tuple(labels.items()): value})


def gauge(value: float, rule: Rule = "sum") -> Family:
    return Family("g", "Now.", "gauge", rule, {(): value})


def total(families: list[Family]) -> dict[str, float]:
    return {each.name: sum(each.values.values()) for each in families}


def test_counters_and_gauges_are_summed() -> None:
    told = Sums().with_living([[counter(1), gauge(5)], [counter(2), gauge(6)]])
    assert total(told) == {"c": 3, "g": 11}


def test_labels_are_kept_apart() -> None:
    [told] = Sums().with_living([[counter(1, code="200")], [counter(2, code="404")]])
    assert told.values == {(("code", "200"),): 1, (("code", "404"),): 2}


@pytest.mark.parametrize(("rule", "wanted"), [("sum", 11), ("max", 6), ("same", 5)])
def test_rules(rule: Rule, wanted: float) -> None:
    assert total(Sums().with_living([[gauge(5, rule)], [gauge(6, rule)]])) == {"g": wanted}


def test_what_a_dead_one_had_counted_is_kept_and_what_it_held_is_not() -> None:
    sums = Sums()
    sums.keep([counter(10), gauge(5)])
    assert total(sums.with_living([[counter(1), gauge(1)]])) == {"c": 11, "g": 1}


def test_the_longest_of_a_dead_one_is_kept() -> None:
    sums = Sums()
    sums.keep([gauge(5, "max")])
    sums.keep([gauge(4, "max")])
    assert total(sums.with_living([[gauge(1, "max")]])) == {"g": 5}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.booleans()), max_size=40))
def test_no_counter_ever_goes_back(steps: list[tuple[int, int, bool]]) -> None:
    """Workers count, are heard, and die; whoever looks sees a counter that only grows."""
    sums = Sums()
    living = [0, 0, 0]
    seen = 0.0
    for worker, more, dies in steps:
        living[worker] += more
        now = total(sums.with_living([[counter(value)] for value in living]))["c"]
        assert now >= seen
        seen = now
        if dies:
            sums.keep([counter(living[worker])])
            living[worker] = 0


def test_a_family_goes_over_the_channel() -> None:
    families = [counter(3, method="GET", code="200"), gauge(0.5, "max")]
    sent = json.loads(json.dumps([each.plain() for each in families]))
    assert from_plain(sent) == families


@pytest.mark.parametrize(
    "given_",
    [
        None,
        1,
        [1],
        [[]],
        [["a", "b", "counter", "sum", None]],
        [["a", "b", "counter", "sum", [[[], "x"]]]],
        [["a", "b", "counter", "least", []]],
        [["a", "b", "histogram", "sum", []]],
        [["a", "b", "gauge", "sum", [[[["one"]], 1]]]],
    ],
)
def test_what_is_no_family(given_: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_plain(given_)

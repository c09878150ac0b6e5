"""What several processes count together."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.web.families import Family, Sums, from_plain
from dtfc.web.metricnames import METRICS, TABLE, Metric, Rule, reference

COUNTED = METRICS["dtfc_http_hot_hits"]


def counter(value: float, **labels: str) -> Family:
    return Family(COUNTED, {tuple(labels.items()): value})


def gauge(value: float, rule: Rule = "sum") -> Family:
    return Family(Metric("g", "gauge", "Now.", (), rule), {(): value})


def total(families: list[Family]) -> dict[str, float]:
    return {each.name.replace(COUNTED.name, "c"): sum(each.values.values()) for each in families}


def test_counters_and_gauges_are_summed() -> None:
    told = Sums().with_living([[counter(1), gauge(5)], [counter(2), gauge(6)]])
    assert total(told) == {"c": 3, "g": 11}


def test_labels_are_kept_apart() -> None:
    [told] = Sums().with_living([[counter(1, code="200")], [counter(2, code="404")]])
    assert told.values == {(("code", "200"),): 1, (("code", "404"),): 2}


@pytest.mark.parametrize(("rule", "wanted"), [("sum", 11), ("max", 6), ("min", 5), ("same", 5)])
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
    families = [counter(3, method="GET"), Family(METRICS["dtfc_replica_stuck"], {(): 0.5})]
    sent = json.loads(json.dumps([each.plain() for each in families]))
    assert from_plain(sent) == families


@pytest.mark.parametrize(
    "given_",
    [
        None,
        1,
        [1],
        [[]],
        [["dtfc_unheard_of", []]],
        [["dtfc_loads", None]],
        [["dtfc_loads", [[[], "x"]]]],
        [["dtfc_loads", [[[["one"]], 1]]]],
    ],
)
def test_what_is_no_family(given_: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_plain(given_)


def test_names_are_prometheus_own_way() -> None:
    """Base units, and nothing that is counted twice in the name (promtool looks at the rest)."""
    odd = [
        each.name
        for each in TABLE
        if not each.name.startswith(("dtfc_", "process_")) or each.name.endswith(("_total", "_ms"))
    ]
    assert odd == []


def test_no_label_is_without_bounds() -> None:
    known = {
        *("code", "database", "kind", "limit", "method", "peer", "reason", "result", "route"),
        *("version", "won", "worker"),
    }
    assert {label for each in TABLE for label in each.labels} == known


def test_every_name_stands_in_the_reference_once() -> None:
    lines = reference().splitlines()[2:]
    assert [line.split("`")[1].partition("{")[0] for line in lines] == [m.exposed for m in TABLE]

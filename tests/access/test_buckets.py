"""Token buckets let a rate through, evenly, and remember a bounded number of callers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.access.buckets import Buckets, Rate, site_of

SOME = st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 5)), max_size=60)


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    buckets = Buckets(Rate(2.0, 3.0))
    assert [buckets.take("a", 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 0.5]
    assert buckets.take("a", 0.5) == 0.0
    assert buckets.take("a", 0.5) == pytest.approx(0.5)


def test_what_is_refused_costs_nothing() -> None:
    buckets = Buckets(Rate(1.0, 1.0))
    assert buckets.take("a", 0.0) == 0.0
    for _ in range(100):
        assert buckets.take("a", 0.5) == pytest.approx(0.5)
    assert buckets.take("a", 1.0) == 0.0


def test_callers_have_buckets_of_their_own() -> None:
    buckets = Buckets(Rate(1.0, 1.0))
    assert [buckets.take(caller, 0.0) for caller in "ab"] == [0.0, 0.0]


def test_a_rest_does_not_save_more_than_the_burst() -> None:
    buckets = Buckets(Rate(1.0, 2.0))
    buckets.take("a", 0.0)
    assert [buckets.take("a", 1000.0) for _ in range(3)] == [0.0, 0.0, 1.0]


def test_more_than_the_bucket_holds_is_taken_of_a_full_one() -> None:
    buckets = Buckets(Rate(1.0, 2.0))
    assert buckets.take("a", 0.0, 10.0) == 0.0
    assert buckets.take("a", 8.0, 1.0) == pytest.approx(1.0)
    assert buckets.take("a", 9.0, 1.0) == 0.0


def test_what_was_used_is_a_debt() -> None:
    buckets = Buckets(Rate(10.0, 20.0))
    assert buckets.spend("a", 0.0, 20.0) == 0.0
    assert buckets.spend("a", 0.0, 5.0) == pytest.approx(0.5)
    assert buckets.wait("a", 0.25) == pytest.approx(0.25)
    assert buckets.wait("a", 0.5) == 0.0
    assert buckets.wait("b", 0.5) == 0.0


@given(SOME)
def test_never_more_than_burst_and_rate_together(steps: list[tuple[float, float]]) -> None:
    rate = Rate(2.0, 4.0)
    buckets = Buckets(rate)
    now = taken = 0.0
    for rest, amount in steps:
        now += rest
        if not buckets.take("a", now, min(amount, rate.burst)):
            taken += min(amount, rate.burst)
        assert taken <= rate.burst + rate.per_second * now + 1e-6


@given(SOME)
def test_after_the_wait_it_is_there(steps: list[tuple[float, float]]) -> None:
    buckets = Buckets(Rate(2.0, 4.0))
    now = 0.0
    for rest, amount in steps:
        now += rest
        wait = buckets.take("a", now, amount)
        if wait:
            now += wait
            assert buckets.take("a", now, amount) == 0.0


def test_callers_are_bounded_and_who_is_over_its_rate_is_kept() -> None:
    buckets = Buckets(Rate(1.0, 2.0), most=64)
    buckets.take("greedy", 0.0)
    buckets.take("greedy", 0.0)
    for number in range(10_000):
        buckets.take(f"other {number}", 0.0)
        assert len(buckets) <= 64
    assert buckets.take("greedy", 0.0) == 1.0


def test_near_the_limit_not_each_new_one_costs_a_look_at_all() -> None:
    buckets = Buckets(Rate(1.0, 1.0), most=64)
    for number in range(64):
        buckets.take(str(number), float(number % 2))
    buckets.take("new", 1.5)
    assert len(buckets) <= 57


def test_who_rested_is_forgotten() -> None:
    buckets = Buckets(Rate(1.0, 1.0), most=4)
    for number in range(4):
        buckets.take(str(number), 0.0)
    buckets.take("new", 10.0)
    assert len(buckets) == 1


@pytest.mark.parametrize(
    ("address", "site"),
    [
        (None, "unix"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_is_counted_with_its_site(address: str | None, site: str) -> None:
    assert site_of(address) == site

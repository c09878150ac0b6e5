"""How much went through lately: the ring of samples."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dtfc.web.families import told, told_by
from dtfc.web.samples import Sample, Samples, Totals, totals_of


def test_what_went_through_is_told_by_the_second() -> None:
    samples = Samples()
    samples.note(100, Totals(10, 1000, 0))
    samples.note(102, Totals(14, 5000, 600))
    assert samples.since(0) == [Sample(102, 2, 2000, 300)]


def test_the_first_one_has_nothing_to_be_compared_with() -> None:
    samples = Samples()
    samples.note(100, Totals(10, 1000, 0))
    assert samples.since(0) == []


def test_what_was_told_already_adds_nothing() -> None:
    samples = Samples()
    for _ in range(3):
        samples.note(100, Totals(1, 1, 1))
        samples.note(102, Totals(3, 3, 3))
    assert [each.at for each in samples.since(100)] == [102, 102, 102]


def test_a_clock_that_was_set_back_is_followed() -> None:
    samples = Samples()
    for at, count in ((1000, 0), (10, 50), (12, 54)):
        samples.note(at, Totals(count))
    assert samples.since(0) == [Sample(12, 2, 0, 0)]


def test_only_later_ones_are_told() -> None:
    samples = Samples()
    for at in range(0, 10, 2):
        samples.note(at, Totals(at))
    assert [each.at for each in samples.since(4)] == [6, 8]


def test_the_last_one() -> None:
    samples = Samples()
    assert samples.last is None
    samples.note(0, Totals())
    samples.note(2, Totals(4))
    assert samples.last == Sample(2, 2, 0, 0)


@given(st.lists(st.floats(0.001, 100), max_size=50), st.integers(1, 10))
def test_it_never_grows(steps: list[float], kept: int) -> None:
    samples, at = Samples(kept), 0.0
    for step in steps:
        at += step
        samples.note(at, Totals(at))
    assert len(samples.since(0)) == min(kept, max(0, len(steps) - 1))


@given(st.lists(st.integers(0, 10**15), min_size=2, max_size=9))
def test_no_rate_is_below_nothing(counts: list[int]) -> None:
    samples = Samples()
    for at, count in enumerate(counts):
        samples.note(at, Totals(count, count, count))
    assert all(each.requests >= 0 and each.sent >= 0 for each in samples.since(-1))


def test_totals_are_found_among_metrics() -> None:
    families = [
        told_by("dtfc_http_requests", "code", {"200": 3, "404": 2}),
        told("dtfc_http_sent_bytes", 70),
        told("dtfc_http_received_bytes", 9),
        told("dtfc_chunks_corrupt", 1),
    ]
    assert totals_of(families) == Totals(5, 70, 9)

"""When the collector may go on, and which seconds it counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.couchdb.collecting import LONGEST_STEP, Counter, obstacle
from dtfc.couchdb.follower import FollowerStatus, State

FINE = FollowerStatus("photos", "following", "", complete=True, heard=1.0, counts={})
STATES: list[State] = ["elsewhere", "starting", "scanning", "following", "unreached", "gone"]


def test_nothing_is_in_the_way_where_all_are_followed() -> None:
    assert obstacle([FINE, FINE]) == ""


@pytest.mark.parametrize("state", [each for each in STATES if each != "following"])
def test_one_that_is_not_followed_is_in_the_way(state: State) -> None:
    assert "scans" in obstacle([FINE, replace(FINE, database="scans", state=state)])


def test_one_that_is_half_read_is_in_the_way() -> None:
    assert obstacle([replace(FINE, complete=False)]) != ""


def test_to_follow_nothing_is_no_leave_to_collect_everything() -> None:
    assert obstacle([]) != ""


def test_seconds_count_between_two_looks_without_trouble() -> None:
    counter, first = Counter(0.0).look(10.0, [FINE])
    _, second = counter.look(70.0, [FINE])
    assert (first, second) == (0.0, 60.0)


def test_a_failure_that_is_over_does_not_count() -> None:
    counter, _ = Counter(0.0).look(10.0, [FINE])
    counter, seconds = counter.look(70.0, [replace(FINE, counts={"failures": 1})])
    assert seconds == 0.0
    assert counter.look(130.0, [replace(FINE, counts={"failures": 1})])[1] == 60.0


@given(
    looks=st.lists(
        st.tuples(st.floats(-1000, 1000), st.sampled_from(STATES), st.booleans()), max_size=30
    )
)
def test_never_more_counts_than_went_by(looks: list[tuple[float, State, bool]]) -> None:
    counter, now = Counter(0.0), 0.0
    for step, state, complete in looks:
        before = now
        now += step
        status = replace(FINE, state=state, complete=complete)
        counter, seconds = counter.look(now, [status])
        assert 0.0 <= seconds <= min(max(0.0, now - before), LONGEST_STEP)
        assert seconds == 0.0 or (state == "following" and complete)

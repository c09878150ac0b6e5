"""The order in which a lane runs its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from dtfc.disk import ABREAST, DiskThreads, Lane

reactor: Any = _reactor


class ByHand:
    """A disk whose steps end when the test says so."""

    def __init__(self) -> None:
        self.under_way: list[tuple[str, Deferred[Any]]] = []

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        over: Deferred[Any] = Deferred()
        self.under_way.append((work(*args, **kwargs), over))
        return over

    @property
    def names(self) -> str:
        return "".join(name for name, _ in self.under_way)

    def end(self, at: int = 0, result: object = None) -> None:
        _, over = self.under_way.pop(at)
        over.callback(result)


@pytest.fixture
def disk() -> ByHand:
    return ByHand()


@pytest.fixture
def lane(disk: ByHand) -> Lane:
    return Lane(disk)


def test_one_after_another(disk: ByHand, lane: Lane) -> None:
    for name in "ab":
        lane.run(str, name)
    assert disk.names == "a"
    disk.end()
    assert disk.names == "b"


def test_beside_each_other(disk: ByHand, lane: Lane) -> None:
    for name in "abcd":
        lane.run_beside(str, name)
    assert disk.names == "abcd"[:ABREAST]


def test_the_next_begins_when_any_of_them_ends(disk: ByHand, lane: Lane) -> None:
    for name in "abcd":
        lane.run_beside(str, name)
    disk.end(1)
    assert disk.names == "ac"


def test_an_ordinary_step_waits_for_all_before_it(disk: ByHand, lane: Lane) -> None:
    for name in "ab":
        lane.run_beside(str, name)
    lane.run(str, "C")
    disk.end()
    assert disk.names == "b"
    disk.end()
    assert disk.names == "C"


def test_nothing_overtakes_an_ordinary_step(disk: ByHand, lane: Lane) -> None:
    lane.run_beside(str, "a")
    lane.run(str, "B")
    lane.run_beside(str, "c")
    assert disk.names == "a"
    disk.end()
    assert disk.names == "B"


def test_idle_once_the_last_has_ended(disk: ByHand, lane: Lane) -> None:
    for name in "ab":
        lane.run_beside(str, name)
    disk.end()
    assert not lane.idle
    disk.end()
    assert lane.idle


@given(
    steps=st.lists(st.booleans(), max_size=12),
    ends=st.lists(st.integers(0, ABREAST - 1), min_size=12, max_size=12),
)
def test_whatever_is_queued_each_runs_once_and_none_beside_an_ordinary_one(
    steps: list[bool], ends: list[int]
) -> None:
    disk = ByHand()
    lane = Lane(disk)
    begun: list[int] = []

    def begin(number: int) -> str:
        begun.append(number)
        return str(number)

    for number, beside in enumerate(steps):
        (lane.run_beside if beside else lane.run)(begin, number)
    for end in ends:
        running = [int(name) for name, _ in disk.under_way]
        assert len(running) <= 1 or all(steps[each] for each in running)
        if running:
            disk.end(end % len(running))
    assert begun == list(range(len(steps)))
    assert lane.idle


@pytest_twisted.ensureDeferred
async def test_threads_are_busy_until_the_loop_has_heard() -> None:
    threads = DiskThreads(reactor, 1)
    threads.start()
    seen = [threads.busy]
    try:
        good, bad = threads.run(str, "a"), threads.run(int, "x")
        seen.append(threads.busy)
        assert await good == "a"
        seen.append(threads.busy)
        with pytest.raises(ValueError, match="'x'"):
            await bad
        seen.append(threads.busy)
    finally:
        threads.stop()
    assert seen == [False, True, True, False]

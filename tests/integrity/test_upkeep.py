"""What goes wrong once in the upkeep of a node does not end it."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.disk import InlineDisk
from tests.support.alone import upkeep_alone


@pytest_twisted.ensureDeferred
async def test_after_a_failure_it_looks_again_and_asks_again(
    spoilt: Any, logged_failures: Any
) -> None:
    upkeep = upkeep_alone(spoilt.store, InlineDisk())
    clock = upkeep.clock
    if not isinstance(clock, Clock):
        raise TypeError("the clock is the test's")
    tried: list[str] = []

    def look() -> None:
        tried.append("look")
        raise ZeroDivisionError

    async def retry(load: Any) -> int:
        del load
        tried.append("retry")
        raise ZeroDivisionError

    upkeep.checks.look_again = look  # type: ignore[method-assign]  # fails each time
    upkeep.healing.retry = retry  # type: ignore[method-assign]  # fails each time
    upkeep.start(chores=True)
    for _ in range(140):
        clock.advance(1)
    await upkeep.stop()
    assert tried.count("look") > 100
    assert tried.count("retry") >= 2
    assert len(logged_failures.flush(ZeroDivisionError)) == len(tried)


class BusyDisk(InlineDisk):
    """A disk on which whatever is begun takes longer than the test."""

    def run(self, work: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        del work, args, kwargs
        return Deferred()


def stopped(upkeep: Any) -> list[object]:
    ended: list[object] = []
    Deferred.fromCoroutine(upkeep.stop()).addBoth(ended.append)
    return ended


def test_it_stops_while_it_looks_at_the_page_cache(spoilt: Any) -> None:
    upkeep: Any = upkeep_alone(spoilt.store, BusyDisk())
    upkeep.start(chores=False)
    upkeep.clock.advance(1)
    assert stopped(upkeep) == [None]


def test_it_stops_while_it_looks_through_the_quarantine(spoilt: Any) -> None:
    upkeep: Any = upkeep_alone(spoilt.store, BusyDisk())
    upkeep.healing.retry = lambda _load: Deferred()
    upkeep.start(chores=True)
    upkeep.clock.advance(5)
    assert stopped(upkeep) == [None]

"""What goes wrong once in the upkeep of a node does not end it."""

from __future__ import annotations

from typing import Any

import pytest_twisted
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

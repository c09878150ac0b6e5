"""Clocks that no change of the time of day moves."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTCP
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock

from dtfc.steady import Dated, SteadyClock, keep_steady


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def steady_reactor(ticks: Hands) -> Any:
    made: Any = SelectReactor()
    keep_steady(made, ticks)
    return made


def test_timers_are_due_by_ticks_whatever_time_of_day_it_is() -> None:
    ticks, now, seen = Hands(), Hands(), list[str]()
    reactor = Dated(steady_reactor(ticks), now)
    reactor.callLater(5, seen.append, "due")
    now.at += 3600
    reactor.runUntilCurrent()
    assert seen == []
    now.at -= 7200
    ticks.at += 5
    reactor.runUntilCurrent()
    assert seen == ["due"]


def test_a_dated_reactor_tells_the_time_of_day_and_is_a_reactor_still() -> None:
    ticks, now = Hands(), Hands()
    now.at = 2_000_000_000.0
    reactor = Dated(steady_reactor(ticks), now)
    assert reactor.seconds() == 2_000_000_000.0
    assert IReactorTCP.providedBy(reactor)


def test_it_tells_ticks_and_not_the_time_of_day() -> None:
    reactor = Clock()
    reactor.advance(2_000_000_000)
    assert SteadyClock(reactor, lambda: 3.0).seconds() == 3.0


def test_things_happen_when_the_reactor_has_it() -> None:
    reactor, seen = Clock(), list[str]()
    clock = SteadyClock(reactor, lambda: 0.0)
    call = clock.callLater(2, seen.append, "it")
    assert list(clock.getDelayedCalls()) == [call]
    reactor.advance(2)
    assert seen == ["it"]


def test_a_reactor_that_has_timers_keeps_its_clock() -> None:
    reactor: Any = SelectReactor()
    reactor.callLater(5, lambda: None)
    before = reactor.seconds
    keep_steady(reactor, Hands())
    assert reactor.seconds == before

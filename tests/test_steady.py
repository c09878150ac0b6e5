"""A clock that no change of the time of day moves."""

from __future__ import annotations

from twisted.internet.task import Clock

from dtfc.steady import SteadyClock


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

"""Rates, on a false clock."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.replicas.pacing import CopyPacing, Pacing


def taken(pacing: Pacing, count: int) -> Deferred[None]:
    return Deferred.fromCoroutine(pacing.take(count))


def test_without_a_rate_nothing_waits() -> None:
    assert taken(Pacing(Clock(), None), 1 << 40).called


def test_each_waits_for_those_before_it() -> None:
    clock = Clock()
    pacing = Pacing(clock, 100)
    steps = [taken(pacing, 100) for _ in range(3)]
    assert [each.called for each in steps] == [True, False, False]
    clock.advance(1)
    assert [each.called for each in steps] == [True, True, False]
    clock.advance(1)
    assert steps[2].called


def test_a_rest_is_not_saved_up() -> None:
    clock = Clock()
    pacing = Pacing(clock, 100)
    clock.advance(1000)
    assert taken(pacing, 100).called
    late = taken(pacing, 100)
    assert not late.called
    clock.advance(1)
    assert late.called


def test_a_peer_has_a_rate_of_its_own_and_a_process_a_part_of_it() -> None:
    clock = Clock()
    pacing = CopyPacing(clock)
    pacing.set_rates(None, 200, share=2)
    first = [Deferred.fromCoroutine(pacing.take("one", 100)) for _ in range(2)]
    other = Deferred.fromCoroutine(pacing.take("other", 100))
    assert [each.called for each in first] == [True, False]
    assert other.called
    clock.advance(1)
    assert first[1].called


def test_it_remembers_no_peer_that_owes_nothing() -> None:
    clock = Clock()
    pacing = CopyPacing(clock)
    pacing.set_rates(None, 100)
    for number in range(50):
        Deferred.fromCoroutine(pacing.take(f"peer{number}", 100))
        clock.advance(2)
    assert len(pacing._of) <= 2

"""The stall detector: it sees what the loop did not."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from dtfc.web.stalls import PERIOD, Queued, StallDetector


def test_a_punctual_loop_has_no_stalls() -> None:
    clock = Clock()
    detector = StallDetector(clock)
    detector.start()
    clock.pump([PERIOD] * 100)

    assert detector.longest == pytest.approx(0, abs=1e-9)
    detector.stop()


def test_the_longest_is_kept() -> None:
    clock = Clock()
    detector = StallDetector(clock)
    detector.start()
    for pause in (PERIOD, 0.105, PERIOD, 0.055):
        clock.advance(pause)

    assert detector.longest == pytest.approx(0.1)
    assert detector.total == pytest.approx(0.15)
    detector.stop()


def test_stopping_leaves_no_timer() -> None:
    clock = Clock()
    detector = StallDetector(clock)
    detector.start()
    detector.stop()

    assert clock.getDelayedCalls() == []


def test_a_change_of_the_time_of_day_is_no_stall() -> None:
    clock = Clock()
    detector = StallDetector(clock, lambda: 1.0)
    detector.start()
    clock.advance(3600)

    assert detector.longest == 0
    detector.stop()


def test_what_the_loop_waited_for_a_processor_is_told_apart() -> None:
    clock = Clock()
    queued = [0.0]
    detector = StallDetector(clock, queued=lambda: queued[0])
    detector.start()
    queued[0] = 0.08
    clock.advance(PERIOD + 0.1)
    clock.advance(PERIOD + 0.03)

    assert detector.longest == pytest.approx(0.1)
    assert detector.longest_own == pytest.approx(0.03)
    detector.stop()


def test_a_thread_that_is_not_told_of_has_not_waited() -> None:
    assert Queued()() == 0


def test_what_a_thread_waited_never_shrinks() -> None:
    queued = Queued()
    queued.open()
    first = queued()
    second = queued()
    queued.close()

    assert 0 <= first <= second
    assert queued() == 0

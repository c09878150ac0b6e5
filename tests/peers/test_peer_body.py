"""A body on its way to the disk: how much is held, and for how long a peer may be slow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from dtfc.peers.body import BLOCK, FLUSH_AFTER, GRACE, Body, PeerLimits, Remainder

LIMITS = PeerLimits(stall=15, lowest_rate=1000, rate_window=30)


class Pipe(StringTransport):
    """Remembers what was asked of it."""

    aborted = False

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.aborted = True


class Made:
    """A body, its transport and its clock."""

    def __init__(self, count: int, skip: int = 0) -> None:
        self.clock = Clock()
        self.pipe = Pipe()
        self.body = Body(self.clock, LIMITS, skip, count)
        self.body.makeConnection(self.pipe)

    def read(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.body.read())

    def end(self, reason: Exception | None = None) -> None:
        self.body.connectionLost(Failure(reason or ResponseDone()))

    def paused(self) -> bool:
        return self.pipe.producerState == "paused"


def result(deferred: Deferred[Any]) -> Any:
    got: list[Any] = []
    deferred.addBoth(got.append)
    assert got, "it has not fired"
    return got[0]


def test_the_first_bytes_are_handed_over_at_once() -> None:
    made = Made(100)
    reading = made.read()
    made.body.dataReceived(b"a")
    assert result(reading) == [b"a"]


def test_later_bytes_are_gathered_into_a_block() -> None:
    made = Made(10 * BLOCK)
    made.body.dataReceived(b"a")
    made.read()
    reading = made.read()
    made.body.dataReceived(b"b" * (BLOCK - 1))
    assert not reading.called
    made.body.dataReceived(b"c")
    assert b"".join(result(reading)) == b"b" * (BLOCK - 1) + b"c"


def test_a_few_bytes_do_not_wait_for_more_for_long() -> None:
    made = Made(100)
    made.body.dataReceived(b"a")
    made.read()
    reading = made.read()
    made.body.dataReceived(b"b")
    assert not reading.called
    made.clock.advance(FLUSH_AFTER)
    assert result(reading) == [b"b"]


def test_the_peer_is_not_read_while_a_block_waits() -> None:
    made = Made(10 * BLOCK)
    made.body.dataReceived(b"a" * (BLOCK - 1))
    assert not made.paused()
    made.body.dataReceived(b"b")
    assert made.paused()
    made.read()
    assert not made.paused()


@given(st.lists(st.integers(1, 128 * 1024), max_size=60), st.data())
def test_never_more_is_held_than_a_block_and_one_read(sizes: list[int], data: Any) -> None:
    """In the reader's hands and waiting for it together: less than 2 MiB."""
    made = Made(1 << 40)
    in_hand = 0
    waiting = 0
    for size in sizes:
        if not made.paused():
            made.body.dataReceived(bytes(size))
            waiting += size
        if data.draw(st.booleans()):
            reading = made.read()
            if reading.called:
                in_hand = sum(map(len, result(reading)))
                assert in_hand == waiting
                waiting = 0
            else:
                reading.addErrback(lambda failure: failure.trap(CancelledError))
                reading.cancel()
        assert in_hand + waiting < 2 << 20
    made.end()


def test_the_end_of_a_whole_body() -> None:
    made = Made(3)
    made.body.dataReceived(b"abc")
    made.end()
    assert result(made.read()) == [b"abc"]
    assert result(made.read()) == []
    assert made.body.cut is None
    assert not made.body.surplus
    assert made.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        (ResponseDone(), "ended the body after 2 bytes, 1 too early"),
        (ConnectionLost(), "broke off after 2 bytes, 1 too early"),
    ],
)
def test_a_body_that_ends_early(reason: Exception, cut: str) -> None:
    made = Made(3)
    made.body.dataReceived(b"ab")
    made.end(reason)
    assert result(made.read()) == [b"ab"]
    assert result(made.read()) == []
    assert made.body.cut == cut
    assert made.clock.getDelayedCalls() == []


def test_what_nobody_wants_is_passed_over() -> None:
    made = Made(3, skip=4)
    made.body.dataReceived(b"12")
    made.body.dataReceived(b"34ab")
    made.body.dataReceived(b"c")
    made.end()
    assert b"".join(result(made.read())) == b"abc"
    assert made.body.skipped == 4
    assert made.body.received == 7


def test_more_than_was_wanted_is_cut() -> None:
    made = Made(3)
    made.body.dataReceived(b"abcd")
    assert made.pipe.aborted
    assert made.body.surplus
    assert result(made.read()) == [b"abc"]
    made.end(ConnectionLost())
    assert made.body.cut is None
    assert made.clock.getDelayedCalls() == []


def test_a_complete_body_that_does_not_end_is_cut() -> None:
    made = Made(3)
    made.body.dataReceived(b"abc")
    assert not made.pipe.aborted
    made.clock.advance(GRACE)
    assert made.pipe.aborted


def test_a_silent_peer_is_given_up() -> None:
    made = Made(3)
    reading = made.read()
    made.clock.pump([1] * 14)
    assert not reading.called
    made.clock.advance(1)
    assert result(reading) == []
    assert made.body.cut == "sent nothing for 15 seconds"
    assert made.pipe.aborted
    made.end(ConnectionLost())
    assert made.clock.getDelayedCalls() == []


def test_a_peer_below_the_lowest_rate_is_given_up() -> None:
    made = Made(1 << 20)
    for _ in range(30):
        made.body.dataReceived(bytes(999))
        made.clock.advance(1)
    assert made.body.cut == "sent less than 1000 bytes a second"
    made.end(ConnectionLost())


def test_a_peer_at_the_lowest_rate_is_not_given_up() -> None:
    made = Made(1 << 20)
    for _ in range(120):
        made.body.dataReceived(bytes(1000))
        made.clock.advance(1)
    assert made.body.cut is None
    assert not made.pipe.aborted
    made.end()


def test_a_slow_disk_is_not_held_against_the_peer() -> None:
    made = Made(10 * BLOCK)
    made.body.dataReceived(bytes(BLOCK))
    made.clock.pump([1] * 100)
    assert not made.pipe.aborted
    made.end()


def test_a_cancelled_read_loses_nothing() -> None:
    made = Made(3)
    reading = made.read()
    reading.addErrback(lambda failure: failure.trap(CancelledError))
    reading.cancel()
    made.body.dataReceived(b"abc")
    made.end()
    assert result(made.read()) == [b"abc"]


def test_what_came_before_an_abort_can_be_read() -> None:
    made = Made(3)
    made.body.dataReceived(b"ab")
    made.body.abort("enough")
    assert result(made.read()) == [b"ab"]
    assert result(made.read()) == []
    assert made.body.cut == "enough"
    made.end(ConnectionLost())


@pytest.mark.parametrize("known", [None, 64 * 1024 + 1])
def test_a_long_remainder_is_cut_at_once(known: int | None) -> None:
    pipe = Pipe()
    Remainder(Clock(), known).makeConnection(pipe)
    assert pipe.aborted


def test_a_short_remainder_has_some_time() -> None:
    clock, pipe = Clock(), Pipe()
    remainder = Remainder(clock, 100)
    remainder.makeConnection(pipe)
    remainder.dataReceived(b"x")
    clock.advance(4.9)
    assert not pipe.aborted
    clock.advance(0.2)
    assert pipe.aborted


def test_a_short_remainder_that_ends_leaves_nothing() -> None:
    clock, pipe = Clock(), Pipe()
    remainder = Remainder(clock, 100)
    remainder.makeConnection(pipe)
    remainder.connectionLost(Failure(ResponseDone()))
    assert clock.getDelayedCalls() == []
    assert not pipe.aborted

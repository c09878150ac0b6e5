"""The body of a request: a stream with back-pressure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from dtfc.errors import ConnectionGone
from dtfc.web.body import HIGH_WATER, RequestBody


def new_body(length: int | None = None) -> tuple[RequestBody, list[bool]]:
    demands: list[bool] = []
    body = RequestBody(length, lambda: demands.append(body.wanted))
    return body, demands


def result_of(reading: Deferred[list[bytes]]) -> list[bytes]:
    seen: list[list[bytes]] = []
    reading.addCallback(seen.append)
    assert seen, "the read is not done"
    return seen[0]


def test_nothing_is_wanted_before_somebody_reads() -> None:
    body, _ = new_body()

    assert not body.wanted


def test_a_read_opens_the_body_and_says_so() -> None:
    body, demands = new_body()

    body.read(1)

    assert demands == [True]


def test_a_read_gets_what_came_before_it() -> None:
    body, _ = new_body()
    body.feed(b"early")

    assert result_of(body.read(1)) == [b"early"]


def test_a_read_waits_for_as_much_as_it_asked_for() -> None:
    body, _ = new_body()
    reading = body.read(4)
    body.feed(b"ab")
    assert not reading.called

    body.feed(b"cd")

    assert result_of(reading) == [b"ab", b"cd"]


def test_the_end_gives_a_waiting_read_what_there_is() -> None:
    body, _ = new_body()
    reading = body.read(100)
    body.feed(b"rest")

    body.finish()

    assert result_of(reading) == [b"rest"]


def test_after_the_end_reads_are_empty() -> None:
    body, _ = new_body()
    body.finish()

    assert result_of(body.read(1)) == []


def test_a_body_of_length_nought_is_complete_at_once() -> None:
    body, _ = new_body(0)

    assert body.complete


def test_the_socket_is_paused_while_too_much_waits() -> None:
    body, _ = new_body()
    body.read(HIGH_WATER * 2)
    body.feed(bytes(HIGH_WATER))

    assert not body.wanted


def test_the_socket_is_resumed_when_it_was_taken() -> None:
    body, demands = new_body()
    result = body.read(1)
    body.feed(b"x")
    result_of(result)
    body.feed(bytes(HIGH_WATER))
    assert not body.wanted

    body.read(1)

    assert demands[-1] is True


def test_a_failure_reaches_a_waiting_read() -> None:
    body, _ = new_body()
    reading = body.read(1)
    seen: list[object] = []
    reading.addErrback(lambda failure: seen.append(failure.value))

    body.fail_with(ConnectionGone())

    assert [type(each) for each in seen] == [ConnectionGone]


def test_a_failure_reaches_every_later_read() -> None:
    body, _ = new_body()
    body.fail_with(ConnectionGone())
    seen: list[object] = []

    body.read(1).addErrback(lambda failure: seen.append(type(failure.value)))

    assert seen == [ConnectionGone]


def test_a_complete_body_cannot_fail_any_more() -> None:
    body, _ = new_body()
    body.feed(b"all")
    body.finish()

    body.fail_with(ConnectionGone())

    assert result_of(body.read(1)) == [b"all"]


def test_discarded_bytes_are_counted_and_not_kept() -> None:
    body, _ = new_body(10)
    body.feed(b"1234")
    body.discard()

    body.feed(b"5678")

    assert (body.remaining, body.wanted) == (2, True)
    assert body._blocks == []


def test_a_cancelled_read_leaves_the_bytes_for_the_next() -> None:
    body, _ = new_body()
    reading = body.read(2)
    reading.addErrback(lambda failure: failure.trap(CancelledError))
    reading.cancel()
    body.feed(b"kept")

    assert result_of(body.read(1)) == [b"kept"]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=30), st.integers(1, 200))
def test_what_is_read_is_what_was_fed(blocks: list[bytes], at_least: int) -> None:
    body, _ = new_body()
    read: list[bytes] = []
    ended: list[bool] = []

    def again(got: list[bytes]) -> None:
        if not got:
            ended.append(True)
            return
        read.extend(got)
        body.read(at_least).addCallback(again)

    body.read(at_least).addCallback(again)
    for block in blocks:
        body.feed(block)
    body.finish()

    assert (b"".join(read), ended) == (b"".join(blocks), [True])

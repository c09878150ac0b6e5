"""Connections: routing at the end of the head, framing, deadlines."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from dtfc.errors import BadInput, ConnectionGone, Denied, Stalled
from dtfc.http.problems import problem_for
from dtfc.web.channel import Channel
from dtfc.web.site import Bounds
from dtfc.web.turnedaway import MOST_TURNED_AWAY

NewWire = Callable[..., Any]

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PUT = b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%b\r\n"


def ok(request: Any) -> None:
    request.answer(200, b"fine", "text/plain")


def refuse(request: Any) -> None:
    request.problem(problem_for(Denied("no")))


def collect(into: list[Any]) -> Callable[[Any], None]:
    """Read the whole body, note it, answer 200."""

    def respond(request: Any) -> None:
        blocks: list[bytes] = []

        def got(more: list[bytes]) -> None:
            if more:
                blocks.extend(more)
                request.body.read(1).addCallbacks(got, failed)
            else:
                into.append(b"".join(blocks))
                request.answer(200, b"ok", "text/plain")

        def failed(failure: Any) -> None:
            into.append(failure.value)
            if not isinstance(failure.value, CancelledError):
                request.problem(problem_for(failure.value))

        request.body.read(1).addCallbacks(got, failed)

    return respond


class TestRouting:
    def test_a_get_is_answered(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)

        wire.send(GET)

        assert wire.statuses == [200]
        assert wire.got.endswith(b"\r\n\r\nfine")

    def test_a_put_is_routed_before_its_body(self, new_wire: NewWire) -> None:
        wire = new_wire()

        wire.send(PUT % (5, b""))

        assert [request.method for request in wire.requests] == [b"PUT"]

    def test_a_body_is_not_read_before_somebody_wants_it(self, new_wire: NewWire) -> None:
        wire = new_wire()

        wire.send(PUT % (5, b""))

        assert not wire.transport.reading

    def test_a_body_reaches_its_reader(self, new_wire: NewWire) -> None:
        bodies: list[Any] = []
        wire = new_wire(collect(bodies))

        wire.send(PUT % (10, b"") + b"01234")
        wire.send(b"56789")

        assert bodies == [b"0123456789"]

    def test_a_chunked_body_reaches_its_reader(self, new_wire: NewWire) -> None:
        bodies: list[Any] = []
        wire = new_wire(collect(bodies))

        wire.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n":
            wire.send(bytes([byte]))

        assert bodies == [b"abcde"]
        assert wire.statuses == [200]

    def test_pipelined_requests_are_answered_in_order(self, new_wire: NewWire) -> None:
        wire = new_wire(lambda request: request.answer(200, request.path, "text/plain"))

        wire.send(GET.replace(b"/ ", b"/1 ") + GET.replace(b"/ ", b"/2 ") + GET)

        assert wire.statuses == [200, 200, 200]
        assert wire.got.index(b"\r\n\r\n/1") < wire.got.index(b"\r\n\r\n/2")

    def test_a_request_after_a_body_is_answered(self, new_wire: NewWire) -> None:
        bodies: list[Any] = []
        wire = new_wire(collect(bodies))

        wire.send(PUT % (3, b"") + b"abc" + PUT % (2, b"") + b"de")

        assert bodies == [b"abc", b"de"]

    def test_a_thousand_pipelined_requests_do_not_recurse(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)

        wire.send(GET * 1000)

        assert len(wire.statuses) == 1000

    def test_a_second_request_waits_for_the_first_answer(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET + GET)
        assert len(wire.requests) == 1

        ok(wire.requests[0])

        assert len(wire.requests) == 2

    def test_what_a_client_sends_ahead_is_bounded(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET)

        wire.send(bytes(20_000))

        assert not wire.transport.reading

    def test_absolute_form_overrides_host(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)

        wire.send(b"GET http://real:81/p?q=1 HTTP/1.1\r\nHost: other\r\n\r\n")

        request = wire.requests[0]
        assert (request.path, request.getHeader("host")) == (b"/p", "real:81")

    def test_a_route_that_raises_is_a_logged_500(
        self, new_wire: NewWire, logged_failures: Any
    ) -> None:
        def broken(_request: Any) -> None:
            raise ZeroDivisionError

        wire = new_wire(broken)

        wire.send(GET)

        assert wire.statuses == [500]
        assert len(logged_failures.flush(ZeroDivisionError)) == 1


class TestExpect:
    def test_100_is_sent_when_the_body_is_wanted(self, new_wire: NewWire) -> None:
        bodies: list[Any] = []
        wire = new_wire(collect(bodies))

        wire.send(PUT % (2, b"Expect: 100-continue\r\n"))
        assert wire.got == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(b"ab")

        assert bodies == [b"ab"]

    def test_a_refusal_comes_instead_of_100(self, new_wire: NewWire) -> None:
        wire = new_wire(refuse)

        wire.send(PUT % (2, b"Expect: 100-continue\r\n"))

        assert wire.statuses == [403]
        assert b"Connection: close" in wire.got

    def test_no_100_for_a_body_that_is_already_coming(self, new_wire: NewWire) -> None:
        wire = new_wire(collect([]))

        wire.send(PUT % (2, b"Expect: 100-continue\r\n") + b"ab")

        assert wire.statuses == [200]


class TestRefusing:
    def test_a_large_unread_body_ends_the_connection(self, new_wire: NewWire) -> None:
        wire = new_wire(refuse)

        wire.send(PUT % (10**9, b""))

        assert wire.transport.half_closed
        assert b"Connection: close" in wire.got

    def test_what_follows_a_refusal_is_dropped(self, new_wire: NewWire) -> None:
        wire = new_wire(refuse)
        wire.send(PUT % (10**9, b""))

        wire.send(GET)

        assert wire.statuses == [403]
        assert wire.transport.reading

    def test_a_small_unread_body_is_drained(self, new_wire: NewWire) -> None:
        wire = new_wire(refuse)

        wire.send(PUT % (4, b""))
        wire.send(b"body" + PUT % (0, b""))

        assert wire.statuses == [403, 403]
        assert not wire.transport.half_closed

    def test_the_client_has_a_while_to_read_the_refusal(self, new_wire: NewWire) -> None:
        wire = new_wire(refuse, linger=5)
        wire.send(PUT % (10**9, b""))
        wire.pass_time(5)
        assert not wire.transport.disconnecting

        wire.pass_time(2)

        assert wire.transport.disconnecting

    def test_a_bad_head_is_a_problem(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)

        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")

        head, _, body = wire.got.partition(b"\r\n\r\n")
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == 400
        assert wire.transport.half_closed

    def test_a_bad_chunk_is_a_problem(self, new_wire: NewWire) -> None:
        seen: list[Any] = []
        wire = new_wire(collect(seen))

        wire.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")

        assert wire.statuses == [400]
        assert b"Connection: close" in wire.got

    def test_a_hidden_slash_is_refused(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)

        wire.send(b"GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n")

        assert wire.statuses == [400]

    def test_an_answer_cut_short_is_cut_off(self, new_wire: NewWire) -> None:
        def begin_and_fail(request: Any) -> None:
            request.setHeader(b"Content-Length", b"100")
            request.write(b"some")
            request.problem(problem_for(BadInput("late")))

        wire = new_wire(begin_and_fail)

        wire.send(GET)

        assert wire.transport.aborted


class TestLeaving:
    def test_a_client_that_leaves_fails_its_body(self, new_wire: NewWire) -> None:
        seen: list[Any] = []
        wire = new_wire(collect(seen))
        wire.send(PUT % (10, b"") + b"half")

        wire.lose()

        assert [type(each) for each in seen] == [ConnectionGone]

    def test_a_client_that_leaves_is_in_the_log(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET)

        wire.lose()

        assert [entry.status for entry in wire.log] == [499]

    def test_a_request_is_logged_once(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)
        wire.send(GET)

        wire.lose()

        assert [(entry.status, entry.sent) for entry in wire.log] == [(200, 4)]


class TestDeadlines:
    def test_a_slow_head_is_408(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, header=10)
        wire.send(b"GET / HT")
        for _ in range(10):
            wire.pass_time(1)
            wire.send(b"T")
        assert wire.statuses == []

        wire.pass_time(1)

        assert wire.statuses == [408]

    def test_an_idle_connection_is_closed_without_an_answer(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, idle=60)
        wire.send(GET)
        wire.transport.clear()

        wire.pass_time(62)

        assert (wire.got, wire.transport.half_closed) == (b"", True)

    def test_a_slow_body_is_408(self, new_wire: NewWire) -> None:
        seen: list[Any] = []
        wire = new_wire(collect(seen), body_rate=100, body_grace=20)
        wire.send(PUT % (10**6, b""))
        for _ in range(21):
            wire.pass_time(1)
            wire.send(bytes(50))

        assert [type(each) for each in seen] == [Stalled]
        assert wire.statuses == [408]

    def test_a_body_at_the_lowest_rate_is_taken(self, new_wire: NewWire) -> None:
        seen: list[Any] = []
        wire = new_wire(collect(seen), body_rate=100, body_grace=20)
        wire.send(PUT % (6000, b""))
        for _ in range(60):
            wire.send(bytes(100))
            wire.pass_time(1)

        assert seen == [bytes(6000)]

    def test_our_own_pause_does_not_count(self, new_wire: NewWire) -> None:
        wire = new_wire(body_rate=100, body_grace=20)
        wire.send(PUT % (10**6, b""))

        wire.pass_time(100)

        assert (wire.statuses, wire.transport.aborted) == ([], False)

    def test_a_reader_that_takes_nothing_is_cut_off(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, write_stall=30)
        wire.send(GET)
        wire.transport.unsent = True

        wire.pass_time(32)

        assert wire.transport.aborted

    def test_a_reader_that_takes_a_little_is_served(self, new_wire: NewWire) -> None:
        wire = new_wire(write_stall=30)
        wire.send(GET)
        wire.transport.unsent = True
        for _ in range(100):
            wire.transport.bytes_out += 1024
            wire.pass_time(1)

        assert not wire.transport.aborted

    def test_a_reader_that_takes_next_to_nothing_is_cut_off(self, new_wire: NewWire) -> None:
        wire = new_wire(write_stall=30, send_rate=1024)
        wire.send(GET)
        wire.transport.unsent = True
        for _ in range(32):
            wire.transport.bytes_out += 1
            wire.pass_time(1)

        assert wire.transport.aborted

    def test_what_a_reader_has_not_been_offered_does_not_count(self, new_wire: NewWire) -> None:
        wire = new_wire(write_stall=30)
        wire.send(GET)
        for second in range(200):
            wire.transport.unsent = second % 25 != 0
            wire.pass_time(1)

        assert not wire.transport.aborted


class TestHalfClosed:
    def test_what_was_asked_for_is_still_answered(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET)
        wire.channel.readConnectionLost()
        assert not wire.transport.disconnecting

        ok(wire.requests[0])

        assert wire.statuses == [200]
        assert wire.transport.disconnecting

    def test_nobody_lingers_over_an_answer_that_closes(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        wire.channel.readConnectionLost()

        ok(wire.requests[0])

        assert wire.transport.disconnecting

    def test_pipelined_requests_are_all_answered(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET * 3)
        wire.channel.readConnectionLost()
        for number in range(3):
            ok(wire.requests[number])

        assert wire.statuses == [200] * 3
        assert wire.transport.disconnecting

    def test_half_a_body_is_no_request(self, new_wire: NewWire) -> None:
        wire = new_wire(collect([]))
        wire.send(PUT % (10, b"") + b"half")

        wire.channel.readConnectionLost()

        assert wire.transport.aborted

    def test_an_idle_connection_is_closed(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)

        wire.channel.readConnectionLost()

        assert wire.transport.disconnecting

    def test_nobody_waits_long_for_an_answer_after_it(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET)
        wire.channel.readConnectionLost()

        wire.pass_time(4)

        assert wire.transport.aborted

    def test_it_is_not_read_again(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET)
        wire.channel.readConnectionLost()
        wire.transport.pauseProducing()

        wire.channel.resumeProducing()

        assert not wire.transport.reading


class TestSlowReaders:
    def test_who_does_not_read_gets_no_further_answers(self, new_wire: NewWire) -> None:
        def slowly(request: Any) -> None:
            request.channel.pauseProducing()
            ok(request)

        wire = new_wire(slowly)
        wire.send(GET * 5)
        assert wire.statuses == [200]
        wire.channel.resumeProducing()

        assert wire.statuses == [200, 200]


class FakePort:
    connected = True
    reading = True

    def stopReading(self) -> None:  # noqa: N802 -- Twisted's name
        self.reading = False

    def startReading(self) -> None:  # noqa: N802 -- Twisted's name
        self.reading = True


class TestTooMany:
    def second(self, wire: Any) -> Any:
        transport = type(wire.transport)()
        channel = wire.site.buildProtocol(None)
        channel.makeConnection(transport)
        return channel, transport

    def test_one_too_many_is_not_read(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, connections=1)

        _, transport = self.second(wire)

        assert not transport.reading

    def test_it_is_read_when_there_is_room(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, connections=1)
        channel, transport = self.second(wire)

        wire.lose()

        assert transport.reading
        channel.dataReceived(GET)
        assert transport.value().startswith(b"HTTP/1.1 200")

    def test_a_higher_limit_lets_in_who_waits(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, connections=1)
        _, transport = self.second(wire)

        wire.site.set_bounds(Bounds(connections=5))

        assert transport.reading

    def test_too_many_of_one_address_are_told_so(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, per_address=1)
        turned_away = wire.site.buildProtocol(wire.transport.getPeer())
        transport = type(wire.transport)()
        turned_away.makeConnection(transport)

        turned_away.dataReceived(GET)

        assert transport.value().startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 1\r\n" in transport.value()
        assert transport.disconnecting
        assert [entry.status for entry in wire.log] == [429]
        turned_away.connectionLost()

    def test_who_is_turned_away_and_says_nothing_is_cut_off(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, per_address=1)
        turned_away = wire.site.buildProtocol(wire.transport.getPeer())
        transport = type(wire.transport)()
        turned_away.makeConnection(transport)

        wire.pass_time(2)

        assert transport.aborted
        turned_away.connectionLost()

    def test_no_more_are_told_than_can_do_harm(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, per_address=1)
        address = wire.transport.getPeer()
        for _ in range(MOST_TURNED_AWAY):
            wire.site.buildProtocol(address).makeConnection(type(wire.transport)())

        assert wire.site.buildProtocol(address) is None
        wire.pass_time(2)

    def test_another_one_of_that_address_when_there_is_room(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, per_address=1)
        address = wire.transport.getPeer()
        wire.lose()

        assert isinstance(wire.site.buildProtocol(address), Channel)

    @pytest.mark.parametrize(
        "sent",
        [b"", GET[:5], PUT % (10**6, b"")],
        ids=["nothing", "half a head", "no body"],
    )
    def test_who_does_nothing_useful_makes_room(self, new_wire: NewWire, sent: bytes) -> None:
        wire = new_wire(collect([]), connections=1)
        if sent:
            wire.send(sent)
        wire.pass_time(3)

        self.second(wire)

        assert wire.transport.aborted

    def test_who_takes_next_to_nothing_makes_room(self, new_wire: NewWire) -> None:
        wire = new_wire(connections=1)
        wire.send(GET)
        wire.transport.unsent = True
        wire.pass_time(4)

        self.second(wire)

        assert wire.transport.aborted

    def test_whose_answer_is_still_on_its_way_is_given_longer(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, connections=1)
        wire.send(GET)
        wire.transport.bytes_out += 1000
        wire.transport.held = 1000
        wire.pass_time(5)

        self.second(wire)
        assert not wire.transport.aborted
        wire.pass_time(12)
        assert wire.transport.aborted

    def test_a_moment_is_granted_to_everybody(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, connections=1)
        wire.pass_time(1)

        self.second(wire)

        assert not wire.transport.aborted

    def test_and_when_it_is_over_there_is_room(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, connections=1)
        self.second(wire)

        wire.pass_time(3)

        assert wire.transport.aborted

    def test_the_next_one_is_let_come_when_nobody_waits(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, connections=1)
        port = FakePort()
        wire.site.add_port(port)
        wire.pass_time(3)
        self.second(wire)
        assert not port.reading
        wire.channel.connectionLost(Failure(ConnectionDone()))

        # There is no room again, and who waits in the kernel must be seen all the same.
        assert len(wire.site.channels) == 1
        assert port.reading

    def test_who_takes_what_it_is_given_stays(self, new_wire: NewWire) -> None:
        wire = new_wire(connections=1)
        wire.send(GET)
        wire.transport.unsent = True
        for _ in range(5):
            wire.transport.bytes_out += 10_000
            wire.pass_time(1)

        self.second(wire)

        assert not wire.transport.aborted


class TestDraining:
    def test_an_idle_connection_is_closed_after_a_last_call(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, last_call=2)
        wire.pass_time(5)

        wire.site.drain()

        wire.pass_time(1)
        assert not wire.transport.disconnecting
        wire.pass_time(1)
        assert wire.transport.disconnecting

    def test_what_came_and_was_not_read_is_not_lost(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, last_call=0)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"G")
            wire.transport.socket = ours

            wire.site.drain()

            assert not wire.transport.disconnecting

    def test_or_at_once(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, last_call=0)

        wire.site.drain()

        assert wire.transport.disconnecting

    def test_who_asks_meanwhile_is_answered_and_told(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)
        wire.send(GET)
        wire.site.drain()

        wire.send(GET)

        assert wire.statuses == [200, 200]
        assert wire.got.count(b"Connection: close") == 1
        assert wire.transport.half_closed

    def test_who_was_not_told_in_the_answer_may_ask_once_more(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET)
        wire.requests[0].setResponseCode(200)
        wire.requests[0].write(b"begun")
        wire.site.drain()
        wire.requests[0].finish()

        wire.send(GET)
        ok(wire.requests[1])

        assert wire.statuses == [200, 200]
        assert wire.got.count(b"Connection: close") == 1

    def test_who_is_succeeded_waits_as_ever(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, last_call=1, idle=30)
        wire.site.succeeded = True

        wire.site.drain()

        wire.pass_time(29)
        assert not wire.transport.disconnecting
        wire.pass_time(1)
        assert wire.transport.disconnecting or wire.transport.half_closed

    def test_who_is_succeeded_is_not_about_to_leave(self, new_wire: NewWire) -> None:
        wire = new_wire(ok)
        wire.site.succeeded = True

        wire.site.drain()

        assert not wire.site.leaving
        wire.lose()

    def test_who_had_no_room_is_let_in(self, new_wire: NewWire) -> None:
        wire = new_wire(ok, connections=1)
        transport = type(wire.transport)()
        channel = wire.site.buildProtocol(None)
        channel.makeConnection(transport)
        wire.site.drain()

        wire.channel.connectionLost(Failure(ConnectionDone()))

        assert channel in wire.site.channels
        assert not transport.disconnecting

    def test_a_request_in_flight_is_finished(self, new_wire: NewWire) -> None:
        wire = new_wire()
        wire.send(GET)
        drained: list[bool] = []
        wire.site.drain().addCallback(lambda _none: drained.append(True))
        ok(wire.requests[0])
        assert b"Connection: close" in wire.got

        wire.lose()

        assert (wire.statuses, drained) == ([200], [True])


def test_a_change_of_the_time_of_day_ends_no_connection(new_wire: NewWire) -> None:
    wire = new_wire(ok, idle=60)
    wire.site.ticks = lambda: 5.0
    wire.send(GET)

    wire.clock.advance(1_000_000)
    wire.send(GET)

    assert wire.statuses == [200, 200]
    assert not wire.transport.half_closed
    assert not wire.transport.disconnecting

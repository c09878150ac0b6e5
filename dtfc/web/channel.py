"""Connections and requests: strict framing, streaming bodies, bounds.

Twisted's HTTPChannel hands a request over when its last body byte is in, spools
bodies to temporary files, has no deadline while a response is sent, and accepts
what RFC 9112 says must be refused. Its output half is good. So :class:`Channel`
keeps that half and replaces the input half: heads are parsed by
``dtfc.http.heads``, and a request is routed as soon as its head is in, with its
body as a stream (``dtfc.web.body``).

What a connection goes through:

    HEAD    waiting for a head, or reading one
    BODY    a request is being answered and its body is not all here
    ANSWER  the body is here, the answer is not finished; what the client sends
            ahead is kept, up to a limit, then the socket is paused
    LINGER  the last answer is written and the sending side closed; what the
            client still sends is thrown away, so that it can read the answer
            before a reset reaches it (RFC 9112 section 9.6)

Deadlines are looked at by one sweep a second over all connections, which costs
a request nothing.
"""

from __future__ import annotations

import enum
import socket
from http.client import responses
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from dtfc.errors import Stalled
from dtfc.http.chunked import BadChunk, ChunkedDecoder
from dtfc.http.heads import BadHead, HeadReader, Limits, RequestHead
from dtfc.http.problems import Problem, problem_for
from dtfc.web.accesslog import host_of
from dtfc.web.body import RequestBody
from dtfc.web.fields import SAFE
from dtfc.web.request import CLIENT_LEFT, SERVER, Request

if TYPE_CHECKING:
    from dtfc.web.site import Bounds, Site

#: Bytes read at once while a large body comes in: fewer turns of the loop for
#: each MiB (Twisted's default is 64 KiB).
UPLOAD_READ_SIZE = 256 * 1024

#: The same for heads.
READ_SIZE = 64 * 1024

#: Seconds after which a client that closed its sending side, and to which
#: nothing is being sent, counts as gone.
GONE_AFTER = 2


#: Seconds for which a connection may do nothing useful while others wait for a place.
PATIENCE = 2.0

#: The same where the client has not yet taken all of its last answer.
TAIL_PATIENCE = 15.0

#: Seconds of which a hold is worth a timer.
SHORTEST_HOLD = 0.005

_log = Logger()


class Phase(enum.Enum):
    """Where a connection is; the module's docstring tells the story."""

    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    LINGER = enum.auto()


class Taking:
    """How fast a client takes what is meant for it.

    Args:
        now: seconds.
        taken: bytes that it has taken so far.
    """

    __slots__ = ("_at", "_before", "_taken", "since")

    def __init__(self, now: float, taken: int) -> None:
        self.since = self._at = now
        self._before = self._taken = taken

    def too_slow(self, now: float, taken: int, bounds: Bounds) -> bool:
        """Note what it has taken by now; whether that is nothing, or next to nothing."""
        if taken != self._taken:
            self._taken, self._at = taken, now
        elapsed = now - self.since
        if elapsed > bounds.write_stall:
            if taken - self._before < bounds.send_rate * elapsed:
                return True
            self.since, self._before = now, taken
        return now - self._at > bounds.write_stall

    def is_slow(self, now: float, bounds: Bounds) -> bool:
        """Whether it has been slower than it may for a moment."""
        elapsed = now - self.since
        return elapsed > PATIENCE and self._taken - self._before < bounds.send_rate * elapsed


@implementer(IHalfCloseableProtocol)
class Channel(http.HTTPChannel):
    """One connection. The module's docstring says what is replaced, and why."""

    site: Site
    transport: Any
    body: RequestBody | None = None
    address = ""
    hot: tuple[str, int, float] | None = None
    """What the fast lane sends, its length, and since when; None while it sends nothing."""
    hot_sent = 0
    """Bytes of that which were sent."""

    def __init__(self, limits: Limits) -> None:
        http.HTTPChannel.__init__(self)
        self._reader = HeadReader(limits)
        self._decoder: ChunkedDecoder | None = None
        self._phase = Phase.HEAD
        self._ahead: list[bytes] = []
        self._ahead_bytes = 0
        self._reading = True
        self._half_closed = 0.0
        self._parked = False
        self._advancing = False
        self._continue_due = False
        self._since = 0.0
        self._window_start = 0.0
        self._window_bytes = 0
        self._held: IDelayedCall | None = None
        self._taking: Taking | None = None
        self._served = False

    # -- the connection -----------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802 -- Twisted's name
        """Begin to wait for a head."""
        set_nodelay = getattr(self.transport, "setTcpNoDelay", None)
        if set_nodelay is not None:
            set_nodelay(True)
        self._networkProducer = self.transport
        self.transport.registerProducer(self, True)
        self._since = self.site.ticks()
        self.address = host_of(self.transport.getPeer())
        if not self.site.welcome(self):
            self._parked = True
            self.transport.pauseProducing()

    def unpark(self) -> None:
        """Begin to read, now that there is room."""
        self._parked = False
        self._since = self.site.ticks()
        self.transport.resumeProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 -- Twisted's name
        """Fail what was under way."""
        self.site.forget(self)
        if self._held is not None:
            self._held.cancel()
            self._held = None
        for request in self.requests:
            request.connectionLost(reason)

    def readConnectionLost(self) -> None:  # noqa: N802 -- Twisted's name
        """The client sends no more; what it asked for in full is still answered."""
        self._reading = False
        self._half_closed = self.site.ticks()
        if self._phase is Phase.ANSWER:
            return
        if self._phase is Phase.BODY:
            self.abort()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:  # noqa: N802 -- Twisted's name
        """Our side is closed; the client closes its own, or :meth:`check` does."""

    def abort(self) -> None:
        """Cut the connection without another byte."""
        self.transport.abortConnection()

    def close_if_idle(self, began: float, patience: float) -> None:
        """Close a connection whose last chance to ask for something is over.

        Args:
            began: when the node began to drain.
            patience: seconds of that chance, from then on or from the last answer on.
        """
        if self._phase is not Phase.HEAD or self._reader.started:
            return
        idle = self.site.ticks() - max(began, self._since)
        if idle >= patience and not self.has_unread():
            self.transport.loseConnection()

    def has_unread(self) -> bool:
        """Whether something has come that a loop which stood still has not read yet."""
        opened = getattr(_socket_under(self.transport), "socket", None)
        try:
            flags = socket.MSG_PEEK | socket.MSG_DONTWAIT
            return opened is not None and opened.recv(1, flags) != b""
        except OSError:
            return False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Take bytes from the socket."""
        if self._phase is Phase.HEAD:
            if not self._reader.started:
                if self.answers_at_once(data):
                    return
                self._since = self.site.ticks()
            self._reader.feed(data)
            self._advance()
        elif self._phase is Phase.BODY:
            self._body_received(data)
        elif self._phase is Phase.ANSWER:
            self._ahead.append(data)
            self._ahead_bytes += len(data)
        self._regulate()

    def answers_at_once(self, data: bytes) -> bool:  # noqa: ARG002 -- for subclasses
        """Answer what came without parsing it, if that is possible; here it never is."""
        return False

    def _regulate(self) -> None:
        """Read from the socket exactly while there is a place for the bytes."""
        if self._half_closed:
            # There is nothing more to read, and trying would find the end again.
            if self._phase is Phase.HEAD and not self._waitingForTransport:
                self.transport.loseConnection()
            return
        if self._phase is Phase.BODY:
            wanted = self.body is not None and self.body.wanted and self._held is None
        elif self._phase is Phase.ANSWER:
            wanted = self._ahead_bytes <= self.site.bounds.ahead
        elif self._phase is Phase.HEAD:
            wanted = not self._waitingForTransport
        else:
            wanted = True
        if wanted and not self._reading:
            self._reading = True
            self._restart_window()
            self.transport.resumeProducing()
        elif not wanted and self._reading:
            self._reading = False
            self.transport.pauseProducing()

    # -- heads --------------------------------------------------------------

    def _advance(self) -> None:
        """Begin the requests whose heads are here, one after another."""
        if self._advancing:
            return
        self._advancing = True
        try:
            # A client that does not read its answers gets no further ones.
            while self._phase is Phase.HEAD and not self._waitingForTransport:
                try:
                    head = self._reader.next()
                except BadHead as error:
                    self._refuse(error)
                    return
                if head is None:
                    return
                self._begin(head)
        finally:
            self._advancing = False

    def _begin(self, head: RequestHead) -> None:
        request = Request(self)
        self.requests.append(request)
        self._handlingRequest = True
        self.persistent = not head.close and not self.site.draining
        rest = self._reader.take_rest()
        length = None if head.chunked else head.content_length or 0
        self.body = request.body = RequestBody(length, self._body_demand)
        self._continue_due = head.expects_continue and not self.body.complete
        request.take_head(head)
        if self.body.complete:
            self._phase = Phase.ANSWER
            self._keep_ahead(rest)
        else:
            self._phase = Phase.BODY
            self._decoder = ChunkedDecoder() if head.chunked else None
            self._restart_window()
            if length is None or length > UPLOAD_READ_SIZE:
                self.transport.bufferSize = UPLOAD_READ_SIZE
            if rest:
                self._body_received(rest)
        request.process()
        self._regulate()

    def _refuse(self, error: BadHead) -> None:
        """Answer what is not a request we can frame, and close."""
        problem = problem_for(error)
        self._phase = Phase.ANSWER
        self.persistent = False
        self.site.log_refused(self, problem.status)
        self.transport.write(raw_answer(problem, self.site.http_date()))
        self._linger()

    # -- bodies -------------------------------------------------------------

    def _body_demand(self) -> None:
        """React to the reader's interest in the body."""
        if self._phase is not Phase.BODY or self.body is None:
            return
        if self._continue_due and self.body.opened:
            self._continue_due = False
            # A client that already sends its body does not wait (RFC 9110 10.1.1).
            if not self.body.received:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._regulate()

    def _body_received(self, data: bytes) -> None:
        body = self.body
        if body is None or body.failed:
            return
        self._window_bytes += len(data)
        meter = self.requests[0].meter if self.requests else None
        if meter is not None:
            self.transport.bufferSize = meter.slice
            self._hold_back(meter.spend(len(data)))
        if self._decoder is None:
            remaining = body.remaining or 0
            if len(data) < remaining:
                body.feed(data)
            else:
                self._body_done(body, data[:remaining], data[remaining:])
            return
        try:
            pieces = self._decoder.feed(data)
        except BadChunk as error:
            self.persistent = False
            body.fail_with(error)
            return
        for piece in pieces[:-1] if self._decoder.done else pieces:
            body.feed(piece)
        if self._decoder.done:
            self._body_done(body, b"".join(pieces[-1:]), self._decoder.rest)

    def _hold_back(self, seconds: float) -> None:
        """Read no more of a body for so long: it comes faster than its sender may send."""
        if seconds > SHORTEST_HOLD and self._held is None:
            self._held = self.site.clock.callLater(seconds, self._go_on)

    def _go_on(self) -> None:
        self._held = None
        self._regulate()

    def _body_done(self, body: RequestBody, last: bytes, rest: bytes) -> None:
        self._phase = Phase.ANSWER
        self._continue_due = False
        self._keep_ahead(rest)
        if last:
            body.feed(last)
        body.finish()
        if not self.requests:
            # The answer was finished before the body was; now the next request.
            self._next_request()

    def _keep_ahead(self, rest: bytes) -> None:
        if rest:
            self._ahead.append(rest)
            self._ahead_bytes += len(rest)

    # -- answers ------------------------------------------------------------

    def writeHeaders(  # noqa: N802 -- Twisted's name
        self, _version: bytes, code: bytes, reason: bytes, headers: Any
    ) -> None:
        """Write a head; say ``close`` where the connection will not be kept.

        The status line carries our own version, 1.1, whatever the client's was
        (RFC 9110 section 2.5).
        """
        if self.site.draining or not self._body_can_be_drained():
            self.persistent = False
        if not self.persistent:
            headers.setRawHeaders(b"Connection", [b"close"])
        http.HTTPChannel.writeHeaders(self, b"HTTP/1.1", code, reason, headers)

    def _body_can_be_drained(self) -> bool:
        body = self.body
        if body is None or body.complete:
            return True
        if body.failed or self._continue_due:
            # With 100 unsent nobody knows whether the body will come.
            return False
        return body.remaining is not None and body.remaining <= self.site.bounds.drain

    def requestDone(self, request: Request) -> None:  # noqa: N802 -- Twisted's name
        """Go on to the next request, or close."""
        self.requests.remove(request)
        self._served = True
        self._since = self.site.ticks()
        if not self.persistent or self.body is None or not self._body_can_be_drained():
            self._linger()
        elif self.body.complete:
            self._next_request()
        else:
            self._restart_window()
            self.body.discard()

    def _next_request(self) -> None:
        # While the node drains, too: whoever was not told of it in the last answer may
        # have sent another request by now.
        if not self.persistent:
            self._linger()
            return
        self._handlingRequest = False
        self.body = None
        self._phase = Phase.HEAD
        ahead, self._ahead, self._ahead_bytes = b"".join(self._ahead), [], 0
        if ahead:
            self._reader.feed(ahead)
        self.transport.bufferSize = READ_SIZE
        self._advance()
        self._regulate()

    def _linger(self) -> None:
        self._phase = Phase.LINGER
        self._since = self.site.ticks()
        self._ahead.clear()
        if self.body is not None and not self.body.complete:
            self.body.discard()
        self.transport.unregisterProducer()
        close_sending = getattr(self.transport, "loseWriteConnection", None)
        # Whoever closed its sending side sends nothing that could cost it the answer,
        # and that it has gone would not be noticed before the deadline.
        if close_sending is None or self.isSecure() or self._half_closed:
            self.transport.loseConnection()
        else:
            close_sending()
        self._regulate()

    def pauseProducing(self) -> None:  # noqa: N802 -- Twisted's name
        """The client reads slowly: pause the answer, and take no further request."""
        self._waitingForTransport = True
        if self._requestProducer is not None:
            self._requestProducer.pauseProducing()
        self._regulate()

    def resumeProducing(self) -> None:  # noqa: N802 -- Twisted's name
        """The client read: go on."""
        self._waitingForTransport = False
        if self._requestProducer is not None:
            self._requestProducer.resumeProducing()
        if self._phase is Phase.HEAD:
            self._advance()
        self._regulate()

    # -- deadlines ----------------------------------------------------------

    def _restart_window(self) -> None:
        self._window_start = self.site.ticks()
        self._window_bytes = 0

    def check(self, now: float) -> None:
        """Hold the client to its deadlines; called about once a second."""
        if self._out_stalled(now):
            self.site.log_refused(self, CLIENT_LEFT)
            self.abort()
            return
        bounds = self.site.bounds
        if self._phase is Phase.HEAD:
            if self._reader.started:
                if now - self._since > bounds.header:
                    self._refuse(
                        BadHead(408, "Request Timeout", "the head of the request took too long")
                    )
            elif now - self._since > bounds.idle:
                self._linger()
        elif self._phase is Phase.BODY:
            self._check_body(now, bounds)
        elif self._phase is Phase.LINGER and now - self._since > bounds.linger:
            # Not abort() at first: a reset would take from a slow reader what is
            # in the kernel's buffer already. All input was read, so this sends
            # none. A TLS client that never says goodbye would stay for ever.
            if now - self._since > 2 * bounds.linger and not self._unsent():
                self.abort()
            else:
                self.transport.loseConnection()
        if self._half_closed and now - self._half_closed > GONE_AFTER:
            self._give_up_waiting()

    def _check_body(self, now: float, bounds: Bounds) -> None:
        elapsed = now - self._window_start
        if not self._reading or elapsed < bounds.body_grace:
            return
        if self._window_bytes >= bounds.body_rate * elapsed:
            self._restart_window()
            return
        self.persistent = False
        if self.requests and self.body is not None:
            self.body.fail_with(Stalled("the body of the request", elapsed))
        else:
            self._linger()

    def _give_up_waiting(self) -> None:
        """Take a client that closed its sending side for one that has left.

        The two look alike. While an answer is sent it does not matter: it is
        finished, or the write fails. While nothing is sent it does: a load that
        nobody waits for may stop.
        """
        if self.requests and not self.requests[0].startedWriting:
            self.abort()

    def _unsent(self) -> bool:
        return bool(getattr(_socket_under(self.transport), "unsent", False))

    def _out_stalled(self, now: float) -> bool:
        """Whether the client takes nothing of an answer, or next to nothing."""
        socket = _socket_under(self.transport)
        if not getattr(socket, "unsent", False):
            self._taking = None
            return False
        taken = socket.bytes_taken
        if self._taking is None:
            self._taking = Taking(now, taken)
        return self._taking.too_slow(now, taken, self.site.bounds)

    # -- when there is no room ----------------------------------------------

    def worth_keeping(self, now: float) -> tuple[int, float] | None:
        """Say how little is lost with this connection, when others wait for its place.

        Returns:
            What sorts the connections, those to be given up first; None if this
            one does what it should.
        """
        bounds = self.site.bounds
        if self._phase in (Phase.HEAD, Phase.LINGER):
            waits = now - self._since
            # The end of an answer may still be on its way to somebody who is slow.
            patience = TAIL_PATIENCE if self._has_tail() else PATIENCE
            idle = self._phase is Phase.HEAD and self._served
            return (1 if idle else 0, -waits) if waits > patience else None
        elapsed = now - self._window_start
        if self._phase is Phase.BODY and self._reading and elapsed > PATIENCE:
            if self._window_bytes < bounds.body_rate * elapsed:
                return (2, -elapsed)
        elif self._taking is not None and self._taking.is_slow(now, bounds):
            return (3, self._taking.since - now)
        return None

    def _has_tail(self) -> bool:
        """Whether the kernel still holds some of what was answered."""
        socket = _socket_under(self.transport)
        return bool(getattr(socket, "bytes_out", 0) != getattr(socket, "bytes_taken", 0))

    def give_up_place(self) -> None:
        """Make room for somebody who waits."""
        self.site.log_refused(self, 408 if self._reader.started else CLIENT_LEFT)
        self.abort()


def _socket_under(transport: Any) -> Any:
    """Return the transport at the bottom: TLS wraps it."""
    while not hasattr(transport, "bytes_out") and hasattr(transport, "transport"):
        transport = transport.transport
    return transport


def raw_answer(problem: Problem, date: bytes) -> bytes:
    """Return a whole answer for something that never became a request."""
    body = problem.body()
    reason = responses.get(problem.status, problem.title).encode("ascii", "replace")
    fields = [
        (b"Server", SERVER),
        (b"Date", date),
        *((name.encode("ascii"), value.encode("latin-1")) for name, value in SAFE),
        *((name.encode("ascii"), value.encode("latin-1")) for name, value in problem.fields),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
    ]
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (problem.status, reason, head, body)

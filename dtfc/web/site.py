"""Connections and requests: strict framing, streaming bodies, deadlines.

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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import IResource

from dtfc import __version__
from dtfc.errors import BadInput, ConnectionGone, DtfcError, Stalled
from dtfc.http.chunked import BadChunk, ChunkedDecoder
from dtfc.http.heads import BadHead, HeadReader, Limits, RequestHead
from dtfc.http.problems import Problem, problem_for
from dtfc.web.accesslog import Entry
from dtfc.web.body import RequestBody

_log = Logger()

SERVER = b"dtfc/" + __version__.encode("ascii")

#: Bytes read at once while a large body comes in: fewer turns of the loop for
#: each MiB (Twisted's default is 64 KiB).
UPLOAD_READ_SIZE = 256 * 1024


#: What the access log says of a request whose client left before the answer
#: began; nginx's number, which operators know. It is never sent.
CLIENT_LEFT = 499


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a client may take, and how much it may send ahead.

    Args:
        header: seconds from the first byte of a head to its last.
        idle: seconds between requests.
        body_rate: lowest rate of a body, bytes per second.
        body_grace: seconds over which that rate is measured.
        write_stall: seconds in which at least one byte must leave.
        linger: seconds to wait, after the last answer, for the client to close.
        ahead: bytes of later requests that are kept while one is answered.
        drain: bytes of an unread body that are read to keep a connection.
    """

    header: float = 10
    idle: float = 60
    body_rate: int = 1024
    body_grace: float = 20
    write_stall: float = 30
    linger: float = 5
    ahead: int = 16 * 1024
    drain: int = 64 * 1024


class Phase(enum.Enum):
    """Where a connection is; the module's docstring tells the story."""

    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    LINGER = enum.auto()


class Request(server.Request):
    """One request, routed when its head is in.

    Attributes:
        head: what the client asked for, as parsed.
        body: the stream of its body.
    """

    defaultContentType = None
    head: RequestHead
    body: RequestBody
    site: Site
    started: float = 0
    logged = False

    def take_head(self, head: RequestHead) -> None:
        """Set what Twisted's and Klein's code reads from a request."""
        self.head = head
        self.method = head.method.encode("ascii")
        self.uri = head.target
        self.path = head.path
        self.clientproto = b"HTTP/%d.%d" % head.version
        self.args = http.parse_qs(head.query, True) if head.query else {}
        for name, value in head.fields:
            self.requestHeaders.addRawHeader(name, value)
        # An absolute-form target overrides Host (RFC 9112 section 3.2.2).
        self.requestHeaders.setRawHeaders(b"Host", [head.host or b"localhost"])

    def process(self) -> None:
        """Route the request."""
        self.site = self.channel.site
        self.started = self.site.clock.seconds()
        self.setHeader(b"Server", SERVER)
        self.setHeader(b"Date", self.site.http_date())
        self.prepath = []
        if self.path == b"*":
            self.setHeader(b"Allow", b"GET, HEAD, PUT, POST, DELETE, OPTIONS")
            self.answer(204)
            return
        try:
            self.postpath = segments(self.path)
        except DtfcError as error:
            self.problem(problem_for(error))
            return
        try:
            self.render(self.site.resource)
        except Exception:  # noqa: BLE001 -- a bug in a route must answer, and be seen
            self.processingFailed(Failure())

    def processingFailed(self, reason: Failure) -> Failure:  # noqa: N802 -- Twisted's name
        """Answer a failure that no route expected, and log it once."""
        _log.failure("{method} {uri} failed", reason, method=self.method, uri=self.uri)
        self.problem(problem_for(reason.value))
        return reason

    def query(self, name: str) -> str | None:
        """Return the last value of a query argument.

        Raises:
            BadInput: it is not UTF-8.
        """
        values = self.args.get(name.encode("ascii")) if self.args else None
        if not values:
            return None
        try:
            return bytes(values[-1]).decode("utf-8")
        except UnicodeDecodeError:
            raise BadInput(f"the query argument {name} is not UTF-8") from None

    def field(self, name: str) -> list[str]:
        """Return all values of a request field, in the order in which they came."""
        values = self.requestHeaders.getRawHeaders(name.encode("ascii"), [])
        return [value.decode("latin-1") for value in values or []]

    def answer(self, status: int, body: bytes = b"", content_type: str = "") -> None:
        """Answer with a body that is in memory, and finish."""
        self.setResponseCode(status)
        if content_type:
            self.setHeader(b"Content-Type", content_type.encode("ascii"))
        if status not in http.NO_BODY_CODES:
            self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def problem(self, problem: Problem) -> None:
        """Answer with a problem; if an answer was begun, cut the connection.

        A body that was begun and cannot be completed must not look complete.
        """
        if self._disconnected or self.finished:
            return
        if self.startedWriting:
            self.abort()
            return
        for name in ("Content-Length", "Content-Disposition", "Cache-Control", "ETag", "Location"):
            self.responseHeaders.removeHeader(name.encode("ascii"))
        for name, value in problem.fields:
            self.setHeader(name.encode("ascii"), value.encode("latin-1", "replace"))
        self.answer(problem.status, problem.body())

    def abort(self) -> None:
        """Cut the connection at once, leaving the answer visibly incomplete."""
        if self.channel is not None:
            self.channel.abort()

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 -- Twisted's name
        """Fail the body, log what was sent, and tell who waits."""
        self.body.fail_with(ConnectionGone())
        if not self.startedWriting:
            self.code = CLIENT_LEFT
        self.site.log(self)
        super().connectionLost(reason)


def segments(path: bytes) -> list[bytes]:
    """Split a raw path into its decoded segments, each decoded once.

    A segment that would be another path after decoding (``%2F``, ``%00``, ``..``)
    is refused here, so that what a route sees can be trusted.

    Raises:
        BadInput: such a segment, or one that is not UTF-8.
    """
    decoded = []
    for raw in path[1:].split(b"/"):
        segment = http.unquote(raw) if b"%" in raw else raw
        if segment in (b".", b"..") or b"/" in segment or b"\\" in segment or b"\0" in segment:
            raise BadInput("a part of the path is '.', '..', or holds '/', '\\' or NUL")
        try:
            segment.decode("utf-8")
        except UnicodeDecodeError:
            raise BadInput("the path is not UTF-8") from None
        decoded.append(segment)
    return decoded


class Channel(http.HTTPChannel):
    """One connection. The module's docstring says what is replaced, and why."""

    site: Site
    body: RequestBody | None = None

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._reader = HeadReader(limits)
        self._decoder: ChunkedDecoder | None = None
        self._phase = Phase.HEAD
        self._ahead: list[bytes] = []
        self._ahead_bytes = 0
        self._reading = True
        self._advancing = False
        self._continue_due = False
        self._since = 0.0
        self._window_start = 0.0
        self._window_bytes = 0
        self._bytes_out = 0
        self._out_since = 0.0

    # -- the connection -----------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802 -- Twisted's name
        """Begin to wait for a head."""
        set_nodelay = getattr(self.transport, "setTcpNoDelay", None)
        if set_nodelay is not None:
            set_nodelay(True)
        self._networkProducer = self.transport
        self.transport.registerProducer(self, True)
        self._since = self._out_since = self.site.clock.seconds()
        self.site.channels.add(self)

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 -- Twisted's name
        """Fail what was under way."""
        self.site.forget(self)
        for request in self.requests:
            request.connectionLost(reason)

    def abort(self) -> None:
        """Cut the connection without another byte."""
        self.transport.abortConnection()

    def close_if_idle(self) -> None:
        """Close a connection on which nothing is under way."""
        if self._phase is Phase.HEAD:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Take bytes from the socket."""
        if self._phase is Phase.HEAD:
            if not self._reader.started:
                self._since = self.site.clock.seconds()
            self._reader.feed(data)
            self._advance()
        elif self._phase is Phase.BODY:
            self._body_received(data)
        elif self._phase is Phase.ANSWER:
            self._ahead.append(data)
            self._ahead_bytes += len(data)
        self._regulate()

    def _regulate(self) -> None:
        """Read from the socket exactly while there is a place for the bytes."""
        if self._phase is Phase.BODY:
            wanted = self.body is not None and self.body.wanted
        elif self._phase is Phase.ANSWER:
            wanted = self._ahead_bytes <= self.site.deadlines.ahead
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
            while self._phase is Phase.HEAD:
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
        request: Request = self.site.requestFactory(self)
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
        self.transport.write(_raw_answer(problem, self.site.http_date()))
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
        self, version: bytes, code: bytes, reason: bytes, headers: Any
    ) -> None:
        """Write a head; say ``close`` where the connection will not be kept.

        The status line carries our own version, 1.1, whatever the client's was
        (RFC 9110 section 2.5).
        """
        if not self._body_can_be_drained():
            self.persistent = False
        if not self.persistent:
            headers.setRawHeaders(b"Connection", [b"close"])
        super().writeHeaders(b"HTTP/1.1", code, reason, headers)

    def _body_can_be_drained(self) -> bool:
        body = self.body
        if body is None or body.complete:
            return True
        if body.failed or self._continue_due:
            # With 100 unsent nobody knows whether the body will come.
            return False
        return body.remaining is not None and body.remaining <= self.site.deadlines.drain

    def requestDone(self, request: Request) -> None:  # noqa: N802 -- Twisted's name
        """Go on to the next request, or close."""
        self.requests.remove(request)
        self._since = self.site.clock.seconds()
        if not self.persistent or self.body is None or not self._body_can_be_drained():
            self._linger()
        elif self.body.complete:
            self._next_request()
        else:
            self._restart_window()
            self.body.discard()

    def _next_request(self) -> None:
        if self.site.draining or not self.persistent:
            self._linger()
            return
        self._handlingRequest = False
        self.body = None
        self._phase = Phase.HEAD
        ahead, self._ahead, self._ahead_bytes = b"".join(self._ahead), [], 0
        if ahead:
            self._reader.feed(ahead)
            self._advance()
        self._regulate()

    def _linger(self) -> None:
        self._phase = Phase.LINGER
        self._since = self.site.clock.seconds()
        self._ahead.clear()
        if self.body is not None and not self.body.complete:
            self.body.discard()
        self.transport.unregisterProducer()
        close_sending = getattr(self.transport, "loseWriteConnection", None)
        if close_sending is None or self.isSecure():
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
        self._regulate()

    # -- deadlines ----------------------------------------------------------

    def _restart_window(self) -> None:
        self._window_start = self.site.clock.seconds()
        self._window_bytes = 0

    def check(self, now: float) -> None:
        """Hold the client to its deadlines; called about once a second."""
        if self._out_stalled(now):
            self.site.log_refused(self, CLIENT_LEFT)
            self.abort()
            return
        deadlines = self.site.deadlines
        if self._phase is Phase.HEAD:
            if self._reader.started:
                if now - self._since > deadlines.header:
                    self._refuse(
                        BadHead(408, "Request Timeout", "the head of the request took too long")
                    )
            elif now - self._since > deadlines.idle:
                self._linger()
        elif self._phase is Phase.BODY:
            self._check_body(now, deadlines)
        elif self._phase is Phase.LINGER and now - self._since > deadlines.linger:
            # Not abort(): a reset would take from a slow reader what is already
            # in the kernel's buffer. All input was read, so this sends none.
            self.transport.loseConnection()

    def _check_body(self, now: float, deadlines: Deadlines) -> None:
        elapsed = now - self._window_start
        if not self._reading or elapsed < deadlines.body_grace:
            return
        if self._window_bytes >= deadlines.body_rate * elapsed:
            self._restart_window()
            return
        self.persistent = False
        if self.requests and self.body is not None:
            self.body.fail_with(Stalled("the body of the request", elapsed))
        else:
            self._linger()

    def _out_stalled(self, now: float) -> bool:
        socket = _socket_under(self.transport)
        bytes_out = getattr(socket, "bytes_out", None)
        if bytes_out is None or bytes_out != self._bytes_out or not socket.unsent:
            self._bytes_out = bytes_out or 0
            self._out_since = now
            return False
        return now - self._out_since > self.site.deadlines.write_stall


def _socket_under(transport: Any) -> Any:
    """Return the transport at the bottom: TLS wraps it."""
    while not hasattr(transport, "bytes_out") and hasattr(transport, "transport"):
        transport = transport.transport
    return transport


def _raw_answer(problem: Problem, date: bytes) -> bytes:
    """Return a whole answer for something that never became a request."""
    body = problem.body()
    reason = http.RESPONSES.get(problem.status, problem.title.encode("ascii", "replace"))
    fields = [
        (b"Server", SERVER),
        (b"Date", date),
        *((name.encode("ascii"), value.encode("latin-1")) for name, value in problem.fields),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
    ]
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (problem.status, reason, head, body)


class Site(server.Site):
    """The factory of all connections.

    Args:
        resource: where requests are routed.
        clock: the reactor, or a fake clock.
        limits: of a request's head.
        deadlines: of a client.
        access_log: takes what is to be said of each request.
    """

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        limits: Limits,
        deadlines: Deadlines,
        access_log: Callable[[Entry], object],
    ) -> None:
        super().__init__(
            resource, requestFactory=Request, parsePOSTFormSubmission=False, reactor=clock
        )
        self.clock = clock
        self.deadlines = deadlines
        self.channels: set[Channel] = set()
        self.draining = False
        self._limits = limits
        self._access_log = access_log
        self._date = (0, b"")
        self._sweep = LoopingCall(self._check_all)
        self._sweep.clock = clock
        self._empty: Deferred[None] | None = None

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802 -- Twisted's name
        """Speak HTTP/1.1 alone, also where TLS would negotiate h2."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Channel:  # noqa: ARG002, N802 -- Twisted's name
        """Make the channel of a new connection."""
        channel = Channel(self._limits)
        channel.site = channel.factory = self
        channel.requestFactory = self.requestFactory
        channel.timeOut = None
        return channel

    def startFactory(self) -> None:  # noqa: N802 -- Twisted's name
        """Begin the sweep over the deadlines."""
        if not self._sweep.running:
            self._sweep.start(1, now=False)

    def stopFactory(self) -> None:  # noqa: N802 -- Twisted's name
        """End the sweep."""

    def _check_all(self) -> None:
        now = self.clock.seconds()
        for channel in list(self.channels):
            channel.check(now)

    def http_date(self) -> bytes:
        """Return the Date field, made anew once a second."""
        now = int(self.clock.seconds())
        if self._date[0] != now:
            self._date = (now, http.datetimeToString(now))
        return self._date[1]

    # -- the end ------------------------------------------------------------

    def forget(self, channel: Channel) -> None:
        """Note that a connection is gone."""
        self.channels.discard(channel)
        if not self.channels and self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def drain(self) -> Deferred[None]:
        """Finish what is under way and take nothing new.

        Returns:
            A Deferred that fires when the last connection is gone.
        """
        self.draining = True
        for channel in list(self.channels):
            channel.persistent = False
            channel.close_if_idle()
        # Fired by forget, when the last connection goes.
        self._empty = Deferred()
        empty = self._empty
        if not self.channels:
            self._empty = None
            empty.callback(None)
        return empty

    def abort(self) -> None:
        """Cut every connection and end the sweep."""
        if self._sweep.running:
            self._sweep.stop()
        for channel in list(self.channels):
            channel.abort()

    # -- the access log -----------------------------------------------------

    def log(self, request: Any) -> None:
        """Write a request's line to the access log, once."""
        if not request.logged:
            request.logged = True
            self._access_log(entry_of(request, self.clock.seconds()))

    def log_refused(self, channel: Channel, status: int) -> None:
        """Write a line for what never became a request, or was cut off (status 499)."""
        self._access_log(
            Entry(
                at=self.clock.seconds(),
                address=host_of(channel.transport.getPeer()),
                line="-",
                status=status,
                sent=0,
                seconds=0.0,
            )
        )


def host_of(address: object) -> str:
    """Return the host part of a Twisted address."""
    return str(getattr(address, "host", None) or "unix")


def entry_of(request: Request, now: float) -> Entry:
    """Return what the access log says of a request."""
    return Entry(
        at=now,
        address=host_of(request.getClientAddress()),
        line=f"{request.method.decode('ascii')} {request.uri.decode('latin-1')} "
        f"{request.clientproto.decode('ascii')}",
        status=request.code,
        sent=request.sentLength,
        seconds=now - request.started,
        referrer=(request.field("referer") or ["-"])[-1],
        agent=(request.field("user-agent") or ["-"])[-1],
    )

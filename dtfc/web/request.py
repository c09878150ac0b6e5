"""One request: routed when its head is in, answered once."""

from __future__ import annotations

from http.client import responses
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote_to_bytes

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http_headers import Headers

from dtfc import __version__
from dtfc.access.links import without_signature
from dtfc.errors import BadInput, ConnectionGone, DtfcError
from dtfc.http.problems import Problem, problem_for
from dtfc.http.traces import FIELD, carrying, taken_up
from dtfc.web.accesslog import new_id
from dtfc.web.fields import BY_ITSELF, EMBEDDING, SAFE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dtfc.http.heads import RequestHead
    from dtfc.http.traces import Trace
    from dtfc.web.body import RequestBody
    from dtfc.web.callers import Meter
    from dtfc.web.site import Site

_log = Logger()

TRACEPARENT = FIELD.encode("ascii")

#: Paths that end in a slash.
_WITH_EMPTY = (b"/", b"/uploads/")

#: The Server field.
SERVER = b"dtfc/" + __version__.encode("ascii")

#: Arguments in a query.
MOST_ARGUMENTS = 50

#: Phrases of interim answers.
_INTERIM = {104: "Upload Resumption Supported"}

#: What the access log says of a request whose client left before the answer
#: began; nginx's number, which operators know. It is never sent.
CLIENT_LEFT = 499


_SAFE = [
    (name.encode("ascii"), value.encode("ascii")) for name, value in (*SAFE, (EMBEDDING, BY_ITSELF))
]


class Request(server.Request):
    """One request, routed when its head is in.

    Attributes:
        head: what the client asked for, as parsed.
        body: the stream of its body.
        principal: who makes it, for the access log: the name of its token, or ``-``.
        for_all: whether anybody may do the same; no shared cache keeps the answer else.
        fresh_for: seconds after which its URL is good no more; None for ever.
        proven: whether a peer signed it, or what is wrong with the signature;
            None until the gate has looked.
        meter: paces its bodies; None where nobody is paced.
        over: called once, when the request is.
        refusal: the title of the problem that it was answered with; empty for none.
        trace: what it is a part of; None if it is of no trace.
        cache: how the blob was had, for the access log (:data:`dtfc.web.accesslog.CACHE`);
            empty where none was asked for.
    """

    defaultContentType = None  # noqa: N815 -- Twisted's name
    channel: Any
    head: RequestHead
    body: RequestBody
    site: Site
    started: float = 0
    logged = False
    principal = "-"
    for_all = True
    fresh_for: int | None = None
    proven: bool | DtfcError | None = None
    meter: Meter | None = None
    over: Callable[[], None] | None = None
    refusal = ""
    trace: Trace | None = None
    cache = ""
    _id = ""

    @property
    def id(self) -> str:
        """What the log calls it."""
        if not self._id:
            self._id = new_id()
        return self._id

    def take_head(self, head: RequestHead) -> None:
        """Set what Twisted's and Klein's code reads from a request."""
        self.head = head
        self.method = head.method.encode("ascii")
        self.uri = head.target
        self.path = head.path
        self.clientproto = b"HTTP/%d.%d" % head.version
        self.args = {}
        self.site = self.channel.site
        for name, value in head.fields:
            self.requestHeaders.addRawHeader(name, value)
        # An absolute-form target overrides Host (RFC 9112 section 3.2.2).
        self.requestHeaders.setRawHeaders(b"Host", [head.host or b"localhost"])

    def process(self) -> None:
        """Route the request."""
        self.started = self.site.ticks()
        self._set_standard_fields()
        self.prepath = []
        try:
            elsewhere = self.site.edge.elsewhere(self)
            if elsewhere:
                self.put("Location", elsewhere)
                self.answer(308)
                return
            self.site.callers.ask(self)
        except DtfcError as error:
            self.problem(problem_for(error))
            return
        if self.path == b"*":
            self.setHeader(b"Allow", b"GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS")
            self.answer(204)
            return
        try:
            self.postpath = segments(self.path)
        except DtfcError as error:
            self.problem(problem_for(error))
            return
        try:
            self._render()
        except Exception:  # noqa: BLE001 -- a bug in a route must answer, and be seen
            self.processingFailed(Failure())

    def _render(self) -> None:
        given = self.requestHeaders.getRawHeaders(TRACEPARENT)
        if given is None:
            self.render(self.site.resource)
            return
        self.trace = taken_up([value.decode("latin-1") for value in given], token_hex(8))
        with carrying(self.trace):
            self.render(self.site.resource)

    def _set_standard_fields(self) -> None:
        self.setHeader(b"Server", SERVER)
        self.setHeader(b"Date", self.site.http_date())
        for name, value in _SAFE:
            self.setHeader(name, value)
        for told, value_told in self.site.edge.fields(self):
            self.put(told, value_told)

    def processingFailed(self, reason: Failure) -> Failure:  # noqa: N802 -- Twisted's name
        """Answer a failure that no route expected, and log it once."""
        uri = without_signature(self.uri.decode("latin-1"))
        _log.failure(
            "{method} {uri} failed ({id})", reason, method=self.method, uri=uri, id=self.id
        )
        self.problem(problem_for(reason.value or RuntimeError()))
        return reason

    def query(self, name: str) -> str | None:
        """Return the last value of a query argument.

        Raises:
            BadInput: it is not UTF-8.
        """
        if not self.head.query:
            return None
        try:
            values = parse_qs(
                self.head.query.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MOST_ARGUMENTS,
            )
        except UnicodeDecodeError:
            raise BadInput("the query is not UTF-8") from None
        except ValueError:
            raise BadInput(f"the query has more than {MOST_ARGUMENTS} arguments") from None
        return values[name][-1] if name in values else None

    def field(self, name: str) -> list[str]:
        """Return all values of a request field, in the order in which they came."""
        values = self.requestHeaders.getRawHeaders(name.encode("ascii"), [])
        return [value.decode("latin-1") for value in values or []]

    def put(self, name: str, value: str) -> None:
        """Set a field of the answer; characters beyond Latin-1 become ``?``."""
        self.setHeader(name.encode("ascii"), value.encode("latin-1", "replace"))

    def hide_from_strangers(self) -> None:
        """Take back that pages of any site may read the answer, where all may what all can."""
        if self.responseHeaders.getRawHeaders(b"Access-Control-Allow-Origin") == [b"*"]:
            self.responseHeaders.removeHeader(b"Access-Control-Allow-Origin")

    def answer(self, status: int, body: bytes = b"", content_type: str = "") -> None:
        """Answer with a body that is in memory, and finish."""
        self.setResponseCode(status)
        if content_type:
            self.setHeader(b"Content-Type", content_type.encode("ascii"))
        if self.meter is not None:
            # It is small: whatever comes next waits for it.
            self.meter.spend(len(body))
        if status not in http.NO_BODY_CODES:
            self.setHeader(b"Content-Length", b"%d" % len(body))
        self.write(body)
        self.finish()

    def interim(self, status: int, fields: Iterable[tuple[str, str]]) -> bool:
        """Tell the client something before the answer (RFC 9110 section 15.2); False if not.

        Args:
            status: 1xx.
            fields: header fields.
        """
        if self.startedWriting or self.finished or self._disconnected or self.channel is None:
            return False
        lines = [f"HTTP/1.1 {status} {_INTERIM.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in fields]
        self.channel.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        return True

    def problem(self, problem: Problem) -> None:
        """Answer with a problem; if an answer was begun, cut the connection.

        A body that was begun and cannot be completed must not look complete.
        """
        if self._disconnected or self.finished:
            return
        if self.startedWriting:
            self.abort()
        else:
            self.write(self.begin_problem(problem))
            self.finish()

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:  # noqa: N802 -- Twisted's name
        """Set the status, with a phrase also for those that Twisted has no word for."""
        phrase = responses.get(code, "").encode("ascii")
        server.Request.setResponseCode(self, code, message or phrase or None)

    def begin_problem(self, problem: Problem) -> bytes:
        """Set the head of a problem's answer; return its body, which is still to be written."""
        # What was set for the answer that it has become impossible to give.
        self.responseHeaders = Headers()
        self._set_standard_fields()
        if not self.for_all:
            self.hide_from_strangers()
        for name, value in problem.fields:
            self.put(name, value)
        self.setResponseCode(problem.status)
        self.refusal = problem.title
        body = problem.body()
        self.setHeader(b"Content-Length", b"%d" % len(body))
        return body

    def abort(self) -> None:
        """Cut the connection at once, leaving the answer visibly incomplete."""
        if self.channel is not None:
            self.channel.abort()

    def close(self) -> None:
        """Leave the answer visibly incomplete, but let the client have what was sent of it."""
        if self.channel is not None:
            self.channel.loseConnection()

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802 -- Twisted's name
        """Log what was sent, tell who waits, fail the body."""
        if not self.startedWriting:
            self.code = CLIENT_LEFT
        self.site.log(self)
        # First, because it marks the request: nobody answers into the void.
        server.Request.connectionLost(self, reason)
        self.body.fail_with(ConnectionGone())


def segments(path: bytes) -> list[bytes]:
    """Split a raw path into its decoded segments, each decoded once.

    A segment that would be another path after decoding (``%2F``, ``%00``, ``..``),
    or that some program on the way might drop (an empty one), is refused here,
    so that what a route sees can be trusted.

    Raises:
        BadInput: such a segment, or one that is not UTF-8.
    """
    decoded = []
    for raw in path[1:].split(b"/"):
        if not raw and path not in _WITH_EMPTY:
            raise BadInput("the path has an empty part: two slashes, or one at its end")
        segment = unquote_to_bytes(raw) if b"%" in raw else raw
        if segment in (b".", b"..") or b"/" in segment or b"\\" in segment or b"\0" in segment:
            raise BadInput("a part of the path is '.', '..', or holds '/', '\\' or NUL")
        try:
            segment.decode("utf-8")
        except UnicodeDecodeError:
            raise BadInput("the path is not UTF-8") from None
        decoded.append(segment)
    return decoded

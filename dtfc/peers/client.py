"""Requests to peers, with every limit that Twisted's client lacks.

Rules of this file: what a peer sends is hostile until its digest is right, so
nothing it does may cost unbounded memory or time. Twisted's client inflates
gzip, follows redirects, keeps cookies, and reads a head of any length; treq
adds each of them by default. Here none of that happens:

- ``Accept-Encoding: identity``, and a reply with a Content-Encoding is refused;
- no redirect is followed, no cookie kept, no proxy asked;
- a connection and a head have deadlines, and a head a largest size (for bodies
  see ``dtfc.peers.body``, for sizes ``dtfc.peers.connections``).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.client import Agent, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from dtfc import __version__
from dtfc.http.ranges import range_field
from dtfc.http.traces import FIELD, carried
from dtfc.peers.body import Body, PeerLimits, Remainder
from dtfc.peers.connections import Connections
from dtfc.peers.failure import PeerFailure, cancelled, in_words, one_line, own_failure
from dtfc.peers.listing import DNS
from dtfc.peers.receivers import LARGE
from dtfc.peers.sending import Outgoing
from dtfc.peers.signing import Signer, SigningAgent
from dtfc.peers.urls import plain

PARTIAL = "DTFC-Partial"
"""The field that says that what a peer is loading itself is taken, too."""

WAIT = "wait"
"""Its value: what is not there yet is waited for."""

NODE = "DTFC-Node"
"""The field that says which node asks: its URL, as its peers have it."""

_USER_AGENT = f"dtfc/{__version__}".encode("ascii")

_DURABLE_A_SECOND = 10 * 1024 * 1024
"""Bytes a second that a peer's disk is trusted to make durable, at the least."""


class Lengthy(Protocol):
    """A body that may be long."""

    @property
    def length(self) -> int:
        """Bytes in all."""

    @property
    def ask_first(self) -> bool:
        """Whether the other side is to say first that it will take it."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What is sent to a peer.

    Args:
        length: bytes in all.
        read: returns the next block, never an empty one.
        fields: header fields beside the framing's own.
        ask_first: whether the peer is to say first that it will take it.
    """

    length: int
    read: Callable[[], Awaitable[bytes]]
    fields: tuple[tuple[str, str], ...] = ()
    ask_first: bool = False


_SECONDS = re.compile(r"[0-9]{1,6}\Z")


@dataclass(frozen=True, slots=True)
class Said:
    """A peer's answer to a message, whole.

    Args:
        status: of the answer.
        body: its bytes; empty unless the status is 200 or 429.
        retry_after: seconds after which to ask again, where it says so.
    """

    status: int
    body: bytes
    retry_after: int | None = None


class Reply:
    """The head of a peer's response; its body waits until it is read or dropped.

    Args:
        method: of the request.
        response: from treq or an agent.
        clock: measures the body.
        limits: for the body.
    """

    def __init__(
        self,
        method: Literal["GET", "HEAD", "PUT"],
        response: IResponse,
        clock: IReactorTime,
        limits: PeerLimits,
    ) -> None:
        self.status: int = response.code
        self._method = method
        self._response = response
        self._clock = clock
        self._limits = limits
        length = response.length
        self._length = None if length is UNKNOWN_LENGTH else int(length)

    def fields(self, name: str) -> Sequence[str]:
        """Every value of a response field.

        Content-Length is the framing's own for a GET, which Twisted keeps out
        of the headers; for a HEAD it is the field, since no body comes.

        Args:
            name: in lower case.
        """
        if name == "content-length" and self._method != "HEAD":
            return [] if self._length is None else [str(self._length)]
        # Latin-1 takes any byte, as RFC 9110 section 5.5 has it.
        raw = self._response.headers.getRawHeaders(name.encode("ascii"), [])
        return [value.decode("latin-1") for value in raw]

    def take(self, skip: int, count: int) -> Body:
        """Read the body: pass over ``skip`` bytes, then want ``count``."""
        body = Body(self._clock, self._limits, skip, count)
        self._response.deliverBody(body)
        return body

    def drop(self) -> None:
        """Do not read the body; the connection is kept if that costs little."""
        self._response.deliverBody(Remainder(self._clock, self._length))


class PeerHTTP:
    """Asks peers for blobs.

    Args:
        treq: the client; whatever it is, no redirect is followed.
        clock: measures deadlines.
        limits: how slow a peer may be.
        connections: what to close at the end; None if ``treq`` needs no closing.
    """

    def __init__(
        self,
        treq: HTTPClient,
        clock: IReactorTime,
        limits: PeerLimits,
        connections: Connections | None = None,
    ) -> None:
        self._treq = treq
        self._clock = clock
        self._limits = limits
        self._connections = connections
        self._asked: set[Deferred[Any]] = set()
        self._closed = False

    def set_policy(self, policy: IPolicyForHTTPS) -> None:
        """Believe and show other certificates, on connections that are made from now on."""
        if self._connections is not None:
            self._connections.https_policy = policy

    def set_limits(self, limits: PeerLimits) -> None:
        """Put other limits in force, for what is asked from now on."""
        self._limits = limits
        if self._connections is not None:
            self._connections.limits = limits

    async def ask(
        self,
        method: Literal["GET", "HEAD"],
        peer: str,
        digest_hex: str,
        start: int = 0,
        end: int | None = None,
        *,
        what: Literal["nopeerload", "chunks"] = "nopeerload",
        partial: bool = False,
        node: str | None = None,
    ) -> Reply:
        """Ask a peer for a blob that it has itself.

        Args:
            method: GET, or HEAD to learn its length and name.
            peer: ``http://host:port``.
            digest_hex: which blob.
            start: first byte wanted. At 0 no Range is sent, so that a server
                that knows none can answer, and an empty blob has an answer ...
            end: ... unless only the bytes before this one are wanted.
            what: of the blob: its bytes, or its chunk map.
            partial: whether it may be one that the peer is loading itself.
            node: this node's own URL, where so much may be asked for that the peer
                wants to know for whom; None if it is not known.

        Raises:
            PeerFailure: no connection, no head in time, or no HTTP.
        """
        if peer.startswith(DNS):
            raise PeerFailure("DNS has not said yet where its nodes are")
        headers = _first_fields()
        if partial:
            headers.addRawHeader(PARTIAL.encode("ascii"), WAIT.encode("ascii"))
        if node is not None and (end is None or end - start > LARGE):
            headers.addRawHeader(NODE.encode("ascii"), node.encode("ascii", "backslashreplace"))
        if start or end is not None:
            headers.addRawHeader(b"Range", range_field(start, end).encode("ascii"))
        response = await self._request(method, self.url_of(peer, digest_hex, what), headers)
        return Reply(method, response, self._clock, self._limits)

    def url_of(self, peer: str, digest_hex: str, what: Literal["nopeerload", "chunks"]) -> str:
        """Where a peer has a blob, or its chunk map."""
        return f"{peer}/{digest_hex}/{what}"

    async def tell(
        self, method: Literal["POST", "DELETE"], url: str, message: bytes | None, most: int
    ) -> Said:
        """Send a peer a short message, and read its answer.

        What is sent must do no harm if it comes twice: where a connection that
        was kept turns out to be closed, it is sent once more.

        Args:
            method: DELETE of a blob, or POST.
            url: where to, on the peer.
            message: JSON; None for no body.
            most: bytes of an answer that are read.

        Raises:
            PeerFailure: no connection, no answer in time or none that is whole.
        """
        headers = _first_fields()
        if message is not None:
            headers.addRawHeader(b"Content-Type", b"application/json")
        try:
            response = await self._request(method, url, headers, message)
        except PeerFailure as failure:
            if not isinstance(failure.__cause__, ResponseNeverReceived) or self._closed:
                raise
            response = await self._request(method, url, headers, message)
        reply = Reply("GET", response, self._clock, self._limits)
        after = [int(each) for each in reply.fields("retry-after") if _SECONDS.match(each)]
        if reply.status not in (200, 429):
            reply.drop()
            return Said(reply.status, b"", after[0] if after else None)
        length = reply.fields("content-length")
        if not length or int(length[0]) > most:
            reply.drop()
            raise PeerFailure("its answer is too long, or does not say how long it is")
        body = reply.take(0, int(length[0]))
        blocks: list[bytes] = []
        while found := await body.read():
            blocks += found
        if body.cut is not None:
            raise PeerFailure(body.cut)
        return Said(reply.status, b"".join(blocks), after[0] if after else None)

    async def _request(
        self, method: str, url: str, headers: Headers, data: bytes | None = None
    ) -> IResponse:
        """Send a request, and wait for the head of its answer.

        Raises:
            PeerFailure: no connection, no head in time, or no HTTP.
        """
        request: Deferred[Any] = self._treq.request(
            method,
            plain(url),
            headers=headers,
            data=data,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type]  # wanted for treq's own timeout only
        )
        request.addTimeout(self._limits.first_byte, self._clock, _deadline_passed)
        try:
            response = await self._answered(request)
        except DeadlinePassed:
            raise PeerFailure(f"no answer within {self._limits.first_byte:g} seconds") from None
        return response

    async def send(self, url: str, body: Upload) -> Reply:
        """Send a peer a body with PUT.

        The answer may take ``first_byte`` seconds from the body's last byte,
        and a second more for each 10 MiB of it: the peer makes them durable.

        Args:
            url: where to, on the peer.
            body: what, and what is said of it.

        Raises:
            Refused: the peer said no before it had it all.
            PeerFailure: no connection, no answer in time, or no HTTP; the peer
                may have it all the same.
            DtfcError: whatever ``body.read`` raises.
        """
        headers = _first_fields()
        for name, value in body.fields:
            headers.addRawHeader(name.encode("ascii"), value.encode("ascii"))

        def outgoing(sent: Callable[[], object]) -> IBodyProducer:
            return Outgoing(
                body.length,
                body.read,
                self._clock,
                self._limits.stall,
                ask_first=body.ask_first,
                sent=sent,
            )

        response = await self._conveyed("PUT", url, headers, body, outgoing)
        return Reply("PUT", response, self._clock, self._limits)

    async def _conveyed(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: Lengthy,
        outgoing: Callable[[Callable[[], object]], IBodyProducer],
    ) -> IResponse:
        """Make a request whose body may be long.

        Args:
            method: of the request.
            url: where to.
            headers: its fields, beside the framing's own and ``Expect``.
            body: how long it is, and whether it waits to be asked for.
            outgoing: makes what sends it, and is told whom to call at its last byte.

        Raises:
            PeerFailure: no connection, no answer in time, or no HTTP.
            DtfcError: whatever what is sent raises.
        """
        patience = self._limits.first_byte + body.length / _DURABLE_A_SECOND
        waiting: list[IDelayedCall] = []
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            request.cancel()

        if body.ask_first:
            headers.addRawHeader(b"Expect", b"100-continue")
        request: Deferred[Any] = self._treq.request(
            method,
            plain(url),
            headers=headers,
            data=outgoing(lambda: waiting.append(self._clock.callLater(patience, give_up))),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type]  # wanted for treq's own timeout only
        )
        try:
            return await self._answered(request)
        except CancelledError:
            if late:
                raise PeerFailure(f"no answer within {patience:g} seconds") from None
            raise
        finally:
            for each in waiting:
                if each.active():
                    each.cancel()

    async def _answered(self, request: Deferred[Any]) -> IResponse:
        """Wait for an answer, and say in words why there is none."""
        self._asked.add(request)
        try:
            response: IResponse = await request
        except DeadlinePassed:
            raise
        except Exception as error:
            own = own_failure(error)
            if own is not None:
                raise own from None
            # Anything that a peer can provoke in the parser.
            if not cancelled(error):
                raise PeerFailure(in_words(error)) from error
            if self._closed:
                raise PeerFailure("this node is shutting down") from None
            raise CancelledError from None
        finally:
            self._asked.discard(request)
        return response

    async def close(self) -> None:
        """Give up every request, close every connection, and wait until they are closed."""
        self._closed = True
        for request in list(self._asked):
            request.cancel()
        if self._connections is not None:
            await self._connections.close()


def _first_fields() -> Headers:
    """Return who asks, and for whose trace."""
    headers = Headers({b"User-Agent": [_USER_AGENT]})
    trace = carried()
    if trace is not None:
        headers.addRawHeader(FIELD.encode("ascii"), trace.field.encode("ascii"))
    return headers


def open_peer_http(
    reactor: Any,
    limits: PeerLimits,
    https_policy: IPolicyForHTTPS | None = None,
    *,
    signer: Signer | None = None,
) -> PeerHTTP:
    """Return a client with connections of its own.

    Args:
        reactor: connects, resolves names, and measures time.
        limits: how slow and talkative a peer may be.
        https_policy: whose certificates to believe; the platform's, if None.
        signer: signs each request; None where nothing is signed.
    """
    connections = Connections(reactor, limits, https_policy)
    agent: IAgent = Agent.usingEndpointFactory(reactor, connections, connections.pool)
    if signer is not None:
        # Below PlainAgent: what it changes is changed before it is signed.
        agent = SigningAgent(agent, signer)
    # treq keeps one cookie jar for a client's lifetime; the agent below hides
    # every cookie from it.
    return PeerHTTP(HTTPClient(PlainAgent(agent, reactor)), reactor, limits, connections)


@implementer(IAgent)
class PlainAgent:
    """An agent without content codings and cookies, whatever stands above it.

    treq wraps every agent in one that offers gzip and inflates it without
    bound; it can only be stopped from below.

    Args:
        agent: makes the requests.
        clock: measures time.
    """

    def __init__(self, agent: IAgent, clock: IReactorTime) -> None:
        self._agent = agent
        self._clock = clock

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - Twisted's name
    ) -> Deferred[IResponse]:
        """Make a request for the bytes as they are."""
        plain = Headers() if headers is None else headers.copy()
        plain.setRawHeaders(b"Accept-Encoding", [b"identity"])
        plain.removeHeader(b"Cookie")
        asked: Deferred[IResponse] = self._agent.request(method, uri, plain, bodyProducer)
        return asked.addCallback(self._refuse_encoded)

    def _refuse_encoded(self, response: IResponse) -> IResponse:
        response.headers.removeHeader(b"Set-Cookie")
        codings = response.headers.getRawHeaders(b"Content-Encoding", [])
        if codings:
            response.deliverBody(Remainder(self._clock, None))
            coding = b", ".join(codings).decode("latin-1")
            raise PeerFailure(one_line(f"sent Content-Encoding {coding}, which nobody asked for"))
        return response


def _deadline_passed(value: object, seconds: float) -> None:
    del value
    raise DeadlinePassed(seconds, "Deferred")

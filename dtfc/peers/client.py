"""Requests to peers, with every limit that Twisted's client lacks.

Rules of this file: what a peer sends is hostile until its digest is right, so
nothing it does may cost unbounded memory or time. Twisted's client inflates
gzip, follows redirects, keeps cookies, and reads a head of any length; treq
adds each of them by default. Here none of that happens:

- ``Accept-Encoding: identity``, and a reply with a Content-Encoding is refused;
- no redirect is followed, no cookie kept, no proxy asked;
- a head (and any number of 1xx before it) has at most ``head_bytes`` bytes;
- a connection and a head have deadlines (those of a body: ``dtfc.peers.body``);
- a connection that is given up is aborted, since TLS would otherwise wait for
  the peer to agree to the close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeadlinePassed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import (
    UNKNOWN_LENGTH,
    IAgent,
    IAgentEndpointFactory,
    IBodyProducer,
    IPolicyForHTTPS,
    IResponse,
)
from zope.interface import directlyProvides, implementer, providedBy

from dtfc import __version__
from dtfc.errors import DtfcError
from dtfc.http.ranges import range_field
from dtfc.peers.body import Body, PeerLimits, Remainder

READ_SIZE = 128 * 1024
"""Bytes read from a socket at once: fewer, larger pieces for the loop."""

IDLE_SECONDS = 60
"""An unused connection to a peer is closed after so long."""

_LONGEST_REASON = 200


class PeerFailure(DtfcError):
    """A peer gave no usable answer.

    Args:
        reason: why, in words that fit into one line of a log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def one_line(text: str) -> str:
    """What a peer said, safe for a log: printable ASCII, and not too long."""
    plain = "".join(each if " " <= each <= "~" else "?" for each in text)
    return plain if len(plain) <= _LONGEST_REASON else plain[:_LONGEST_REASON] + "..."


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
        method: Literal["GET", "HEAD"],
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
        if name == "content-length" and self._method == "GET":
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

    async def ask(
        self, method: Literal["GET", "HEAD"], peer: str, digest_hex: str, start: int = 0
    ) -> Reply:
        """Ask a peer for a blob that it has itself.

        Args:
            method: GET, or HEAD to learn its length and name.
            peer: ``http://host:port``.
            digest_hex: which blob.
            start: first byte wanted. At 0 no Range is sent, so that a server
                that knows none can answer, and an empty blob has an answer.

        Raises:
            PeerFailure: no connection, no head in time, or no HTTP.
        """
        headers = Headers({b"User-Agent": [f"dtfc/{__version__}".encode("ascii")]})
        if start:
            headers.addRawHeader(b"Range", range_field(start).encode("ascii"))
        request: Deferred[Any] = self._treq.request(
            method,
            f"{peer}/{digest_hex}/nopeerload",
            headers=headers,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type]  # wanted for treq's own timeout only
        )
        request.addTimeout(self._limits.first_byte, self._clock, _deadline_passed)
        self._asked.add(request)
        try:
            response = await request
        except DeadlinePassed:
            raise PeerFailure(f"no answer within {self._limits.first_byte:g} seconds") from None
        except Exception as error:
            # Anything that a peer can provoke in the parser.
            if not _cancelled(error):
                raise PeerFailure(one_line(_why(error))) from error
            if self._closed:
                raise PeerFailure("this node is shutting down") from None
            raise CancelledError from None
        finally:
            self._asked.discard(request)
        return Reply(method, response, self._clock, self._limits)

    async def close(self) -> None:
        """Give up every request, close every connection, and wait until they are closed."""
        self._closed = True
        for request in list(self._asked):
            request.cancel()
        if self._connections is not None:
            await self._connections.close()


def open_peer_http(
    reactor: Any, limits: PeerLimits, https_policy: IPolicyForHTTPS | None = None
) -> PeerHTTP:
    """Return a client with connections of its own.

    Args:
        reactor: connects, resolves names, and measures time.
        limits: how slow and talkative a peer may be.
        https_policy: whose certificates to believe; the platform's, if None.
    """
    connections = Connections(reactor, limits, https_policy)
    agent = Agent.usingEndpointFactory(reactor, connections, connections.pool)
    # treq keeps one cookie jar for a client's lifetime; the agent below hides
    # every cookie from it.
    return PeerHTTP(HTTPClient(PlainAgent(agent)), reactor, limits, connections)


@implementer(IAgent)
class PlainAgent:
    """An agent without content codings and cookies, whatever stands above it.

    treq wraps every agent in one that offers gzip and inflates it without
    bound; it can only be stopped from below.

    Args:
        agent: makes the requests.
    """

    def __init__(self, agent: IAgent) -> None:
        self._agent = agent

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
            response.deliverBody(_Unwanted())
            coding = b", ".join(codings).decode("latin-1")
            raise PeerFailure(one_line(f"sent Content-Encoding {coding}, which nobody asked for"))
        return response


class _Unwanted(Remainder):
    """A body that is not even looked at."""

    def __init__(self) -> None:
        self._timer = None

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        self._give_up()


class _Guard(Protocol):
    """Stands between a connection and Twisted's client: protocol of one, transport of the other.

    Counts the head: it begins with the request and is over when the client
    stops reading to wait for whoever takes the body. ``stopProducing``, which a
    body can reach, aborts.
    """

    transport: Any

    def __init__(self, inner: IProtocol, connections: Connections) -> None:
        self.inner = inner
        self._connections = connections
        self._head: int | None = None

    # As a protocol.

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        if hasattr(self.transport, "bufferSize"):
            self.transport.bufferSize = READ_SIZE
        self._connections.opened(self)
        directlyProvides(self, providedBy(self.transport))
        self.inner.makeConnection(cast("ITransport", self))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        if self._head is not None:
            self._head += len(data)
        self.inner.dataReceived(data)
        if self._head is not None and self._head > self._connections.limits.head_bytes:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        self._connections.closed(self)
        self.inner.connectionLost(reason)

    # As a transport.

    def write(self, data: bytes) -> None:
        self._head = 0
        self.transport.write(data)

    def writeSequence(self, data: Sequence[bytes]) -> None:  # noqa: N802 - Twisted's name
        self._head = 0
        self.transport.writeSequence(data)

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._head = None
        self.transport.pauseProducing()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.transport.abortConnection()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


@implementer(IProtocolFactory)
class _GuardFactory(Factory):
    noisy = False

    def __init__(self, wrapped: IProtocolFactory, connections: Connections) -> None:
        self._wrapped = wrapped
        self._connections = connections

    def buildProtocol(self, addr: IAddress | None) -> _Guard | None:  # noqa: N802 - Twisted's name
        inner = self._wrapped.buildProtocol(cast("IAddress", addr))
        return None if inner is None else _Guard(inner, self._connections)


@implementer(IStreamClientEndpoint)
class _GuardedEndpoint:
    def __init__(self, endpoint: IStreamClientEndpoint, connections: Connections) -> None:
        self._endpoint = endpoint
        self._connections = connections

    def __repr__(self) -> str:
        return f"<guarded {self._endpoint!r}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        factory = _GuardFactory(protocolFactory, self._connections)
        connected: Deferred[Any] = self._endpoint.connect(factory)
        return connected.addCallback(lambda guard: guard.inner)


@implementer(IAgentEndpointFactory)
class Connections:
    """Every connection to a peer: how they are opened, and that they get closed.

    Args:
        reactor: connects.
        limits: for connecting, and for heads.
        https_policy: whose certificates to believe; the platform's, if None.
    """

    def __init__(
        self, reactor: Any, limits: PeerLimits, https_policy: IPolicyForHTTPS | None
    ) -> None:
        self.limits = limits
        self.pool = HTTPConnectionPool(reactor)
        self.pool.maxPersistentPerHost = 4
        self.pool.cachedConnectionTimeout = IDLE_SECONDS
        self._reactor = reactor
        self._https_policy = https_policy
        self._open: set[_Guard] = set()
        self._none_left: Deferred[None] | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802 - Twisted's name
        """Where to connect for a URL."""
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self._reactor, uri.host.decode("ascii"), uri.port, timeout=self.limits.connect
        )
        if uri.scheme == b"https":
            if self._https_policy is None:
                # Loads the platform's certificates, so only when there is need.
                self._https_policy = BrowserLikePolicyForHTTPS()
            creator = self._https_policy.creatorForNetloc(uri.host, uri.port)
            endpoint = wrapClientTLS(creator, endpoint)
        return _GuardedEndpoint(endpoint, self)

    def opened(self, guard: _Guard) -> None:
        """A connection was made."""
        self._open.add(guard)

    def closed(self, guard: _Guard) -> None:
        """A connection was lost."""
        self._open.discard(guard)
        if not self._open and self._none_left is not None:
            none_left, self._none_left = self._none_left, None
            none_left.callback(None)

    async def close(self) -> None:
        """Abort every connection; wait until the reactor has let go of all of them."""
        if self._open:
            # Fired when the last connection is lost.
            none_left: Deferred[None] = Deferred()
            self._none_left = none_left
            for guard in list(self._open):
                guard.stopProducing()
            await none_left
        # Last, because a response that ended just now has put its connection there.
        await self.pool.closeCachedConnections()


def _deadline_passed(value: object, seconds: float) -> None:
    del value
    raise DeadlinePassed(seconds, "Deferred")


def _cancelled(error: BaseException) -> bool:
    """Whether a request failed because it was cancelled on this side."""
    if isinstance(error, (ResponseNeverReceived, ResponseFailed)):
        return any(reason.check(CancelledError) for reason in error.reasons)
    return isinstance(error, CancelledError)


def _why(error: BaseException) -> str:
    """Say what went wrong with a request in words, not in class names."""
    if isinstance(error, PeerFailure):
        return error.reason
    if isinstance(error, DNSLookupError):
        return "its host name is unknown"
    if isinstance(error, ConnectError):
        return f"no connection: {str(error).rstrip('.')}"
    if isinstance(error, ResponseNeverReceived):
        return "closed the connection instead of answering"
    if isinstance(error, ResponseFailed):
        return f"no usable head: {_first(error.reasons)}"
    return f"{type(error).__name__}: {error}"


def _first(reasons: Sequence[Failure]) -> str:
    for reason in reasons:
        return reason.getErrorMessage()
    return connectionDone.getErrorMessage()

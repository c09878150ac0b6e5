"""Connections to peers: how they are opened and watched, and that they get closed.

Rules of this file: a connection that is given up is aborted, since TLS would
otherwise wait for the peer to agree to the close; a head has at most
``head_bytes`` bytes, any number of 1xx before it included, where Twisted's
client knows no bound; and after :meth:`Connections.close` the reactor has let
go of all of them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IResolutionReceiver,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import directlyProvides, implementer, providedBy

from dtfc.peers.addresses import why_not
from dtfc.peers.body import PeerLimits
from dtfc.peers.failure import PeerFailure
from dtfc.peers.sending import Outgoing

WhyNot = Callable[[str, str], str]
"""Says why an address is not connected to, of that name; empty if it is."""

READ_SIZE = 384 * 1024
"""Bytes read from a socket at once: fewer, larger pieces for the loop. With a block twice
they are less than the 2 MiB that may be lost (``dtfc.peers.body``)."""

CLOSING_SECONDS = 5
"""A connection that is closed has so long for what was written before; a peer that has gone, or
takes nothing any more, would keep it for a quarter of an hour."""

IDLE_SECONDS = 60
"""An unused connection to a peer is closed after so long."""

MOST_KEPT = 4
"""Unused connections kept to one peer."""


@implementer(IPushProducer)
class _Paced:
    """A producer that is resumed only after it was paused.

    Twisted's transport remembers that it paused the producer of the request before, on
    a connection that is kept, and resumes this one for it; and what sends a file's
    bytes, or a message's, refuses that with an error.
    """

    def __init__(self, producer: IPushProducer) -> None:
        self._producer = producer
        self._paused = False

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._paused = True
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        if self._paused:
            self._paused = False
            self._producer.resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._producer.stopProducing()


class _Guard(Protocol):
    """Stands between a connection and Twisted's client: protocol of one, transport of the other.

    Counts the head: it begins with the request and is over when the client
    stops reading to wait for whoever takes the body. ``stopProducing``, which a
    body can reach, aborts. What comes while a body is still on its way out is
    for that body.
    """

    transport: Any

    def __init__(self, inner: IProtocol, connections: Connections) -> None:
        self.inner = inner
        self._connections = connections
        self._head: int | None = None
        self._sending: Outgoing | None = None
        self._closing: IDelayedCall | None = None
        self._lost = False

    # As a protocol.

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        if hasattr(self.transport, "bufferSize"):
            self.transport.bufferSize = READ_SIZE
        self._connections.opened(self)
        directlyProvides(self, providedBy(self.transport))
        self.inner.makeConnection(cast("ITransport", self))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        if self._sending is not None:
            self._sending.answered(data)
            return
        if self._head is not None:
            self._head += len(data)
        self.inner.dataReceived(data)
        if self._head is not None and self._head > self._connections.limits.head_bytes:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        self._lost = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._connections.closed(self)
        self.inner.connectionLost(reason)

    # As a transport.

    def write(self, data: bytes) -> None:
        self._head = 0
        self.transport.write(data)

    def writeSequence(self, data: Sequence[bytes]) -> None:  # noqa: N802 - Twisted's name
        self._head = 0
        self.transport.writeSequence(data)

    def registerProducer(self, producer: object, streaming: bool) -> None:  # noqa: N802, FBT001 - Twisted's
        self._sending = producer if isinstance(producer, Outgoing) else None
        paced = _Paced(cast("IPushProducer", producer)) if streaming else producer
        self.transport.registerProducer(paced, streaming)

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        self._sending = None
        self.transport.unregisterProducer()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        self._head = None
        self.transport.pauseProducing()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        self.transport.abortConnection()

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        self.transport.loseConnection()
        if self._closing is None and not self._lost:
            self._closing = self._connections.later(CLOSING_SECONDS, self.stopProducing)

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


@implementer(IStreamClientEndpoint)
class _Forbidden:
    """An address that is not connected to."""

    def __init__(self, why: str) -> None:
        self._why = why

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803, ARG002 - Twisted's name
        return fail(PeerFailure(self._why))


@implementer(IStreamClientEndpoint)
class _ByName:
    """A name: resolved once for each connection, and one of what it said is connected to."""

    def __init__(self, reactor: Any, host: str, port: int, seconds: float, why_not: WhyNot) -> None:
        self._host = host
        self._refused: list[str] = []
        self._endpoint = HostnameEndpoint(
            _Resolving(reactor, self._is_allowed), host, port, timeout=seconds, attemptDelay=0.05
        )
        self._why_not = why_not

    def __repr__(self) -> str:
        return repr(self._endpoint)

    def _is_allowed(self, address: str) -> bool:
        why = self._why_not(address, self._host)
        if why:
            self._refused.append(f"its address {address} {why}")
        return not why

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:  # noqa: N803 - Twisted's name
        self._refused.clear()
        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting.addErrback(self._explain)

    def _explain(self, failure: Failure) -> Failure:
        if failure.check(DNSLookupError) and self._refused:
            raise PeerFailure(self._refused[0])
        return failure


class _Resolving:
    """A reactor whose resolver tells only of addresses that may be connected to."""

    def __init__(self, reactor: Any, is_allowed: Callable[[str], bool]) -> None:
        self._reactor = reactor
        self._is_allowed = is_allowed
        directlyProvides(self, providedBy(reactor))

    @property
    def nameResolver(self) -> IHostnameResolver:  # noqa: N802 - Twisted's name
        return _Checked(self._reactor.nameResolver, self._is_allowed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IHostnameResolver)
class _Checked:
    def __init__(self, resolver: IHostnameResolver, is_allowed: Callable[[str], bool]) -> None:
        self._resolver = resolver
        self._is_allowed = is_allowed

    def resolveHostName(  # noqa: N802 - Twisted's name
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803 - Twisted's name
        hostName: str,  # noqa: N803 - Twisted's name
        *rest: Any,
        **more: Any,
    ) -> IHostResolution:
        receiver = _Receiver(resolutionReceiver, self._is_allowed)
        return self._resolver.resolveHostName(receiver, hostName, *rest, **more)


@implementer(IResolutionReceiver)
class _Receiver:
    def __init__(self, receiver: IResolutionReceiver, is_allowed: Callable[[str], bool]) -> None:
        self._receiver = receiver
        self._is_allowed = is_allowed

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:  # noqa: N802, N803 - Twisted's names
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: IAddress) -> None:  # noqa: N802 - Twisted's name
        if self._is_allowed(str(getattr(address, "host", ""))):
            self._receiver.addressResolved(address)

    def resolutionComplete(self) -> None:  # noqa: N802 - Twisted's name
        self._receiver.resolutionComplete()


@cache
def _own_names() -> tuple[str, ...]:
    name = socket.gethostname().lower().rstrip(".")
    return (name, name.partition(".")[0])


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
        self.pool.maxPersistentPerHost = MOST_KEPT
        self.pool.cachedConnectionTimeout = IDLE_SECONDS
        self._reactor = reactor
        self.https_policy = https_policy
        self._open: set[_Guard] = set()
        self._none_left: Deferred[None] | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802 - Twisted's name
        """Where to connect for a URL."""
        endpoint = self._plain_endpoint(uri.host.decode("ascii"), uri.port)
        if uri.scheme == b"https":
            if self.https_policy is None:
                # Loads the platform's certificates, so only when there is need.
                self.https_policy = BrowserLikePolicyForHTTPS()
            creator = self.https_policy.creatorForNetloc(uri.host, uri.port)
            endpoint = wrapClientTLS(creator, endpoint)
        return _GuardedEndpoint(endpoint, self)

    def _plain_endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        """Where to connect without TLS.

        An address is connected to directly: HostnameEndpoint notices a refusal
        only when its next attempt is due, 0.3 s later.
        """
        seconds = self.limits.connect
        if isIPAddress(host) or isIPv6Address(host):
            why = self._why_not(host, host)
            if why:
                return _Forbidden(f"its address {host} {why}")
            if isIPAddress(host):
                return TCP4ClientEndpoint(self._reactor, host, port, timeout=seconds)
            return TCP6ClientEndpoint(self._reactor, host, port, timeout=seconds)
        return _ByName(self._reactor, host, port, seconds, self._why_not)

    def _why_not(self, address: str, host: str) -> str:
        return why_not(address, self.limits.networks, host=host, own_names=_own_names())

    def later(self, seconds: float, work: Callable[[], None]) -> IDelayedCall:
        """Do something in so many seconds."""
        call: IDelayedCall = self._reactor.callLater(seconds, work)
        return call

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

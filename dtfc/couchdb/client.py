"""Requests to CouchDB, in somebody's name.

Rules of this file: each request carries one credential and nothing else of
whoever brought it, and nothing of one request is ever sent with another: no
cookie is kept. No redirect is followed, no proxy asked, no coding taken; an
answer has a deadline and a largest size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from dtfc import __version__
from dtfc.access.sessions import Credential
from dtfc.errors import CouchUnreached, TooLarge
from dtfc.peers.addresses import EVERYWHERE
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import PlainAgent
from dtfc.peers.connections import Connections
from dtfc.peers.failure import PeerFailure, cancelled, in_words, own_failure
from dtfc.peers.urls import plain

_USER_AGENT = f"dtfc/{__version__}".encode("ascii")

#: Statuses that are answers; others say that it cannot give one now.
ANSWERS = frozenset({200, 401, 403, 404})

# Nobody above the agent ever sees a cookie under its own name.
_COOKIE = b"DTFC-Cookie"
_SET_COOKIE = b"DTFC-Set-Cookie"


@dataclass(frozen=True, slots=True)
class Answer:
    """What CouchDB said.

    Args:
        status: of the answer, one of :data:`ANSWERS`.
        body: the whole of it.
        cookies: that it sets.
    """

    status: int
    body: bytes
    cookies: tuple[str, ...] = ()


class Couch:
    """Asks one CouchDB.

    Args:
        reactor: connects, resolves names, and measures time.
        url: ``http://host:port``, without a slash at its end.
        seconds: for a whole answer.
        https_policy: whose certificates to believe; the platform's, if None.
    """

    def __init__(
        self, reactor: Any, url: str, seconds: float, https_policy: IPolicyForHTTPS | None = None
    ) -> None:
        self.url = url
        self.seconds = seconds
        self._clock: IReactorTime = reactor
        limits = PeerLimits(connect=seconds, first_byte=seconds, networks=EVERYWHERE)
        connections = self._connections = Connections(reactor, limits, https_policy)
        agent: IAgent = Agent.usingEndpointFactory(reactor, connections, connections.pool)
        self._treq = HTTPClient(PlainAgent(CredentialAgent(agent), reactor))
        self._asked: set[Deferred[Any]] = set()

    async def get(self, path: str, credential: Credential | None, most: int) -> Answer:
        """GET something.

        Args:
            path: below the URL, percent-encoded, with its first slash.
            credential: in whose name.
            most: bytes of an answer.

        Raises:
            CouchUnreached: there is no whole answer in time.
            TooLarge: the answer is larger.
        """
        asking = Deferred.fromCoroutine(self._get(path, credential, most))
        asking.addTimeout(self.seconds, self._clock, _too_late)
        self._asked.add(asking)
        try:
            return await asking
        finally:
            self._asked.discard(asking)

    async def _get(self, path: str, credential: Credential | None, most: int) -> Answer:
        headers = Headers({b"User-Agent": [_USER_AGENT], b"Accept": [b"application/json"]})
        if credential is not None:
            name, value = credential.field
            raw = name.encode("ascii") if name != "Cookie" else _COOKIE
            headers.setRawHeaders(raw, [value.encode("latin-1")])
        try:
            response = await self._treq.get(
                plain(f"{self.url}{path}"),
                headers=headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._clock,  # type: ignore[arg-type]  # wanted for treq's own timeout only
            )
            body = Whole(most)
            response.deliverBody(body)
            found = await body.done
        except (CancelledError, TooLarge):
            raise
        except Exception as error:  # noqa: BLE001 -- anything that CouchDB can provoke
            if cancelled(error):
                raise CancelledError from None
            own = own_failure(error)
            raise CouchUnreached(str(own) if own is not None else in_words(error)) from None
        if response.code not in ANSWERS:
            raise CouchUnreached(f"it answered {response.code}")
        set_cookies = response.headers.getRawHeaders(_SET_COOKIE, [])
        return Answer(response.code, found, tuple(value.decode("latin-1") for value in set_cookies))

    async def close(self) -> None:
        """Give up every request, close every connection, and wait until they are closed."""
        for asking in list(self._asked):
            asking.cancel()
        await self._connections.close()


@implementer(IAgent)
class CredentialAgent:
    """Gives cookies their own names, below everything that might keep them.

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
        """Make a request with the one cookie that is meant for it."""
        own = Headers() if headers is None else headers.copy()
        cookies = own.getRawHeaders(_COOKIE, [])
        own.removeHeader(_COOKIE)
        if cookies:
            own.setRawHeaders(b"Cookie", cookies)
        asked: Deferred[IResponse] = self._agent.request(method, uri, own, bodyProducer)
        return asked.addCallback(_rename)


def _rename(response: IResponse) -> IResponse:
    set_cookies = response.headers.getRawHeaders(b"Set-Cookie", [])
    response.headers.removeHeader(b"Set-Cookie")
    response.headers.setRawHeaders(_SET_COOKIE, set_cookies)
    return response


class Whole(Protocol):
    """Reads a whole body.

    Args:
        most: its bytes at most.

    Attributes:
        done: fires with the body, or TooLarge, PeerFailure.
    """

    transport: Any

    def __init__(self, most: int) -> None:
        # Fired by connectionLost, which Twisted's client calls however a body ends.
        self.done: Deferred[bytes] = Deferred(lambda _done: self._stop())
        self._most = most
        self._length = 0
        self._blocks: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Take some of it."""
        self._length += len(data)
        if self._length <= self._most:
            self._blocks.append(data)
        elif not self.done.called:
            self.done.errback(TooLarge(self._most, "--couchdb-max-document"))
            self._stop()

    def _stop(self) -> None:
        if self.transport is not None:
            # What stands between aborts the connection: dtfc.peers.connections.
            self.transport.stopProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Hand over what came, if that is all of it."""
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(b"".join(self._blocks))
        else:
            self.done.errback(PeerFailure("it broke off in the middle of its answer"))


def _too_late(value: object, seconds: float) -> None:
    del value
    raise CouchUnreached(f"no answer within {seconds:g} seconds")

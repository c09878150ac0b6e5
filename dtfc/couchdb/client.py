"""Requests to CouchDB, in somebody's name.

Rules of this file: each request carries one credential and nothing else of
whoever brought it, and nothing of one request is ever sent with another: no
cookie is kept. No redirect is followed, no proxy asked, no coding taken; an
answer has a deadline and a largest size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from dtfc import __version__
from dtfc.access.sessions import Credential
from dtfc.couchdb.bodies import Stream, Whole
from dtfc.errors import CouchUnreached
from dtfc.peers.addresses import EVERYWHERE
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import PlainAgent
from dtfc.peers.connections import Connections
from dtfc.peers.failure import PeerFailure, cancelled, in_words, own_failure
from dtfc.peers.urls import plain

_USER_AGENT = f"dtfc/{__version__}".encode("ascii")

T = TypeVar("T")

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
        answer = await self.ask("GET", path, credential, most)
        if answer.status not in ANSWERS:
            raise CouchUnreached(f"it answered {answer.status}")
        return answer

    async def ask(
        self,
        method: str,
        path: str,
        credential: Credential | None,
        most: int,
        *,
        content: bytes | None = None,
        fields: Mapping[str, str] = MappingProxyType({}),
        seconds: float | None = None,
    ) -> Answer:
        """Make a request, and take whatever status comes.

        Args:
            method: of the request.
            path: below the URL, percent-encoded, with its first slash.
            credential: in whose name.
            most: bytes of an answer.
            content: JSON to send.
            fields: of its head, further ones.
            seconds: for the whole answer; as long as for any other, if None.

        Raises:
            CouchUnreached: there is no whole answer in time.
            TooLarge: the answer is larger.
        """

        async def whole() -> Answer:
            body = Whole(most)
            response = await self._send(
                method, path, credential, content=content, fields=fields, body=body
            )
            found = await _end_of(body.done)
            return Answer(response.code, found, _cookies(response))

        asking = Deferred.fromCoroutine(whole())
        asking.addTimeout(self.seconds if seconds is None else seconds, self._clock, _too_late)
        return await self._kept(asking)

    async def stream(
        self,
        path: str,
        credential: Credential | None,
        heard: Callable[[bytes], Deferred[None] | None],
        *,
        silence: float,
        content: bytes | None = None,
        fields: Mapping[str, str] = MappingProxyType({}),
    ) -> int:
        """GET something that may never end, or POST for it; return its status.

        Args:
            path: below the URL, percent-encoded, with its first slash.
            credential: in whose name.
            heard: takes each block of a body that came with status 200; while what it
                returned has not fired, no more is read.
            silence: seconds without a byte after which it is given up.
            content: JSON to POST; GET if None.
            fields: of its head, further ones.

        Raises:
            CouchUnreached: it broke off, or was silent for so long.
        """

        async def all_of_it() -> int:
            body = Stream(self._clock, heard, silence)
            method = "GET" if content is None else "POST"
            asking = Deferred.fromCoroutine(
                self._send(method, path, credential, content=content, fields=fields, body=body)
            )
            asking.addTimeout(silence, self._clock, _too_late)
            response = await asking
            await _end_of(body.done)
            return int(response.code)

        return await self._kept(Deferred.fromCoroutine(all_of_it()))

    async def _kept(self, asking: Deferred[T]) -> T:
        self._asked.add(asking)
        try:
            return await asking
        finally:
            self._asked.discard(asking)

    async def _send(
        self,
        method: str,
        path: str,
        credential: Credential | None,
        *,
        content: bytes | None,
        fields: Mapping[str, str],
        body: Whole | Stream,
    ) -> IResponse:
        headers = Headers({b"User-Agent": [_USER_AGENT], b"Accept": [b"application/json"]})
        if credential is not None:
            name, value = credential.field
            raw = name.encode("ascii") if name != "Cookie" else _COOKIE
            headers.setRawHeaders(raw, [value.encode("latin-1")])
        if content is not None:
            headers.setRawHeaders(b"Content-Type", [b"application/json"])
        for name, value in fields.items():
            headers.setRawHeaders(name.encode("ascii"), [value.encode("latin-1")])
        response: IResponse = await self._told(
            self._treq.request(
                method,
                plain(f"{self.url}{path}"),
                headers=headers,
                data=content,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._clock,  # type: ignore[arg-type]  # wanted for treq's own timeout only
            )
        )
        if isinstance(body, Stream):
            body.wanted = response.code == 200
        response.deliverBody(body)
        return response

    async def _told(self, asked: Deferred[T]) -> T:
        """Wait for something of CouchDB's, and say in its words what became of it.

        Raises:
            CouchUnreached: nothing came of it.
        """
        try:
            return await asked
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- anything that CouchDB can provoke
            if cancelled(error):
                raise CancelledError from None
            own = own_failure(error)
            raise CouchUnreached(str(own) if own is not None else in_words(error)) from None

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


async def _end_of(body: Deferred[T]) -> T:
    """Wait for the end of a body; what its taker fails with passes as it is.

    Raises:
        CouchUnreached: it broke off.
    """
    try:
        return await body
    except PeerFailure as error:
        raise CouchUnreached(str(error)) from None


def _cookies(response: IResponse) -> tuple[str, ...]:
    lines = response.headers.getRawHeaders(_SET_COOKIE, [])
    return tuple(line.decode("latin-1") for line in lines)


def _rename(response: IResponse) -> IResponse:
    set_cookies = response.headers.getRawHeaders(b"Set-Cookie", [])
    response.headers.removeHeader(b"Set-Cookie")
    response.headers.setRawHeaders(_SET_COOKIE, set_cookies)
    return response


def _too_late(value: object, seconds: float) -> None:
    del value
    raise CouchUnreached(f"no answer within {seconds:g} seconds")

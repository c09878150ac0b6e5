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
from twisted.internet.interfaces import IDelayedCall, IReactorTime
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


class Stream(Protocol):
    """Hands on a body as it comes, no faster than it is taken.

    Args:
        clock: measures silence.
        heard: takes blocks; what it returns, if anything, is waited for.
        silence: seconds without a byte after which it is given up; what waits for
            its taker is not silent.

    Attributes:
        done: fires at the end of the body, or with CouchUnreached, PeerFailure, and
            whatever ``heard`` fails with.
        wanted: whether its blocks are handed on; else they are passed over.
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        heard: Callable[[bytes], Deferred[None] | None],
        silence: float,
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _done: self._stop())
        self.wanted = True
        self._clock = clock
        self._heard = heard
        self._silence = silence
        self._timer: IDelayedCall | None = None
        self._ended: Failure | None = None
        self._taking = False
        # A transport that is paused may deliver what it has read already.
        self._waiting: list[bytes] = []

    def connectionMade(self) -> None:  # noqa: N802 -- Twisted's name
        """Begin to listen for silence."""
        self._timer = self._clock.callLater(self._silence, self._silent)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 -- Twisted's name
        """Hand some of it on."""
        if self._timer is not None:
            self._timer.reset(self._silence)
        if self.done.called or not self.wanted:
            return
        self._waiting.append(data)
        if not self._taking:
            self._take()

    def _take(self) -> None:
        while self._waiting and not self.done.called:
            try:
                taking = self._heard(self._waiting.pop(0))
            except Exception:  # noqa: BLE001 -- whoever waits for the end hears of it
                self._fail(Failure())
                return
            if taking is not None and not taking.called:
                self._taking = True
                self._hold()
                taking.addCallbacks(self._taken, self._fail)
                return
        self._finish()

    def _taken(self, _result: object) -> None:
        self._taking = False
        if self._ended is None and not self.done.called:
            self._timer = self._clock.callLater(self._silence, self._silent)
            self.transport.resumeProducing()
        self._take()

    def _hold(self) -> None:
        self._stop_timer()
        if self._ended is None:
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Tell the end, once all that came is taken."""
        self._ended = reason
        self._stop_timer()
        if not self._taking:
            self._finish()

    def _finish(self) -> None:
        if self._ended is None or self.done.called:
            return
        if self._ended.check(ResponseDone):
            self.done.callback(None)
        else:
            self.done.errback(PeerFailure("it broke off in the middle of its answer"))

    def _silent(self) -> None:
        self._timer = None
        self._fail(Failure(CouchUnreached(f"nothing came for {self._silence:g} seconds")))

    def _fail(self, failure: Failure) -> None:
        if not self.done.called:
            self.done.errback(failure)
        self._stop()

    def _stop(self) -> None:
        self._stop_timer()
        if self.transport is not None and self._ended is None:
            # What stands between aborts the connection: dtfc.peers.connections.
            self.transport.stopProducing()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def _too_late(value: object, seconds: float) -> None:
    del value
    raise CouchUnreached(f"no answer within {seconds:g} seconds")

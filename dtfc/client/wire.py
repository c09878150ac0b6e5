"""Requests of a client to nodes: those of ``dtfc.peers.client``, with credentials and bodies.

Rules of this file: as there: no redirect is followed, no cookie kept, no content coding
taken, and whatever a node sends costs bounded memory and time. Credentials are put in
below everything that could remember or show them, and go to the client's own nodes only.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from dtfc import __version__
from dtfc.client.credentials import Credential
from dtfc.client.failures import Unreachable, failure_of
from dtfc.client.talk import Answer, Heard, Talk, read_early
from dtfc.peers.addresses import EVERYWHERE
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import PeerHTTP, PlainAgent, Reply
from dtfc.peers.connections import Connections
from dtfc.peers.failure import PeerFailure

LARGEST_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer that is no blob."""

_ORIGIN = re.compile(r"https?://[^/?#]+", re.IGNORECASE)
_USER_AGENT = f"dtfc-client/{__version__}".encode("ascii")


@dataclass(frozen=True, slots=True)
class Sending:
    """A body on its way to a node.

    Args:
        length: bytes in all.
        read: returns the next block, never an empty one.
        ask_first: whether the node is to say first that it will take it.
        saw: told how many bytes have left for the socket, after each block.
    """

    length: int
    read: Callable[[], Awaitable[bytes]]
    ask_first: bool = False
    saw: Callable[[int], object] = int


@implementer(IAgent)
class CredentialAgent:
    """Shows a credential to the nodes that it is for.

    Args:
        agent: makes the requests.
        credential: what is shown.
        origins: of the nodes.
    """

    def __init__(self, agent: IAgent, credential: Credential, origins: Sequence[str]) -> None:
        self._agent = agent
        self._credential = credential
        self._origins = frozenset(map(_plain_origin, origins))

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - Twisted's name
    ) -> Deferred[IResponse]:
        """Make a request with the credential, if it goes to one of the nodes."""
        own = Headers() if headers is None else headers.copy()
        if _plain_origin(uri.decode("latin-1")) in self._origins:
            name, value = self._credential.field()
            own.setRawHeaders(name.encode("ascii"), [value.encode("ascii")])
        asked: Deferred[IResponse] = self._agent.request(method, uri, own, bodyProducer)
        return asked


class NodeHTTP(PeerHTTP):
    """Asks nodes.

    Args:
        treq: the client.
        clock: measures deadlines.
        limits: how slow a node may be.
        connections: what to close at the end.
        loads: whether a blob may be asked for in a way that lets the node load it from
            its peers.
    """

    def __init__(
        self,
        treq: HTTPClient,
        clock: IReactorTime,
        limits: PeerLimits,
        connections: Connections,
        *,
        loads: bool,
    ) -> None:
        super().__init__(treq, clock, limits, connections)
        self._loads = loads

    def url_of(self, peer: str, digest_hex: str, what: Literal["nopeerload", "chunks"]) -> str:
        """Where a node has a blob, or its chunk map."""
        if what == "nopeerload" and self._loads:
            return f"{peer}/{digest_hex}"
        return super().url_of(peer, digest_hex, what)

    async def request(
        self,
        method: str,
        node: str,
        path: str,
        content: bytes | None = None,
        fields: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Make a request whose body and answer are small.

        Args:
            method: of the request.
            node: the node's URL.
            path: and query, percent-encoded.
            content: the body; None for none.
            fields: header fields beside the framing's own.

        Raises:
            Unreachable: no connection, no answer in time, or none that is whole.
        """
        try:
            response = await self._request(method, f"{node}{path}", _headers(fields), content)
            return await self._whole(method, response)
        except PeerFailure as failure:
            raise Unreachable(failure.reason, node=node) from failure

    async def open(self, node: str, path: str, fields: Sequence[tuple[str, str]] = ()) -> Reply:
        """Make a GET whose body may be long.

        Raises:
            Unreachable: no connection, or no head in time.
        """
        try:
            response = await self._request("GET", f"{node}{path}", _headers(fields))
        except PeerFailure as failure:
            raise Unreachable(failure.reason, node=node) from failure
        return Reply("GET", response, self._clock, self._limits)

    async def convey(
        self,
        method: str,
        node: str,
        path: str,
        body: Sending,
        fields: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Make a request whose body may be long, and whose answer is small.

        A refusal that comes before the node has it all ends the sending, and is the
        answer. It may take ``first_byte`` seconds from the body's last byte, and a
        second more for each 10 MiB: the node makes them durable.

        Raises:
            Unreachable: no connection, no answer in time, or none that is whole.
            DtfcError: whatever ``body.read`` raises.
        """
        talks: list[Talk] = []

        async def read() -> bytes:
            block = await body.read()
            body.saw(len(block))
            return block

        def talking(sent: Callable[[], object]) -> Talk:
            talk = Talk(
                body.length,
                read,
                self._clock,
                self._limits.stall,
                ask_first=body.ask_first,
                sent=sent,
            )
            talks.append(talk)
            return talk

        url = f"{node}{path}"
        try:
            response = await self._conveyed(method, url, _headers(fields), body, talking)
            return await self._whole(method, response)
        except (Heard, PeerFailure) as failure:
            for talk in talks:
                if talk.refusal is not None:
                    return read_early(talk.refusal, talk.early)
            reason = failure.reason if isinstance(failure, PeerFailure) else "answered early"
            raise Unreachable(reason, node=node) from failure

    async def _whole(self, method: str, response: IResponse) -> Answer:
        """Read a small body.

        Raises:
            PeerFailure: it is too long, or is cut off.
        """
        reply = Reply("HEAD" if method == "HEAD" else "GET", response, self._clock, self._limits)
        fields = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        length = reply.fields("content-length")
        if method == "HEAD" or reply.status in (204, 304) or list(length) == ["0"]:
            reply.drop()
            if length:
                fields["content-length"] = length[0]
            return Answer(reply.status, fields, b"")
        wanted = int(length[0]) if length else LARGEST_ANSWER
        if wanted > LARGEST_ANSWER:
            reply.drop()
            raise PeerFailure("its answer is too long")
        body = reply.take(0, wanted)
        blocks: list[bytes] = []
        try:
            while found := await body.read():
                blocks += found
        except CancelledError:
            body.abort("is not wanted any more")
            raise
        if body.cut is not None and length:
            raise PeerFailure(body.cut)
        return Answer(reply.status, fields, b"".join(blocks))


class Wire:
    """What a client asks with.

    Args:
        reactor: connects, resolves names, and measures time.
        credential: shown to the nodes; None for none.
        nodes: their URLs.
        policy: whose certificates to believe; the platform's, if None.
        limits: how slow a node may be.
    """

    def __init__(
        self,
        reactor: Any,
        credential: Credential | None,
        nodes: Sequence[str],
        policy: IPolicyForHTTPS | None,
        limits: PeerLimits,
    ) -> None:
        connections = Connections(reactor, limits, policy)
        agent: IAgent = Agent.usingEndpointFactory(reactor, connections, connections.pool)
        if credential is not None:
            # Below PlainAgent, which takes cookies away.
            agent = CredentialAgent(agent, credential, nodes)
        treq = HTTPClient(PlainAgent(agent, reactor))
        self.http = NodeHTTP(treq, reactor, limits, connections, loads=True)
        """Asks for blobs so that a node that lacks one loads it."""
        self.near = NodeHTTP(treq, reactor, limits, connections, loads=False)
        """Asks for what a node has itself."""

    async def ask(
        self,
        method: str,
        node: str,
        path: str,
        content: bytes | None = None,
        *,
        fields: Sequence[tuple[str, str]] = (),
        good: Sequence[int] = (200,),
    ) -> Answer:
        """Make a small request; as :meth:`NodeHTTP.request`.

        Raises:
            ClientError: the answer's status is none of ``good``, or there is no answer.
        """
        answer = await self.http.request(method, node, path, content, fields)
        if answer.status not in good:
            raise failure_of(node, answer.status, answer.fields, answer.body)
        return answer

    async def close(self) -> None:
        """Give up every request, close every connection, and wait until they are closed."""
        await self.near.close()
        await self.http.close()


def _plain_origin(url: str) -> str:
    """Return scheme, host and port of a URL, in the one form in which they are compared."""
    found = _ORIGIN.match(url)
    if found is None:
        return ""
    origin = found[0].lower()
    usual = ":443" if origin.startswith("https:") else ":80"
    return origin.removesuffix(usual)


def limits_of(patience: float) -> PeerLimits:
    """Return how slow a node may be: for a client it is the user's own word where it is.

    Args:
        patience: seconds without an answer, or without a byte.
    """
    return PeerLimits(
        connect=min(patience, 15.0),
        first_byte=patience,
        stall=patience,
        lowest_rate=1,
        networks=EVERYWHERE,
    )


def _headers(fields: Sequence[tuple[str, str]]) -> Headers:
    headers = Headers({b"User-Agent": [_USER_AGENT]})
    for name, value in fields:
        headers.addRawHeader(name.encode("ascii"), value.encode("latin-1"))
    return headers

"""Signs every request to a peer, below treq, so that senders need not care.

Rules of this file: a request that cannot be signed is not sent unsigned where
there is a secret. A body is signed by its Content-Digest: of ``PUT
/<digest>`` it follows from the URL, a small one is hashed here, and for any
other the sender has to give it.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.web.client import ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from dtfc.access.signatures import Message, Proof, Secrets, authority_of, sign
from dtfc.peers.failure import cancelled

LARGEST_HASHED = 1024 * 1024
"""Bytes of a body without Content-Digest that are hashed here."""

_DIGEST = re.compile(rb"/([0-9a-fA-F]{128})(?:/[^/?]*)?\Z")


class Signer:
    """What a process signs with.

    Args:
        secrets: that are shared with the peers; None to sign nothing.
        sender: 16 hexadecimal digits, random for each process.
        clock: tells the seconds since 1970.
    """

    def __init__(self, secrets: Secrets | None, sender: str, clock: IReactorTime) -> None:
        self.secrets = secrets
        self._sender = sender
        self._clock = clock
        self._reads = 0
        self._writes = 0

    def sign(self, method: bytes, uri: bytes, headers: Headers, *, has_body: bool) -> None:
        """Add a signature to a request's headers; nothing without a secret.

        Raises:
            ValueError: the body has no Content-Digest.
        """
        if self.secrets is None:
            return
        number = self._next(method)
        now = self._clock.seconds()
        path, query = target_of(uri)
        message = Message(
            method.decode("ascii"),
            path.decode("latin-1"),
            None if query is None else query.decode("latin-1"),
            _fields(headers),
            has_body,
        )
        proof = Proof(self._sender, number, int(now))
        authority = authority_of(uri.decode("latin-1"))
        for name, value in sign(self.secrets.signing, message, authority, proof):
            headers.setRawHeaders(name.encode("ascii"), [value.encode("latin-1")])

    def _next(self, method: bytes) -> int:
        # Reads have numbers of their own: nobody remembers them, and they
        # would only make a writer's requests stand further apart.
        if method in (b"GET", b"HEAD"):
            self._reads += 1
            return self._reads
        self._writes += 1
        return self._writes


@implementer(IAgent)
class SigningAgent:
    """An agent that signs what it is asked to send.

    Args:
        agent: makes the requests.
        signer: signs them.
    """

    def __init__(self, agent: IAgent, signer: Signer) -> None:
        self._agent = agent
        self._signer = signer

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803 - Twisted's name
    ) -> Deferred[IResponse]:
        """Sign and make a request."""
        if self._signer.secrets is None:
            return self._agent.request(method, uri, headers, bodyProducer)
        signed = Headers() if headers is None else headers.copy()
        return Deferred.fromCoroutine(self._request(method, uri, signed, bodyProducer))

    async def _request(
        self, method: bytes, uri: bytes, headers: Headers, body: IBodyProducer | None
    ) -> IResponse:
        if body is None or body.length == 0:
            return await self._without_body(method, uri, headers, body)
        if not headers.hasHeader(b"Content-Digest"):
            body = await _add_digest(uri, headers, body)
        self._signer.sign(method, uri, headers, has_body=True)
        return await self._agent.request(method, uri, headers, body)

    async def _without_body(
        self, method: bytes, uri: bytes, headers: Headers, body: IBodyProducer | None
    ) -> IResponse:
        """Send it; a DELETE once more, signed anew, where its connection turned out to be dead.

        Twisted would send it again as it is, and the peer, which may have got
        it the first time, obeys a signature once. An empty body keeps Twisted
        from that.
        """
        if method != b"DELETE":
            self._signer.sign(method, uri, headers, has_body=False)
            return await self._agent.request(method, uri, headers, body)
        again = headers.copy()
        self._signer.sign(method, uri, headers, has_body=False)
        try:
            return await self._agent.request(method, uri, headers, _producer(b""))
        except ResponseFailed as failure:
            if cancelled(failure):
                # Whoever gave it up, or whose time was over, waits for no other one.
                raise
            self._signer.sign(method, uri, again, has_body=False)
            return await self._agent.request(method, uri, again, _producer(b""))


def target_of(uri: bytes) -> tuple[bytes, bytes | None]:
    """Return the path and query that a request line will have for a URI."""
    rest = uri.partition(b"#")[0].partition(b"://")[2]
    before, mark, query = rest.partition(b"?")
    slash = before.find(b"/")
    path = before[slash:] if slash >= 0 else b"/"
    return path, query if mark else None


async def _add_digest(uri: bytes, headers: Headers, body: IBodyProducer) -> IBodyProducer:
    """Say what the body's digest is, and return what produces the same body.

    Raises:
        ValueError: it would have to be read whole, and is large.
    """
    digest = _DIGEST.match(target_of(uri)[0])
    if digest is not None:
        _set_digest(headers, bytes.fromhex(digest[1].decode("ascii")))
        return body
    length: Any = body.length
    if length is UNKNOWN_LENGTH or length > LARGEST_HASHED:
        raise ValueError("a large body for a peer has to come with its Content-Digest")
    gathered = _Gathered()
    await body.startProducing(cast("IConsumer", gathered))
    whole = b"".join(gathered.blocks)
    _set_digest(headers, hashlib.sha512(whole).digest())
    return _producer(whole)


def _set_digest(headers: Headers, digest: bytes) -> None:
    headers.setRawHeaders(b"Content-Digest", [b"sha-512=:" + b64encode(digest) + b":"])


@implementer(IConsumer)
class _Gathered:
    """Takes a small body into memory."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def registerProducer(self, producer: object, streaming: bool) -> None:  # noqa: N802, FBT001 - Twisted's
        """Do nothing: all of it is wanted at once."""

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing."""

    def write(self, data: bytes) -> None:
        """Keep a block."""
        self.blocks.append(data)


@implementer(IBodyProducer)
class _InMemory:
    """Produces a body that is in memory, in one write."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:  # noqa: N802 - Twisted's name
        """Write it."""
        if self._body:
            consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing: it is written already."""

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing."""

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing."""


def _producer(body: bytes) -> IBodyProducer:
    return _InMemory(body)


def _fields(headers: Headers) -> dict[str, list[str]]:
    return {
        name.decode("latin-1").lower(): [value.decode("latin-1") for value in values]
        for name, values in headers.getAllRawHeaders()
    }

"""Requests to peers are signed below treq; what a verifier makes of them."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
import pytest_twisted
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent
from zope.interface import implementer

from dtfc.access.signatures import Message, PeerTerms, Proof, Secrets, verify
from dtfc.peers.client import PlainAgent
from dtfc.peers.signing import LARGEST_HASHED, Signer, SigningAgent, target_of

KEY = b"0123456789abcdef0123456789abcdef"
SENDER = "00112233445566ff"
HEX = "ab" * 64
URL = "http://peer.example:8080"


class Consumer:
    def __init__(self) -> None:
        self.got = b""

    def write(self, data: bytes) -> None:
        self.got += data


class Response:
    """As much of a response as passes through treq."""

    def __init__(self) -> None:
        self.headers = Headers()
        self.code = 200
        self.length = 0


@implementer(IAgent)
class Wire:
    """An agent that keeps what it was asked to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes, Headers, bytes]] = []
        self.failures: list[Exception] = []

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: Any = None,  # noqa: N803 -- Twisted's name
    ) -> Deferred[Any]:
        consumer = Consumer()
        if bodyProducer is not None:
            bodyProducer.startProducing(consumer)
        self.sent.append((method, uri, headers or Headers(), consumer.got))
        self.had_producer = bodyProducer is not None
        return fail(self.failures.pop(0)) if self.failures else succeed(Response())

    def message(self, at: int = -1) -> Message:
        method, uri, headers, body = self.sent[at]
        path, query = target_of(uri)
        fields = {
            name.decode().lower(): [value.decode("latin-1") for value in values]
            for name, values in headers.getAllRawHeaders()
        }
        text = None if query is None else query.decode()
        return Message(method.decode(), path.decode(), text, fields, bool(body))

    def proof(self, at: int = -1, authority: str = "peer.example:8080") -> Proof | None:
        terms = PeerTerms(Secrets((KEY,)))
        return verify(terms, self.message(at), [authority], 1000.0)


class Endless:
    """A body whose length nobody knows."""

    length: Any = UNKNOWN_LENGTH

    def startProducing(self, consumer: Any) -> Deferred[None]:  # noqa: N802 -- Twisted's name
        consumer.write(b"hello")
        return succeed(None)


class Bench:
    def __init__(self) -> None:
        self.wire = Wire()
        clock = Clock()
        clock.advance(1000)
        self.signer = Signer(Secrets((KEY,)), SENDER, clock)
        self.agent = SigningAgent(self.wire, self.signer)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def result(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addBoth(found.append)
    assert found, "nothing has come yet"
    if hasattr(found[0], "raiseException"):
        found[0].raiseException()
    return found[0]


def test_a_read_is_signed(bench: Bench) -> None:
    headers = Headers({b"Range": [b"bytes=5-"]})

    result(bench.agent.request(b"GET", f"{URL}/{HEX}/nopeerload?x=%20#y".encode(), headers))

    assert bench.wire.proof() == Proof(SENDER, 1, 1000)
    assert '"range"' in bench.wire.message().fields["signature-input"][0]
    assert not headers.hasHeader(b"Signature")


def test_reads_and_writes_are_counted_apart(bench: Bench) -> None:
    for method in (b"GET", b"PUT", b"HEAD", b"PUT"):
        result(bench.agent.request(method, URL.encode()))

    assert [getattr(bench.wire.proof(at), "number", None) for at in range(4)] == [1, 1, 2, 2]


def test_a_default_port_is_left_out_as_in_host(bench: Bench) -> None:
    result(bench.agent.request(b"GET", b"https://peer.example:443/"))

    assert bench.wire.proof(authority="peer.example") is not None


def test_without_a_secret_nothing_is_added(bench: Bench) -> None:
    bench.signer.secrets = None

    result(bench.agent.request(b"DELETE", f"{URL}/{HEX}".encode()))

    assert bench.wire.message().fields == {}
    assert not bench.wire.had_producer


def digest_field(body: bytes) -> str:
    return f"sha-512=:{base64.b64encode(hashlib.sha512(body).digest()).decode()}:"


@pytest_twisted.ensureDeferred
async def test_below_treq_a_small_body_is_hashed_on_its_way(bench: Bench) -> None:
    client = HTTPClient(PlainAgent(bench.agent, Clock()))

    await client.request("POST", f"{URL}/x", json="hello", unbuffered=True)

    assert bench.wire.sent[0][3] == b'"hello"'
    assert bench.wire.message().fields["content-digest"] == [digest_field(b'"hello"')]
    assert bench.wire.proof() is not None
    assert '"content-type"' in bench.wire.message().fields["signature-input"][0]


@pytest.mark.parametrize("path", [HEX, HEX.upper() + "/photo.jpg"])
def test_the_digest_in_the_url_is_the_bodys(bench: Bench, path: str) -> None:
    body: Any = Endless()
    result(bench.agent.request(b"PUT", f"{URL}/{path}".encode(), None, body))

    expected = base64.b64encode(bytes.fromhex(HEX)).decode()
    assert bench.wire.message().fields["content-digest"] == [f"sha-512=:{expected}:"]
    assert bench.wire.proof() is not None


@pytest.mark.parametrize("length", [UNKNOWN_LENGTH, LARGEST_HASHED + 1])
def test_a_large_body_has_to_bring_its_digest(bench: Bench, length: Any) -> None:
    body: Any = Endless()
    body.length = length
    with pytest.raises(ValueError, match="Content-Digest"):
        result(bench.agent.request(b"POST", f"{URL}/x".encode(), None, body))
    assert bench.wire.sent == []

    given = Headers({b"Content-Digest": [digest_field(b"hello").encode()]})
    result(bench.agent.request(b"POST", f"{URL}/x".encode(), given, body))

    assert bench.wire.proof() is not None


def test_a_delete_on_a_dead_connection_is_signed_anew(bench: Bench) -> None:
    bench.wire.failures = [ResponseFailed([])]

    result(bench.agent.request(b"DELETE", f"{URL}/{HEX}".encode()))

    assert [getattr(bench.wire.proof(at), "number", None) for at in range(2)] == [1, 2]
    # With a body, if an empty one, Twisted does not send it again by itself.
    assert bench.wire.had_producer


def test_a_delete_that_was_given_up_is_not_sent_again(bench: Bench) -> None:
    bench.wire.failures = [ResponseNeverReceived([Failure(CancelledError())])]

    with pytest.raises(ResponseNeverReceived):
        result(bench.agent.request(b"DELETE", f"{URL}/{HEX}".encode()))

    assert len(bench.wire.sent) == 1


def test_a_delete_that_fails_twice_fails(bench: Bench) -> None:
    bench.wire.failures = [ResponseFailed([]), ResponseFailed([])]

    with pytest.raises(ResponseFailed):
        result(bench.agent.request(b"DELETE", f"{URL}/{HEX}".encode()))


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        (b"http://h", (b"/", None)),
        (b"http://h?x", (b"/", b"x")),
        (b"http://h/a/b?", (b"/a/b", b"")),
        (b"http://h/a?b/c?d#e", (b"/a", b"b/c?d")),
    ],
)
def test_targets(uri: bytes, target: tuple[bytes, bytes | None]) -> None:
    assert target_of(uri) == target

"""The client below the loads: TLS, heads without end, and words for what went wrong."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    trustRootFromCertificates,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS

from dtfc.peers.body import PeerLimits
from dtfc.peers.client import PeerHTTP, open_peer_http
from dtfc.peers.failure import PeerFailure, one_line
from tests.peers import hostile
from tests.peers.hostile import Behaviour, HostilePeer, honest

reactor: Any = _reactor
HEX = "0" * 128
Until = Callable[[Callable[[], bool]], Any]


class Bench:
    """A client and one peer."""

    def __init__(self) -> None:
        self.clients: list[PeerHTTP] = []
        self.peers: list[HostilePeer] = []

    def client(self, policy: Any = None, **limits: Any) -> PeerHTTP:
        client = open_peer_http(reactor, PeerLimits(**limits), policy)
        self.clients.append(client)
        return client

    def peer(self, behaviour: Behaviour, certificate: SelfSigned | None = None) -> str:
        peer = HostilePeer(behaviour)
        peer.listen(None if certificate is None else certificate.options())
        self.peers.append(peer)
        return peer.url

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        for peer in self.peers:
            await peer.close()


@pytest_twisted.async_yield_fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.close()


@dataclass
class SelfSigned:
    """A certificate for 127.0.0.1, signed by itself."""

    private: bytes
    public: bytes

    def options(self) -> CertificateOptions:
        """What a server listens with."""
        return cast(
            "CertificateOptions", PrivateCertificate.loadPEM(self.private + self.public).options()
        )

    def policy(self) -> BrowserLikePolicyForHTTPS:
        """What a client trusts it with."""
        root = trustRootFromCertificates([Certificate.loadPEM(self.public)])
        return BrowserLikePolicyForHTTPS(trustRoot=root)


@pytest.fixture(scope="module")
def certificate() -> SelfSigned:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SelfSigned(private, made.public_bytes(pem))


# Twisted's TLS uses names that pyOpenSSL has deprecated.
tls = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@tls
@pytest_twisted.ensureDeferred
async def test_https(bench: Bench, certificate: SelfSigned) -> None:
    data = bytes(range(256)) * 5000
    url = bench.peer(honest(data), certificate)
    reply = await bench.client(certificate.policy()).ask("GET", url, HEX)
    body = reply.take(0, len(data))
    got = b""
    while blocks := await body.read():
        got += b"".join(blocks)
    assert got == data


@tls
@pytest_twisted.ensureDeferred
async def test_a_certificate_that_nobody_vouches_for(bench: Bench, certificate: SelfSigned) -> None:
    url = bench.peer(honest(b"x"), certificate)
    with pytest.raises(PeerFailure) as caught:
        await bench.client().ask("GET", url, HEX)
    assert caught.value.reason.startswith("TLS failed: ")
    assert bench.peers[0].requests == []


@tls
@pytest_twisted.ensureDeferred
async def test_a_tls_peer_that_never_closes_does_not_hold_up_the_end(
    bench: Bench, certificate: SelfSigned
) -> None:
    url = bench.peer(hostile.stalls_after(bytes(1000), 10), certificate)
    client = bench.client(certificate.policy())
    reply = await client.ask("GET", url, HEX)
    body = reply.take(0, 1000)
    assert await body.read() == [bytes(10)]
    await client.close()
    assert await body.read() == []
    assert body.cut is not None


@pytest.mark.parametrize("behaviour", [hostile.endless_head, hostile.endless_interim])
@pytest_twisted.ensureDeferred
async def test_a_head_has_an_end(bench: Bench, behaviour: Behaviour) -> None:
    url = bench.peer(behaviour)
    with pytest.raises(PeerFailure):
        await bench.client(first_byte=3600).ask("GET", url, HEX)
    assert bench.peers[0].body_bytes < 400_000


@pytest_twisted.ensureDeferred
async def test_a_large_head_within_bounds(bench: Bench) -> None:
    url = bench.peer(honest(b"x", *(f"X-{i}: {'y' * 100}" for i in range(100))))
    reply = await bench.client().ask("GET", url, HEX)
    assert reply.fields("x-99") == ["y" * 100]
    reply.drop()


@pytest_twisted.ensureDeferred
async def test_a_body_is_not_read_before_it_is_wanted(bench: Bench) -> None:
    """Nobody takes the body: the peer's bytes stay in the kernels' buffers."""
    url = bench.peer(honest(bytes(64 << 20)))
    reply = await bench.client().ask("GET", url, HEX)
    assert reply.fields("content-length") == [str(64 << 20)]
    body = reply.take(0, 64 << 20)
    assert sum(map(len, await body.read())) < 2 << 20
    body.abort("seen enough")


@pytest_twisted.ensureDeferred
async def test_lengths_are_those_of_the_framing(bench: Bench) -> None:
    client = bench.client()
    url = bench.peer(honest(b"four"))
    head = await client.ask("HEAD", url, HEX)
    assert head.fields("content-length") == ["4"]
    head.drop()
    get = await client.ask("GET", url, HEX)
    assert get.fields("content-length") == ["4"]
    get.drop()
    chunked = await client.ask("GET", bench.peer(hostile.endless_chunks), HEX)
    assert chunked.fields("content-length") == []
    chunked.drop()


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (hostile.silent, "no answer within 0.3 seconds"),
        (hostile.closes, "closed the connection instead of answering"),
        (hostile.half_a_head, "no answer within 0.3 seconds"),
        (hostile.speaks_no_http, "no usable head: "),
        (hostile.encoded(b"x"), "sent Content-Encoding gzip, which nobody asked for"),
        (hostile.encoded(b"x", "a\x1bb"), "sent Content-Encoding a?b, which nobody asked for"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_went_wrong_in_words(bench: Bench, behaviour: Behaviour, words: str) -> None:
    client = bench.client(first_byte=0.3)
    with pytest.raises(PeerFailure) as caught:
        await client.ask("GET", bench.peer(behaviour), HEX)
    assert caught.value.reason.startswith(words)


def test_a_reason_is_one_line_of_plain_text() -> None:
    assert one_line("a\r\nb\x1b[31m\u202e") == "a??b?[31m?"
    assert len(one_line("x" * 10_000)) < 250


def test_who_is_given_up_while_it_is_connected_to_did_not_fail() -> None:
    """To take that for a peer's failure would be to ask the next one, for nobody."""
    still: Any = MemoryReactorClock()
    client = open_peer_http(still, PeerLimits())
    asking = Deferred.fromCoroutine(client.ask("GET", "http://192.0.2.1:80", HEX))
    assert len(still.tcpClients) == 1
    asking.cancel()
    assert isinstance(asking.result, Failure)
    asking.addErrback(lambda failure: failure.trap(CancelledError) and None)
    assert asking.result is None

"""Which addresses are connected to, and that no others are, whatever names and answers say."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.protocol import Factory, Protocol
from zope.interface import directlyProvides, implementer, providedBy

from dtfc.peers.addresses import EVERYWHERE, is_public, why_not
from dtfc.peers.body import PeerLimits
from dtfc.peers.client import PeerHTTP, open_peer_http
from dtfc.peers.failure import PeerFailure

reactor: Any = _reactor
DIGEST = "ab" * 64

NEVER = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fe80::1%lo",
    "febf::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",
    "0.1.2.3",
    "0.255.255.255",
    "::",
    "224.0.0.1",
    "239.255.255.255",
    "ff02::1",
    "ff0e::1",
    "240.0.0.1",
    "255.255.255.255",
    # The same in other clothes.
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:224.0.0.1",
    "::ffff:255.255.255.255",
    "::ffff:100.100.100.200",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "2002:a9fe:a9fe::1",
    "2002:0:0::",
    "2001:0:a9fe:a9fe::",
    "2001:0:1:1::5601:5601",
    "",
    "localhost",
    "169.254.169.254.",
    "0x7f.1",
]
LOOPBACK = [
    "127.0.0.1",
    "127.8.9.10",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
]
ALLOWED = [
    "192.0.2.7",
    "10.0.0.5",
    "192.168.1.1",
    "172.16.0.1",
    "100.64.0.1",
    "2001:db8::1",
    "fd12:3456::1",
    "::ffff:10.0.0.5",
]


@pytest.mark.parametrize("address", NEVER)
def test_what_is_never_connected_to(address: str) -> None:
    for host in (address, "mirror.example", "localhost"):
        assert why_not(address, (), host=host)


@pytest.mark.parametrize("address", LOOPBACK)
def test_this_machine_under_a_name_of_another(address: str) -> None:
    assert why_not(address, (), host="mirror.example", own_names=("here",))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "here", "127.0.0.1"])
def test_this_machine_where_it_is_meant(host: str) -> None:
    assert not why_not("127.0.0.1", (), host=host, own_names=("here",))


@pytest.mark.parametrize("address", ALLOWED)
def test_what_mirrors_have(address: str) -> None:
    assert not why_not(address, (), host="mirror.example")


@pytest.mark.parametrize(
    ("address", "networks", "is_allowed"),
    [
        ("10.0.0.5", ["10.0.0.0/8"], True),
        ("::ffff:10.0.0.5", ["10.0.0.0/8"], True),
        ("192.0.2.7", ["10.0.0.0/8"], False),
        ("127.0.0.1", ["10.0.0.0/8"], False),
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("169.254.1.1", ["169.254.1.0/24"], True),
        ("169.254.169.254", ["169.254.1.0/24"], False),
        ("2001:db8::1", ["10.0.0.0/8"], False),
    ],
)
def test_where_networks_are_listed(address: str, networks: list[str], *, is_allowed: bool) -> None:
    listed = tuple(map(ipaddress.ip_network, networks))
    assert (not why_not(address, listed, host="mirror.example")) is is_allowed


@given(st.ip_addresses())
def test_any_address_is_allowed_where_all_are(address: Any) -> None:
    assert not why_not(str(address), EVERYWHERE, host="mirror.example")


@given(st.ip_addresses(v=4))
def test_clothes_change_nothing(address: ipaddress.IPv4Address) -> None:
    plain = bool(why_not(str(address), (), host="mirror.example"))
    for prefix in ("::ffff:", "64:ff9b::"):
        assert bool(why_not(f"{prefix}{address}", (), host="mirror.example")) is plain


def _is_plain(address: str) -> bool:
    """Whether a URL can have it."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return "%" not in address


@implementer(IHostnameResolver)
class Says:
    """A resolver that says what it is told to, another thing each time."""

    def __init__(self, answers: Sequence[Sequence[str]]) -> None:
        self._answers = list(answers)

    def resolveHostName(  # noqa: N802 - Twisted's name
        self,
        resolutionReceiver: Any,  # noqa: N803 - Twisted's name
        hostName: str,  # noqa: ARG002, N803 - Twisted's name
        portNumber: int = 0,  # noqa: N803 - Twisted's name
        *_rest: Any,
        **_more: Any,
    ) -> Any:
        resolutionReceiver.resolutionBegan(None)
        for each in self._answers.pop(0) if self._answers else ():
            kind: Callable[..., Any] = IPv6Address if ":" in each else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", each, portNumber))
        resolutionReceiver.resolutionComplete()
        return None


class Watched:
    """The reactor, with another resolver; remembers what is connected to."""

    def __init__(self, answers: Sequence[Sequence[str]] = ()) -> None:
        self.nameResolver = Says(answers)
        self.connected: list[str] = []
        directlyProvides(self, providedBy(reactor))

    def connectTCP(self, host: str, *rest: Any, **more: Any) -> Any:  # noqa: N802 - Twisted's name
        self.connected.append(host)
        return reactor.connectTCP(host, *rest, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Listening(Factory):
    """Counts who connects, and answers with one thing."""

    noisy = False

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.count = 0

    def buildProtocol(self, addr: Any) -> Protocol:  # noqa: ARG002, N802 - Twisted's name
        self.count += 1
        answer = self.answer

        class Answers(Protocol):
            def dataReceived(self, data: bytes) -> None:  # noqa: ARG002, N802 - Twisted's name
                if self.transport is not None:
                    self.transport.write(answer)
                    self.transport.loseConnection()

        return Answers()


@pytest.fixture
def here() -> Iterator[tuple[Listening, int]]:
    factory = Listening()
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    yield factory, port.getHost().port
    pytest_twisted.blockon(port.stopListening())


async def ask(watched: Watched, url: str, **limits: Any) -> str:
    http: PeerHTTP = open_peer_http(watched, PeerLimits(connect=1, first_byte=1, **limits))
    try:
        reply = await http.ask("GET", url, DIGEST)
        reply.drop()
        return str(reply.status)
    except PeerFailure as failure:
        return str(failure)
    finally:
        await http.close()


@pytest.mark.parametrize("address", [each for each in NEVER if _is_plain(each)])
@pytest_twisted.ensureDeferred
async def test_a_list_that_names_one_gets_no_connection(address: str) -> None:
    watched = Watched()
    host = f"[{address}]" if ":" in address else address
    told = await ask(watched, f"http://{host}:80")
    assert "--peer-networks" in told
    assert watched.connected == []


@pytest.mark.parametrize(
    "answer",
    [["169.254.169.254"], ["127.0.0.1"], ["::1"], ["fe80::1", "127.0.0.1"], ["0.0.0.0"]],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_a_name_that_leads_there_gets_none(
    here: tuple[Listening, int], answer: list[str]
) -> None:
    watched = Watched([answer])
    told = await ask(watched, f"http://mirror.example:{here[1]}")
    assert "--peer-networks" in told
    assert (watched.connected, here[0].count) == ([], 0)


@pytest_twisted.ensureDeferred
async def test_a_name_that_changes_its_mind_gets_one_connection(
    here: tuple[Listening, int],
) -> None:
    networks = (ipaddress.ip_network("127.0.0.1/32"),)
    here[0].answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    watched = Watched([["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"]])
    url = f"http://mirror.example:{here[1]}"
    told = [await ask(watched, url, networks=networks) for _ in range(3)]
    assert told[0] == "404"
    assert all("--peer-networks" in each for each in told[1:])
    assert watched.connected == ["127.0.0.1"]


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("target", ["http://169.254.169.254/", "file:///etc/passwd", "//[::1]/"])
@pytest_twisted.ensureDeferred
async def test_no_redirect_is_followed(
    here: tuple[Listening, int], status: int, target: str
) -> None:
    here[0].answer = (
        f"HTTP/1.1 {status} Elsewhere\r\nLocation: {target}\r\nRefresh: 0;url={target}\r\n"
        f'Alt-Svc: http/1.1="{target}"\r\nLink: <{target}>; rel=alternate\r\n'
        "Content-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()
    watched = Watched()
    assert await ask(watched, f"http://127.0.0.1:{here[1]}") == str(status)
    assert watched.connected == ["127.0.0.1"]


@pytest_twisted.ensureDeferred
async def test_an_ipv6_address_is_connected_to() -> None:
    factory = Listening(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    port = reactor.listenTCP(0, factory, interface="::1")
    try:
        assert await ask(Watched(), f"http://[::1]:{port.getHost().port}") == "404"
    finally:
        await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_no_proxy_is_asked(
    here: tuple[Listening, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{here[1]}")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        await ask(Watched(), f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert here[0].count == 0


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("files.example.org", True),
        ("files.example.org.", True),
        ("8.8.8.8", True),
        ("2a01:4f8::1", True),
        ("[2a01:4f8::1]", True),
        ("localhost", False),
        ("files", False),
        ("files.local", False),
        ("a.b.internal", False),
        ("files.home.arpa", False),
        ("10.0.0.5", False),
        ("127.0.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1%lo", False),
        ("::ffff:10.0.0.5", False),
        ("64:ff9b::10.0.0.5", False),
        ("2002:a00:5::", False),
        ("", False),
    ],
)
def test_what_everybody_can_reach(host: str, public: bool) -> None:  # noqa: FBT001 -- a table
    assert is_public(host) is public

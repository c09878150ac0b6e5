"""Signed requests at the gate: who is a peer, what a bad signature leads to, and only once."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from dtfc.access.decisions import Policy
from dtfc.access.signatures import Message, PeerTerms, Proof, Secrets, sign
from dtfc.access.verbs import Verb
from dtfc.errors import BadSignature, Denied, TooLarge, WrongDigest
from dtfc.web.gate import Gate
from dtfc.web.peerbody import read_small

NewWire = Callable[..., Any]
KEY = b"0123456789abcdef0123456789abcdef"
NOW = 1_795_000_000.0
HERE = "files1.example:8080"
SENDER = "00112233445566ff"


def gate(policy: Policy | None = None, own: str = "", key: bytes = KEY) -> Gate:
    terms = PeerTerms(Secrets((key,)), 3600, frozenset({own} if own else ()))
    return Gate(policy or Policy(), terms, lambda: NOW)


class Asking:
    """Makes requests from an address to an address."""

    def __init__(self, new_wire: NewWire) -> None:
        self._new_wire = new_wire
        self.number = 0

    def request(
        self,
        method: str,
        *fields: str,
        body: bytes = b"",
        source: str = "192.0.2.7",
        host: str = HERE,
    ) -> Any:
        wire = self._new_wire()
        wire.channel.transport.getPeer = lambda: IPv4Address("TCP", source, 40000)
        wire.channel.transport.getHost = lambda: IPv4Address("TCP", "10.0.0.5", 8080)
        head = [f"{method} /name HTTP/1.1", f"Host: {host}", *fields]
        head += [f"Content-Length: {len(body)}"] if body else []
        wire.send("\r\n".join([*head, "", ""]).encode() + body)
        return wire.requests[0]

    def signed(
        self,
        method: str,
        body: bytes = b"",
        *,
        authority: str = HERE,
        number: int | None = None,
        promise: bytes | None = None,
        created: float = NOW,
        **where: Any,
    ) -> Any:
        self.number += 1
        fields = {"host": [HERE]}
        if body:
            digest = hashlib.sha512(body if promise is None else promise).digest()
            fields["content-digest"] = [f"sha-512=:{base64.b64encode(digest).decode()}:"]
        message = Message(method, "/name", None, fields, bool(body))
        proof = Proof(SENDER, self.number if number is None else number, int(created))
        lines = [f"{name}: {value}" for name, value in sign(KEY, message, authority, proof)]
        lines += [f"{name}: {value[0]}" for name, value in fields.items() if name != "host"]
        return self.request(method, *lines, body=body, **where)


@pytest.fixture
def asking(new_wire: NewWire) -> Asking:
    return Asking(new_wire)


@pytest.mark.parametrize("verb", [Verb.PUT, Verb.DELETE])
def test_a_signed_write_is_let_in_and_any_other_is_not(asking: Asking, verb: Verb) -> None:
    gate().admit(asking.signed(verb.name), verb)

    with pytest.raises(Denied):
        gate().admit(asking.request(verb.name), verb)


def test_once(asking: Asking) -> None:
    here = gate()
    here.admit(asking.signed("PUT", number=1), Verb.PUT)

    with pytest.raises(BadSignature, match="came before"):
        here.admit(asking.signed("PUT", number=1), Verb.PUT)


def test_to_be_asked_twice_about_one_request_is_no_replay(asking: Asking) -> None:
    here = gate()
    request = asking.signed("DELETE")

    here.admit(request, Verb.DELETE)
    here.admit_peer(request)

    assert here.is_peer(request)


def test_a_read_may_come_again(asking: Asking) -> None:
    here = gate()

    assert [here.is_peer(asking.signed("GET", number=1)) for _ in range(2)] == [True, True]


def test_a_bad_signature_is_never_an_anonymous_write(asking: Asking) -> None:
    everything = Policy(anonymous=frozenset(Verb))
    strange = gate(everything, key=b"another secret of a decent length")

    for source in ("192.0.2.7", "127.0.0.1"):
        with pytest.raises(BadSignature, match="does not have"):
            strange.admit(asking.signed("PUT", source=source), Verb.PUT)


def test_but_an_anonymous_read(asking: Asking) -> None:
    strange = gate(key=b"another secret of a decent length")
    request = asking.signed("GET")

    strange.admit(request, Verb.GET)

    with pytest.raises(BadSignature):
        strange.admit_peer(request)


@pytest.mark.parametrize("off", [-3601, 3601])
def test_what_was_signed_at_another_time(asking: Asking, off: int) -> None:
    with pytest.raises(BadSignature, match="3601 seconds"):
        gate().admit(asking.signed("PUT", created=NOW + off), Verb.PUT)


@pytest.mark.parametrize("off", [-3600, 3600])
def test_what_was_signed_by_a_clock_that_is_off(asking: Asking, off: int) -> None:
    here = gate()
    here.admit(asking.signed("PUT", created=NOW + off, number=1), Verb.PUT)

    with pytest.raises(BadSignature, match="came before"):
        here.admit(asking.signed("PUT", created=NOW + off, number=1), Verb.PUT)


def test_the_log_says_why_but_not_each_time(asking: Asking) -> None:
    said: list[str] = []

    @implementer(ILogObserver)
    class Observer:
        def __call__(self, event: LogEvent) -> None:
            said.append(formatEvent(event))

    observe = Observer()
    strange = gate(key=b"another secret of a decent length")
    globalLogPublisher.addObserver(observe)
    try:
        for _ in range(3):
            strange.is_peer(asking.signed("PUT"))
    finally:
        globalLogPublisher.removeObserver(observe)

    (line,) = said
    assert line.startswith("PUT from 192.0.2.7: this request does not prove")
    assert line.endswith("it is signed with a secret that this node does not have")


def test_without_a_secret_signatures_count_for_nothing(asking: Asking) -> None:
    with pytest.raises(Denied):
        Gate(Policy()).admit(asking.signed("PUT"), Verb.PUT)


def test_a_form_is_not_let_in_by_a_signature(asking: Asking) -> None:
    with pytest.raises(Denied):
        gate().admit(asking.signed("POST", b"a form"), Verb.PUT)


class TestForWhom:
    def test_a_node_that_knows_its_address_believes_no_host(self, asking: Asking) -> None:
        elsewhere = gate(own="files2.example:8080")

        with pytest.raises(BadSignature, match="meant for another node"):
            elsewhere.admit(asking.signed("PUT"), Verb.PUT)

    def test_behind_a_proxy_that_changes_host(self, asking: Asking) -> None:
        gate(own=HERE).admit(asking.signed("PUT", host="backend"), Verb.PUT)

    def test_by_the_address_that_was_connected_to(self, asking: Asking) -> None:
        gate(own=HERE).admit(asking.signed("PUT", authority="10.0.0.5:8080"), Verb.PUT)

    def test_a_node_that_does_not_know_its_address_believes_host(self, asking: Asking) -> None:
        gate().admit(asking.signed("PUT", host=HERE.upper()), Verb.PUT)

        with pytest.raises(BadSignature, match="meant for another node"):
            gate().admit(asking.signed("PUT", host="files2.example"), Verb.PUT)


class TestPeers:
    def test_with_a_secret_this_machine_is_none(self, asking: Asking) -> None:
        assert not gate().is_peer(asking.request("PUT", source="127.0.0.1"))
        assert gate().is_peer(asking.signed("PUT", source="127.0.0.1"))

    def test_without_one_it_is(self, asking: Asking) -> None:
        assert Gate(Policy()).is_peer(asking.request("PUT", source="127.0.0.1", host="localhost"))
        assert not Gate(Policy()).is_peer(asking.request("PUT"))

    def test_the_refusal_says_what_to_do(self, asking: Asking) -> None:
        with pytest.raises(Denied, match="--peer-secret-file"):
            Gate(Policy()).admit_peer(asking.request("POST"))


class TestBodies:
    @pytest_twisted.ensureDeferred
    async def test_a_body_as_it_was_promised(self, asking: Asking) -> None:
        assert await read_small(asking.signed("POST", b"hello"), 5, "--x") == b"hello"

    @pytest_twisted.ensureDeferred
    async def test_another_body(self, asking: Asking) -> None:
        with pytest.raises(WrongDigest):
            await read_small(asking.signed("POST", b"jello", promise=b"hello"), 10, "--x")

    @pytest_twisted.ensureDeferred
    async def test_a_large_body(self, asking: Asking) -> None:
        with pytest.raises(TooLarge, match="--x"):
            await read_small(asking.signed("POST", b"hello"), 4, "--x")

    @pytest_twisted.ensureDeferred
    async def test_one_without_a_promise(self, asking: Asking) -> None:
        assert await read_small(asking.request("POST", body=b"hello"), 5, "--x") == b"hello"

    @pytest_twisted.ensureDeferred
    async def test_none(self, asking: Asking) -> None:
        assert await read_small(asking.request("POST"), 5, "--x") == b""

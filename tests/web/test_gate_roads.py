"""Peers' signatures and operators' markers at the gate, on both roads."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.access.decisions import Policy
from dtfc.access.signatures import Message, PeerTerms, Proof, Secrets, sign
from dtfc.access.verbs import Verb
from tests.support.roads import CONTENT, DIGEST, TwoRoads

KEY = b"0123456789abcdef0123456789abcdef"
STRANGE = b"another secret of a decent length"
FAR = "X-Forwarded-For: 203.0.113.9"
PATHS = {
    Verb.PUT: "/photo.jpg",
    Verb.GET: f"/{DIGEST.hex}",
    Verb.HEAD: f"/{DIGEST.hex}",
    Verb.DELETE: f"/{DIGEST.hex}",
}
#: A deletion last: what comes after it finds nothing.
VERBS = tuple(PATHS)
OPEN = {
    "private": frozenset[Verb](),
    "usual": frozenset({Verb.GET, Verb.HEAD}),
    "all": frozenset(Verb),
}
DONE = {Verb.PUT: {200, 201}, Verb.GET: {200}, Verb.HEAD: {200}, Verb.DELETE: {200}}

_numbers = itertools.count(1)


def signed(
    verb: Verb, *, key: bytes = KEY, late: float = 0, path: str = "", number: int = 0
) -> list[str]:
    """Return the fields with which a peer signs a request, or something else than that."""
    body = CONTENT if verb is Verb.PUT else b""
    fields = {"host": ["a"]}
    if body:
        digest = base64.b64encode(hashlib.sha512(body).digest()).decode()
        fields["content-digest"] = [f"sha-512=:{digest}:"]
    message = Message(verb.name, path or PATHS[verb], None, fields, bool(body))
    proof = Proof("00112233445566ff", number or next(_numbers), int(time.time() - late))
    lines = [f"{name}: {value}" for name, value in sign(key, message, "a", proof)]
    return lines + [f"{name}: {value[0]}" for name, value in fields.items() if name != "host"]


#: How somebody signs, and whether that makes a peer of them.
SIGNED: dict[str, tuple[dict[str, Any], bool]] = {
    "right": ({}, True),
    "with another secret": ({"key": STRANGE}, False),
    "too long ago": ({"late": 7200}, False),
    "for another path": ({"path": "/" + "0" * 128}, False),
}


@pytest.fixture
def roads(tmp_path: Path) -> Iterator[TwoRoads]:
    roads = TwoRoads(tmp_path)
    roads.gate.terms = PeerTerms(Secrets((KEY,)), 3600, frozenset())
    yield roads
    pytest_twisted.blockon(Deferred.fromCoroutine(roads.stop()))


def policy(tmp_path: Path, opened: str) -> Policy:
    proxies = (ipaddress.IPv4Network("127.0.0.1/32"),)
    return Policy(str(tmp_path / "deny-"), OPEN[opened], proxies)


def ask(roads: TwoRoads, road: int, verb: Verb, *fields: str) -> int:
    """Do something with the photo; return the status."""
    body = CONTENT if verb is Verb.PUT else b""
    head = [f"{verb.name} {PATHS[verb]} HTTP/1.1", "Host: a", *fields, "Connection: close"]
    head += [f"Content-Length: {len(body)}"] if body else []
    with roads.connect(road) as connection:
        return int(connection.ask("\r\n".join([*head, "", ""]).encode() + body).split()[1])


def store_again(roads: TwoRoads) -> None:
    assert ask(roads, 1, Verb.PUT) in DONE[Verb.PUT]


@pytest.mark.parametrize("opened", OPEN)
@pytest_twisted.ensureDeferred
async def test_every_signature_verb_and_setting_on_both_roads(
    roads: TwoRoads, tmp_path: Path, opened: str
) -> None:
    roads.gate.policy = policy(tmp_path, opened)

    def asked() -> list[str]:
        wrong = []
        for road, how, verb in itertools.product((0, 1), SIGNED, VERBS):
            if verb is not Verb.DELETE:
                store_again(roads)
            given, is_peer = SIGNED[how]
            status = ask(roads, road, verb, FAR, *signed(verb, **given))
            # A read that is everybody's needs no proof; a write that brings one needs it.
            free = verb in {Verb.GET, Verb.HEAD} & OPEN[opened]
            expected = DONE[verb] if is_peer or free else {401}
            if status not in expected:
                wrong.append(f"road {road}, signed {how}, {verb.name}: {status}, not {expected}")
        return wrong

    assert await deferToThread(asked) == []


@pytest_twisted.ensureDeferred
async def test_what_was_signed_once_changes_nothing_a_second_time(
    roads: TwoRoads, tmp_path: Path
) -> None:
    roads.gate.policy = policy(tmp_path, "private")

    def asked() -> list[int]:
        found = []
        for road, verb in itertools.product((0, 1), (Verb.PUT, Verb.DELETE)):
            store_again(roads)
            fields = signed(verb)
            found += [ask(roads, each, verb, FAR, *fields) for each in (road, 1 - road)]
        return found

    assert await deferToThread(asked) in ([200, 401] * 4, [201, 401, 200, 401] * 2)


@pytest.mark.parametrize("opened", OPEN)
@pytest.mark.parametrize("status", [403, 404])
@pytest_twisted.ensureDeferred
async def test_a_marker_is_for_everybody_on_both_roads(
    roads: TwoRoads, tmp_path: Path, status: Literal[403, 404], opened: str
) -> None:
    roads.gate.policy = policy(tmp_path, opened)

    def asked() -> list[str]:
        store_again(roads)
        roads.warm()
        Path(roads.store.layout.marker(DIGEST, status)).touch()
        wrong = []
        for road, verb in itertools.product((0, 1), VERBS):
            # The bytes go once; an operator's marker says the same before and after.
            expected = {Verb.PUT: [403, 403], Verb.DELETE: [200 if road == 0 else 404, 404]}
            here = [ask(roads, road, verb), ask(roads, road, verb, FAR, *signed(verb))]
            if here != expected.get(verb, [status, status]):
                wrong.append(f"road {road}, {verb.name}: {here}")
        return wrong

    assert await deferToThread(asked) == []

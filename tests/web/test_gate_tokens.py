"""Tokens at the gate, on both roads: who gets what, with which status, and what nobody is told."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.access.decisions import Policy
from dtfc.access.tokens import Tokens, parse_tokens
from dtfc.access.verbs import Verb
from tests.support.roads import CONTENT, DIGEST, TwoRoads

SECRETS = {
    name: f"dtfc_{name}" + "x" * 30 for name in ("all", "read", "put", "photos", "late", "ab")
}
CONDITIONS = {
    "all": "get,head,put,delete",
    "read": "get,head",
    "put": "put",
    "photos": "get,head,put,delete names=photo",
    "late": "get,head,put,delete expires=2020-01-01",
    "ab": f"get,head,put,delete digests={'0' if DIGEST.hex[0] != '0' else '1'}",
}
FILE = "".join(
    f"{name} {hashlib.sha256(secret.encode()).hexdigest()} {CONDITIONS[name]}\n"
    for name, secret in SECRETS.items()
)
FAR = "203.0.113.9"


def tokens() -> Tokens:
    found, bad = parse_tokens(FILE)
    assert not bad
    return found


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Args:
        token: what it brings, by name; ``unknown`` for one of nobody's.
        far: whether it comes from another machine.
    """

    token: str = ""
    far: bool = True

    @property
    def fields(self) -> list[str]:
        lines = [f"X-Forwarded-For: {FAR}"] if self.far else []
        secret = SECRETS.get(self.token, "dtfc_unknown")
        return [*lines, f"Authorization: Bearer {secret}"] if self.token else lines


#: What each may do with the photo, where only what a policy opens is open.
MAY: dict[Principal, set[Verb]] = {
    Principal(): set(),
    Principal(far=False): set(Verb),
    Principal("all"): set(Verb),
    Principal("read"): {Verb.GET, Verb.HEAD},
    Principal("put"): {Verb.PUT},
    Principal("photos"): set(Verb),
    Principal("ab"): set(),
}
NOBODY = [Principal("unknown"), Principal("late"), Principal("unknown", far=False)]

OPEN = {
    "private": frozenset[Verb](),
    "usual": frozenset({Verb.GET, Verb.HEAD}),
    "all": frozenset(Verb),
}


@pytest.fixture
def roads(tmp_path: Path) -> Iterator[TwoRoads]:
    roads = TwoRoads(tmp_path)
    roads.gate.tokens = tokens()
    yield roads
    pytest_twisted.blockon(Deferred.fromCoroutine(roads.stop()))


def policy(tmp_path: Path, opened: str) -> Policy:
    import ipaddress  # noqa: PLC0415 -- for a constant

    return Policy(
        str(tmp_path / "deny-"),
        OPEN[opened],
        (ipaddress.IPv4Network("127.0.0.1/32"),),
        tokens=True,
    )


def ask(roads: TwoRoads, road: int, verb: Verb, who: Principal) -> tuple[int, dict[str, str]]:
    """Do something with the photo; return the status, and the fields."""
    body = CONTENT if verb is Verb.PUT else b""
    path = "/photo.jpg" if verb is Verb.PUT else f"/{DIGEST.hex}"
    head = [f"{verb.name} {path} HTTP/1.1", "Host: a", *who.fields, "Connection: close"]
    head += [f"Content-Length: {len(body)}"] if body else []
    with roads.connect(road) as connection:
        answer: Any = connection.ask("\r\n".join([*head, "", ""]).encode() + body)
    first, *lines = answer.split(b"\r\n\r\n", 1)[0].decode().split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    return int(first.split()[1]), fields


def expected(who: Principal, verb: Verb, opened: frozenset[Verb]) -> set[int]:
    done = {200, 201} if verb is Verb.PUT else {200}
    if who in NOBODY:
        return {401}
    if verb in opened or verb in MAY[who]:
        return done
    return {403} if who.token else {401}


@pytest.mark.parametrize("opened", OPEN)
@pytest_twisted.ensureDeferred
async def test_every_principal_verb_and_setting_on_both_roads(
    roads: TwoRoads, tmp_path: Path, opened: str
) -> None:
    roads.gate.policy = policy(tmp_path, opened)

    def asked() -> list[str]:
        wrong = []
        # A deletion last: what comes after it finds nothing.
        verbs = (Verb.PUT, Verb.GET, Verb.HEAD, Verb.DELETE)
        for road, who, verb in itertools.product((0, 1), [*MAY, *NOBODY], verbs):
            if verb is Verb.PUT or (verb is not Verb.DELETE):
                ask(roads, 1, Verb.PUT, Principal(far=False))
            status, fields = ask(roads, road, verb, who)
            if status not in expected(who, verb, OPEN[opened]):
                wrong.append(f"{opened}, road {road}: {verb.name} by {who}: {status}")
            if (status == 401) != fields.get("www-authenticate", "").startswith("Bearer"):
                wrong.append(f"{opened}, road {road}: {verb.name} by {who}: {status} {fields}")
        return wrong

    assert await deferToThread(asked) == []


@pytest_twisted.ensureDeferred
async def test_a_deny_file_is_for_whoever_has_a_token_too(roads: TwoRoads, tmp_path: Path) -> None:
    roads.gate.policy = policy(tmp_path, "private")
    (tmp_path / "deny-get").touch()
    status, _ = await deferToThread(ask, roads, 0, Verb.GET, Principal("all"))
    assert status == 403


@pytest_twisted.ensureDeferred
async def test_so_is_a_page_of_another_site(roads: TwoRoads, tmp_path: Path) -> None:
    """A browser that knows the token of one page may not use it for another."""
    roads.gate.policy = policy(tmp_path, "private")

    def asked() -> int:
        head = [
            f"DELETE /{DIGEST.hex} HTTP/1.1",
            *("Host: a", "Sec-Fetch-Site: cross-site", *Principal("all").fields),
            *("Connection: close", "", ""),
        ]
        with roads.connect(0) as connection:
            answer: Any = connection.ask("\r\n".join(head).encode())
        return int(answer.split()[1])

    assert await deferToThread(asked) == 403


@pytest_twisted.ensureDeferred
async def test_the_log_names_the_token_and_never_has_it(roads: TwoRoads, tmp_path: Path) -> None:
    roads.gate.policy = policy(tmp_path, "private")
    await deferToThread(ask, roads, 0, Verb.GET, Principal("read"))
    await deferToThread(ask, roads, 0, Verb.GET, Principal("unknown"))
    assert [each.principal for each in roads.log[-2:]] == ["read", "-"]
    assert not [each for each in roads.log if "dtfc_" in str(each)]


@pytest_twisted.ensureDeferred
async def test_names_of_what_is_elsewhere_prove_nothing(roads: TwoRoads, tmp_path: Path) -> None:
    """The load would bring a name, which a peer has made up."""
    roads.gate.policy = policy(tmp_path, "private")

    def asked() -> int:
        head = [f"GET /{'e' * 128} HTTP/1.1", "Host: a", *Principal("photos").fields]
        with roads.connect(0) as connection:
            answer: Any = connection.ask("\r\n".join([*head, "Connection: close", "", ""]).encode())
        return int(answer.split()[1])

    assert await deferToThread(asked) == 403

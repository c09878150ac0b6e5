"""Signed URLs at the gate, on both roads: used right, late, changed, from elsewhere."""

from __future__ import annotations

import ipaddress
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.access.decisions import Policy
from dtfc.access.links import sign_link
from dtfc.access.signatures import Secrets
from dtfc.access.verbs import Verb
from tests.support.roads import CONTENT, DIGEST, TwoRoads

KEY = b"0123456789abcdef0123456789abcdef"
FAR = "203.0.113.9"
PATHS = {
    Verb.GET: f"/{DIGEST.hex}",
    Verb.HEAD: f"/{DIGEST.hex}",
    Verb.PUT: "/photo.jpg",
    Verb.DELETE: f"/{DIGEST.hex}",
}


def link(verb: Verb, *, seconds: float = 60, query: str = "", network: str = "") -> str:
    by = Verb.GET if verb is Verb.HEAD else verb
    expires = int(time.time() + seconds)
    return sign_link(KEY, by, PATHS[verb], expires, query=query, network=network)


USES: dict[str, tuple[Callable[[Verb], str], bool]] = {
    "right": (link, True),
    "with a name": (lambda verb: link(verb, query="name=a.jpg"), True),
    "from there": (lambda verb: link(verb, network=FAR), True),
    "late": (lambda verb: link(verb, seconds=-1), False),
    "changed": (lambda verb: link(verb, query="name=a.jpg").replace("a.jpg", "b.jpg"), False),
    "prolonged": (lambda verb: link(verb).replace("expires=1", "expires=2"), False),
    "from elsewhere": (lambda verb: link(verb, network="192.0.2.0/24"), False),
    "another blob's": (lambda verb: "/" + "0" * 128 + link(verb)[129:], False),
    "another verb's": (
        lambda verb: PATHS[verb] + link(Verb.GET if verb is Verb.PUT else Verb.PUT)[129:],
        False,
    ),
    "no signature": (lambda verb: link(verb).partition("&sig=")[0], False),
}


@pytest.fixture
def roads(tmp_path: Path) -> Iterator[TwoRoads]:
    roads = TwoRoads(tmp_path)
    roads.gate.url_secrets = Secrets((KEY,))
    yield roads
    pytest_twisted.blockon(Deferred.fromCoroutine(roads.stop()))


def policy(tmp_path: Path, *opened: Verb) -> Policy:
    proxy = ipaddress.IPv4Network("127.0.0.1/32")
    return Policy(str(tmp_path / "deny-"), frozenset(opened), (proxy,))


def ask(roads: TwoRoads, road: int, verb: Verb, target: str, *fields: str) -> int:
    """Ask from afar; return the status."""
    body = CONTENT if verb is Verb.PUT else b""
    length = [f"Content-Length: {len(body)}"] if body else []
    head = [f"{verb.name} {target} HTTP/1.1", "Host: a", *fields, *length, "Connection: close"]
    with roads.connect(road) as connection:
        answer: Any = connection.ask("\r\n".join([*head, "", ""]).encode() + body)
    return int(answer.split()[1])


@pytest_twisted.ensureDeferred
async def test_every_use_and_verb_on_both_roads(roads: TwoRoads, tmp_path: Path) -> None:
    roads.gate.policy = policy(tmp_path)

    def asked() -> list[str]:
        wrong = []
        for road, (use, (make, good)), verb in itertools.product((0, 1), USES.items(), Verb):
            if verb is not Verb.PUT:
                ask(roads, 1, Verb.PUT, "/photo.jpg")  # from this machine
            status = ask(roads, road, verb, make(verb), f"X-Forwarded-For: {FAR}")
            if status not in ((200, 201) if good else (403,)):
                wrong.append(f"road {road}: {verb.name}, {use}: {status}")
        return wrong

    assert await deferToThread(asked) == []


@pytest_twisted.ensureDeferred
async def test_one_that_was_changed_is_refused_where_reads_are_open_too(
    roads: TwoRoads, tmp_path: Path
) -> None:
    roads.gate.policy = policy(tmp_path, Verb.GET)
    await deferToThread(roads.warm)
    for road in (0, 1):
        url = link(Verb.GET)
        assert await deferToThread(ask, roads, road, Verb.GET, url) == 200
        assert await deferToThread(ask, roads, road, Verb.GET, url[:-1]) == 403


@pytest_twisted.ensureDeferred
async def test_a_deny_file_is_for_them_too(roads: TwoRoads, tmp_path: Path) -> None:
    roads.gate.policy = policy(tmp_path)
    (tmp_path / "deny-get").touch()
    assert await deferToThread(ask, roads, 0, Verb.GET, link(Verb.GET)) == 403


@pytest_twisted.ensureDeferred
async def test_without_secrets_nothing_is_signed(roads: TwoRoads, tmp_path: Path) -> None:
    roads.gate.url_secrets = None
    roads.gate.policy = policy(tmp_path)
    far = f"X-Forwarded-For: {FAR}"
    assert await deferToThread(ask, roads, 0, Verb.GET, link(Verb.GET), far) == 403


@pytest_twisted.ensureDeferred
async def test_no_signature_is_in_the_log(roads: TwoRoads, tmp_path: Path) -> None:
    roads.gate.policy = policy(tmp_path)
    url = link(Verb.GET)
    await deferToThread(ask, roads, 0, Verb.GET, url, f"X-Forwarded-For: {FAR}")
    entry = roads.log[-1]
    assert url.partition("sig=")[2] not in str(entry)
    assert "&sig=- HTTP/1.1" in entry.line
    assert entry.principal == "signed-url"


@pytest.mark.parametrize(
    ("opened", "said"),
    [((), "private, max-age=(59|60), immutable"), ((Verb.GET,), "public, max-age=31536000, ")],
)
@pytest_twisted.ensureDeferred
async def test_no_shared_cache_keeps_what_is_not_for_all(
    roads: TwoRoads, tmp_path: Path, opened: tuple[Verb, ...], said: str
) -> None:
    """It would give it to others, and after the URL has expired."""
    roads.gate.policy = policy(tmp_path, *opened)

    def asked() -> bytes:
        head = f"GET {link(Verb.GET)} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {FAR}\r\n\r\n"
        with roads.connect(0) as connection:
            return connection.ask(head.encode())

    answer = await deferToThread(asked)
    assert re.search(rf"\r\nCache-Control: {said}".encode(), answer)

"""Under which name, over what, and for which page: on both roads."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.access.decisions import Policy
from dtfc.access.tokens import parse_tokens
from dtfc.access.verbs import Verb
from dtfc.web.edge import EdgeTerms
from dtfc.web.fastlane import FastLane
from tests.support.roads import DIGEST, TwoRoads

SECRET = "dtfc_" + "e" * 40
TOKEN = f"Authorization: Bearer {SECRET}"
NAME = DIGEST.hex
SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "referrer-policy": "no-referrer",
}


class Place:
    """Two roads with terms."""

    def __init__(self, folder: Path) -> None:
        self.roads = TwoRoads(folder)
        self.roads.gate.tokens, _ = parse_tokens(
            f"one {hashlib.sha256(SECRET.encode()).hexdigest()} get,head,put,delete"
        )

    def set(self, **terms: Any) -> None:
        proxies = (ipaddress.ip_network("127.0.0.0/8"),)
        for site in self.roads.sites:
            site.edge.terms = EdgeTerms(trusted_proxies=proxies, **terms)
        # What it remembers was made under other terms: as a node does on reload.
        gate, site = self.roads.gate, self.roads.sites[0]
        site.fast_lane = FastLane(
            self.roads.hot,
            site.limits,
            lambda: gate.admits_all(Verb.GET),
            site.clock,
            site.edge.takes_host,
        )

    def ask(self, road: int, line: str, *fields: str) -> tuple[int, dict[str, str], bytes]:
        head = "".join(f"{each}\r\n" for each in (line, *fields))
        body = "u" if line.startswith(("PUT", "POST")) else ""
        if body:
            head += "Content-Length: 1\r\n"
        with self.roads.connect(road) as connection:
            answer = connection.ask(f"{head}\r\n{body}".encode())
        top, _, content = answer.partition(b"\r\n\r\n")
        lines = top.decode("latin-1").split("\r\n")
        told = dict(each.lower().split(": ", 1) for each in lines[1:])
        return int(lines[0].split(" ")[1]), told, content


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.roads.stop()))


ROADS = pytest.mark.parametrize("road", [0, 1], ids=["fast lane", "tree"])


NAMES: list[tuple[str, list[str], int]] = [
    (f"GET /{NAME} HTTP/1.1", ["Host: files.example"], 200),
    (f"GET /{NAME} HTTP/1.1", ["Host: FILES.example:8080"], 200),
    (f"GET /{NAME} HTTP/1.1", ["Host: ported.example:81"], 200),
    (f"GET /{NAME} HTTP/1.1", ["Host: ported.example"], 421),
    (f"GET /{NAME} HTTP/1.1", ["Host: evil.example"], 421),
    (f"GET /{NAME} HTTP/1.1", ["Host: files.example.evil"], 421),
    (f"GET /{NAME} HTTP/1.1", ["Host: 127.0.0.1"], 421),
    (f"GET http://evil.example/{NAME} HTTP/1.1", ["Host: files.example"], 421),
    (f"GET http://files.example/{NAME} HTTP/1.1", ["Host: evil.example"], 200),
    (f"GET /{NAME} HTTP/1.0", [], 421),
    ("PUT /u HTTP/1.1", ["Host: evil.example"], 421),
    ("GET /livez HTTP/1.1", ["Host: 10.0.0.1"], 200),
]


@ROADS
@pytest_twisted.ensureDeferred
async def test_names(place: Place, road: int) -> None:
    await deferToThread(place.roads.warm)
    place.set(hosts=frozenset({"files.example", "ported.example:81"}))
    for line, fields, status in NAMES * 2:
        found = await deferToThread(place.ask, road, line, *fields)
        assert (line, fields, found[0]) == (line, fields, status)
        assert b"evil" not in found[2]


FAR = "X-Forwarded-For: 203.0.113.9"
HERE = f"https://files.example/{NAME}"


SCHEMES: list[tuple[str, list[str], int, str | None]] = [
    # A trusted proxy's word: the last one counts, whatever a client wrote before it.
    (f"GET /{NAME} HTTP/1.1", [FAR, "X-Forwarded-Proto: https"], 200, None),
    (f"GET /{NAME} HTTP/1.1", [FAR, "X-Forwarded-Proto: http"], 308, HERE),
    (f"GET /{NAME} HTTP/1.1", [FAR, "X-Forwarded-Proto: https, http"], 308, HERE),
    (f"GET /{NAME} HTTP/1.1", [FAR, "X-Forwarded-Proto: http, https"], 200, None),
    (f"GET /{NAME} HTTP/1.1", [FAR, "X-Forwarded-Proto: httpsx"], 308, HERE),
    (f"GET /{NAME} HTTP/1.1", [FAR], 308, HERE),
    (f"HEAD /{NAME} HTTP/1.1", [FAR], 308, HERE),
    (f"GET /{NAME}?name=a%0d%0ab HTTP/1.1", [FAR], 308, f"{HERE}?name=a%0d%0ab"),
    ("PUT /u HTTP/1.1", [FAR, TOKEN], 403, None),
    (f"DELETE /{NAME} HTTP/1.1", [FAR, TOKEN], 403, None),
    ("PUT /u HTTP/1.1", [FAR, TOKEN, "X-Forwarded-Proto: https"], 201, None),
    # A program on this machine, for itself.
    (f"GET /{NAME} HTTP/1.1", [], 200, None),
    ("PUT /u HTTP/1.1", [], 200, None),
    (f"GET /{NAME} HTTP/1.1", ["X-Real-IP: 203.0.113.9"], 308, HERE),
    (f"GET /{NAME} HTTP/1.1", ["X-Forwarded-Host: b"], 308, HERE),
    ("OPTIONS * HTTP/1.1", [FAR], 204, None),
    ("GET /readyz HTTP/1.1", [FAR], 200, None),
]


@ROADS
@pytest_twisted.ensureDeferred
async def test_https(place: Place, road: int) -> None:
    await deferToThread(place.roads.warm)
    place.set(https="https://files.example")
    for line, fields, status, location in SCHEMES:
        found = await deferToThread(place.ask, road, line, "Host: evil.example", *fields)
        told = found[1].get("location") if found[0] == 308 else None
        assert (line, fields, found[0], told) == (line, fields, status, location)
        assert "evil" not in str(found[1])


@pytest_twisted.ensureDeferred
async def test_who_is_no_proxy_of_ours_is_not_believed(place: Place) -> None:
    for site in place.roads.sites:
        site.edge.terms = EdgeTerms(https="https://files.example")
    fields = ["Host: a", FAR, "X-Forwarded-Proto: https"]
    found = await deferToThread(place.ask, 1, f"GET /{NAME} HTTP/1.1", *fields)
    assert found[0] == 308


@pytest_twisted.ensureDeferred
async def test_browsers_are_told_to_stay_with_https(place: Place) -> None:
    place.set(https="https://files.example")
    secure = ["Host: a", FAR, "X-Forwarded-Proto: https"]
    over_tls = await deferToThread(place.ask, 1, f"GET /{NAME} HTTP/1.1", *secure)
    local = await deferToThread(place.ask, 1, f"GET /{NAME} HTTP/1.1", "Host: a")
    assert over_tls[1]["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in local[1]


LINES = [
    f"GET /{NAME} HTTP/1.1",
    f"HEAD /{NAME} HTTP/1.1",
    f"GET /{NAME}?inline=1 HTTP/1.1",
    f"GET /{NAME}/info HTTP/1.1",
    f"GET /{NAME}/chunks HTTP/1.1",
    f"GET /{'0' * 128}/nopeerload HTTP/1.1",
    "GET /files.json HTTP/1.1",
    "GET /livez HTTP/1.1",
    "GET /health.html HTTP/1.1",
    "GET /metrics HTTP/1.1",
    "GET /a/b/c HTTP/1.1",
    "GET // HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "PUT /u HTTP/1.1",
    "POST / HTTP/1.1",
    "BREW / HTTP/1.1",
    "GET / HTTP/3.0",
    "nonsense",
]


@ROADS
@pytest_twisted.ensureDeferred
async def test_every_answer_is_safe_in_a_browser(place: Place, road: int) -> None:
    await deferToThread(place.roads.warm)
    for line in LINES:
        _, told, _ = await deferToThread(place.ask, road, line, "Host: a")
        assert (line, {name: told.get(name) for name in SAFE}) == (line, SAFE)


@pytest.mark.parametrize("extra", [["Range: bytes=0-5"], [f'If-None-Match: "{NAME}"'], []])
@ROADS
@pytest_twisted.ensureDeferred
async def test_what_all_may_read_may_be_shown_anywhere(
    place: Place, road: int, extra: list[str]
) -> None:
    await deferToThread(place.roads.warm)
    _, told, _ = await deferToThread(place.ask, road, f"GET /{NAME} HTTP/1.1", "Host: a", *extra)
    assert told["cross-origin-resource-policy"] == "cross-origin"


@pytest_twisted.ensureDeferred
async def test_what_only_some_may_read_may_not(place: Place) -> None:
    place.roads.gate.policy = Policy(anonymous=frozenset(), tokens=True)
    for fields in ([TOKEN], []):
        _, told, _ = await deferToThread(place.ask, 1, f"GET /{NAME} HTTP/1.1", "Host: a", *fields)
        assert told["cross-origin-resource-policy"] == "same-origin"

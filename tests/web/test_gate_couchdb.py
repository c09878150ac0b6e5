"""CouchDB's users at the gate: who gets what, on both roads, and what nobody is told."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.access.decisions import Policy
from dtfc.access.sessions import USUAL, Grants
from dtfc.access.verbs import Verb
from dtfc.couchdb.client import Couch
from dtfc.couchdb.sessions import Sessions, SessionTerms
from dtfc.digest import Digest
from dtfc.web.accesslog import as_json, combined
from tests.support.couch import JWT, FakeCouch, basic
from tests.support.roads import DIGEST, TwoRoads

FAR = b"X-Forwarded-For: 203.0.113.9\r\n"
COOKIE = b"Cookie: theme=dark; AuthSession=%b\r\n"
ADA, BEA, OLD = (COOKIE % each for each in (b"Y29va2llLWFkYQ", b"Y29va2llLWJlYQ", b"b2xk"))
PRIVATE = frozenset[Verb]()
USUALLY = frozenset({Verb.GET, Verb.HEAD})
GRANTS = Grants(
    {
        "editors": USUALLY | {Verb.PUT},
        "_admin": frozenset(Verb),
        "*": USUALLY,
    }
)


class Place:
    """Two roads, and a CouchDB beside them."""

    def __init__(self, folder: Path) -> None:
        self.roads = TwoRoads(folder)
        self.server = FakeCouch()
        self.couch = Couch(reactor, self.server.url, 1.0)
        self.roads.gate.sessions = Sessions(self.couch, SessionTerms(failures=100), time.monotonic)
        self.set()

    def set(self, anonymous: frozenset[Verb] = PRIVATE, grants: Grants = GRANTS) -> None:
        self.roads.gate.policy = Policy(
            str(self.roads.gate.policy.deny_prefix),
            anonymous,
            (ipaddress.ip_network("127.0.0.0/8"),),
            couchdb=True,
            grants=grants,
        )

    def ask(self, road: int, method: bytes, fields: bytes, path: bytes = b"") -> bytes:
        body = b"u" if method in (b"PUT", b"POST") else b""
        length = b"Content-Length: 1\r\n" if body else b""
        path = path or (b"/u" if method == b"PUT" else b"/%b" % DIGEST.hex.encode())
        with self.roads.connect(road) as connection:
            head = b"%b %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n" % (method, path, length, fields)
            return connection.ask(head + body)

    def status(self, road: int, method: bytes, fields: bytes, path: bytes = b"") -> int:
        return int(self.ask(road, method, fields, path).split(b" ", 2)[1])

    async def stop(self) -> None:
        await self.couch.close()
        await self.server.stop()
        await self.roads.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


WHO = {
    "nobody": b"",
    "ada by cookie": ADA,
    "bea by cookie": BEA,
    "an old cookie": OLD,
    "ada by password": basic("ada", "secret-ada"),
    "root by password": basic("root", "secret-root"),
    "a wrong password": basic("ada", "guess"),
    "bea by token": b"Authorization: Bearer %b\r\n" % JWT.encode(),
    "a forged token": b"Authorization: Bearer %bx\r\n" % JWT.encode(),
    "a password beside a cookie": basic("ada", "guess") + ADA,
}
#: Status of GET, HEAD, PUT, DELETE where nothing is open.
CLOSED = {
    "nobody": (401, 401, 401, 401),
    "ada by cookie": (200, 200, 201, 403),
    "bea by cookie": (200, 200, 403, 403),
    "an old cookie": (401, 401, 401, 401),
    "ada by password": (200, 200, 201, 403),
    "root by password": (200, 200, 201, 200),
    "a wrong password": (401, 401, 401, 401),
    "bea by token": (200, 200, 403, 403),
    "a forged token": (401, 401, 401, 401),
    "a password beside a cookie": (401, 401, 401, 401),
}
METHODS = (b"GET", b"HEAD", b"PUT", b"DELETE")
SMALL = b"/%b" % Digest.of(b"u").hex.encode()
PHOTO = {b"GET": SMALL, b"HEAD": SMALL, b"PUT": b"/u", b"DELETE": SMALL}


@pytest.mark.parametrize("road", [0, 1], ids=["fast lane", "tree"])
@pytest_twisted.ensureDeferred
async def test_every_user_and_verb_on_both_roads(place: Place, road: int) -> None:
    await deferToThread(place.roads.warm)

    def all_of_them(who: str) -> list[int]:
        # The last deletion would leave nothing to read for the next one.
        place.status(road, b"PUT", b"", b"/photo.jpg")
        return [place.status(road, method, FAR + WHO[who], PHOTO[method]) for method in METHODS]

    for who, wanted in CLOSED.items():
        found = await deferToThread(all_of_them, who)
        assert (who, [_plain(each) for each in found]) == (who, [_plain(each) for each in wanted])


def _plain(status: int) -> int:
    """Stored anew or again: both are let in."""
    return 200 if status == 201 else status


@pytest.mark.parametrize("road", [0, 1], ids=["fast lane", "tree"])
@pytest_twisted.ensureDeferred
async def test_what_is_open_to_all_asks_nobody(place: Place, road: int) -> None:
    await deferToThread(place.roads.warm)
    place.set(USUALLY)
    place.server.fault = "500"

    for fields in WHO.values():
        assert await deferToThread(place.status, road, b"GET", FAR + fields) == 200
    assert place.server.asked == []


@pytest_twisted.ensureDeferred
async def test_nor_does_this_machine(place: Place) -> None:
    assert await deferToThread(place.status, 1, b"PUT", OLD) == 201
    assert place.server.asked == []


@pytest_twisted.ensureDeferred
async def test_a_deny_file_is_for_administrators_too(place: Place) -> None:
    def denied() -> int:
        Path(place.roads.gate.policy.deny_prefix + "put").touch()
        return place.status(1, b"PUT", FAR + WHO["root by password"])

    assert await deferToThread(denied) == 403


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Sec-Fetch-Site: cross-site\r\n", 403),
        (b"Sec-Fetch-Site: same-site\r\n", 403),
        (b"Origin: http://evil.example\r\n", 403),
        (b"Origin: null\r\n", 403),
        (b"Origin: http://a\r\n", 201),
        (b"Sec-Fetch-Site: same-origin\r\n", 201),
        (b"", 201),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_cookie_is_no_permission_for_pages_of_others(
    place: Place, fields: bytes, status: int
) -> None:
    assert await deferToThread(place.status, 1, b"PUT", FAR + ADA + fields) == status


FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (ADA, 403),
        (ADA + b"Origin: http://a\r\n", 415),
        (basic("ada", "secret-ada"), 415),
    ],
    ids=["of nowhere", "of this site", "by password"],
)
@pytest_twisted.ensureDeferred
async def test_a_form_with_a_cookie_says_where_it_is(
    place: Place, fields: bytes, status: int
) -> None:
    assert await deferToThread(place.status, 1, b"POST", FAR + FORM + fields, b"/") == status


BY_DOCUMENT = replace(GRANTS, by_document=True)
ALBUM = b"/%b?db=photos&doc=album" % DIGEST.hex.encode()


DOCUMENTS = [
    (BEA, ALBUM, 200),
    (BEA, ALBUM.replace(b"album", b"hers"), 403),
    (BEA, ALBUM.replace(b"album", b"none"), 403),
    (BEA, ALBUM.replace(b"album", b"_design/x"), 400),
    (BEA, ALBUM.replace(b"photos", b"_users"), 400),
    (BEA, ALBUM.partition(b"?")[0], 403),
    (ADA, ALBUM.partition(b"?")[0], 200),
    (BEA, b"/files.json?db=photos&doc=album", 403),
    (OLD, ALBUM, 401),
    (b"", ALBUM, 401),
]


@pytest.mark.parametrize("road", [0, 1], ids=["fast lane", "tree"])
@pytest_twisted.ensureDeferred
async def test_what_a_document_lets_one_read(place: Place, road: int) -> None:
    place.set(grants=BY_DOCUMENT)
    stub = {"dtfc": {"photo.jpg": {"sha512": DIGEST.hex, "stub": True}}}
    place.server.documents["photos", "album"] = ({"ada", "bea"}, stub)
    place.server.documents["photos", "hers"] = ({"ada"}, stub)

    for fields, path, status in DOCUMENTS:
        found = await deferToThread(place.status, road, b"GET", FAR + fields, path)
        assert (fields, path, found) == (fields, path, status)


@pytest_twisted.ensureDeferred
async def test_without_an_answer_of_couchdb_nobody_is_let_in(place: Place) -> None:
    place.server.fault = "500"

    answer = await deferToThread(place.ask, 1, b"GET", FAR + ADA)

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 2\r\n" in answer
    assert place.server.url.encode() not in answer


@pytest_twisted.ensureDeferred
async def test_who_guesses_is_told_to_wait(place: Place) -> None:
    assert place.roads.gate.sessions is not None
    place.roads.gate.sessions.set_terms(SessionTerms(failures=1))

    def guess() -> tuple[int, bytes]:
        first = place.status(1, b"GET", FAR + basic("ada", "a"))
        return first, place.ask(1, b"GET", FAR + basic("bea", "b"))

    first, second = await deferToThread(guess)

    assert first == 401
    assert second.startswith(b"HTTP/1.1 429 ")
    assert b"Retry-After: " in second


@pytest_twisted.ensureDeferred
async def test_it_is_asked_before_the_body(place: Place) -> None:
    with_body = FAR + OLD + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n"

    def ask() -> bytes:
        with place.roads.connect(1) as connection:
            return connection.ask(b"PUT /u HTTP/1.1\r\nHost: a\r\n%b\r\n" % with_body)

    assert (await deferToThread(ask)).startswith(b"HTTP/1.1 401 ")


@pytest_twisted.ensureDeferred
async def test_a_renewed_cookie_reaches_its_owner(place: Place) -> None:
    place.server.renews["Y29va2llLWFkYQ"] = "bmV3"

    answer = await deferToThread(place.ask, 1, b"GET", FAR + ADA)

    assert b"Set-Cookie: AuthSession=bmV3; Version=1; Path=/; HttpOnly\r\n" in answer
    assert b"Cache-Control: private" in answer


@pytest_twisted.ensureDeferred
async def test_the_log_has_the_name_and_nothing_that_opens_anything(place: Place) -> None:
    name = 'x"\n\x1b[31m %s é'
    place.server.cookies["bGluZQ"] = name
    place.server.roles[name] = []

    await deferToThread(place.ask, 1, b"GET", FAR + COOKIE % b"bGluZQ")
    await deferToThread(place.ask, 1, b"GET", FAR + basic("ada", "secret-ada"))

    entries = place.roads.log
    assert [entry.principal for entry in entries] == [
        f"couchdb:{quote(name, safe='@.-_~+')}",
        "couchdb:ada",
    ]
    for write in (combined, as_json):
        for line in map(write, entries):
            assert line.isprintable()
            assert "bGluZQ" not in line
            assert "secret" not in line


def test_what_is_granted_where_nothing_is() -> None:
    assert USUAL.by_role["_admin"] == frozenset(Verb)
    assert USUAL.by_role["*"] == USUALLY

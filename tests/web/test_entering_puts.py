"""``PUT /NAME?db=DATABASE&doc=ID``: what is refused before the body, and what is told after it."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from dtfc.access.sessions import Grants
from dtfc.access.verbs import Verb
from dtfc.couchdb.entering import Entries
from dtfc.digest import Digest
from dtfc.errors import QuorumMissed
from dtfc.web.accesslog import as_json
from dtfc.web.routes import Routes
from tests.support.couch import JWT, basic
from tests.web.test_gate_couchdb import ADA, BEA, FAR, GRANTS, OLD, USUALLY
from tests.web.test_gate_couchdb import Place as Roads

BODIES = {"small": b"u", "streamed": bytes(100_000), "largest small": bytes(65_536)}
TOP = b"/u.txt?db=photos&doc=album"
ALL = frozenset(Verb)


class Place(Roads):
    """Two roads, of which the first has the short cut for PUTs, and a database."""

    def __init__(self, folder: Path) -> None:
        Roads.__init__(self, folder)
        status: Any = None
        self.roads.sites[0].resource = Routes(self.roads.blobs, status).resource()
        sessions = self.roads.gate.sessions
        assert sessions is not None
        self.roads.gate.entries = Entries(
            self.couch,
            reactor,
            lambda: 0.01,
            200_000,
            sessions.counts,
        )
        self.server.databases["photos"] = {"ada", "root"}

    def put(
        self, fields: bytes, path: bytes = TOP, body: bytes = b"u", road: int = 0
    ) -> tuple[int, bytes, dict[str, Any]]:
        length = b"Content-Length: %d\r\n" % len(body)
        head = b"PUT %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n" % (path, length, fields)
        with self.roads.connect(road) as connection:
            answer = connection.ask(head + body)
        top, _, told = answer.partition(b"\r\n\r\n")
        return int(top.split(b" ", 2)[1]), top, json.loads(told)

    @property
    def files(self) -> Any:
        return self.server.documents.get(("photos", "album"), (set(), {}))[1].get("dtfc")

    def holds(self, body: bytes) -> bool:
        return self.roads.store.holds(Digest.of(body))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


@pytest.mark.parametrize("road", [0, 1], ids=["short cut", "tree"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest_twisted.ensureDeferred
async def test_a_file_is_stored_and_entered(place: Place, road: int, body: bytes) -> None:
    status, _, told = await deferToThread(place.put, FAR + ADA, TOP, body, road)

    stub = {name: told[name] for name in ("sha512", "length", "content_type", "stub")}
    assert (status, place.files) == (201, {"u.txt": stub})
    revision = place.server.documents["photos", "album"][1]["_rev"]
    assert told["document"] == {"db": "photos", "id": "album", "rev": revision}
    assert list(told)[:5] == ["sha512", "filename", "length", "content_type", "stub"]


@pytest_twisted.ensureDeferred
async def test_the_same_again_changes_nothing(place: Place) -> None:
    def twice() -> tuple[Any, Any]:
        return place.put(FAR + ADA), place.put(FAR + ADA)

    first, second = await deferToThread(twice)
    assert (first[0], second[0], place.server.writes) == (201, 200, 1)
    assert first[2]["document"] == second[2]["document"]


@pytest_twisted.ensureDeferred
async def test_a_digest_and_a_name(place: Place) -> None:
    path = b"/%b/%%C3%%A9.jpg?db=photos&doc=album" % Digest.of(b"u").hex.encode()
    status, _, _ = await deferToThread(place.put, FAR + ADA, path)
    assert (status, list(place.files)) == (201, ["é.jpg"])


@pytest_twisted.ensureDeferred
async def test_a_name_that_needs_quoting(place: Place) -> None:
    place.server.databases["a/b"] = {"ada"}
    status, _, told = await deferToThread(
        place.put, FAR + ADA, b"/u.txt?db=a%2Fb&doc=x%2F%C3%A9%20%3F"
    )
    assert (status, told["document"]["id"]) == (201, "x/é ?")
    assert ("a/b", "x/é ?") in place.server.documents


TOKEN = b"Authorization: Bearer abc\r\n"
EVIL = b"Origin: http://evil.example\r\n"
BEFORE: list[tuple[str, bytes, bytes, int, str]] = [
    ("only db", FAR + ADA, b"/u.txt?db=photos", 400, "with both"),
    ("only doc", FAR + ADA, b"/u.txt?doc=album", 400, "with both"),
    ("empty", FAR + ADA, b"/u.txt?db=photos&doc=", 400, "doc="),
    ("a design document", FAR + ADA, b"/u.txt?db=photos&doc=_design/x", 400, "doc="),
    ("a local document", FAR + ADA, b"/u.txt?db=photos&doc=_local%2Fx", 400, "doc="),
    ("a database of its own", FAR + ADA, b"/u.txt?db=_users&doc=x", 400, "db="),
    ("no database", FAR + ADA, b"/u.txt?db=Photos&doc=x", 400, "db="),
    ("upwards", FAR + ADA, b"/u.txt?db=..%2F_users&doc=x", 400, "db="),
    ("no name", FAR + ADA, b"/%b?db=photos&doc=album" % Digest.of(b"u").hex.encode(), 400, "NAME"),
    ("a copy", FAR + ADA + b"DTFC-Replica: ?1\r\n", TOP, 400, "copy"),
    ("unknown database", FAR + ADA, b"/u.txt?db=other&doc=x", 404, "no database other"),
    ("not hers", FAR + BEA, TOP, 403, "cannot read that document"),
    ("expired", FAR + OLD, TOP, 401, "knows nobody"),
    ("nobody", FAR, TOP, 401, "needs a CouchDB user"),
    ("a wrong password", FAR + basic("ada", "guess"), TOP, 401, "knows nobody"),
    (
        "a dtfc token",
        FAR + b"Authorization: Bearer abc\r\n" + ADA,
        TOP,
        401,
        "needs a CouchDB user",
    ),
    (
        "another site's page",
        FAR + ADA + b"Origin: http://evil.example\r\n",
        TOP,
        403,
        "another site",
    ),
]


@pytest.mark.parametrize(
    ("fields", "path", "status", "word"), [each[1:] for each in BEFORE], ids=[e[0] for e in BEFORE]
)
@pytest.mark.parametrize("expect", [b"Expect: 100-continue\r\n", b""], ids=["waits", "sends"])
@pytest_twisted.ensureDeferred
async def test_what_is_refused_before_the_body(  # noqa: PLR0917 -- a table
    place: Place, fields: bytes, path: bytes, status: int, word: str, expect: bytes
) -> None:
    place.set(ALL)  # everybody may PUT: whether it is entered is CouchDB's to say
    fields += expect
    # Of the body nothing is sent: it is answered all the same.
    head = b"PUT %b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n%b\r\n" % (path, fields)

    def ask() -> bytes:
        with place.roads.connect(0) as connection:
            return connection.ask(head)

    answer = await deferToThread(ask)
    assert (answer.split(b" ")[1], word.encode() in answer) == (b"%d" % status, True), answer


@pytest_twisted.ensureDeferred
async def test_a_node_without_couchdb_says_so(place: Place) -> None:
    place.set(ALL)
    place.roads.gate.entries = place.roads.gate.sessions = None
    status, _, told = await deferToThread(place.put, ADA)
    assert (status, "--couchdb" in told["detail"]) == (400, True)


@pytest_twisted.ensureDeferred
async def test_a_document_that_has_no_place_for_files(place: Place) -> None:
    place.server.documents["photos", "album"] = {"ada"}, {"_rev": "1-x", "dtfc": []}
    status, _, _ = await deferToThread(place.put, FAR + ADA)
    assert (status, place.holds(b"u")) == (409, False)


WHO = {
    "ada by cookie": (ADA, 201),
    "ada by password": (basic("ada", "secret-ada"), 201),
    "bea by token": (b"Authorization: Bearer %b\r\n" % JWT.encode(), 403),
    "root by password": (basic("root", "secret-root"), 201),
}


@pytest.mark.parametrize(("fields", "wanted"), WHO.values(), ids=WHO)
@pytest_twisted.ensureDeferred
async def test_who_may_write_here_is_not_who_may_write_there(
    place: Place, fields: bytes, wanted: int
) -> None:
    place.set(grants=Grants({**GRANTS.by_role, "*": USUALLY | {Verb.PUT}}))
    status, _, _ = await deferToThread(place.put, FAR + fields)
    assert status == wanted
    asked = {each.get("authorization", each.get("cookie")) for _, each in place.server.asked}
    assert len(asked) == 1


@pytest.mark.parametrize("road", [0, 1], ids=["short cut", "tree"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest_twisted.ensureDeferred
async def test_a_refusal_leaves_the_file_and_says_so(place: Place, road: int, body: bytes) -> None:
    word = {"error": "forbidden", "reason": "no pictures on Mondays"}
    place.server.refuses = lambda _document: (403, word)
    status, top, told = await deferToThread(place.put, FAR + ADA, TOP, body, road)

    digest = Digest.of(body).hex
    assert (status, told["sha512"], told["length"]) == (403, digest, len(body))
    assert told["document"] == {"db": "photos", "id": "album", **word}
    assert told["title"] == "Stored, but not entered in the document"
    assert b"Location: /%b\r\n" % digest.encode() in top + b"\r\n"
    assert place.holds(body)


@pytest_twisted.ensureDeferred
async def test_a_couchdb_that_goes_away_meanwhile(place: Place) -> None:
    def gone(_document: object) -> tuple[int, dict[str, str]]:
        return 500, {"error": "unknown", "reason": place.server.url}

    place.server.refuses = gone
    status, top, told = await deferToThread(place.put, FAR + ADA)
    assert (status, told["sha512"]) == (503, Digest.of(b"u").hex)
    assert b"Retry-After: 2\r\n" in top
    assert place.server.url not in json.dumps(told)

    place.server.refuses = lambda _document: None
    status, _, _ = await deferToThread(place.put, FAR + ADA)
    assert (status, list(place.files)) == (200, ["u.txt"])


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_can_come_again(place: Place) -> None:
    def leave() -> None:
        head = b"PUT %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n%b\r\nu" % (TOP, FAR + ADA)
        with place.roads.connect(0) as connection:
            connection._socket.sendall(head)
            deadline = time.monotonic() + 10
            while not hangs and time.monotonic() < deadline:
                time.sleep(0.01)
            # A reset, as of a client that is killed; an end could be half of a connection's.
            linger = struct.pack("ii", 1, 0)
            connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    hangs: list[bool] = []

    def silence() -> None:
        hangs.append(True)
        place.server.silent = True

    place.server.before_writing = [silence]
    await deferToThread(leave)
    place.server.silent = False
    # While the silence lasts that the first one met, nobody waits for it a second time.
    status, deadline = 503, time.monotonic() + 10
    while status == 503 and time.monotonic() < deadline:
        status, _, _ = await deferToThread(place.put, FAR + ADA)
    assert (hangs, status, list(place.files)) == ([True], 200, ["u.txt"])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"If-None-Match: *\r\n", 201),
        (b"If-Match: *\r\n", 412),
        (b"Repr-Digest: sha-256=:C7DV8w4P+3xkIGjmHM1mrLmXfO6Q4bwFHNW9cWgGk9M=:\r\n", 422),
        (b"Repr-Digest: sha-512=:AAAA:\r\n", 400),
        (b"Content-Encoding: gzip\r\n", 415),
        (b"Content-Range: bytes 0-0/1\r\n", 400),
    ],
    ids=["create only", "only if here", "wrong digest", "no digest", "coded", "a part"],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_stored_is_not_entered(place: Place, fields: bytes, status: int) -> None:
    found, _, _ = await deferToThread(place.put, FAR + ADA + fields)
    assert (found, place.files is not None) == (status, status == 201)


@pytest_twisted.ensureDeferred
async def test_a_client_that_waits_for_100(place: Place) -> None:
    fields = FAR + ADA + b"Expect: 100-continue\r\n"
    head = b"PUT %b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n%b\r\n" % (TOP, fields)

    def ask() -> tuple[bytes, bytes]:
        with place.roads.connect(0) as connection:
            return connection.ask(head), connection.ask(b"u")

    first, second = await deferToThread(ask)
    assert (first, second.split(b" ")[1]) == (b"HTTP/1.1 100 Continue\r\n\r\n", b"201")


@pytest_twisted.ensureDeferred
async def test_with_too_few_copies_nothing_is_entered(place: Place) -> None:
    class TooFew:
        """Owes copies of which none is made."""

        def admit(self) -> None:
            """Take it."""

        async def owe(self, info: Any) -> bool:
            return bool(info)

        async def enough(self, digest: Digest, *, own: bool) -> int:
            assert own
            raise QuorumMissed(digest.hex, 1, 2, 5)

    replicas: Any = TooFew()
    place.roads.blobs.storing.replicas = replicas
    status, _, _ = await deferToThread(place.put, FAR + ADA)
    assert (status, place.files) == (503, None)


@pytest.mark.parametrize("wanted", [201, 403])
@pytest_twisted.ensureDeferred
async def test_a_renewed_cookie_reaches_its_owner(place: Place, wanted: int) -> None:
    place.server.renews["Y29va2llLWFkYQ"] = "bmV3"
    place.server.cookies["bmV3"] = "ada"
    if wanted == 403:
        place.server.refuses = lambda _document: (403, {"error": "forbidden", "reason": "no"})
    status, top, _ = await deferToThread(place.put, FAR + ADA)
    assert status == wanted
    assert b"Set-Cookie: AuthSession=bmV3; Version=1; Path=/; HttpOnly" in top


@pytest_twisted.ensureDeferred
async def test_a_file_can_be_read_by_its_document_at_once(place: Place) -> None:
    place.set(grants=Grants({"editors": frozenset({Verb.PUT}), "*": USUALLY}, by_document=True))
    query = b"/%b?db=photos&doc=album" % Digest.of(b"u").hex.encode()

    def ask() -> list[int]:
        return [
            place.status(1, b"GET", FAR + ADA, query),
            place.put(FAR + ADA)[0],
            place.status(1, b"GET", FAR + ADA, query),
        ]

    assert await deferToThread(ask) == [403, 201, 200]


@pytest_twisted.ensureDeferred
async def test_no_log_has_what_opens_anything(place: Place) -> None:
    place.server.refuses = lambda _document: (403, {"error": "forbidden", "reason": "no"})
    await deferToThread(place.put, FAR + basic("ada", "secret-ada"))
    await deferToThread(place.put, FAR + ADA)
    lines = [as_json(entry) for entry in place.roads.log]
    assert Counter(entry.principal for entry in place.roads.log) == {"couchdb:ada": 2}
    assert not any("secret" in line or "Y29va2ll" in line for line in lines)

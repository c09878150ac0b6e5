"""Files are entered in documents of a real server, by curl: pouchdb-server."""

from __future__ import annotations

import hashlib
import json
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_couchdb_init_live import Init, init, read
from tests.live.test_couchdb_live import Pouch, basic, pouch
from tests.support.live import LiveNode
from tests.support.programs import require_program

__all__ = ["init", "pouch"]

ROOT = basic("root", "relax")


class Desk:
    """A node, a CouchDB with a database for ada and cy, and curl."""

    def __init__(self, live: Callable[..., LiveNode], pouch: Pouch, folder: Path) -> None:
        self.pouch = pouch
        self.folder = folder
        pouch.ask("PUT", "/_config/admins/root", "relax")
        for name in ("ada", "bea", "cy"):
            user: dict[str, Any] = {"name": name, "password": "x", "roles": [], "type": "user"}
            status = pouch.ask("PUT", f"/_users/org.couchdb.user:{name}", user, ROOT)[0]
            assert status in (201, 409)
        self.node = live(
            *("--couchdb", pouch.url, "--couchdb-grant", "*=get,put", "--couchdb-failures", "1000"),
            *("--trusted-proxies", "127.0.0.0/8", "--couchdb-timeout", "2s"),
        )

    def database(self, name: str) -> None:
        assert self.pouch.ask("PUT", f"/{name}", user=ROOT)[0] == 201
        members = {"names": ["ada", "cy"], "roles": []}
        security = {"members": members, "admins": {"names": [], "roles": []}}
        assert self.pouch.ask("PUT", f"/{name}/_security", security, ROOT)[0] == 200

    def curl(
        self, database: str, document: str, name: str, content: bytes, *who: str
    ) -> tuple[int, dict[str, Any]]:
        """Send a file as curl does; return its exit code with -f, and what it was told."""
        file = self.folder / hashlib.sha256(f"{who}{name}".encode()).hexdigest()
        file.write_bytes(content)
        query = urllib.parse.urlencode({"db": database, "doc": document})
        done = subprocess.run(
            [
                *(require_program("curl"), "-s", "--fail-with-body", "-T", str(file)),
                *("-H", "X-Forwarded-For: 203.0.113.9", "-w", "\n%{http_code}", *who),
                f"{self.node.url}/{urllib.parse.quote(name)}?{query}",
            ],
            capture_output=True,
            timeout=60,
            check=False,
        )
        body, _, status = done.stdout.rpartition(b"\n")
        told: dict[str, Any] = json.loads(body)
        assert (done.returncode == 0) == (int(status) < 400)
        return int(status), told

    def holds(self, content: bytes) -> bool:
        digest = hashlib.sha512(content).hexdigest()
        return self.node.request("GET", f"/{digest}/nopeerload")[0] == 200


@pytest.fixture
def desk(live: Callable[..., LiveNode], pouch: Pouch, tmp_path: Path) -> Desk:
    return Desk(live, pouch, tmp_path)


ADA = ("-u", "ada:x")


def test_a_document_is_made_and_then_changed(desk: Desk) -> None:
    desk.database("made")
    status, told = desk.curl("made", "album 1/é", "é.jpg", b"one", *ADA)
    assert (status, told["document"]["id"]) == (201, "album 1/é")
    status, _ = desk.curl("made", "album 1/é", "big.bin", bytes(3_000_000), *ADA)
    assert status == 201

    document = read(desk.pouch, f"/made/{urllib.parse.quote('album 1/é', safe='')}")
    assert {name: each["length"] for name, each in document["dtfc"].items()} == {
        "é.jpg": 3,
        "big.bin": 3_000_000,
    }


def test_what_else_is_in_a_document_stays(desk: Desk) -> None:
    desk.database("kept")
    old = {
        "title": "Fjäll",
        "n": [1, 2.5, None, {"x": True}],
        "_attachments": {"a.txt": {"content_type": "text/plain", "data": "aGVsbG8="}},
        "dtfc": {"b": {"sha512": "ab" * 64, "length": 1, "by": "bea"}},
    }
    assert desk.pouch.ask("PUT", "/kept/a", old, ROOT)[0] == 201
    before = read(desk.pouch, "/kept/a")
    assert desk.curl("kept", "a", "p.jpg", b"p", *ADA)[0] == 201

    after = read(desk.pouch, "/kept/a")
    assert set(after["dtfc"]) == {"b", "p.jpg"}
    for each in (before, after):
        del each["_rev"]
    del after["dtfc"]["p.jpg"]
    assert after == before
    attachment = desk.pouch.ask("GET", "/kept/a/a.txt", user=ROOT)
    assert attachment[0] == 200


def test_a_second_time_changes_nothing(desk: Desk) -> None:
    desk.database("twice")
    first = desk.curl("twice", "a", "p.jpg", b"twice", *ADA)
    second = desk.curl("twice", "a", "p.jpg", b"twice", *ADA)
    assert (first[0], second[0]) == (201, 200)
    assert first[1]["document"] == second[1]["document"]


def test_two_callers_and_one_document(desk: Desk) -> None:
    desk.database("raced")

    def send(each: tuple[str, int]) -> int:
        who, number = each
        return desk.curl("raced", "a", f"{who}{number}", b"%d" % number, "-u", f"{who}:x")[0]

    files = [(who, number) for number in range(20) for who in ("ada", "cy")]
    with ThreadPoolExecutor(10) as threads:
        statuses = set(threads.map(send, files))
    assert statuses <= {200, 201}
    names = set(read(desk.pouch, "/raced/a")["dtfc"])
    assert names == {f"{who}{number}" for who, number in files}


def test_what_validates_documents_refuses_one(desk: Desk, init: Init) -> None:
    desk.database("valid")
    # What makes no sense was there before anything looked.
    assert desk.pouch.ask("PUT", "/valid/a", {"dtfc": {"x": {"length": 1}}}, ROOT)[0] == 201
    assert init("valid").returncode == 0
    status, told = desk.curl("valid", "a", "p.jpg", b"valid", *ADA)

    assert (status, told["document"]["error"]) == (403, "forbidden")
    assert "sha512" in told["document"]["reason"]
    assert told["sha512"] == hashlib.sha512(b"valid").hexdigest()
    assert desk.holds(b"valid")
    assert desk.curl("valid", "b", "p.jpg", b"valid", *ADA)[0] == 200


@pytest.mark.parametrize(
    ("who", "wanted"),
    [(("-u", "bea:x"), 403), (("-u", "ada:wrong"), 401), ((), 401), (("-u", "no:x"), 401)],
    ids=["no member", "a wrong password", "nobody", "no user"],
)
def test_who_may_not_stores_nothing(desk: Desk, who: tuple[str, ...], wanted: int) -> None:
    database = f"closed{abs(hash(who))}"
    desk.database(database)
    content = f"closed {who}".encode()
    assert desk.curl(database, "a", "p.jpg", content, *who)[0] == wanted
    assert not desk.holds(content)


def test_a_database_that_is_not_there(desk: Desk) -> None:
    assert desk.curl("nowhere", "a", "p.jpg", b"nowhere", *ADA)[0] == 404


def test_a_session(desk: Desk) -> None:
    desk.database("session")
    login = {"name": "ada", "password": "x"}
    cookie = desk.pouch.ask("POST", "/_session", login)[1]["Set-Cookie"].partition(";")[0]
    assert desk.curl("session", "a", "p.jpg", b"session", "-b", cookie)[0] == 201
    assert desk.curl("session", "a", "q.jpg", b"session", "-b", cookie + "x")[0] == 401
    assert cookie.partition("=")[2] not in desk.node.log()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Pouch]:
    server = Pouch(tmp_path / "mortal")
    yield server
    server.stop()


def test_a_couchdb_that_dies_while_the_body_comes(
    live: Callable[..., LiveNode], mortal: Pouch, tmp_path: Path
) -> None:
    desk = Desk(live, mortal, tmp_path)
    desk.database("killed")
    content = bytes(400_000)
    file = tmp_path / "slow"
    file.write_bytes(content)
    sending = subprocess.Popen(
        [
            *(require_program("curl"), "-s", "-i", "--limit-rate", "100k", "-T", str(file)),
            *("-u", "ada:x", "-H", "Expect: 100-continue", "-v"),
            f"{desk.node.url}/slow.bin?db=killed&doc=a",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert sending.stderr is not None
    assert sending.stdout is not None
    # The document has been looked at when the body may come.
    while b"100 Continue" not in sending.stderr.readline():
        assert sending.poll() is None
    mortal.stop()
    answer = sending.stdout.read()
    sending.stderr.close()
    sending.stdout.close()
    sending.wait(timeout=30)

    assert b"HTTP/1.1 503 " in answer, answer
    assert b"Retry-After: 2" in answer
    assert hashlib.sha512(content).hexdigest().encode() in answer
    assert desk.holds(content)

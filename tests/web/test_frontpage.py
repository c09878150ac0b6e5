"""The page at ``/``, its files, and ``/status.json``: a real store, no socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LogPublisher

from dtfc.access.decisions import Policy
from dtfc.access.tokens import parse_tokens
from dtfc.access.verbs import Verb
from dtfc.couchdb.follower import FollowerStatus
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import BrokenStore, StoreFailure
from dtfc.integrity.progress import Progress
from dtfc.peers.flight import LoadStatus
from dtfc.peers.picker import PeerStatus
from dtfc.store.blobs import open_store
from dtfc.store.outbox import Length
from dtfc.web.assets import read_assets
from dtfc.web.frontpage import FrontPage
from dtfc.web.gate import Gate
from dtfc.web.overview import CouchStatus, Overview, Sources
from dtfc.web.routes import Routes, allowed
from dtfc.web.samples import Samples, Totals
from dtfc.web.troubles import Troubles

LOADED = Digest.of(b"loaded")
ASSETS = read_assets()


class Answer:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def _followed() -> CouchStatus:
    photos = FollowerStatus("photos", "following", "", complete=True, heard=1.25, counts={})
    return CouchStatus([photos], prefetch=3)


async def _unread() -> CouchStatus:
    raise StoreFailure("read the references", OSError(5, "Input/output error"))


class Node:
    """What the page is told, and how it answers."""

    def __init__(self, folder: Path, wire: Any) -> None:
        self.store = open_store(str(folder / "store"), fan_out=2, reserve=1000)
        self.wire = wire
        self.gate = Gate(Policy())
        self.samples = Samples()
        self.troubles = Troubles(publisher=LogPublisher())
        self.troubles.start()
        self.teller = Logger(namespace="dtfc", observer=self.troubles._publisher)
        self.sources = Sources(began=self.wire.clock.seconds() - 50, draining=lambda: False)
        overview = Overview(
            wire.site,
            self.store,
            InlineDisk(),
            wire.clock,
            self.sources,
            samples=self.samples,
            troubles=self.troubles,
        )
        nothing: Any = None
        page = FrontPage(ASSETS, overview, self.gate)
        wire.site.resource = Routes(nothing, nothing, page=page).resource()

    def put(self, name: str, content: bytes) -> None:
        intake = self.store.intake(None)
        intake.write([content])
        intake.commit(name)

    def ask(self, path: str, **fields: str) -> Answer:
        already = len(self.wire.got)
        lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.wire.send("\r\n".join([*lines, "", ""]).encode())
        return Answer(self.wire.got[already:])

    @property
    def status(self) -> Any:
        answer = self.ask("/status.json")
        assert answer.status == 200, answer.body
        return answer.json


@pytest.fixture
def node(tmp_path: Path, new_wire: Callable[..., Any]) -> Iterator[Node]:
    node = Node(tmp_path, new_wire())
    yield node
    node.store.close()


class TestStatus:
    def test_the_node(self, node: Node) -> None:
        told = node.status["node"]
        known = {"uptime_seconds": 50.0, "draining": False, "workers": 1, "connections": 1}
        assert {name: told[name] for name in known} == known
        assert told["id"] == node.store.node_id

    def test_the_store(self, node: Node) -> None:
        node.put("a.txt", b"four")
        told = node.status["store"]
        assert (told["blobs"], told["bytes"], told["quarantine"]) == (1, 4, 0)
        assert 0 < told["free_bytes"] <= told["total_bytes"]
        assert told["reserve_bytes"] == 1000

    def test_the_disk_is_asked_once_a_second_at_most(self, node: Node) -> None:
        node.put("a.txt", b"four")
        before = node.status["store"]["blobs"]
        node.put("b.txt", b"five5")
        at_once = node.status["store"]["blobs"]
        node.wire.clock.advance(1.5)
        assert (before, at_once, node.status["store"]["blobs"]) == (1, 1, 2)

    def test_a_store_that_cannot_be_read_is_said(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails() -> None:
            raise BrokenStore("catalog", "it is broken")

        monkeypatch.setattr(node.store.catalog, "totals", fails)
        told = node.status
        assert told["store"] == {"trouble": "catalog: it is broken"}
        assert told["node"]["draining"] is False

    def test_rates(self, node: Node) -> None:
        for at, count in ((10, 0), (12, 4), (14, 8)):
            node.samples.note(at, Totals(count, 100 * count, 7))
        assert node.status["rates"]["samples"] == [[12, 2.0, 200, 0], [14, 2.0, 200, 0]]
        newer = node.ask("/status.json?since=12").json["rates"]
        assert newer == {"every": 2.0, "samples": [[14, 2.0, 200, 0]]}

    @pytest.mark.parametrize("since", ["yesterday", "nan", "1,5"])
    def test_since_is_a_number(self, node: Node, since: str) -> None:
        assert node.ask(f"/status.json?since={since}").status == 400

    def test_loads(self, node: Node) -> None:
        load = LoadStatus(LOADED, "film", 100, 25, 2, {"http://a": 25}, elsewhere=False)
        node.sources.loads = lambda: [load]
        assert node.status["loads"] == {
            "running": 1,
            "largest": [
                {
                    "sha512": LOADED.hex,
                    "name": "film",
                    "length": 100,
                    "done": 25,
                    "waiting": 2,
                    "peers": [{"url": "http://a", "bytes": 25}],
                    "elsewhere": False,
                }
            ],
        }

    def test_the_largest_loads_alone_are_told_one_by_one(self, node: Node) -> None:
        loads = [
            LoadStatus(Digest.of(b"%d" % length), None, length, 0, 1, {}, elsewhere=False)
            for length in range(100)
        ]
        node.sources.loads = lambda: loads
        told = node.status["loads"]
        assert told["running"] == 100
        assert [each["length"] for each in told["largest"]] == list(range(99, 91, -1))

    def test_peers(self, node: Node) -> None:
        dead = PeerStatus("http://b:1", "", 1, None, None, 12.5, False, 2, 0, 0)
        node.sources.peers = lambda: [dead]
        told = node.status["peers"][0]
        assert (told["state"], told["rests_for"], told["failures"]) == ("failed", 12.5, 2)

    def test_the_scrub(self, node: Node) -> None:
        progress = Progress(None, 20.0, 10.0, 3, 300, 1)
        node.sources.scrub = lambda: (progress, 86400.0)
        assert node.status["scrub"] == {
            "under_way": True,
            "began": 20.0,
            "ended": 10.0,
            "blobs": 3,
            "bytes": 300,
            "corrupt": 1,
            "period_seconds": 86400.0,
        }

    def test_deletions(self, node: Node) -> None:
        node.sources.pending = lambda: {"http://a": 2, "http://b": 1}
        assert node.status["deletions"] == {
            "pending": 3,
            "peers": [{"url": "http://a", "pending": 2}, {"url": "http://b", "pending": 1}],
        }

    def test_uploads_that_are_not_complete(self, node: Node) -> None:
        assert node.status["spool"] == {"uploads": 0, "bytes": 0}

    def test_copies(self, node: Node) -> None:
        oldest = node.wire.clock.seconds() - 7
        node.sources.queue = lambda: Length(4, 1, oldest)
        assert node.status["replicas"] == {"queue": 4, "stuck": 1, "oldest_seconds": 7.0}

    def test_couchdb(self, node: Node) -> None:
        node.sources.couchdb = _followed
        told = node.status["couchdb"]
        assert told["databases"][0]["seconds_since_heard"] == 1.2
        assert (told["prefetch_waiting"], told["publish_waiting"]) == (3, None)

    def test_couchdb_that_cannot_be_told_of(self, node: Node) -> None:
        node.sources.couchdb = _unread
        assert node.status["couchdb"] == {
            "trouble": "the store could not read the references: Input/output error"
        }

    def test_what_moves(self, node: Node, new_wire: Callable[..., Any]) -> None:
        other = new_wire(lambda request: request.body.read(10))
        other.send(b"PUT /a%20b.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234")
        node.wire.site.channels |= other.site.channels
        assert node.status["uploads"] == {
            "running": 1,
            "largest": [
                {"sha512": None, "name": "a b.txt", "length": 10, "done": 4, "seconds": 0.0}
            ],
        }

    def test_the_address_of_an_upload_is_a_key_and_not_told(
        self, node: Node, new_wire: Callable[..., Any]
    ) -> None:
        other = new_wire(lambda request: request.body.read(10))
        key = "K" * 43
        other.send(
            f"PATCH /uploads/{key} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12".encode()
        )
        node.wire.site.channels |= other.site.channels
        told = node.ask("/status.json")
        assert told.json["uploads"]["running"] == 1
        assert key.encode() not in told.body

    def test_it_is_kept_by_nobody(self, node: Node) -> None:
        assert node.ask("/status.json").fields["cache-control"] == "no-store"


class TestWhoMayKnow:
    def test_not_who_may_not_read(self, node: Node) -> None:
        node.gate.policy = Policy(anonymous=frozenset(), tokens=True)
        # From this machine, but through somebody.
        assert node.ask("/status.json", Via="1.1 proxy").status == 401

    def test_the_log_is_for_who_may_write(self, node: Node) -> None:
        node.gate.policy = Policy(anonymous=frozenset(Verb))
        node.teller.warn("the disk is slow")
        assert [each["text"] for each in node.status["problems"]] == ["the disk is slow"]

    def test_and_for_nobody_else(self, node: Node) -> None:
        node.teller.warn("the disk is slow")
        told = node.ask("/status.json", Via="1.1 proxy")
        assert told.status == 200
        assert told.json["problems"] is None
        assert "PUT" in told.json["problems_withheld"]
        assert b"slow" not in told.body

    def test_a_token_opens_it(self, node: Node) -> None:
        node.gate.policy = Policy(anonymous=frozenset(), tokens=True)
        hashed = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        node.gate.tokens, _wrong = parse_tokens(f"desk {hashed} get\n")
        answer = node.ask("/status.json", Via="1.1 proxy", Authorization="Bearer foo")
        assert answer.status == 200


class TestPage:
    def test_it_is_a_page_with_a_form(self, node: Node) -> None:
        answer = node.ask("/")
        assert answer.fields["content-type"] == "text/html; charset=utf-8"
        assert b'<form id="store-form" method="post"' in answer.body

    def test_it_shows_the_main_facts(self, node: Node) -> None:
        node.put("a.txt", b"x" * 2048)
        body = node.ask("/").body.decode()
        assert '<dd id="fact-blobs">1</dd>' in body
        assert '<dd id="fact-bytes">2.0 KiB</dd>' in body

    def test_it_is_there_for_who_may_not_read_and_says_why_it_is_empty(self, node: Node) -> None:
        node.put("a.txt", b"four")
        node.gate.policy = Policy(anonymous=frozenset(), tokens=True)
        answer = node.ask("/", Via="1.1 proxy")
        body = answer.body.decode()
        assert answer.status == 200
        assert "GET needs a token" in body
        assert '<dd id="fact-blobs">1</dd>' not in body

    def test_what_is_put_into_it_is_no_markup(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails() -> None:
            raise BrokenStore("catalog", "<script>alert(1)</script>")

        monkeypatch.setattr(node.store.catalog, "totals", fails)
        body = node.ask("/").body
        assert b"&lt;script&gt;alert(1)" in body
        assert b"<script>alert" not in body

    def test_its_policy_lets_it_ask_nobody_else(self, node: Node) -> None:
        policy = node.ask("/").fields["content-security-policy"]
        told = dict(each.strip().partition(" ")[::2] for each in policy.split(";"))
        assert told["default-src"] == "'none'"
        assert {value for name, value in told.items() if name.endswith("-src")} == {
            "'none'",
            "'self'",
            "'self' blob:",
        }
        assert (told["frame-ancestors"], told["base-uri"]) == ("'none'", "'none'")

    def test_it_has_no_place_that_was_not_filled(self, node: Node) -> None:
        assert b"$" not in node.ask("/").body

    def test_all_that_it_asks_for_is_below_it(self, node: Node) -> None:
        body = node.ask("/").body.decode()
        for attribute in ("href", "src", "action"):
            for part in body.split(f' {attribute}="')[1:]:
                address = part.partition('"')[0]
                assert not address.startswith(("/", "http")), address


class TestFiles:
    @pytest.mark.parametrize("name", sorted(ASSETS.others))
    def test_each(self, node: Node, name: str) -> None:
        answer = node.ask(f"/page/{name}")
        assert (answer.status, answer.body) == (200, ASSETS.others[name].body)

    def test_their_types(self) -> None:
        types = {name.rpartition(".")[2]: each.content_type for name, each in ASSETS.others.items()}
        assert types == {
            "css": "text/css; charset=utf-8",
            "js": "text/javascript; charset=utf-8",
            "svg": "image/svg+xml",
        }

    @pytest.mark.parametrize("said", ["{}", "W/{}", '"x", {}'])
    def test_who_has_it_is_told_so(self, node: Node, said: str) -> None:
        etag = node.ask("/page/page.js").fields["etag"]
        answer = node.ask("/page/page.js", If_None_Match=said.format(etag))
        assert (answer.status, answer.body) == (304, b"")

    def test_others_are_not_there(self, node: Node) -> None:
        assert node.ask("/page/passwords").status == 404

    def test_no_name_is_taken_from_anybody(self) -> None:
        assert "PUT" in allowed(b"/page")
        assert "PUT" in allowed(b"/status.json")
        assert allowed(b"/page/page.js") == ["GET", "HEAD", "OPTIONS"]

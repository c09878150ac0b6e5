"""Deletion everywhere, as clients and peers see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from dtfc.access.decisions import Policy
from dtfc.access.signatures import PeerTerms, Secrets
from dtfc.access.verbs import Verb
from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.peers.agreement import MOST_BYTES, records_body
from dtfc.peers.deletions import DeletionTerms
from dtfc.peers.roster import Roster
from dtfc.store import durable
from dtfc.store.records import Record
from dtfc.web.blobs import Blobs, Terms
from dtfc.web.deletions import DeletionPages
from dtfc.web.gate import Gate
from dtfc.web.hotblobs import HotBlobs
from dtfc.web.routes import Routes
from dtfc.web.status import Status
from tests.peers.deleting import Node, Wire
from tests.support.alone import upkeep_alone
from tests.web.test_blobs import Answer, NoPeers

DATA = b"hello"


class Served:
    """A node's URLs; another node that it can tell."""

    def __init__(self, folder: Path, new_wire: Callable[..., Any]) -> None:
        self.wire = Wire()
        self.node = Node(self.wire, folder / "a", "http://a")
        self.peer = Node(self.wire, folder / "b", "http://b")
        self.node.roster.urls = ["http://b"]
        self.gate = Gate(Policy(anonymous=frozenset(Verb)))
        store, disk = self.node.store, InlineDisk()
        blobs = Blobs(
            store,
            disk,
            NoPeers(store),  # type: ignore[arg-type] # a stand-in
            upkeep_alone(store, disk),
            self.gate,
            terms=Terms(),
            hot=HotBlobs(0),
            revived=self.node.deletions.revived,
        )
        status = Status(
            store,
            disk,
            Roster(None),
            self.gate,
            draining=lambda: False,
            metrics=lambda _node: b"",
            clock=Clock(),
        )
        pages = DeletionPages(self.node.deletions, self.gate)
        self._resource = Routes(blobs, status, deletions=pages).app.resource()
        self._new_wire = new_wire

    def ask(self, method: str, path: str, body: bytes | None = None, **fields: str) -> Answer:
        wire = self._new_wire()
        wire.site.resource = self._resource
        wire.transport.peerAddr = IPv4Address("TCP", "127.0.0.1", 54321)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        wire.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        self.node.clock.advance(1)
        return Answer(wire.got)

    def put(self) -> str:
        return str(self.ask("PUT", "/hello.txt", DATA).json["sha512"])


@pytest.fixture
def served(
    tmp_path: Path, new_wire: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    monkeypatch.setattr(durable, "sync", lambda _fd: None)
    made = Served(tmp_path, new_wire)
    yield made
    made.node.store.close()
    made.peer.store.close()


def record(data: bytes = DATA) -> Record:
    return Record(Digest.of(data), 1, deleted=True, id="ab" * 16, at="2026", node="cd" * 16)


def test_accepted(served: Served) -> None:
    digest = served.put()
    answer = served.ask("DELETE", f"/{digest}/allpeers")
    told = answer.json
    assert answer.status == 202
    assert answer.fields["location"] == f"/deletions/{told['id']}"
    assert told["status"] == "complete"
    assert told["peers"]["http://b"]["state"] == "acknowledged"
    assert (told["was_here"], told["filename"], told["length"]) == (True, "hello.txt", 5)
    assert served.ask("GET", f"/{digest}").status == 404


def test_what_is_not_here_may_be_elsewhere(served: Served) -> None:
    answer = served.ask("DELETE", f"/{'ab' * 64}/allpeers")
    assert answer.status == 202
    assert answer.json["was_here"] is False


def test_the_receipt(served: Served) -> None:
    served.wire.down.add("http://b")
    made = served.ask("DELETE", f"/{served.put()}/allpeers").json
    receipt = served.ask("GET", f"/deletions/{made['id']}")
    assert receipt.status == 200
    assert receipt.fields["cache-control"] == "no-store"
    assert receipt.json["status"] == "pending"
    peer = receipt.json["peers"]["http://b"]
    assert (peer["state"], peer["attempts"]) == ("pending", 1)
    assert "down" in peer["reason"]


@pytest.mark.parametrize("name", ["ab" * 16, "x", "AB" * 16, "compare"])
def test_no_such_receipt(served: Served, name: str) -> None:
    assert served.ask("GET", f"/deletions/{name}").status in (404, 405)


def test_a_condition_that_does_not_hold(served: Served) -> None:
    digest = served.put()
    assert served.ask("DELETE", f"/{digest}/allpeers", If_None_Match="*").status == 412
    assert served.ask("GET", f"/{digest}").status == 200


def test_who_may_not_delete(served: Served) -> None:
    digest = served.put()
    served.gate.policy = Policy()
    refused = served.ask("DELETE", f"/{digest}/allpeers", X_Forwarded_For="192.0.2.7")
    assert refused.status == 403
    assert served.ask("GET", f"/{digest}").status == 200


def test_a_copy_does_not_bring_it_back_and_a_client_does(served: Served) -> None:
    digest = served.put()
    served.ask("DELETE", f"/{digest}/allpeers")
    for body in (DATA, None):
        # The second one never sends its body: it is refused before.
        more = {} if body else {"Content_Length": "5", "Expect": "100-continue"}
        copy = served.ask("PUT", f"/{digest}", body, DTFC_Replica="?1", **more)
        assert (copy.status, copy.json["sha512"]) == (410, digest)
    assert served.ask("PUT", "/again.txt", DATA).status == 201
    assert served.peer.rank(DATA) == (2, False)


def test_a_form_brings_it_back_too(served: Served) -> None:
    digest = served.put()
    served.ask("DELETE", f"/{digest}/allpeers")
    form = (
        b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nhello\r\n--x--\r\n'
    )
    answer = served.ask("POST", "/", form, Content_Type="multipart/form-data; boundary=x")
    assert answer.status == 201
    assert served.peer.rank(DATA) == (2, False)


class TestPeers:
    def test_records(self, served: Served) -> None:
        served.put()
        answer = served.ask("POST", "/deletions", records_body([record()]))
        assert (answer.status, answer.json) == (200, {"taken": 1, "newer": []})
        assert not served.node.has(DATA)

    def test_a_question(self, served: Served) -> None:
        served.node.store.hear(record())
        answer = served.ask("POST", "/deletions/compare", b'{"ranges": {"": ""}}')
        assert answer.status == 200
        assert answer.json["ranges"][""]["records"] == [record().plain()]

    @pytest.mark.parametrize("path", ["/deletions", "/deletions/compare"])
    def test_nobody_else(self, served: Served, path: str) -> None:
        elsewhere = served.ask("POST", path, b"{}", X_Forwarded_For="192.0.2.7")
        served.gate.terms = PeerTerms(Secrets((b"x" * 32,)))
        unsigned = served.ask("POST", path, b"{}")
        assert (elsewhere.status, unsigned.status) == (403, 403)

    @pytest.mark.parametrize("path", ["/deletions", "/deletions/compare"])
    def test_too_large(self, served: Served, path: str) -> None:
        assert served.ask("POST", path, b" " * (MOST_BYTES + 1)).status == 413

    @pytest.mark.parametrize("path", ["/deletions", "/deletions/compare"])
    def test_nonsense(self, served: Served, path: str) -> None:
        assert served.ask("POST", path, b'{"ranges": 1, "records": 1}').status == 400

    def test_too_many(self, served: Served) -> None:
        served.node.deletions.set_terms(DeletionTerms(per_minute=1))
        both = records_body([record(), record(b"another")])
        answer = served.ask("POST", "/deletions", both)
        assert answer.status == 429
        assert answer.json["taken"] == 1
        assert int(answer.fields["retry-after"]) >= 1

    def test_switched_off(self, served: Served) -> None:
        served.node.deletions.set_terms(DeletionTerms(accept=False))
        answer = served.ask("POST", "/deletions", records_body([record()]))
        assert answer.status == 403
        assert "--accept-deletions" in json.dumps(answer.json)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/deletions", "GET, HEAD, OPTIONS, POST, PUT"),
        ("/deletions/compare", "OPTIONS, POST"),
        ("/deletions/" + "ab" * 16, "GET, HEAD, OPTIONS"),
        ("/" + "ab" * 64 + "/allpeers", "DELETE, OPTIONS, PUT"),
    ],
)
def test_options(served: Served, path: str, methods: str) -> None:
    assert served.ask("OPTIONS", path).fields["allow"] == methods


def test_readyz_tells_what_is_pending(served: Served) -> None:
    served.wire.down.add("http://b")
    served.ask("DELETE", f"/{served.put()}/allpeers")
    assert served.ask("GET", "/readyz?verbose").json["deletions_pending"] == 1


def test_a_file_may_still_be_called_so(served: Served) -> None:
    assert served.ask("PUT", "/deletions", DATA).status == 201

"""What two nodes write with --log-format json, held against the schema that is promised."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.leaks import leaks
from tests.support.live import CHECKOUT, LiveNode
from tests.support.waiting import until

Live = Callable[..., LiveNode]

SCHEMA = json.loads((CHECKOUT / "etc/log.schema.json").read_text())
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Lines:
    """What a node has written into its log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def of(self, request: str) -> dict[str, Any]:
        """The last line of a request, once it is there."""
        until(lambda: self._found(request), self.path.read_text)
        return self._found(request)[-1]

    def first(self, digest: str) -> dict[str, Any]:
        """The first line about a blob."""
        return next(each for each in self.all() if each.get("sha512") == digest)

    def has(self, digest: str, cache: str) -> bool:
        """Whether a blob was had so."""
        return any(
            (each.get("sha512"), each.get("cache")) == (digest, cache) for each in self.all()
        )

    def _found(self, request: str) -> list[dict[str, Any]]:
        return [each for each in self.all() if each.get("request", "").startswith(request)]


@pytest.fixture
def nodes(live: Live, tmp_path: Path) -> list[tuple[LiveNode, Lines]]:
    """Two nodes that have each other as peers, and make copies of what is stored."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 40)
    secret.chmod(0o600)
    found = []
    for number in range(2):
        log = tmp_path / f"log{number}"
        node = live(
            *("--log", str(log), "--log-format", "json", "--peerlist", str(tmp_path / f"{number}")),
            *("--peer-secret-file", str(secret)),
            begin=False,
        )
        node.flags += ["--me", node.url]
        found.append((node, Lines(log)))
    for number, (_, other) in enumerate(((found[0], found[1]), (found[1], found[0]))):
        (tmp_path / f"{number}").write_text(f"{other[0].url}\n")
    for node, _ in found:
        node.start()
    return found


def test_every_line_is_as_the_schema_says(nodes: list[tuple[LiveNode, Lines]]) -> None:
    (first, at_first), (second, at_second) = nodes
    large = os.urandom(2_000_000)
    digest = first.put("large", large)
    for _ in range(3):
        assert second.request("GET", f"/{digest}")[0] == 200
    assert second.request("GET", f"/{digest}", Range="bytes=5-9", Cookie="AuthSession=x")[0] == 206
    assert second.request("GET", f"/{'0' * 128}", Authorization="Bearer dtfc_nobody")[0] == 404
    assert second.request("GET", "/no/such/thing", traceparent=TRACEPARENT)[0] == 404
    with_garbage = subprocess.run(
        ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{first.port}; echo nonsense >&3; cat <&3"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert b" 400 " in with_garbage.stdout
    at_second.of("GET /no/such/thing")
    at_first.of("-")
    validator = Draft202012Validator(SCHEMA)
    lines = [*at_first.all(), *at_second.all()]
    wrong = [(each, error.message) for each in lines for error in validator.iter_errors(each)]
    assert wrong == []
    assert {each["kind"] for each in lines} == {"access", "message"}
    assert leaks(at_first.path.read_text() + at_second.path.read_text()) == []


def test_how_a_blob_was_had(nodes: list[tuple[LiveNode, Lines]]) -> None:
    (first, _), (second, at_second) = nodes
    digest, absent = first.put("x", b"x" * 300_000), "0" * 128
    assert second.request("GET", f"/{digest}")[0] == 200
    until(lambda: second.request("GET", f"/{digest}/nopeerload")[0] == 200)
    # What has just changed is not kept open yet.
    until(lambda: second.request("GET", f"/{digest}")[0] == 200 and at_second.has(digest, "hot"))
    assert second.request("GET", f"/{digest}", Range="bytes=5-9")[0] == 206
    assert second.request("HEAD", f"/{absent}")[0] == 404
    assert second.request("GET", f"/{absent}")[0] == 404
    at_second.of(f"GET /{absent}")
    part = [each for each in at_second.all() if each.get("range")]
    assert {
        "first": at_second.first(digest)["cache"],
        "later": at_second.has(digest, "here"),
        "part": [(each["range"], each["bytes"], each["cache"]) for each in part],
        "nobody": at_second.first(absent)["cache"],
    } == {
        "first": "loaded",
        "later": True,
        "part": [("bytes=5-9", 5, "hot")],
        "nobody": "absent",
    }


def test_a_load_is_of_its_clients_trace(nodes: list[tuple[LiveNode, Lines]]) -> None:
    (first, at_first), (second, at_second) = nodes
    digest = first.put("x", b"x" * 300_000)
    assert second.request("GET", f"/{digest}", traceparent=TRACEPARENT)[0] == 200
    here, there = at_second.of(f"GET /{digest} "), at_first.of(f"GET /{digest}/nopeerload")
    assert {
        "here": (here["trace"], here["parent"]),
        "there": (there["trace"], there["parent"]),
        "new spans": len({PARENT, here["span"], there["span"]}),
    } == {"here": (TRACE, PARENT), "there": (TRACE, here["span"]), "new spans": 3}


def test_a_deletion_is_of_its_clients_trace(nodes: list[tuple[LiveNode, Lines]]) -> None:
    (first, at_first), (_, at_second) = nodes
    digest = first.put("x", b"x")
    path = f"/{digest}/allpeers"
    assert first.request("DELETE", path, traceparent=TRACEPARENT)[0] == 202
    here, there = at_first.of(f"DELETE {path}"), at_second.of("POST /deletions ")
    assert (there["trace"], there["parent"]) == (TRACE, here["span"])


def test_what_makes_no_sense_is_of_no_trace(nodes: list[tuple[LiveNode, Lines]]) -> None:
    (first, at_first), (second, at_second) = nodes
    digest = first.put("x", b"x" * 300_000)
    assert second.request("GET", f"/{digest}", traceparent=TRACEPARENT.upper())[0] == 200
    here, there = at_second.of(f"GET /{digest} "), at_first.of(f"GET /{digest}/nopeerload")
    assert "trace" not in here
    assert "trace" not in there


def test_a_copy_is_of_its_clients_trace(live: Live, tmp_path: Path) -> None:
    log = tmp_path / "log"
    taker = live("--log", str(log), "--log-format", "json")
    peers = tmp_path / "peers"
    peers.write_text(f"{taker.url}\n")
    giver_log = tmp_path / "giver"
    giver = live(
        *("--peerlist", str(peers), "--replicas", "2", "--write-quorum", "2"),
        *("--log", str(giver_log), "--log-format", "json"),
    )
    status, _, body = giver.request("PUT", "/y", os.urandom(300_000), traceparent=TRACEPARENT)
    assert status == 201, body
    assert giver.request("PUT", "/z", os.urandom(300_000))[0] == 201
    copies = Lines(log)
    until(lambda: sum(each.get("method") == "PUT" for each in copies.all()) == 2, log.read_text)
    span = Lines(giver_log).of("PUT /y")["span"]
    found = [each.get("parent") for each in copies.all() if each.get("method") == "PUT"]
    assert found == [span, None]


def test_every_member_is_documented() -> None:
    page = (CHECKOUT / "docs/logs.md").read_text()
    members = {
        name for kind in ("access", "message") for name in SCHEMA["$defs"][kind]["properties"]
    }
    assert [name for name in sorted(members) if f"| `{name}` |" not in page] == []


def test_a_line_with_anything_else_is_none() -> None:
    validator = Draft202012Validator(SCHEMA)
    line = {"kind": "message", "at": 1.0, "level": "info", "from": "x", "message": "y"}
    assert (validator.is_valid(line), validator.is_valid({**line, "cookie": "z"})) == (True, False)

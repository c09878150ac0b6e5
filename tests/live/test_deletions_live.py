"""Deletion everywhere between real daemons: receipts, peers that are away, and what comes back."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.support.live import LiveNode
from tests.support.waiting import until

Live = Callable[..., LiveNode]


def mirror(live: Live, tmp_path: Path, count: int, *flags: str) -> list[LiveNode]:
    """Make nodes with one peer list and an own address each."""
    nodes = [live(*flags, begin=False) for _ in range(count)]
    peers = tmp_path / "peerlist"
    peers.write_text("".join(f"{node.url}/\n" for node in nodes))
    for node in nodes:
        node.flags += ["--peerlist", str(peers), "--me", node.url]
    return nodes


def delete_everywhere(node: LiveNode, digest: str) -> tuple[str, dict[str, Any]]:
    status, fields, body = node.request("DELETE", f"/{digest}/allpeers")
    assert status == 202, body
    return fields["location"], json.loads(body)


def receipt(node: LiveNode, where: str) -> dict[str, Any]:
    status, _, body = node.request("GET", where)
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def states(told: dict[str, Any]) -> dict[str, str]:
    return {peer: each["state"] for peer, each in told["peers"].items()}


def rounds(node: LiveNode) -> float:
    """Return how often a node has compared with its peer what is deleted."""
    text = node.request("GET", "/metrics")[2].decode()
    counts = re.findall(
        r'^dtfc_deletions_rounds_total{result="(?!failed).*"} (.*)$', text, re.MULTILINE
    )
    return sum(map(float, counts))


def has_compared(node: LiveNode, times: float) -> bool:
    return rounds(node) >= times


def status_of(node: LiveNode, digest: str, what: str = "") -> int:
    return node.request("GET", f"/{digest}{what}")[0]


def test_all_are_told_at_once(live: Live, tmp_path: Path) -> None:
    nodes = [node.start() for node in mirror(live, tmp_path, 3)]
    digest = nodes[0].put("x", b"data")
    assert [status_of(node, digest) for node in nodes] == [200] * 3

    where, told = delete_everywhere(nodes[1], digest)

    assert where == f"/deletions/{told['id']}"
    # In the answer itself, unless the machine is busy.
    until(lambda: receipt(nodes[1], where)["status"] == "complete")
    assert set(states(receipt(nodes[1], where)).values()) == {"acknowledged"}
    assert [status_of(node, digest) for node in nodes] == [404] * 3
    assert [status_of(node, digest, "/nopeerload") for node in nodes] == [404] * 3


def test_a_node_that_was_down(live: Live, tmp_path: Path) -> None:
    """The whole story: pending, back, complete; refused as a copy, taken from a client."""
    nodes = [node.start() for node in mirror(live, tmp_path, 3)]
    digest = nodes[0].put("x", b"data")
    assert [status_of(node, digest) for node in nodes] == [200] * 3
    nodes[2].end(signal.SIGKILL)

    where, told = delete_everywhere(nodes[0], digest)
    assert told["status"] == "pending"
    expected = {nodes[1].url: "acknowledged", nodes[2].url: "pending"}
    until(lambda: states(receipt(nodes[0], where)) == expected)
    until(lambda: "next_try" in receipt(nodes[0], where)["peers"][nodes[2].url])
    assert "connection" in receipt(nodes[0], where)["peers"][nodes[2].url]["reason"]

    # Killed as well: what was promised is on the disk.
    nodes[0].end(signal.SIGKILL)
    nodes[0].start()
    assert receipt(nodes[0], where)["status"] == "pending"

    # Meanwhile somebody's copy arrives: refused, before its body.
    copy = nodes[0].request("PUT", f"/{digest}", b"data", DTFC_Replica="?1")
    assert copy[0] == 410
    assert json.loads(copy[2])["title"] == "This blob was deleted"
    assert status_of(nodes[0], digest) == 404

    nodes[2].start()
    gone = until(lambda: status_of(nodes[2], digest, "/nopeerload") == 404)
    complete = until(lambda: receipt(nodes[0], where)["status"] == "complete")
    print(f"\nback with the blob: gone after {gone:.2f} s, receipt complete {complete:.2f} s later")
    assert [status_of(node, digest) for node in nodes] == [404] * 3
    copies = [node.request("PUT", f"/{digest}", b"data", DTFC_Replica="?1")[0] for node in nodes]
    assert copies == [410] * 3

    # A client wants it again, and the others may load it.
    assert nodes[1].put("again", b"data") == digest
    assert status_of(nodes[1], digest) == 200
    until(lambda: [status_of(node, digest) for node in nodes] == [200] * 3)
    assert nodes[2].request("GET", f"/{digest}/nopeerload")[2] == b"data"


def test_a_revival_reaches_a_node_that_was_down(live: Live, tmp_path: Path) -> None:
    nodes = [node.start() for node in mirror(live, tmp_path, 2)]
    digest = nodes[0].put("x", b"data")
    delete_everywhere(nodes[0], digest)
    nodes[1].end()
    nodes[0].put("x", b"data")
    nodes[1].start()

    until(lambda: status_of(nodes[1], digest) == 200)


def test_a_deletion_on_one_side_and_a_put_on_the_other(live: Live, tmp_path: Path) -> None:
    """A node that was away, deletes what it had, and meets one that knows of a later PUT."""
    nodes = [node.start() for node in mirror(live, tmp_path, 2)]
    digest = nodes[0].put("x", b"data")
    delete_everywhere(nodes[0], digest)
    nodes[0].put("x", b"data")
    nodes[1].end()
    delete_everywhere(nodes[0], digest)
    nodes[0].put("x", b"data")
    nodes[0].end()
    nodes[1].start()
    # It knows of the first revival, or of nothing; both are older than the second.
    where, _ = delete_everywhere(nodes[1], digest)
    nodes[0].start()

    until(lambda: receipt(nodes[1], where)["status"] == "complete")
    assert states(receipt(nodes[1], where)) == {nodes[0].url: "overruled"}
    assert status_of(nodes[0], digest) == 200
    until(lambda: status_of(nodes[1], digest) == 200)


def test_a_plain_delete_stays_on_its_node(live: Live, tmp_path: Path) -> None:
    nodes = [node.start() for node in mirror(live, tmp_path, 2, "--reconcile-period", "1s")]
    digest = nodes[0].put("x", b"data")
    assert status_of(nodes[1], digest) == 200
    assert nodes[0].request("DELETE", f"/{digest}")[0] == 200
    for node in nodes:
        # Twice everything that it could have spread by.
        until(partial(has_compared, node, rounds(node) + 2), node.log)

    assert [status_of(node, digest) for node in nodes] == [404, 200]


def test_a_node_that_takes_no_deletions(live: Live, tmp_path: Path) -> None:
    nodes = mirror(live, tmp_path, 2)
    nodes[1].flags += ["--accept-deletions", "off"]
    for node in nodes:
        node.start()
    digest = nodes[0].put("x", b"data")
    assert status_of(nodes[1], digest) == 200

    where, _ = delete_everywhere(nodes[0], digest)

    until(lambda: "403" in receipt(nodes[0], where)["peers"][nodes[1].url]["reason"])
    assert states(receipt(nodes[0], where)) == {nodes[1].url: "pending"}
    assert status_of(nodes[1], digest) == 200


class Old(BaseHTTPRequestHandler):
    """A node of 2015, as far as deletions go."""

    deleted: list[str] = []  # noqa: RUF012 - one server for each test

    def do_DELETE(self) -> None:
        self.deleted.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(404)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def old_node() -> Iterator[tuple[str, list[str]]]:
    deleted: list[str] = []
    made = type("Made", (Old,), {"deleted": deleted})
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", deleted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_node_of_2015_is_told_in_its_own_words(live: Live, tmp_path: Path) -> None:
    with old_node() as (url, deleted):
        peers = tmp_path / "peers"
        peers.write_text(f"{url}/\n")
        node = live("--peerlist", str(peers))
        digest = node.put("x", b"data")

        where, _ = delete_everywhere(node, digest)

        until(lambda: states(receipt(node, where)) == {url: "acknowledged"})
        assert deleted == [f"/{digest}"]


def test_signed(live: Live, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("ab" * 32)
    secret.chmod(0o600)
    nodes = mirror(live, tmp_path, 2, "--peer-secret-file", str(secret))
    for node in nodes:
        node.start()
    digest = nodes[0].put("x", b"data")
    assert status_of(nodes[1], digest) == 200

    unsigned = nodes[1].request("POST", "/deletions", b'{"records": []}')[0]
    asked = nodes[1].request("POST", "/deletions/compare", b'{"ranges": {"": ""}}')[0]
    where, _ = delete_everywhere(nodes[0], digest)

    assert (unsigned, asked) == (403, 403)
    until(lambda: states(receipt(nodes[0], where)) == {nodes[1].url: "acknowledged"})
    assert status_of(nodes[1], digest) == 404


def test_with_workers_each_takes_requests(live: Live, tmp_path: Path) -> None:
    nodes = mirror(live, tmp_path, 2, "--workers", "2")
    for node in nodes:
        node.start()
    digests = [nodes[0].put("x", os.urandom(100)) for _ in range(8)]
    assert [status_of(nodes[1], digest) for digest in digests] == [200] * 8
    nodes[1].end(signal.SIGKILL)
    wheres = [delete_everywhere(nodes[0], digest)[0] for digest in digests]
    nodes[1].start()

    until(lambda: {receipt(nodes[0], where)["status"] for where in wheres} == {"complete"})
    assert [status_of(nodes[1], digest) for digest in digests] == [404] * 8


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"{}", b'{"records": 5}', b'{"records": [{}]}', b'{"records": [null]}'],
)
def test_nonsense_is_refused(live: Live, body: bytes) -> None:
    node = live()

    assert node.request("POST", "/deletions", body)[0] == 400
    assert node.request("POST", "/deletions/compare", body)[0] == 400

"""A node that follows the databases of a real server: pouchdb-server."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_couchdb_live import Pouch, basic, pouch
from tests.support.live import LiveNode
from tests.support.waiting import until

__all__ = ["pouch"]

Live = Callable[..., LiveNode]


def entry(content: bytes) -> dict[str, Any]:
    return {"sha512": hashlib.sha512(content).hexdigest(), "length": len(content), "stub": True}


def names(node: LiveNode, database: str) -> set[str]:
    """Return the names of the blobs that are missing, once the database is complete."""
    told = missing(node, database)
    return {each["filename"] for each in told["missing"]} if told["complete"] else set()


def missing(node: LiveNode, database: str) -> dict[str, Any]:
    status, _, body = node.request("GET", f"/couchdb/{database}/missing")
    assert status == 200, body
    told: dict[str, Any] = json.loads(body)
    return told


def metric(node: LiveNode, name: str, database: str) -> float:
    text = node.request("GET", "/metrics")[2].decode()
    found = re.search(rf'^{name}{{database="{database}"}} (.*)$', text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


@pytest.fixture
def root(pouch: Pouch) -> str:
    """Return the administrator's credential; the server is one's that has him."""
    pouch.ask("PUT", "/_config/admins/root", "relax")
    return basic("root", "relax")


@pytest.fixture
def follow(live: Live, pouch: Pouch, root: str, tmp_path: Path) -> Callable[..., LiveNode]:
    """Make a database, and a node that follows it as the administrator."""

    def begin(database: str, *flags: str) -> LiveNode:
        assert pouch.ask("PUT", f"/{database}", user=root)[0] == 201
        user = tmp_path / "user"
        user.write_text("root:relax\n")
        user.chmod(0o600)
        return live(
            *("--couchdb", pouch.url, "--couchdb-db", database, "--couchdb-user-file", str(user)),
            *flags,
        )

    return begin


def test_documents_come_change_and_go(
    follow: Callable[..., LiveNode], pouch: Pouch, root: str
) -> None:
    node = follow("photos")
    node.put("here.jpg", b"here")
    files = {"here.jpg": entry(b"here"), "away.jpg": entry(b"away")}
    status, fields = pouch.ask("PUT", "/photos/a", {"dtfc": files}, root)
    assert status == 201
    until(lambda: names(node, "photos") == {"away.jpg"}, node.log)

    revision = fields["ETag"].strip('"')
    changed = {"_rev": revision, "dtfc": {"other.jpg": entry(b"other")}}
    status, fields = pouch.ask("PUT", "/photos/a", changed, root)
    assert status == 201
    until(lambda: names(node, "photos") == {"other.jpg"}, node.log)

    revision = fields["ETag"].strip('"')
    gone = {"_rev": revision, "_deleted": True, "dtfc": {"other.jpg": entry(b"other")}}
    assert pouch.ask("PUT", "/photos/a", gone, root)[0] == 201
    until(lambda: missing(node, "photos")["missing"] == [], node.log)


def test_a_session_will_do(follow: Callable[..., LiveNode], pouch: Pouch, root: str) -> None:
    node = follow("by_session", "--couchdb-user-auth", "cookie")
    assert pouch.ask("PUT", "/by_session/a", {"dtfc": {"x": entry(b"x")}}, root)[0] == 201
    until(lambda: names(node, "by_session") == {"x"}, node.log)


def test_who_lost_a_conflict_counts(
    follow: Callable[..., LiveNode], pouch: Pouch, root: str
) -> None:
    node = follow("conflicts")
    for revision in ("1-aaa", "1-bbb", "1-ccc"):
        document = {"_id": "a", "_rev": revision, "dtfc": {revision: entry(revision.encode())}}
        body = {"new_edits": False, "docs": [document]}
        assert pouch.ask("POST", "/conflicts/_bulk_docs", body, root)[0] == 201
    until(lambda: names(node, "conflicts") == {"1-aaa", "1-bbb", "1-ccc"}, node.log)

    # The winner goes; the losers stay.
    assert pouch.ask("DELETE", "/conflicts/a?rev=1-ccc", user=root)[0] == 200
    until(lambda: names(node, "conflicts") == {"1-aaa", "1-bbb"}, node.log)


def test_a_node_goes_on_from_its_checkpoint(
    follow: Callable[..., LiveNode], pouch: Pouch, root: str
) -> None:
    node = follow("many")
    documents = [{"_id": f"{n}", "dtfc": {f"{n}": entry(b"%d" % n)}} for n in range(1200)]
    assert pouch.ask("POST", "/many/_bulk_docs", {"docs": documents}, root)[0] == 201
    until(lambda: metric(node, "dtfc_couchdb_follower_changes_total", "many") >= 1200, node.log)
    until(lambda: bool(missing(node, "many")["complete"]), node.log)
    told = missing(node, "many")
    assert (len(told["missing"]), told["more"]) == (1000, True)
    assert node.end() == 0

    node.start()
    assert pouch.ask("PUT", "/many/x", {"dtfc": {"x": entry(b"x")}}, root)[0] == 201
    until(lambda: metric(node, "dtfc_couchdb_follower_changes_total", "many") > 0, node.log)
    assert metric(node, "dtfc_couchdb_follower_scans_total", "many") == 0


def test_a_database_that_is_made_anew_is_read_anew(
    follow: Callable[..., LiveNode], pouch: Pouch, root: str
) -> None:
    node = follow("anew")
    assert pouch.ask("PUT", "/anew/a", {"dtfc": {"old": entry(b"old")}}, root)[0] == 201
    until(lambda: names(node, "anew") == {"old"}, node.log)
    node.end()
    assert pouch.ask("DELETE", "/anew", user=root)[0] == 200
    node.start()
    until(lambda: missing(node, "anew")["state"] == "gone", node.log)
    # What it referred to counts until it is known that nothing does any more.
    assert [each["filename"] for each in missing(node, "anew")["missing"]] == ["old"]

    assert pouch.ask("PUT", "/anew", user=root)[0] == 201
    assert pouch.ask("PUT", "/anew/b", {"dtfc": {"new": entry(b"new")}}, root)[0] == 201
    until(lambda: names(node, "anew") == {"new"}, node.log)


def test_who_may_not_write_learns_nothing_of_documents(
    follow: Callable[..., LiveNode],
) -> None:
    node = follow("hidden")
    node.flags += ["--trusted-proxies", "127.0.0.0/8"]
    node.end()
    node.start()
    far = {"X_Forwarded_For": "203.0.113.9"}
    assert node.request("GET", "/couchdb/hidden/missing", **far)[0] == 401
    assert node.request("GET", "/couchdb/databases", **far)[0] == 401
    assert node.request("GET", "/couchdb/other/missing")[0] == 404

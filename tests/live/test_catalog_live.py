"""Two sites, each with a node and a database of names, which CouchDB's replication carries."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_couchdb_live import Pouch, basic, pouch
from tests.support.live import LiveNode
from tests.support.waiting import until

__all__ = ["pouch"]

Live = Callable[..., LiveNode]


def files(node: LiveNode, query: str = "") -> list[tuple[str, str, bool]]:
    """Return names, digests, and whether the blob is here."""
    found = json.loads(node.request("GET", f"/files.json{query}")[2])["files"]
    return [(each["name"], each["sha512"], each.get("here", True)) for each in found]


def count(node: LiveNode, name: str) -> float:
    text = node.request("GET", "/metrics")[2].decode()
    found = re.search(rf"^dtfc_couchdb_catalog_{name} (.*)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


class Sites:
    """Databases of one server, and nodes."""

    def __init__(self, live: Live, pouch: Pouch, folder: Path) -> None:
        self._live = live
        self._pouch = pouch
        self._folder = folder
        pouch.ask("PUT", "/_config/admins/root", "relax")
        self._root = basic("root", "relax")
        self._user = folder / "user"
        self._user.write_text("root:relax\n")
        self._user.chmod(0o600)

    def database(self, name: str) -> None:
        assert self.ask("PUT", f"/{name}")[0] == 201

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str]]:
        return self._pouch.ask(method, path, body, self._root)

    def get(self, path: str) -> Any:
        request = urllib.request.Request(  # noqa: S310 -- it is http
            self._pouch.url + path, headers={"Authorization": self._root}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read())

    def entries(self, database: str) -> dict[str, list[str]]:
        rows = self.get(f"/{database}/_all_docs?include_docs=true")["rows"]
        return {row["id"]: sorted(row["doc"]["dtfc"]) for row in rows}

    def replicate(self, source: str, target: str) -> None:
        server = self._pouch.url.replace("//", "//root:relax@")
        body = {"source": f"{server}/{source}", "target": f"{server}/{target}"}
        assert self.ask("POST", "/_replicate", body)[0] == 200

    def node(self, catalog: str, *peers: LiveNode, **more: Any) -> LiveNode:
        listed = self._folder / f"peers-{catalog}"
        listed.write_text("".join(f"{each.url}\n" for each in peers))
        return self._live(
            *("--couchdb", self._pouch.url, "--couchdb-user-file", str(self._user)),
            *("--couchdb-catalog", catalog, "--peerlist", str(listed)),
            **more,
        )


@pytest.fixture
def sites(live: Live, pouch: Pouch, tmp_path: Path) -> Sites:
    return Sites(live, pouch, tmp_path)


def test_an_empty_node_knows_all_names_and_loads_on_demand(sites: Sites) -> None:
    sites.database("here")
    sites.database("there")
    here = sites.node("here")
    digest = here.put("photo.jpg", b"photo")
    assert here.put("same.jpg", b"photo") == digest
    until(lambda: sites.entries("here") == {digest: ["photo.jpg", "same.jpg"]}, here.log)
    sites.replicate("here", "there")
    there = sites.node("there", here)
    until(lambda: len(files(there)) == 2, there.log)

    assert files(there, "?name=photo.jpg") == [("photo.jpg", digest, False)]
    assert there.request("GET", f"/{digest}")[2] == b"photo"
    assert files(there, "?prefix=s") == [("same.jpg", digest, True)]


def test_what_two_sites_name_at_once_has_the_names_of_both(sites: Sites) -> None:
    sites.database("one")
    sites.database("two")
    one, two = sites.node("one"), sites.node("two")
    digest = one.put("a", b"same")
    assert two.put("b", b"same") == digest
    until(lambda: sites.entries("one") == {digest: ["a"]}, one.log)
    until(lambda: sites.entries("two") == {digest: ["b"]}, two.log)
    sites.replicate("one", "two")
    sites.replicate("two", "one")
    for node in (one, two):
        until(lambda node=node: [each[0] for each in files(node)] == ["a", "b"], node.log)  # type: ignore[misc]

    # Who writes next makes one of the two.
    one.put("c", b"same")
    until(lambda: sites.entries("one") == {digest: ["a", "b", "c"]}, one.log)
    assert "_conflicts" not in sites.get(f"/one/{digest}?conflicts=true")


def test_what_is_deleted_everywhere_is_in_no_catalog(sites: Sites) -> None:
    sites.database("gone")
    node = sites.node("gone")
    digest = node.put("gone", b"gone")
    stays = node.put("stays", b"stays")
    until(lambda: len(sites.entries("gone")) == 2, node.log)
    assert node.request("DELETE", f"/{digest}/allpeers")[0] in (200, 202)
    until(lambda: list(sites.entries("gone")) == [stays], node.log)
    until(lambda: [each[0] for each in files(node)] == ["stays"], node.log)

    # One that is deleted here only stays in it, and out of this node's list.
    assert node.request("DELETE", f"/{stays}")[0] in (200, 204)
    until(lambda: files(node) == [], node.log)
    assert list(sites.entries("gone")) == [stays]


def test_what_was_named_while_the_database_was_away_is_published_then(sites: Sites) -> None:
    node = sites.node("away")
    digest = node.put("a", b"a")
    until(lambda: count(node, "failures_total") > 0, node.log)
    node.end()
    node.start()
    sites.database("away")
    until(lambda: sites.entries("away") == {digest: ["a"]}, node.log)

    # Made anew, it is filled anew.
    # Without the node: what is under way at the deletion may make it anew at this server.
    node.end()
    assert sites.ask("DELETE", "/away")[0] == 200
    sites.database("away")
    node.start()
    until(lambda: sites.entries("away") == {digest: ["a"]}, node.log)


def test_who_is_killed_publishes_at_the_next_start(sites: Sites) -> None:
    node = sites.node("killed")
    digests = {node.put(f"{number}", b"%d" % number) for number in range(50)}
    node.end(signal.SIGKILL)
    sites.database("killed")
    node.start()
    until(lambda: set(sites.entries("killed")) == digests, node.log)


def test_a_store_that_was_there_before_is_published(sites: Sites, live: Live) -> None:
    sites.database("old")
    node = live()
    digests = {node.put(f"{number:03}", b"%d" % number) for number in range(250)}
    node.end()
    node.flags += sites.node("old", begin=False).flags
    node.flags += ["--workers", "2"]
    node.start()
    until(lambda: set(sites.entries("old")) == digests, node.log)

    first = json.loads(node.request("GET", "/files.json?limit=100")[2])
    second = json.loads(node.request("GET", f"/files.json?limit=200&after={first['next']}")[2])
    found = [each["name"] for each in first["files"] + second["files"]]
    assert (found, second["next"]) == ([f"{number:03}" for number in range(250)], None)

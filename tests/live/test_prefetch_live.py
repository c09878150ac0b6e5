"""Two nodes, peers of each other, and a database whose documents arrive at one of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dtfc.couchdb.prefetching import FIRST_WAIT
from tests.live.test_couchdb_live import Pouch, basic, pouch
from tests.live.test_following_live import missing
from tests.support.live import LiveNode
from tests.support.waiting import until

__all__ = ["pouch"]

Live = Callable[..., LiveNode]


def count(node: LiveNode, name: str) -> float:
    text = node.request("GET", "/metrics")[2].decode()
    found = re.search(rf"^dtfc_couchdb_prefetch_{name} (.*)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def holds(node: LiveNode, digest: str) -> bool:
    return node.request("GET", f"/{digest}/nopeerload")[0] == 200


class Sites:
    """A node that has blobs, one that follows a database, and the database."""

    def __init__(self, live: Live, pouch: Pouch, folder: Path, database: str) -> None:
        pouch.ask("PUT", "/_config/admins/root", "relax")
        self._root = basic("root", "relax")
        self._pouch = pouch
        self.database = database
        assert pouch.ask("PUT", f"/{database}", user=self._root)[0] == 201
        user = folder / "user"
        user.write_text("root:relax\n")
        user.chmod(0o600)
        self.far = live()
        peers = folder / "peers"
        peers.write_text(f"{self.far.url}\n")
        self._flags = [
            *("--couchdb", pouch.url, "--couchdb-db", database, "--couchdb-user-file", str(user)),
            *("--peerlist", str(peers), "--absent-ttl", "0"),
        ]
        self._live = live

    def follow(self, *flags: str) -> LiveNode:
        return self._live(*self._flags, *flags)

    def save(self, document: str, digest: str, **more: Any) -> None:
        body = {"dtfc": {"a": {"sha512": digest, "length": 1, "stub": True}}, **more}
        status = self._pouch.ask("PUT", f"/{self.database}/{document}", body, self._root)[0]
        assert status == 201


@pytest.fixture
def sites(live: Live, pouch: Pouch, tmp_path: Path) -> Callable[[str], Sites]:
    return lambda database: Sites(live, pouch, tmp_path, database)


def test_what_documents_refer_to_is_loaded_unasked(sites: Callable[[str], Sites]) -> None:
    there = sites("all")
    before, after = there.far.put("before", b"before"), there.far.put("after", b"after")
    there.save("one", before)
    node = there.follow("--couchdb-prefetch", "all")
    until(lambda: count(node, "loaded_total") == 1, node.log)
    there.save("two", after)
    until(lambda: count(node, "loaded_total") == 2, node.log)

    assert missing(node, "all")["missing"] == []
    assert [holds(node, before), holds(node, after)] == [True, True]


def test_with_a_selector_what_matches_is(sites: Callable[[str], Sites], tmp_path: Path) -> None:
    there = sites("some")
    digests = [there.far.put(name, name.encode()) for name in ("old", "new", "film")]
    for number, (kind, year) in enumerate([("photo", 1999), ("photo", 2026), ("film", 2026)]):
        there.save(str(number), digests[number], type=kind, year=year)
    file = tmp_path / "selectors.json"
    file.write_text(json.dumps({"some": {"type": "photo", "year": {"$gt": 2000}}}))
    node = there.follow("--couchdb-prefetch", str(file))
    until(lambda: count(node, "loaded_total") == 1, node.log)
    assert sorted(each["sha512"] for each in missing(node, "some")["missing"]) == sorted(
        [digests[0], digests[2]]
    )

    # Another selector: the database is read anew for it.
    file.write_text(json.dumps({"*": {"year": {"$lt": 2000}}}))
    node.end()
    node.start()
    until(lambda: holds(node, digests[0]), node.log)
    until(lambda: len(missing(node, "some")["missing"]) == 1, node.log)


def test_after_a_restart_what_was_missing_is_tried_again(sites: Callable[[str], Sites]) -> None:
    there = sites("later")
    there.far.end()
    digest = "ab" * 64
    node = there.follow("--couchdb-prefetch", "all")
    there.save("one", digest)
    until(lambda: count(node, "failed_total") == 1, node.log)
    assert count(node, "waiting") == 1
    node.end()

    there.far.start()
    content = b"it was written later"
    there.save("two", there.far.put("later", content))
    node.start()
    until(lambda: count(node, "loaded_total") == 1, node.log)
    until(lambda: count(node, "failed_total") >= 1, node.log)
    assert [each["sha512"] for each in missing(node, "later")["missing"]] == [digest]


def test_what_was_deleted_here_does_not_come_back(sites: Callable[[str], Sites]) -> None:
    there = sites("deleted")
    node = there.follow("--couchdb-prefetch", "all")
    digest = there.far.put("gone", b"gone")
    assert node.put("gone", b"gone") == digest
    assert node.request("DELETE", f"/{digest}")[0] in (200, 204)
    there.save("one", digest)
    until(lambda: count(node, "dropped_total") == 1, node.log)

    assert not holds(node, digest)
    assert count(node, "waiting") == 0


def test_a_peer_that_comes_is_asked_for_what_is_missing(
    sites: Callable[[str], Sites], live: Live
) -> None:
    there = sites("peer")
    other = live()
    digest = other.put("other", b"other")
    node = there.follow("--couchdb-prefetch", "all")
    there.save("one", digest)
    until(lambda: count(node, "failed_total") == 1, node.log)
    with (node.folder.parent / "peers").open("a") as peers:
        peers.write(f"{other.url}\n")
    assert node.request("PUT", "/refreshpeers.html")[0] == 200
    begun = time.monotonic()
    until(lambda: holds(node, digest), node.log)
    assert time.monotonic() - begun < FIRST_WAIT / 2


def test_what_is_too_large_is_left(sites: Callable[[str], Sites]) -> None:
    there = sites("large")
    node = there.follow("--couchdb-prefetch", "all", "--couchdb-prefetch-max-size", "1KiB")
    # Its document says that it has one byte.
    large = there.far.put("large", b"x" * 2000)
    there.save("large", large)
    there.save("small", there.far.put("small", b"small"))
    until(lambda: count(node, "loaded_total") == 1, node.log)
    until(lambda: count(node, "waiting") == 0, node.log)

    assert not holds(node, large)
    assert node.request("GET", f"/{large}")[0] == 200


def test_with_an_operator_that_is_not_known_no_node_starts(
    sites: Callable[[str], Sites], tmp_path: Path
) -> None:
    file = tmp_path / "selectors.json"
    file.write_text('{"wrong": {"a": {"$like": "x"}}}')
    there = sites("wrong")
    with pytest.raises(AssertionError, match=r"wrong: \$like is no operator"):
        there.follow("--couchdb-prefetch", str(file))

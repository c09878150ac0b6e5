"""A node that collects what no document of a real server refers to: pouchdb-server."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_couchdb_live import Pouch, pouch
from tests.live.test_following_live import Live, entry, root
from tests.support.live import CHECKOUT, LiveNode
from tests.support.waiting import until

__all__ = ["pouch", "root"]

SOON = ("--purge-untracked", "1s", "--purge-period", "1s", "--purge-verify", "0s")
DIGEST = hashlib.sha512(b"photo").hexdigest()


@pytest.fixture
def collect(live: Live, pouch: Pouch, root: str, tmp_path: Path) -> Callable[..., LiveNode]:
    """Make a database, and a node that collects what it does not refer to."""

    def begin(database: str, *flags: str) -> LiveNode:
        assert pouch.ask("PUT", f"/{database}", user=root)[0] == 201
        user = tmp_path / "user"
        user.write_text("root:relax\n")
        user.chmod(0o600)
        follows = ("--couchdb", pouch.url, "--couchdb-db", database)
        return live(*follows, "--couchdb-user-file", str(user), *(flags or SOON))

    return begin


def garbage(node: LiveNode) -> dict[str, Any]:
    status, _, body = node.request("GET", "/couchdb/garbage")
    assert status == 200, body
    told: dict[str, Any] = json.loads(body)
    return told


def state(node: LiveNode) -> str:
    (told,) = json.loads(node.request("GET", "/couchdb/databases")[2])
    return str(told["state"])


def names(node: LiveNode) -> set[str]:
    return {each["filename"] for each in garbage(node)["collected"]}


def test_what_a_document_let_go_is_collected_and_comes_back(
    collect: Callable[..., LiveNode], pouch: Pouch, root: str
) -> None:
    node = collect("collects")
    status, fields = pouch.ask("PUT", "/collects/a", {"dtfc": {"p": entry(b"photo")}}, root)
    assert status == 201
    node.put("photo.jpg", b"photo")
    node.put("other.jpg", b"other")
    until(lambda: names(node) == {"other.jpg"}, node.log)
    assert node.request("GET", f"/{DIGEST}")[2] == b"photo"

    revision = fields["ETag"].strip('"')
    status, fields = pouch.ask("DELETE", f"/collects/a?rev={revision}", user=root)
    assert status == 200
    until(lambda: names(node) == {"other.jpg", "photo.jpg"}, node.log)
    assert node.request("GET", f"/{DIGEST}")[0] == 404

    # A document that comes late, perhaps from another site.
    assert pouch.ask("PUT", "/collects/b", {"dtfc": {"p": entry(b"photo")}}, root)[0] == 201
    until(lambda: names(node) == {"other.jpg"}, node.log)
    assert node.request("GET", f"/{DIGEST}")[2] == b"photo"


def test_an_operator_brings_back_what_he_wants(collect: Callable[..., LiveNode]) -> None:
    node = collect("undelete")
    node.put("photo.jpg", b"photo")
    until(lambda: names(node) == {"photo.jpg"}, node.log)
    node.end()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dtfc.cli.main", "undelete"),
            *("--basedir", str(node.basedir), DIGEST),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert DIGEST in done.stdout
    node.flags = []
    node.start()
    assert node.request("GET", f"/{DIGEST}")[2] == b"photo"


def test_while_couchdb_is_away_it_says_so_and_collects_nothing(
    collect: Callable[..., LiveNode], pouch: Pouch, root: str
) -> None:
    node = collect("away")
    # First: what is under way at this server's deletion may make the database anew.
    node.end()
    assert pouch.ask("DELETE", "/away", user=root)[0] == 200
    node.start()
    node.put("photo.jpg", b"photo")
    until(lambda: state(node) == "gone", node.log)
    assert garbage(node)["last_pass"] is None
    assert node.request("GET", f"/{DIGEST}")[2] == b"photo"

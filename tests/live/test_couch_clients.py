"""The clients that CouchDB's users have, with documents that refer to blobs: nano, couchdb3."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import couchdb3
import pytest

from tests.live.test_couchdb_init_live import ROOT, Init, init
from tests.live.test_couchdb_live import Pouch, pouch
from tests.support.live import LiveNode
from tests.support.programs import require_npm_package, require_program

__all__ = ["init", "pouch"]

CONTENT = b"a photo of a holiday"

#: Reads what it is to do from its arguments; writes what it found as JSON.
WITH_NANO = r"""
const [server, node, name] = process.argv.slice(1);
const db = require("nano")(server).use(name);
(async () => {
  const reader = db.changesReader.start({since: "0", includeDocs: true});
  const seen = new Promise((done, failed) => {
    reader.on("change", change => { if (change.id === "holiday") done(change.doc.dtfc); });
    reader.on("error", failed);
  });
  const put = await fetch(node + "/photo.jpg", {method: "PUT", body: "a photo of a holiday"});
  const stub = await put.json();
  await db.insert({dtfc: {"photo.jpg": stub}}, "holiday");
  const read = (await db.get("holiday")).dtfc;
  const changed = await seen;
  db.changesReader.stop();
  const found = await db.find({selector: {dtfc: {"$exists": true}}, fields: ["_id", "dtfc"]});
  const view = await db.view("dtfc", "by_sha512", {key: stub.sha512});
  const blob = await (await fetch(node + "/" + read["photo.jpg"].sha512)).text();
  console.log(JSON.stringify({stub, read, changed, blob, found: found.docs,
    warning: found.warning || null, rows: view.rows.map(row => [row.id, row.value])}));
  process.exit(0);
})().catch(error => { console.error(error); process.exit(1); });
"""


@pytest.fixture
def node(live: Callable[..., LiveNode]) -> LiveNode:
    return live()


@pytest.fixture
def by_nano(init: Init, pouch: Pouch, node: LiveNode) -> dict[str, Any]:
    """Return what nano found in a database of its own."""
    folder = require_npm_package("nano")
    database = f"with_nano_{node.port}"
    assert pouch.ask("PUT", f"/{database}", user=ROOT)[0] == 201
    assert init(database).returncode == 0
    server = pouch.url.replace("http://", "http://root:relax@")
    done = subprocess.run(
        [require_program("node"), "-e", WITH_NANO, server, node.url, database],
        env={**os.environ, "NODE_PATH": folder},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nano_reads_what_it_wrote(by_nano: dict[str, Any]) -> None:
    assert by_nano["read"] == {"photo.jpg": by_nano["stub"]}
    assert by_nano["blob"] == CONTENT.decode()


def test_a_reader_of_changes_sees_the_entry(by_nano: dict[str, Any]) -> None:
    assert by_nano["changed"] == {"photo.jpg": by_nano["stub"]}


def test_nano_finds_it_by_the_index_and_by_the_view(by_nano: dict[str, Any]) -> None:
    assert by_nano["found"] == [{"_id": "holiday", "dtfc": {"photo.jpg": by_nano["stub"]}}]
    assert by_nano["warning"] is None
    assert by_nano["rows"] == [["holiday", {"name": "photo.jpg", "length": len(CONTENT)}]]


@pytest.fixture
def database(init: Init, pouch: Pouch, node: LiveNode) -> couchdb3.Database:
    """Return a database that is ready for references, as couchdb3 has it."""
    name = f"with_couchdb3_{node.port}"
    assert pouch.ask("PUT", f"/{name}", user=ROOT)[0] == 201
    assert init(name).returncode == 0
    return couchdb3.Server(pouch.url.replace("http://", "http://root:relax@")).get(name)


def stored(node: LiveNode) -> dict[str, Any]:
    status, _, body = node.request("PUT", "/photo.jpg", CONTENT)
    assert status == 201
    stub: dict[str, Any] = json.loads(body)
    return stub


def test_couchdb3_reads_what_it_wrote(database: couchdb3.Database, node: LiveNode) -> None:
    stub = stored(node)
    database.save({"_id": "holiday", "dtfc": {"photo.jpg": stub}})
    read = database.get("holiday")["dtfc"]
    assert read == {"photo.jpg": stub}
    with urllib.request.urlopen(f"{node.url}/{read['photo.jpg']['sha512']}") as answer:  # noqa: S310
        assert answer.read() == CONTENT


def test_couchdb3_finds_it_by_the_index(database: couchdb3.Database, node: LiveNode) -> None:
    database.save({"_id": "holiday", "dtfc": {"photo.jpg": stored(node)}})
    database.save({"_id": "other"})
    found = database.find({"dtfc": {"$exists": True}})
    assert ([each["_id"] for each in found["docs"]], found.get("warning")) == (["holiday"], None)


def test_couchdb3_finds_it_by_the_view(database: couchdb3.Database, node: LiveNode) -> None:
    stub = stored(node)
    database.save({"_id": "holiday", "dtfc": {"photo.jpg": stub}})
    rows = database.view("dtfc", "by_sha512", key=json.dumps(stub["sha512"])).rows
    assert [row.id for row in rows] == ["holiday"]


def test_couchdb3_is_told_what_is_no_reference(database: couchdb3.Database) -> None:
    with pytest.raises(couchdb3.exceptions.ForbiddenError, match=r"dtfc: .*sha512"):
        database.save({"_id": "wrong", "dtfc": {"photo.jpg": {"sha512": "x", "length": 1}}})

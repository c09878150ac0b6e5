"""``dtfc couchdb migrate`` and ``restore``, with a real node and a real server: pouchdb-server."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.live.test_couchdb_live import Pouch, basic, pouch
from tests.support.live import CHECKOUT, LiveNode

__all__ = ["pouch"]

ROOT = basic("root", "relax")
MIB = 1024 * 1024
Live = Callable[..., LiveNode]
Files = dict[str, tuple[str, bytes]]

ODD: Files = {
    "plain.txt": ("text/plain", b"text\n" * 1000),
    "photo.jpg": ("image/jpeg", bytes(range(256)) * 50),
    "empty": ("application/octet-stream", b""),
    "with space.txt": ("text/plain; charset=utf-8", b"space"),
    "\u00fcml\u00e4ut.png": ("image/png", b"umlaut"),
    "a/b/c.bin": ("application/x-thing", b"slashes"),
    "one+one.txt": ("text/plain", b"plus"),
    "100%25.txt": ("text/plain", b"per cent"),
}


class Scene:
    """A node, a server with an administrator, and the command."""

    def __init__(self, node: LiveNode, pouch: Pouch, folder: Path) -> None:
        self.node, self.pouch = node, pouch
        pouch.ask("PUT", "/_config/admins/root", "relax")
        self.user = folder / "user"
        self.user.write_text("root:relax\n")
        self.user.chmod(0o600)

    def command(self, act: str, database: str, *flags: str) -> list[str]:
        run = "import sys; from dtfc.cli.main import main; sys.exit(main())"
        return [
            *(sys.executable, "-c", run, "couchdb", act),
            *(f"{self.pouch.url}/{database}", self.node.url),
            *("--couchdb-user-file", str(self.user), *flags),
        ]

    def run(self, act: str, database: str, *flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(act, database, *flags),
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def make(self, database: str, *names: str, files: Files = ODD, **more: Any) -> None:
        assert self.pouch.ask("PUT", f"/{database}", user=ROOT)[0] in (201, 412)
        for name in names:
            body = {"_attachments": inline(files), "title": name, **more}
            assert self.pouch.ask("PUT", f"/{database}/{name}", body, ROOT)[0] == 201

    def read(self, path: str) -> Any:
        request = urllib.request.Request(self.pouch.url + path, headers={"Authorization": ROOT})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def files(self, database: str, name: str) -> Files:
        """Return a document's attachments."""
        found = self.read(f"/{database}/{name}")
        return {
            each: (
                stub["content_type"],
                self.bytes_of(f"/{database}/{name}/{quote(each, safe='')}"),
            )
            for each, stub in found.get("_attachments", {}).items()
        }

    def bytes_of(self, path: str) -> bytes:
        request = urllib.request.Request(self.pouch.url + path, headers={"Authorization": ROOT})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: bytes = answer.read()
            return found

    def blob(self, digest: str) -> bytes:
        return self.node.request("GET", f"/{digest}")[2]


def inline(files: Files) -> dict[str, Any]:
    return {
        name: {"content_type": kind, "data": base64.b64encode(content).decode()}
        for name, (kind, content) in files.items()
    }


def entries(files: Files) -> dict[str, Any]:
    return {
        name: {
            "sha512": hashlib.sha512(content).hexdigest(),
            "length": len(content),
            "content_type": kind,
            "stub": True,
        }
        for name, (kind, content) in files.items()
    }


def told(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    return done.returncode, done.stderr


@pytest.fixture
def scene(live: Live, pouch: Pouch, tmp_path: Path) -> Scene:
    return Scene(live(), pouch, tmp_path)


def test_attachments_become_blobs_in_one_update(scene: Scene) -> None:
    scene.make("moved", "a", "b")
    done = scene.run("migrate", "moved")
    assert told(done) == (0, "")
    document = scene.read("/moved/a")
    assert (document["dtfc"], "_attachments" in document) == (entries(ODD), False)
    assert (document["_rev"].partition("-")[0], document["title"]) == ("2", "a")
    assert {name: scene.blob(each["sha512"]) for name, each in document["dtfc"].items()} == {
        name: content for name, (_, content) in ODD.items()
    }
    assert "4 documents looked at, 2 changed, 16 attachments" in done.stdout


def test_a_second_time_changes_nothing(scene: Scene) -> None:
    scene.make("again", "a")
    scene.run("migrate", "again")
    before = scene.read("/again/a")
    assert told(scene.run("migrate", "again")) == (0, "")
    assert scene.read("/again/a") == before


def test_restore_makes_the_same_attachments(scene: Scene) -> None:
    scene.make("back", "a")
    scene.run("migrate", "back")
    assert told(scene.run("restore", "back")) == (0, "")
    assert "dtfc" not in scene.read("/back/a")
    assert scene.files("back", "a") == ODD


def test_what_is_left_of_an_upload_that_was_cut_is_made_whole(scene: Scene) -> None:
    files = {"x": ("text/plain", b"the whole of it"), "y": ("text/plain", b"y")}
    scene.make("cut", "a", files={"x": ("text/plain", b"the wh")}, dtfc=entries(files))
    for name, (_, content) in files.items():
        scene.node.put(name, content)
    assert told(scene.run("restore", "cut")) == (0, "")
    assert scene.files("cut", "a") == files


def test_what_is_no_part_of_the_blob_stays(scene: Scene) -> None:
    files = {"x": ("text/plain", b"the whole of it")}
    other = {"x": ("text/plain", b"the other")}
    scene.make("other", "a", files=other, dtfc=entries(files))
    scene.node.put("x", b"the whole of it")
    done = scene.run("restore", "other")
    assert told(done) == (1, "dtfc: a: it has another attachment 'x': both stay\n")
    assert scene.files("other", "a") == other


def test_a_large_attachment(scene: Scene) -> None:
    large = random.Random(5).randbytes(5 * MIB)
    scene.make("large", "a", files={"large.bin": ("application/x-large", large)})
    assert told(scene.run("migrate", "large")) == (0, "")
    assert scene.blob(hashlib.sha512(large).hexdigest()) == large
    assert told(scene.run("restore", "large")) == (0, "")
    assert scene.files("large", "a")["large.bin"][1] == large


def test_a_dry_run_changes_nothing(scene: Scene) -> None:
    scene.make("dry", "a")
    before = scene.read("/dry"), scene.node.request("GET", "/files.json")[2]
    done = scene.run("migrate", "dry", "--dry-run")
    assert told(done) == (0, "")
    assert (scene.read("/dry"), scene.node.request("GET", "/files.json")[2]) == before
    total = sum(len(content) for _, content in ODD.values())
    assert f"1 changed, 8 attachments, {total} bytes" in done.stdout


def test_keep_leaves_the_attachments(scene: Scene) -> None:
    scene.make("kept", "a")
    assert told(scene.run("migrate", "kept", "--keep")) == (0, "")
    assert scene.read("/kept/a")["dtfc"] == entries(ODD)
    assert scene.files("kept", "a") == ODD
    before = scene.read("/kept/a")["_rev"]
    assert told(scene.run("migrate", "kept", "--keep")) == (0, "")
    assert scene.read("/kept/a")["_rev"] == before
    assert told(scene.run("migrate", "kept")) == (0, "")
    assert "_attachments" not in scene.read("/kept/a")


def test_an_entry_that_says_something_else_stays(scene: Scene) -> None:
    other = entries({"x": ("text/plain", b"other")})
    files = {"x": ("text/plain", b"x"), "y": ("text/plain", b"y")}
    scene.make("taken", "a", files=files, dtfc=other)
    done = scene.run("migrate", "taken")
    assert told(done) == (1, "dtfc: a: its dtfc has another 'x': both stay\n")
    document = scene.read("/taken/a")
    assert document["dtfc"] == {**other, **entries({"y": files["y"]})}
    assert scene.files("taken", "a") == {"x": files["x"]}


def test_every_leaf_of_a_conflict_is_moved(scene: Scene) -> None:
    scene.make("leaves")
    for revision in ("1-aaa", "1-bbb"):
        files = {revision: ("text/plain", revision.encode())}
        document = {"_id": "a", "_rev": revision, "_attachments": inline(files)}
        body = {"new_edits": False, "docs": [document]}
        assert scene.pouch.ask("POST", "/leaves/_bulk_docs", body, ROOT)[0] == 201
    assert told(scene.run("migrate", "leaves")) == (0, "")
    leaves = [each["ok"] for each in scene.read("/leaves/a?open_revs=all")]
    assert sorted(name for each in leaves for name in each["dtfc"]) == ["1-aaa", "1-bbb"]
    assert [each for each in leaves if "_attachments" in each] == []


def test_what_the_database_refuses_is_said(scene: Scene) -> None:
    scene.make("refused", "good", "bad")
    no = "function (doc) { if (doc._id === 'bad') { throw({forbidden: 'not this one'}); } }"
    design = {"validate_doc_update": no}
    assert scene.pouch.ask("PUT", "/refused/_design/no", design, ROOT)[0] == 201
    done = scene.run("migrate", "refused")
    assert told(done) == (1, "dtfc: bad: CouchDB refuses with 403: not this one\n")
    assert ("dtfc" in scene.read("/refused/good"), "dtfc" in scene.read("/refused/bad")) == (
        True,
        False,
    )


def test_a_node_that_is_away_ends_it(scene: Scene, tmp_path: Path) -> None:
    scene.make("away", "a")
    scene.node.end()
    state = str(tmp_path / "state")
    done = scene.run("migrate", "away", "--patience", "1s", "--state", state)
    assert (done.returncode, "the node: no connection" in done.stderr) == (1, True)
    scene.node.start()
    assert told(scene.run("migrate", "away", "--state", state)) == (0, "")
    assert "_attachments" not in scene.read("/away/a")


def test_a_killed_run_goes_on_and_changes_nothing_twice(scene: Scene, tmp_path: Path) -> None:
    chance = random.Random(7)
    names = [f"{number:03}" for number in range(250)]
    files = {
        name: {f"{n}.bin": ("image/x", chance.randbytes(chance.randrange(20_000))) for n in (1, 2)}
        for name in names
    }
    scene.make("killed")
    for name in names:
        scene.make("killed", name, files=files[name])
    command = scene.command("migrate", "killed", "--state", str(tmp_path / "state"))
    for _ in range(4):
        process = subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.8, 1.6))  # The moment at which it dies is the case.
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = scene.run("migrate", "killed", "--state", str(tmp_path / "state"))
    assert told(done) == (0, "")
    found = {name: scene.read(f"/killed/{name}") for name in names}
    assert {each["_rev"].partition("-")[0] for each in found.values()} == {"2"}
    assert {name: each["dtfc"] for name, each in found.items()} == {
        name: entries(files[name]) for name in names
    }

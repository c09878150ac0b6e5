"""``dtfc couchdb init`` on a real server: pouchdb-server."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_couchdb_live import Pouch, basic, pouch
from tests.live.test_following_live import entry
from tests.support.live import CHECKOUT

__all__ = ["pouch"]

ROOT = basic("root", "relax")
Init = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def init(pouch: Pouch, tmp_path: Path) -> Init:
    """Run the command on a database, as the administrator."""
    pouch.ask("PUT", "/_config/admins/root", "relax")

    def run(
        database: str,
        password: str = "relax",  # noqa: S107 -- of a server of one's own
    ) -> subprocess.CompletedProcess[str]:
        user = tmp_path / "user"
        user.write_text(f"root:{password}\n")
        user.chmod(0o600)
        command = [
            sys.executable,
            "-c",
            "import sys; from dtfc.cli.main import main; sys.exit(main())",
        ]
        return subprocess.run(
            [
                *command,
                "couchdb",
                "init",
                f"{pouch.url}/{database}",
                "--couchdb-user-file",
                str(user),
            ],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def read(pouch: Pouch, path: str) -> Any:
    request = urllib.request.Request(pouch.url + path, headers={"Authorization": ROOT})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def test_what_makes_no_sense_is_refused_from_then_on(init: Init, pouch: Pouch) -> None:
    assert pouch.ask("PUT", "/init", user=ROOT)[0] == 201
    done = init("init")
    assert (done.returncode, done.stderr) == (0, "")
    assert "init: _design/dtfc is made\n" in done.stdout

    good = entry(b"good")
    wrong: dict[str, Any] = {
        "a list": [],
        "a text": "x",
        "no digest": {"a": {"length": 1}},
        "capitals": {"a": {**good, "sha512": good["sha512"].upper()}},
        "too short": {"a": {**good, "sha512": good["sha512"][1:]}},
        "half a byte": {"a": {**good, "length": 1.5}},
        "less than nothing": {"a": {**good, "length": -1}},
        "no file": {"a": None},
        "a type": {"a": {**good, "content_type": 7}},
        "no name": {"": good},
        "upwards": {"../a": good},
        "one of two": {"a": good, "b": {}},
    }
    taken = {
        what
        for what, files in wrong.items()
        if pouch.ask("PUT", f"/init/{what.replace(' ', '_')}", {"dtfc": files}, ROOT)[0] != 403
    }
    assert taken == set()
    right = {"none": {}, "empty": {"dtfc": {}}, "one": {"dtfc": {"a..b/c.jpg": good}}}
    found = {what: pouch.ask("PUT", f"/init/{what}", body, ROOT)[0] for what, body in right.items()}
    assert found == {"none": 201, "empty": 201, "one": 201}


def test_the_view_leads_from_a_digest_to_documents(init: Init, pouch: Pouch) -> None:
    assert pouch.ask("PUT", "/viewed", user=ROOT)[0] == 201
    assert init("viewed").returncode == 0
    for name in ("a", "b"):
        files = {"same.jpg": entry(b"same"), f"{name}.jpg": entry(name.encode())}
        assert pouch.ask("PUT", f"/viewed/{name}", {"dtfc": files}, ROOT)[0] == 201

    key = json.dumps(entry(b"same")["sha512"]).replace('"', "%22")
    rows = read(pouch, f"/viewed/_design/dtfc/_view/by_sha512?key={key}")["rows"]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert rows[0]["value"] == {"name": "same.jpg", "length": 4}


def test_a_second_time_changes_nothing(init: Init, pouch: Pouch) -> None:
    assert pouch.ask("PUT", "/twice", user=ROOT)[0] == 201
    assert init("twice").returncode == 0
    before = read(pouch, "/twice/_design/dtfc")
    done = init("twice")
    assert (
        done.stdout
        == "twice: _design/dtfc is there already\ntwice: the index on dtfc is there already\n"
    )
    assert read(pouch, "/twice/_design/dtfc") == before


def test_a_refusal_is_told(init: Init, pouch: Pouch) -> None:
    assert pouch.ask("PUT", "/refused", user=ROOT)[0] == 201
    done = init("refused", "wrong")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{pouch.url}/refused: it answered 401" in done.stderr
    assert "wrong" not in done.stderr.replace("wrong password", "")


def test_no_database_is_no_traceback(init: Init) -> None:
    done = init("Not/A/Database")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dtfc: ")
    assert "Traceback" not in done.stderr

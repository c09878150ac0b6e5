"""A node beside a real server that speaks CouchDB's protocol: pouchdb-server."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live import LiveNode, free_port
from tests.support.programs import require_program
from tests.support.waiting import until


def basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


class Pouch:
    """A pouchdb-server of one's own, in memory."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        folder.mkdir()
        self._process = subprocess.Popen(
            [
                *(require_program("pouchdb-server"), "--in-memory", "--no-stdout-logs"),
                *("--host", "127.0.0.1", "--port", self.url.rpartition(":")[2]),
            ],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self._answers, lambda: "pouchdb-server did not start", seconds=20)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/"))
        except OSError:
            return False

    def ask(
        self, method: str, path: str, body: Any = None, user: str = ""
    ) -> tuple[int, dict[str, str]]:
        request = urllib.request.Request(  # noqa: S310 -- it is http
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", **({"Authorization": user} if user else {})},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                answer.read()
                return answer.status, dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, {}

    def stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def pouch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pouch]:
    server = Pouch(tmp_path_factory.mktemp("pouch") / "data")
    yield server
    server.stop()


def test_users_of_a_real_server(live: Callable[..., LiveNode], pouch: Pouch) -> None:
    node = live("--couchdb", pouch.url, "--private", "--trusted-proxies", "127.0.0.0/8")
    digest = node.put("photo.jpg", b"photo")

    def get(path: str = f"/{digest}", **fields: str) -> int:
        return node.request("GET", path, X_Forwarded_For="203.0.113.9", **fields)[0]

    # Nobody has set an administrator: everybody is one there, and nobody here.
    party = get(Cookie="AuthSession=bm9ib2R5")
    assert pouch.ask("PUT", "/_config/admins/root", "relax")[0] == 200
    root = basic("root", "relax")
    ada = {"name": "ada", "password": "x", "roles": ["editors"], "type": "user"}
    assert pouch.ask("PUT", "/_users/org.couchdb.user:ada", ada, root)[0] == 201
    session = pouch.ask("POST", "/_session", {"name": "ada", "password": "x"})[1]["Set-Cookie"]
    found = {
        "party": party,
        "nobody": get(),
        "cookie": get(Cookie=session.partition(";")[0]),
        "forged": get(Cookie=session.partition(";")[0] + "x"),
        "password": get(Authorization=basic("ada", "x")),
        "wrong": get(Authorization=basic("ada", "y")),
    }
    assert found == {
        "party": 401,
        "nobody": 401,
        "cookie": 200,
        "forged": 401,
        "password": 200,
        "wrong": 401,
    }
    put = {"X_Forwarded_For": "203.0.113.9"}
    assert node.request("PUT", "/a", b"a", Authorization=root, **put)[0] == 201
    assert node.request("PUT", "/b", b"b", Authorization=basic("ada", "x"), **put)[0] == 403


def test_who_is_struck_off_at_a_real_server_is_nobody(
    live: Callable[..., LiveNode], pouch: Pouch
) -> None:
    flags = ("--private", "--trusted-proxies", "127.0.0.0/8", "--couchdb-cache", "0s")
    node = live("--couchdb", pouch.url, *flags)
    digest = node.put("photo.jpg", b"photo")
    pouch.ask("PUT", "/_config/admins/root", "relax")
    root = basic("root", "relax")
    path = "/_users/org.couchdb.user:eve"
    eve = {"name": "eve", "password": "x", "roles": [], "type": "user"}
    fields = pouch.ask("PUT", path, eve, root)[1]
    cookie = pouch.ask("POST", "/_session", {"name": "eve", "password": "x"})[1]["Set-Cookie"]
    ways = {"Cookie": cookie.partition(";")[0], "Authorization": basic("eve", "x")}

    def get() -> dict[str, int]:
        far = {"X_Forwarded_For": "203.0.113.9"}
        return {
            way: node.request("GET", f"/{digest}", **far, **{way: value})[0]
            for way, value in ways.items()
        }

    before = get()
    revision = fields["ETag"].strip('"')
    assert pouch.ask("DELETE", f"{path}?rev={revision}", user=root)[0] == 200
    assert (before, get()) == (
        {"Cookie": 200, "Authorization": 200},
        {"Cookie": 401, "Authorization": 401},
    )


def test_documents_of_a_real_server(live: Callable[..., LiveNode], pouch: Pouch) -> None:
    node = live(
        *("--couchdb", pouch.url, "--private", "--trusted-proxies", "127.0.0.0/8"),
        *("--couchdb-read", "document"),
    )
    digest = node.put("photo.jpg", b"photo")
    pouch.ask("PUT", "/_config/admins/root", "relax")
    root = basic("root", "relax")
    for name in ("bea", "cy"):
        user: dict[str, Any] = {"name": name, "password": "x", "roles": [], "type": "user"}
        assert pouch.ask("PUT", f"/_users/org.couchdb.user:{name}", user, root)[0] == 201
    assert pouch.ask("PUT", "/photos", None, root)[0] in (201, 412)
    security = {"members": {"names": ["bea"], "roles": []}, "admins": {"names": [], "roles": []}}
    assert pouch.ask("PUT", "/photos/_security", security, root)[0] == 200
    album = {"dtfc": {"photo.jpg": {"sha512": digest, "stub": True}}}
    assert pouch.ask("PUT", "/photos/album", album, root)[0] == 201

    def get(user: str, query: str = "") -> int:
        fields = {"X_Forwarded_For": "203.0.113.9", "Authorization": user}
        return node.request("GET", f"/{digest}{query}", **fields)[0]

    query = "?db=photos&doc=album"
    assert get(basic("bea", "x"), query) == 200
    assert get(basic("bea", "x")) == 403
    assert get(basic("bea", "x"), "?db=photos&doc=other") == 403
    assert get(basic("cy", "x"), query) == 403


def test_a_real_server_is_up_and_then_away(live: Callable[..., LiveNode], tmp_path: Path) -> None:
    own = Pouch(tmp_path / "pouch")
    node = live("--couchdb", own.url)

    def told() -> str:
        body: str = json.loads(node.request("GET", "/readyz?verbose")[2])["couchdb"]
        return body

    assert told() == "up"
    own.stop()
    until(lambda: told().startswith("unreached: "), told)

"""The node's own user, in each of the ways in which CouchDB takes one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from dtfc.access.sessions import Credential
from dtfc.couchdb.asking import Asking
from dtfc.couchdb.client import Answer
from dtfc.couchdb.nodeuser import (
    SESSION_SECONDS,
    Anybody,
    ByPassword,
    ByProxy,
    BySession,
    node_user,
    read_user,
)
from dtfc.errors import BadSetting, CouchUnreached

#: As CouchDB's documentation has it (api/server/authn.rst, "Proxy Authentication").
DOCUMENTED = ("foo", "the_secret", "22047ebd7c4ec67dfbcbad7213a693249dbfbf86")


class Sessions:
    """Opens sessions, and knows only the latest one."""

    def __init__(self) -> None:
        self.opened = 0
        self.takes_none = False
        self.password = "secret"  # noqa: S105 -- of a server in memory
        self.asked: list[str] = []
        self.seen: list[Any] = []
        self.now = 0.0

    async def ask(
        self, method: str, path: str, who: Any, _most: int, *, content: Any = None, **more: Any
    ) -> Answer:
        self.asked.append(f"{method} {path}")
        self.seen.append((who, dict(more.get("fields", {}))))
        if path == "/_session":
            if self.password.encode() not in content:
                return Answer(401, b'{"error":"unauthorized"}')
            self.opened += 1
            line = f"AuthSession=cookie{self.opened}; Version=1; Path=/; HttpOnly"
            return Answer(200, b'{"ok":true}', ("other=1", line))
        known = not self.takes_none and who is not None and who.value == f"cookie{self.opened}"
        return Answer(200 if known else 401, b"{}")


@pytest.fixture
def couch() -> Any:
    return Sessions()


def by_session(couch: Sessions, password: str = "secret") -> Asking:  # noqa: S107 -- as above
    asked: Any = couch
    return Asking(asked, BySession("node", password, lambda: couch.now), "photos")


@pytest_twisted.ensureDeferred
async def test_a_session_is_opened_once(couch: Sessions) -> None:
    asking = by_session(couch)
    for _ in range(3):
        assert (await asking.ask("GET", "", 100)).status == 200
    assert couch.asked == ["POST /_session", *(3 * ["GET /photos"])]


@pytest_twisted.ensureDeferred
async def test_and_anew_before_it_ends(couch: Sessions) -> None:
    asking = by_session(couch)
    await asking.ask("GET", "", 100)
    couch.now += SESSION_SECONDS
    await asking.ask("GET", "", 100)
    assert couch.opened == 2


@pytest_twisted.ensureDeferred
async def test_one_that_has_ended_is_opened_anew_once(couch: Sessions) -> None:
    asking = by_session(couch)
    await asking.ask("GET", "", 100)
    couch.opened += 1
    assert (await asking.ask("GET", "", 100)).status == 200


@pytest_twisted.ensureDeferred
async def test_who_is_refused_with_a_new_one_is_refused(couch: Sessions) -> None:
    couch.takes_none = True
    assert (await by_session(couch).ask("GET", "", 100)).status == 401
    assert couch.asked == 2 * ["POST /_session", "GET /photos"]


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_opens_none(couch: Sessions) -> None:
    with pytest.raises(CouchUnreached, match="gets no session: 401"):
        await by_session(couch, "wrong").ask("GET", "", 100)
    assert couch.asked == ["POST /_session"]


@pytest_twisted.ensureDeferred
async def test_a_proxys_token_is_as_documented(couch: Any) -> None:
    name, secret, token = DOCUMENTED
    credential, fields = await ByProxy(name, secret, "sha1").brings(couch)
    assert credential is None
    assert fields == {
        "X-Auth-CouchDB-UserName": name,
        "X-Auth-CouchDB-Roles": "",
        "X-Auth-CouchDB-Token": token,
    }


@pytest_twisted.ensureDeferred
async def test_its_fields_go_with_each_request(couch: Sessions) -> None:
    asked: Any = couch
    await Asking(asked, ByProxy("node", "secret", "sha256"), "photos").ask("GET", "", 100)
    ((who, fields),) = couch.seen
    assert who is None
    assert len(fields["X-Auth-CouchDB-Token"]) == 64


def user_file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    path = folder / "user"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("how", "kind"),
    [("basic", ByPassword), ("cookie", BySession), ("proxy", ByProxy), ("proxy-sha1", ByProxy)],
)
def test_the_setting_says_which_way(tmp_path: Path, how: str, kind: type) -> None:
    assert isinstance(node_user(user_file(tmp_path, b"node:a:b\n"), how, lambda: 0.0), kind)


def test_without_a_file_it_is_anybody() -> None:
    assert isinstance(node_user(None, "cookie", lambda: 0.0), Anybody)


def test_a_password_may_hold_colons(tmp_path: Path) -> None:
    expected = base64.b64encode("nöde:a:b".encode()).decode()
    found = read_user(user_file(tmp_path, "nöde:a:b\n".encode()))
    assert found == Credential("basic", expected, "nöde")


@pytest.mark.parametrize(
    "content", [b"", b"name", b"name:", b":secret", b"a:b\nc:d\n", b"a:\xff", b"a:b\0c"]
)
def test_what_is_no_user_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadSetting, match=r"couchdb-user-file"):
        read_user(user_file(tmp_path, content))


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting):
        read_user(user_file(tmp_path, b"a:b\n", 0o644))

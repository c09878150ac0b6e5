"""A stand-in for CouchDB 3.5: its answers as its documentation has them, and faults.

What it does like CouchDB: ``GET /_session`` by cookie, Basic and JSON Web Token;
200 with ``name: null`` for a cookie that is unknown or has expired; 401 for a wrong
password; 403 for a name that had five wrong ones; documents that only some may read;
409 for a revision that is not the newest.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from twisted.internet import reactor as _reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

reactor: Any = _reactor

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJiZWEifQ.c2lnbmF0dXJl"
LOCKED = b'{"error":"forbidden","reason":"Account is temporarily locked"}\n'


def basic(name: str, password: str) -> bytes:
    return b"Authorization: Basic %b\r\n" % base64.b64encode(f"{name}:{password}".encode())


FAULTS: dict[str, tuple[int, tuple[bytes, bytes] | None, bytes]] = {
    "500": (500, None, b'{"error":"unknown_error"}\n'),
    "garbage": (200, None, b"<html>not CouchDB</html>"),
    "huge": (200, None, b'{"userCtx":{"name":"ada","roles":["' + b"x" * 10_000_000 + b'"]}}'),
    "redirect": (302, (b"Location", b"/elsewhere"), b"{}"),
    "gzip": (200, (b"Content-Encoding", b"gzip"), b"\x1f\x8b"),
}


class FakeCouch(Resource):
    """Answers as CouchDB does, or as :attr:`fault` says."""

    isLeaf = True  # noqa: N815 -- Twisted's name

    def __init__(self) -> None:
        Resource.__init__(self)
        self.passwords = {"ada": "secret-ada", "bea": "secret-bea", "root": "secret-root"}
        self.roles = {"ada": ["editors"], "bea": [], "root": ["_admin"]}
        self.cookies = {"Y29va2llLWFkYQ": "ada", "Y29va2llLWJlYQ": "bea", "b2xk": None}
        self.renews: dict[str, str] = {}
        self.documents: dict[tuple[str, str], tuple[set[str], Any]] = {}
        self.databases: dict[str, set[str]] = {}
        """Who may make documents there."""
        self.refuses: Callable[[dict[str, Any]], tuple[int, dict[str, str]] | None] = (
            lambda _document: None
        )
        """What validates documents."""
        self.before_writing: list[Callable[[], object]] = []
        """What happens before a document is written: one for each time."""
        self.silent = False
        """Whether a document is neither written nor refused."""
        self.writes = 0
        self.failures: Counter[str] = Counter()
        self.asked: list[tuple[bytes, dict[str, str]]] = []
        self.fault = ""
        self.party = False
        self._site = Site(self)
        self._site.displayTracebacks = False
        self._port = reactor.listenTCP(0, self._site, interface="127.0.0.1")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port.getHost().port}"

    def strike_off(self, name: str) -> None:
        """Delete a user: whatever he brings, he is nobody, or unknown."""
        del self.passwords[name], self.roles[name]
        self.cookies = {cookie: who for cookie, who in self.cookies.items() if who != name}

    async def stop(self) -> None:
        await self._port.stopListening()

    def render(self, request: Any) -> Any:
        fields = {
            name.decode().lower(): values[0].decode("latin-1")
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.asked.append((request.path, fields))
        request.setHeader(b"Content-Type", b"application/json")
        if self.fault == "hangs":
            return NOT_DONE_YET
        if self.fault:
            return self._wrong(request)
        who = self._who(request, fields)
        if isinstance(who, bytes):
            return who
        if request.path == b"/_session":
            name, roles = who
            context = {"name": name, "roles": roles}
            return json.dumps({"ok": True, "userCtx": context, "info": {}}).encode() + b"\n"
        return self._document(request, who[0])

    def _wrong(self, request: Any) -> bytes:
        status, field, body = FAULTS[self.fault]
        request.setResponseCode(status)
        if field is not None:
            request.setHeader(*field)
        return body

    def _who(  # noqa: PLR0911 -- one for each way in
        self, request: Any, fields: dict[str, str]
    ) -> tuple[str | None, list[str]] | bytes:
        given = fields.get("authorization", "")
        if given.startswith("Basic "):
            name, _, password = base64.b64decode(given[6:]).decode().partition(":")
            if self.failures[name] >= 5:
                request.setResponseCode(403)
                return LOCKED
            if self.passwords.get(name) != password:
                self.failures[name] += 1
                request.setResponseCode(401)
                return b'{"error":"unauthorized","reason":"Name or password is incorrect."}\n'
            return name, self.roles[name]
        if given.startswith("Bearer "):
            if given[7:] != JWT or "bea" not in self.roles:
                request.setResponseCode(401)
                return b'{"error":"unauthorized","reason":"Invalid token"}\n'
            return "bea", self.roles["bea"]
        cookie = fields.get("cookie", "").removeprefix("AuthSession=")
        known = self.cookies.get(cookie)
        if known is None:
            return None, ["_admin"] if self.party else []
        if cookie in self.renews:
            request.responseHeaders.addRawHeader(
                b"Set-Cookie",
                f"AuthSession={self.renews[cookie]}; Version=1; Path=/; HttpOnly".encode(),
            )
        return known, self.roles[known]

    def _document(self, request: Any, name: str | None) -> bytes | int:
        _, database, identifier = request.path.decode().split("/", 2)
        key = unquote(database), unquote(identifier)
        if request.method == b"PUT" and self.before_writing:
            self.before_writing.pop(0)()
            if self.silent:
                return NOT_DONE_YET
        readers, body = self.documents.get(key, (self.databases.get(key[0], set()), None))
        if body is None and key[0] not in self.databases:
            known = any(each == key[0] for each, _ in self.documents)
            reason = "missing" if known else "Database does not exist."
            return _says(request, 404, "not_found", reason)
        if name not in readers:
            return _says(request, 403, "forbidden", "You are not allowed to access this db.")
        if request.method == b"PUT":
            return self._written(request, key, readers, body)
        if body is None:
            return _says(request, 404, "not_found", "missing")
        return body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"

    def _written(
        self, request: Any, key: tuple[str, str], readers: set[str], old: dict[str, Any] | None
    ) -> bytes:
        self.writes += 1
        new = json.loads(request.content.read())
        revision = None if old is None else old["_rev"]
        if new.get("_rev") != revision:
            return _says(request, 409, "conflict", "Document update conflict.")
        refused = self.refuses(new)
        if refused is not None:
            return _says(request, refused[0], refused[1]["error"], refused[1]["reason"])
        number = 1 + int((revision or "0-").partition("-")[0])
        new["_rev"] = f"{number}-{hashlib.sha256(repr(new).encode()).hexdigest()[:32]}"
        self.documents[key] = readers, new
        request.setResponseCode(201)
        return json.dumps({"ok": True, "id": key[1], "rev": new["_rev"]}).encode() + b"\n"


def _says(request: Any, status: int, error: str, reason: str) -> bytes:
    request.setResponseCode(status)
    return json.dumps({"error": error, "reason": reason}).encode() + b"\n"

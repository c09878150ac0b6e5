"""A stand-in for CouchDB 3.5: its answers as its documentation has them, and faults.

What it does like CouchDB: ``GET /_session`` by cookie, Basic and JSON Web Token;
200 with ``name: null`` for a cookie that is unknown or has expired; 401 for a wrong
password; 403 for a name that had five wrong ones; documents that only some may read.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
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
            if given[7:] != JWT:
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

    def _document(self, request: Any, name: str | None) -> bytes:
        _, database, identifier = request.path.decode().split("/", 2)
        readers, body = self.documents.get((unquote(database), unquote(identifier)), (set(), None))
        if body is None:
            request.setResponseCode(404)
            return b'{"error":"not_found","reason":"missing"}\n'
        if name not in readers:
            request.setResponseCode(403)
            return b'{"error":"forbidden","reason":"You are not allowed to access this db."}\n'
        return body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n"

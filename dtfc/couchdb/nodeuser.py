"""The node's own user of CouchDB, in the three ways in which CouchDB takes one.

By password with each request (api/server/authn.rst, "Basic"), by a session that the
password opens ("Cookie"), or by a secret that CouchDB shares with a proxy ("Proxy").
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

from dtfc.access.sessions import Credential
from dtfc.couchdb.client import Couch
from dtfc.errors import BadSetting, CouchUnreached, TooLarge
from dtfc.guarded import read_guarded

#: Bytes of the file with the user.
LARGEST_USER_FILE = 4096

#: Seconds after which a session is opened anew: half of CouchDB's own
#: ``chttpd_auth/timeout``, so that none ends while it is used.
SESSION_SECONDS = 300.0

_NOTHING: Mapping[str, str] = MappingProxyType({})
_LARGEST_ANSWER = 64 * 1024


class NodeUser(Protocol):
    """Somebody in whose name the node asks."""

    async def brings(self, couch: Couch) -> tuple[Credential | None, Mapping[str, str]]:
        """Return the credential, and further fields of a request.

        Raises:
            CouchUnreached: there is none to be had.
        """

    def refused(self) -> bool:
        """Hear that CouchDB took it for nobody (401); tell whether to try once more."""


class Anybody:
    """No user at all."""

    async def brings(self, couch: Couch) -> tuple[Credential | None, Mapping[str, str]]:
        """Return nothing."""
        del couch
        return None, _NOTHING

    def refused(self) -> bool:
        """Nobody is nobody."""
        return False


class ByPassword:
    """Brings name and password with each request, or whatever credential it is given.

    Args:
        credential: of the user.
    """

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def brings(self, couch: Couch) -> tuple[Credential | None, Mapping[str, str]]:
        """Return it."""
        del couch
        return self._credential, _NOTHING

    def refused(self) -> bool:
        """It will not be another one the next time."""
        return False


class BySession:
    """Opens a session, and brings its cookie: the password goes over the wire once.

    Args:
        name: of the user.
        password: of the user.
        ticks: seconds that no change of the time of day moves.
    """

    def __init__(self, name: str, password: str, ticks: Callable[[], float]) -> None:
        self._name = name
        self._password = password
        self._ticks = ticks
        self._cookie: Credential | None = None
        self._opened = 0.0

    async def brings(self, couch: Couch) -> tuple[Credential | None, Mapping[str, str]]:
        """Return the session's cookie; open a session if there is none, or it is old.

        Raises:
            CouchUnreached: CouchDB opens none.
        """
        if self._cookie is None or self._ticks() - self._opened >= SESSION_SECONDS:
            self._cookie = await self._open(couch)
            self._opened = self._ticks()
        return self._cookie, _NOTHING

    async def _open(self, couch: Couch) -> Credential:
        content = json.dumps({"name": self._name, "password": self._password}).encode()
        try:
            answer = await couch.ask("POST", "/_session", None, _LARGEST_ANSWER, content=content)
        except TooLarge:
            raise CouchUnreached("its answer to _session is too long") from None
        if answer.status in {401, 403}:
            raise CouchUnreached(f"the node's user gets no session: {answer.status}")
        for line in answer.cookies:
            name, _, value = line.partition(";")[0].strip().partition("=")
            if name == "AuthSession" and value:
                return Credential("cookie", value)
        raise CouchUnreached(f"it opens no session: {answer.status}")

    def refused(self) -> bool:
        """The session has ended, perhaps by a restart of CouchDB with another secret."""
        had, self._cookie = self._cookie, None
        return had is not None


class ByProxy:
    """Says who the user is, and proves it by the secret that CouchDB shares with proxies.

    Args:
        name: of the user.
        secret: ``chttpd_auth/secret`` of CouchDB.
        algorithm: ``sha256``, or ``sha1`` for CouchDB before 3.3.
    """

    def __init__(self, name: str, secret: str, algorithm: str) -> None:
        token = hmac.new(secret.encode(), name.encode(), algorithm).hexdigest()
        self._fields = MappingProxyType(
            {
                # UTF-8, as the requests' fields are sent byte by byte.
                "X-Auth-CouchDB-UserName": name.encode().decode("latin-1"),
                "X-Auth-CouchDB-Roles": "",
                "X-Auth-CouchDB-Token": token,
            }
        )

    async def brings(self, couch: Couch) -> tuple[Credential | None, Mapping[str, str]]:
        """Return the three fields."""
        del couch
        return None, self._fields

    def refused(self) -> bool:
        """It will not be another one the next time."""
        return False


def read_user(path: str | None) -> Credential | None:
    """Read a user of CouchDB (blocks).

    Args:
        path: of a file with ``name:password``; None for anybody.

    Raises:
        BadSetting: it cannot be read, may be read by everybody, or holds no user.
    """
    if path is None:
        return None
    name, password = _read(path)
    both = base64.b64encode(f"{name}:{password}".encode()).decode("ascii")
    return Credential("basic", both, name)


def node_user(path: str | None, how: str, ticks: Callable[[], float]) -> NodeUser:
    """Read the node's own user of CouchDB (blocks).

    Args:
        path: of a file with ``name:password``, or ``name:secret`` for a proxy; None
            for anybody.
        how: ``basic``, ``cookie``, ``proxy`` or ``proxy-sha1``.
        ticks: seconds that no change of the time of day moves.

    Raises:
        BadSetting: as above.
    """
    if path is None or how == "basic":
        credential = read_user(path)
        return Anybody() if credential is None else ByPassword(credential)
    name, secret = _read(path)
    if how == "cookie":
        return BySession(name, secret, ticks)
    return ByProxy(name, secret, "sha1" if how == "proxy-sha1" else "sha256")


def _read(path: str) -> tuple[str, str]:
    line = read_guarded("couchdb-user-file", path, LARGEST_USER_FILE).strip()
    try:
        name, colon, password = line.decode("utf-8").partition(":")
    except UnicodeDecodeError:
        raise BadSetting("couchdb-user-file", f"{path}: it is not UTF-8") from None
    if not name or not colon or not password or not (name + password).isprintable():
        raise BadSetting("couchdb-user-file", f"{path}: it is not one line, name:password")
    return name, password

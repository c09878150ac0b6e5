"""Questions to one database, and what of an answer is an answer.

Rule of this file: an answer that makes no sense is no answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from dtfc.access.sessions import Credential
from dtfc.couchdb.client import Answer, Couch
from dtfc.couchdb.documents import parse_json
from dtfc.errors import CouchUnreached

#: Seconds for an answer that may be long.
PATIENCE = 60.0

T = TypeVar("T")


class DatabaseGone(Exception):
    """There is no such database (any more)."""


class Asking:
    """Asks one database in the name of one user.

    Args:
        couch: where it is.
        credential: of a user who may read it; None for anybody.
        name: of the database.
    """

    def __init__(self, couch: Couch, credential: Credential | None, name: str) -> None:
        self.couch = couch
        self.credential = credential
        self.name = name
        self.path = f"/{quote(name, safe='')}"

    async def ask(self, method: str, below: str, most: int, content: Any = None) -> Answer:
        """Make a request, and take whatever status comes.

        Args:
            method: of the request.
            below: the path below the database, percent-encoded, with its first slash.
            most: bytes of an answer.
            content: to be sent as JSON; nothing if None.

        Raises:
            CouchUnreached: there is no whole answer in time.
            TooLarge: the answer is larger.
        """
        sent = None if content is None else json.dumps(content).encode()
        return await self.couch.ask(
            method, f"{self.path}{below}", self.credential, most, content=sent, seconds=PATIENCE
        )

    async def get(self, below: str, most: int) -> bytes:
        """GET something that has to be there.

        Args:
            below: the path below the database, percent-encoded, with its first slash.
            most: bytes of an answer.

        Raises:
            CouchUnreached: there is no whole answer in time, or it is a refusal.
            TooLarge: the answer is larger.
            DatabaseGone: it is not there.
        """
        answer = await self.ask("GET", below, most)
        self.require(answer.status)
        return answer.body

    def require(self, status: int) -> None:
        """Return if a status is that of an answer.

        Raises:
            DatabaseGone: it says that there is no such database.
            CouchUnreached: it says anything else.
        """
        if status == 404:
            raise DatabaseGone
        if status in {401, 403}:
            raise CouchUnreached(f"the node's user may not read {self.name}: {status}")
        if status not in {200, 201}:
            raise CouchUnreached(f"it answered {status}")


def json_object(body: bytes) -> dict[str, Any]:
    """Return the object that an answer is.

    Raises:
        CouchUnreached: it is none.
    """
    found = made(parse_json, body)
    if not isinstance(found, dict):
        raise CouchUnreached("its answer is no JSON object")
    return found


def made(parse: Callable[[bytes], T], body: bytes) -> T:
    """Parse an answer.

    Raises:
        CouchUnreached: the parser finds no sense in it.
    """
    try:
        return parse(body)
    except ValueError as error:
        raise CouchUnreached(f"its answer makes no sense: {error}") from None

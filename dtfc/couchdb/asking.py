"""Questions to one database, and what of an answer is an answer.

Rule of this file: an answer that makes no sense is no answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from dtfc.couchdb.client import Answer, Couch
from dtfc.couchdb.documents import parse_json
from dtfc.couchdb.nodeuser import NodeUser
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
        user: who may read it.
        name: of the database.
    """

    def __init__(self, couch: Couch, user: NodeUser, name: str) -> None:
        self._couch = couch
        self._user = user
        self.name = name
        self._path = f"/{quote(name, safe='')}"

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
        again = True
        while True:
            credential, fields = await self._user.brings(self._couch)
            answer = await self._couch.ask(
                method,
                f"{self._path}{below}",
                credential,
                most,
                content=sent,
                fields=fields,
                seconds=PATIENCE,
            )
            if answer.status != 401 or not self._user.refused() or not again:
                return answer
            again = False

    async def wait(self, below: str, silence: float) -> None:
        """GET what says nothing of interest, and takes its time, until it is over.

        Args:
            below: the path below the database, percent-encoded, with its first slash.
            silence: seconds without a byte after which it is given up.

        Raises:
            CouchUnreached: it broke off, was silent for so long, or is a refusal.
            DatabaseGone: it is not there.
        """
        again = True
        while True:
            credential, fields = await self._user.brings(self._couch)
            status = await self._couch.stream(
                f"{self._path}{below}",
                credential,
                lambda _block: None,
                silence=silence,
                fields=fields,
            )
            if status != 401 or not self._user.refused() or not again:
                break
            again = False
        self.require(status)

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

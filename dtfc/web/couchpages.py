"""What a node knows of the databases that it follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dtfc.access.verbs import Verb
from dtfc.http.problems import not_found

if TYPE_CHECKING:
    from dtfc.couchdb.follower import FollowerStatus
    from dtfc.couchdb.following import Following
    from dtfc.couchdb.references import Wanted
    from dtfc.digest import Digest
    from dtfc.web.gate import Gate
    from dtfc.web.request import Request


class CouchPages:
    """The answers to requests about followed databases.

    Whoever may PUT may ask: which documents there are is CouchDB's to tell, and
    not for everybody who may read a blob.

    Args:
        following: the databases.
        gate: who may do what.
        holds: tells whether a blob is here (blocks).
    """

    def __init__(
        self,
        following: Following,
        gate: Gate,
        holds: Callable[[Digest], bool],
    ) -> None:
        self._following = following
        self._gate = gate
        self._holds = holds

    async def databases(self, request: Request) -> None:
        """Answer how the followed databases are."""
        await self._gate.let_in(request, Verb.PUT)
        _answer(request, [*map(_plain, await self._following.told())])

    async def garbage(self, request: Request) -> None:
        """Answer what no document refers to, and what was collected."""
        await self._gate.let_in(request, Verb.PUT)
        found = await self._following.collector.garbage()
        told = {
            "last_pass": found.told or None,
            "blobs": found.blobs,
            "bytes": found.bytes,
            "oldest": [
                {
                    "sha512": each.seen.digest.hex,
                    "length": each.seen.length,
                    "seconds": round(each.seconds),
                }
                for each in found.first
            ],
            "collected": [
                {"sha512": each.digest.hex, "length": each.length, "filename": each.name}
                for each in found.lying
            ],
        }
        _answer(request, told)

    async def missing(self, request: Request, name: str) -> None:
        """Answer which blobs a database's documents refer to that are not here."""
        await self._gate.let_in(request, Verb.PUT)
        try:
            found = await self._following.missing(name, self._holds)
        except LookupError:
            request.problem(not_found(request.path.decode("latin-1")))
            return
        told = _plain(found.status) | {
            "missing": [_wanted(each) for each in found.wanted],
            "more": found.more,
        }
        _answer(request, told)


def _plain(status: FollowerStatus) -> dict[str, Any]:
    return {
        "database": status.database,
        "state": status.state,
        "trouble": status.trouble or None,
        "complete": status.complete,
        "seconds_since_heard": None if status.heard is None else round(status.heard, 1),
    }


def _wanted(wanted: Wanted) -> dict[str, Any]:
    return {
        "document": wanted.document,
        "revision": wanted.revision,
        "filename": wanted.name,
        "sha512": wanted.digest.hex,
        "length": wanted.length,
    }


def _answer(request: Request, told: Any) -> None:
    request.put("Cache-Control", "no-store")
    request.answer(200, json.dumps(told, ensure_ascii=False).encode() + b"\n", "application/json")

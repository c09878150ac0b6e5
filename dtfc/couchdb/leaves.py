"""The bodies of revisions that a feed names, but does not bring.

Rule of this file: a revision is told to be gone by CouchDB, or it is fetched;
nothing else counts as "refers to nothing".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from dtfc.couchdb.asking import Asking, DatabaseGone, json_object
from dtfc.errors import CouchUnreached, TooLarge

#: Bytes of an answer with one body: CouchDB's largest document is 8 MB, and JSON may
#: escape it (``max_document_size``, config/couchdb.rst).
LARGEST_BODY = 64 * 1024 * 1024

#: Revisions that are asked for at once; where their answer is too large, fewer are.
AT_ONCE = 100

_NO_BULK_GET = frozenset({400, 404, 405, 501})

# The reasons of a 404 that speak of the revision; others speak of the database.
_GONE = frozenset({"missing", "deleted"})

Body = dict[str, Any]
Revision = tuple[str, str]


class Leaves:
    """Fetches revisions of documents.

    Args:
        asking: the database.
    """

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._has_bulk_get = True

    async def bodies(self, wanted: Sequence[Revision]) -> list[Body | None]:
        """Return revisions of documents; None for each that is there no more.

        Args:
            wanted: id and revision of each.

        Raises:
            CouchUnreached: one of them is not told, or has more than
                :data:`LARGEST_BODY` bytes.
            DatabaseGone: there is no such database any more.
        """
        found: dict[Revision, Body | None] = {}
        waiting = [list(wanted[at : at + AT_ONCE]) for at in range(0, len(wanted), AT_ONCE)]
        while waiting:
            some = waiting.pop()
            if self._has_bulk_get and len(some) > 1:
                told = await self._bulk_get(some)
                if told is None:
                    half = len(some) // 2
                    waiting += [some[:half], some[half:]]
                    continue
                found.update(told)
            for each in some:
                # Servers may leave out what they cannot give in one answer with others.
                if each not in found:
                    found[each] = await self._one(*each)
        return [found[each] for each in wanted]

    async def _bulk_get(self, wanted: Sequence[Revision]) -> dict[Revision, Body | None] | None:
        """Ask for some at once; None if that is too much, for the server or for us."""
        docs = [{"id": name, "rev": revision} for name, revision in wanted]
        try:
            answer = await self._asking.ask("POST", "/_bulk_get", LARGEST_BODY, {"docs": docs})
        except TooLarge:
            return None
        if answer.status == 413:
            return None
        if answer.status in _NO_BULK_GET:
            self._has_bulk_get = False
            return {}
        self._asking.require(answer.status)
        results = json_object(answer.body).get("results")
        if not isinstance(results, list):
            raise CouchUnreached("its answer to _bulk_get makes no sense")
        asked = set(wanted)
        told = (each for result in results for each in _told(result))
        return {key: body for key, body in told if key in asked}

    async def _one(self, name: str, revision: str) -> Body | None:
        below = f"/{quote(name, safe='')}?{urlencode({'rev': revision})}"
        try:
            answer = await self._asking.ask("GET", below, LARGEST_BODY)
        except TooLarge:
            raise CouchUnreached(
                f"a document of {self._asking.name} has more than {LARGEST_BODY} bytes"
            ) from None
        if answer.status == 404:
            if json_object(answer.body).get("reason") in _GONE:
                return None
            raise DatabaseGone
        self._asking.require(answer.status)
        return json_object(answer.body)


def _told(result: Any) -> list[tuple[Revision, Body | None]]:
    """Return what one result of ``_bulk_get`` tells: bodies, and what is not there."""
    docs = result.get("docs") if isinstance(result, dict) else None
    found: list[tuple[Revision, Body | None]] = []
    for each in docs if isinstance(docs, list) else []:
        body = each.get("ok") if isinstance(each, dict) else None
        error = each.get("error") if isinstance(each, dict) else None
        if isinstance(body, dict):
            found.append(((str(body.get("_id")), str(body.get("_rev"))), body))
        elif isinstance(error, dict) and error.get("error") in {"not_found", "missing"}:
            found.append(((str(error.get("id")), str(error.get("rev"))), None))
    return found

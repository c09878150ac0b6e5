"""One database of CouchDB: how it is, what changes in it, what its documents refer to.

Rules of this file: an answer that makes no sense is no answer. Nothing is passed
over that could refer to a blob.

``style=all_docs`` tells every leaf revision of a changed document, but brings the
winner's body only. The others are fetched, for a conflict's loser refers to its
blobs as much as the winner (api/database/changes.rst).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from dtfc.access.sessions import Credential
from dtfc.couchdb.client import Answer, Couch
from dtfc.couchdb.documents import (
    Change,
    Page,
    Reference,
    as_parameter,
    parse_json,
    parse_page,
    purges,
    references_of,
    sequence,
)
from dtfc.couchdb.references import DocumentState
from dtfc.errors import CouchUnreached, TooLarge

#: Bytes of a page of changes; where more come, fewer are asked for.
LARGEST_PAGE = 16 * 1024 * 1024

#: Bytes of a page of one change: CouchDB's largest document is 8 MB, and JSON may
#: escape it (``max_document_size``, config/couchdb.rst).
LARGEST_CHANGE = 64 * 1024 * 1024

#: Bytes of answers that say little.
SMALL = 1024 * 1024

#: Seconds between two signs of life of a feed on which nothing happens.
HEARTBEAT = 10.0

#: Seconds for an answer that may be long.
PATIENCE = 60.0

T = TypeVar("T")

Pick = Callable[[Sequence[Mapping[str, Any]]], Awaitable[Sequence[bool | None]]]

_NO_BULK_GET = frozenset({400, 404, 405, 501})


class DatabaseGone(Exception):
    """There is no such database (any more)."""


@dataclass(frozen=True, slots=True)
class Info:
    """How a database is.

    Args:
        purges: how often was purged in it.
        instance: when it was made, as CouchDB says; empty where it does not.
    """

    purges: int
    instance: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a database itself remembers of how far this node has read it.

    Args:
        since: the sequence to go on from, as JSON.
        written: counts how often the node's own file was written by then.
        scan: which reading from the beginning that was.
    """

    since: str
    written: int
    scan: int


class Database:
    """Asks about one database.

    Args:
        couch: where it is.
        credential: of a user who may read it; None for anybody.
        name: of the database.
        node_id: of this node.
        clock: measures how long a feed is waited for.
        pick: tells of documents whether their blobs are to be loaded; None: of none.
    """

    def __init__(
        self,
        couch: Couch,
        credential: Credential | None,
        name: str,
        node_id: str,
        clock: IReactorTime,
        *,
        pick: Pick | None = None,
    ) -> None:
        self.name = name
        self._pick = pick
        self._couch = couch
        self._credential = credential
        self._path = f"/{quote(name, safe='')}"
        self._local = f"{self._path}/_local/dtfc-{quote(node_id, safe='')}"
        self._clock = clock
        self._has_bulk_get = True

    async def info(self) -> Info:
        """Ask how the database is.

        Raises:
            CouchUnreached: it is not said.
            DatabaseGone: there is none.
        """
        found = _object(await self._get(self._path, SMALL))
        return Info(purges(found.get("purge_seq")), str(found.get("instance_start_time", "")))

    async def page(self, since: str, limit: int) -> Page:
        """Ask for the next changes, with the bodies of their winners.

        Args:
            since: the sequence to go on from, as JSON.
            limit: changes at most.

        Raises:
            CouchUnreached, DatabaseGone: as above.
        """
        while True:
            query = {
                "feed": "normal",
                "style": "all_docs",
                "include_docs": "true",
                "limit": str(limit),
                "since": as_parameter(since),
            }
            most = LARGEST_PAGE if limit > 1 else LARGEST_CHANGE
            try:
                body = await self._get(f"{self._path}/_changes?{urlencode(query)}", most)
            except TooLarge:
                if limit == 1:
                    raise CouchUnreached(
                        f"a document of {self.name} has more than {LARGEST_CHANGE} bytes"
                    ) from None
                limit = max(1, limit // 8)
                continue
            return _made(parse_page, body)

    async def wait(self, since: str, seconds: float) -> bool:
        """Wait for a change; return whether there may be one.

        Args:
            since: the sequence after which.
            seconds: to wait at most.

        Raises:
            CouchUnreached, DatabaseGone: as above.
        """
        query = {
            "feed": "longpoll",
            "style": "all_docs",
            "limit": "1",
            "heartbeat": str(int(HEARTBEAT * 1000)),
            "since": as_parameter(since),
        }
        path = f"{self._path}/_changes?{urlencode(query)}"
        waiting = Deferred.fromCoroutine(
            self._couch.stream(path, self._credential, lambda _block: None, silence=3 * HEARTBEAT)
        )
        over = self._clock.callLater(seconds, waiting.cancel)
        try:
            status = await waiting
        except CancelledError:
            if over.active():
                raise
            return False
        finally:
            if over.active():
                over.cancel()
        self._require(status)
        return True

    async def states(self, changes: Sequence[Change]) -> tuple[list[DocumentState], int]:
        """Return what the changed documents refer to now, and how many entries make no sense.

        Raises:
            CouchUnreached, DatabaseGone: as above.
        """
        bodies: list[tuple[str, str, Mapping[str, Any]]] = []
        wanted: list[tuple[str, str]] = []
        # A document that changed twice on one page is as it was told last.
        latest = {change.id: change for change in changes}.values()
        for change in latest:
            winner = ""
            if change.document is not None:
                winner = str(change.document.get("_rev", ""))
                bodies.append((change.id, winner, change.document))
            wanted += [(change.id, each) for each in change.leaves if each != winner]
        for (name, revision), body in zip(wanted, await self._bodies(wanted), strict=True):
            if body is not None:
                bodies.append((name, revision, body))
        wrong = 0
        leaves: dict[str, list[tuple[str, tuple[Reference, ...]]]] = {
            each.id: [] for each in latest
        }
        picked = await self._picked([document for _, _, document in bodies])
        fetch: dict[str, tuple[Reference, ...]] = {}
        for (name, revision, document), pick in zip(bodies, picked, strict=True):
            found, bad = references_of(document)
            wrong += bad
            if found:
                leaves[name].append((revision, found))
            if found and pick:
                fetch[name] = fetch.get(name, ()) + found
        return [
            DocumentState(name, tuple(known), fetch.get(name, ())) for name, known in leaves.items()
        ], wrong

    async def _picked(self, documents: Sequence[Mapping[str, Any]]) -> Sequence[bool | None]:
        if self._pick is None or not documents:
            return [False] * len(documents)
        return await self._pick(documents)

    async def _bodies(self, wanted: list[tuple[str, str]]) -> list[dict[str, Any] | None]:
        """Return revisions of documents; None for each that is there no more."""
        if not wanted:
            return []
        if self._has_bulk_get:
            found = await self._bulk_get(wanted)
            if found is not None:
                return found
            self._has_bulk_get = False
        return [await self._revision(name, revision) for name, revision in wanted]

    async def _bulk_get(self, wanted: list[tuple[str, str]]) -> list[dict[str, Any] | None] | None:
        docs = [{"id": name, "rev": revision} for name, revision in wanted]
        answer = await self._ask("POST", f"{self._path}/_bulk_get", {"docs": docs}, LARGEST_CHANGE)
        if answer.status in _NO_BULK_GET:
            return None
        self._require(answer.status)
        results = _object(answer.body).get("results")
        if not isinstance(results, list) or len(results) != len(wanted):
            raise CouchUnreached("its answer to _bulk_get makes no sense")
        return [_revision_in(each) for each in results]

    async def _revision(self, name: str, revision: str) -> dict[str, Any] | None:
        path = f"{self._path}/{quote(name, safe='')}?{urlencode({'rev': revision})}"
        answer = await self._ask("GET", path, None, LARGEST_CHANGE)
        if answer.status == 404:
            return None
        self._require(answer.status)
        return _object(answer.body)

    async def checkpoint(self) -> Checkpoint | None:
        """Return what the database remembers; None if it is nothing that makes sense.

        Raises:
            CouchUnreached: it is not said.
        """
        found = await self._kept()
        written, scan = found.get("written"), found.get("scan")
        if type(written) is not int or type(scan) is not int or "since" not in found:
            return None
        return Checkpoint(sequence(found["since"]), written, scan)

    async def keep(self, checkpoint: Checkpoint) -> bool:
        """Let the database remember; return whether it did.

        Raises:
            CouchUnreached: it does not answer.
        """
        old = await self._kept()
        new = {
            "since": json.loads(checkpoint.since),
            "written": checkpoint.written,
            "scan": checkpoint.scan,
            **({"_rev": old["_rev"]} if "_rev" in old else {}),
        }
        answer = await self._ask("PUT", self._local, new, SMALL)
        return answer.status in {200, 201, 202}

    async def _kept(self) -> dict[str, Any]:
        answer = await self._ask("GET", self._local, None, SMALL)
        if answer.status == 404:
            return {}
        self._require(answer.status)
        return _object(answer.body)

    async def _get(self, path: str, most: int) -> bytes:
        answer = await self._couch.ask("GET", path, self._credential, most, seconds=PATIENCE)
        self._require(answer.status)
        return answer.body

    async def _ask(self, method: str, path: str, content: Any, most: int) -> Answer:
        sent = None if content is None else json.dumps(content).encode()
        try:
            return await self._couch.ask(
                method, path, self._credential, most, content=sent, seconds=PATIENCE
            )
        except TooLarge:
            raise CouchUnreached(f"it answered with more than {most} bytes") from None

    def _require(self, status: int) -> None:
        if status == 404:
            raise DatabaseGone
        if status in {401, 403}:
            raise CouchUnreached(f"the node's user may not read {self.name}: {status}")
        if status not in {200, 201}:
            raise CouchUnreached(f"it answered {status}")


def _revision_in(result: Any) -> dict[str, Any] | None:
    """Return the body in one result of ``_bulk_get``."""
    docs = result.get("docs") if isinstance(result, dict) else None
    first = docs[0] if isinstance(docs, list) and docs else None
    if isinstance(first, dict) and isinstance(first.get("ok"), dict):
        body: dict[str, Any] = first["ok"]
        return body
    error = first.get("error") if isinstance(first, dict) else None
    if isinstance(error, dict) and error.get("error") in {"not_found", "missing"}:
        return None
    raise CouchUnreached("its answer to _bulk_get makes no sense")


def _object(body: bytes) -> dict[str, Any]:
    found = _made(parse_json, body)
    if not isinstance(found, dict):
        raise CouchUnreached("its answer is no JSON object")
    return found


def _made(parse: Callable[[bytes], T], body: bytes) -> T:
    try:
        return parse(body)
    except ValueError as error:
        raise CouchUnreached(f"its answer makes no sense: {error}") from None

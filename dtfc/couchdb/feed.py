"""One database of CouchDB: how it is, what changes in it, what its documents refer to.

Rule of this file: nothing is passed over that could refer to a blob.

``style=all_docs`` tells every leaf revision of a changed document, but brings the
winner's body only. The others are fetched, for a conflict's loser refers to its
blobs as much as the winner (api/database/changes.rst).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from dtfc.couchdb.asking import Asking, json_object, made
from dtfc.couchdb.client import Couch
from dtfc.couchdb.documents import (
    Change,
    Page,
    Reference,
    as_parameter,
    parse_page,
    purges,
    references_of,
    sequence,
)
from dtfc.couchdb.leaves import LARGEST_BODY, Leaves
from dtfc.couchdb.nodeuser import NodeUser
from dtfc.couchdb.references import DocumentState
from dtfc.errors import CouchUnreached, TooLarge

#: Bytes of a page of changes; where more come, fewer are asked for.
LARGEST_PAGE = 16 * 1024 * 1024

#: Bytes of answers that say little.
SMALL = 1024 * 1024

#: Seconds between two signs of life of a feed on which nothing happens.
HEARTBEAT = 10.0

Pick = Callable[[Sequence[Mapping[str, Any]]], Awaitable[Sequence[bool | None]]]

_REFUSED = frozenset({401, 403})


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
        user: who may read it.
        name: of the database.
        node_id: of this node.
        clock: measures how long a feed is waited for.
        pick: tells of documents whether their blobs are to be loaded; None: of none.
    """

    def __init__(
        self,
        couch: Couch,
        user: NodeUser,
        name: str,
        node_id: str,
        clock: IReactorTime,
        *,
        pick: Pick | None = None,
    ) -> None:
        self.name = name
        self._pick = pick
        self._asking = Asking(couch, user, name)
        self._leaves = Leaves(self._asking)
        self._local = f"/_local/dtfc-{quote(node_id, safe='')}"
        self._clock = clock

    async def info(self) -> Info:
        """Ask how the database is.

        Raises:
            CouchUnreached: it is not said.
            DatabaseGone: there is none.
        """
        found = json_object(await self._get(""))
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
            most = LARGEST_PAGE if limit > 1 else LARGEST_BODY
            try:
                body = await self._asking.get(f"/_changes?{urlencode(query)}", most)
            except TooLarge:
                if limit == 1:
                    raise CouchUnreached(
                        f"a document of {self.name} has more than {LARGEST_BODY} bytes"
                    ) from None
                limit = max(1, limit // 8)
                continue
            return made(parse_page, body)

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
        waiting = Deferred.fromCoroutine(
            self._asking.wait(f"/_changes?{urlencode(query)}", 3 * HEARTBEAT)
        )
        over = self._clock.callLater(seconds, waiting.cancel)
        try:
            await waiting
        except CancelledError:
            if over.active():
                raise
            return False
        finally:
            if over.active():
                over.cancel()
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
        for (name, revision), body in zip(wanted, await self._leaves.bodies(wanted), strict=True):
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

    async def checkpoint(self) -> Checkpoint | None:
        """Return what the database remembers; None if that is nothing that makes sense.

        Raises:
            CouchUnreached: it is not said.
        """
        found = await self._kept() or {}
        written, scan = found.get("written"), found.get("scan")
        if type(written) is not int or type(scan) is not int or "since" not in found:
            return None
        return Checkpoint(sequence(found["since"]), written, scan)

    async def keep(self, checkpoint: Checkpoint) -> bool:
        """Let the database remember; return False if the user may not have it do so.

        Where it cannot just now, it will be told again with the next checkpoint.

        Raises:
            CouchUnreached: it does not answer.
        """
        old = await self._kept()
        if old is None:
            return False
        new = {
            "since": json.loads(checkpoint.since),
            "written": checkpoint.written,
            "scan": checkpoint.scan,
            **({"_rev": old["_rev"]} if "_rev" in old else {}),
        }
        try:
            answer = await self._asking.ask("PUT", self._local, SMALL, new)
        except TooLarge:
            return True
        return answer.status not in _REFUSED

    async def _kept(self) -> dict[str, Any] | None:
        """Return the checkpoint as it is there; None if it may not be read."""
        try:
            answer = await self._asking.ask("GET", self._local, SMALL)
        except TooLarge:
            return {}
        if answer.status in _REFUSED:
            return None
        if answer.status == 404:
            return {}
        self._asking.require(answer.status)
        return json_object(answer.body)

    async def _get(self, below: str) -> bytes:
        try:
            return await self._asking.get(below, SMALL)
        except TooLarge:
            raise CouchUnreached(f"it answered with more than {SMALL} bytes") from None

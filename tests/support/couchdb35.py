"""CouchDB 3.5 as its documentation has it, in memory: what pouchdb-server lacks.

Opaque sequences that are never the same text twice, purges that no feed tells of,
replays of changes that were told already, revisions of which each leaf is kept.
It is asked through what :class:`dtfc.couchdb.client.Couch` offers, without a
socket. (api/database/changes.rst, cluster/purging.rst, api/local.rst)
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from twisted.internet.defer import Deferred

from dtfc.couchdb.client import Answer
from dtfc.errors import CouchUnreached

Body = dict[str, Any]


def generation(rev: str) -> int:
    return int(rev.partition("-")[0])


@dataclass
class Document:
    """The leaves of one document, by revision; each with its body."""

    leaves: dict[str, Body] = field(default_factory=dict)
    changed: int = 0

    @property
    def winner(self) -> str:
        alive = [rev for rev, body in self.leaves.items() if not body.get("_deleted")]
        return max(alive or self.leaves, key=lambda rev: (generation(rev), rev))

    def body(self, rev: str, name: str) -> Body:
        return {"_id": name, "_rev": rev, **self.leaves[rev]}


class Database35:
    """One database."""

    def __init__(self, made: int, chance: Random) -> None:
        self.instance = str(made)
        self.documents: dict[str, Document] = {}
        self.local: dict[str, Body] = {}
        self.sequence = 0
        self.purges = 0
        self.rewinds = False
        self._chance = chance
        self._waiting: list[tuple[int, Deferred[int]]] = []

    # -- what a client of CouchDB does ----------------------------------------

    def edit(self, name: str, body: Body, rev: str | None = None) -> str:
        """Write a revision after ``rev``; the winner, or none, if that is not told."""
        document = self.documents.setdefault(name, Document())
        if rev is None and document.leaves:
            rev = document.winner
        number = 1 if rev is None else generation(rev) + 1
        new = f"{number}-{self._chance.getrandbits(64):016x}"
        if rev is not None:
            del document.leaves[rev]
        document.leaves[new] = body
        self._changed(document)
        return new

    def conflict(self, name: str, body: Body) -> str:
        """Add a leaf that replication brings: it has no ancestor here."""
        document = self.documents.setdefault(name, Document())
        rev = f"{self._chance.randint(1, 4)}-{self._chance.getrandbits(64):016x}"
        document.leaves[rev] = body
        self._changed(document)
        return rev

    def purge(self, name: str, rev: str) -> None:
        """Forget a leaf as if it had never been; no feed tells of it."""
        document = self.documents[name]
        del document.leaves[rev]
        if not document.leaves:
            del self.documents[name]
        self.purges += 1

    def _changed(self, document: Document) -> None:
        self.sequence += 1
        document.changed = self.sequence
        waiting, self._waiting = self._waiting, []
        for since, done in waiting:
            if since < self.sequence:
                done.callback(200)
            else:
                self._waiting.append((since, done))

    def leave(self, error: Exception) -> None:
        """Cut everybody off who waits for a change."""
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done.errback(error)

    # -- what it answers --------------------------------------------------------

    def opaque(self, number: int) -> str:
        tail = base64.urlsafe_b64encode(self._chance.randbytes(9)).decode()
        return f"{number}-g1AAAA{tail}"

    def info(self) -> Body:
        return {
            "update_seq": self.opaque(self.sequence),
            "purge_seq": self.opaque(self.purges),
            "instance_start_time": self.instance,
        }

    def changes(self, since: str, limit: int) -> Body:
        after = 0 if since in {"0", ""} else generation(since)
        if self.rewinds:
            # A shard that came back from a backup: what was told is told again.
            after = self._chance.randint(0, after)
        told = sorted(
            (document.changed, name)
            for name, document in self.documents.items()
            if document.changed > after
        )[:limit]
        last = told[-1][0] if len(told) == limit else max(self.sequence, after)
        return {
            "results": [self._change(number, name) for number, name in told],
            "last_seq": self.opaque(last),
            "pending": 0,
        }

    def _change(self, number: int, name: str) -> Body:
        document = self.documents[name]
        winner = document.winner
        losers = [rev for rev in document.leaves if rev != winner]
        deleted = bool(document.leaves[winner].get("_deleted"))
        return {
            "seq": self.opaque(number),
            "id": name,
            "changes": [{"rev": rev} for rev in (winner, *losers)],
            "doc": document.body(winner, name),
            **({"deleted": True} if deleted else {}),
        }

    def revision(self, name: str, rev: str) -> Body | None:
        document = self.documents.get(name)
        if document is None or rev not in document.leaves:
            return None
        return document.body(rev, name)

    def wait(self, since: str) -> Deferred[int]:
        after = 0 if since in {"0", ""} else generation(since)
        done: Deferred[int] = Deferred(self._leave)
        if self.sequence > after or self.rewinds:
            done.callback(200)
        else:
            self._waiting.append((after, done))
        return done

    def _leave(self, leaving: Deferred[int]) -> None:
        self._waiting = [(since, done) for since, done in self._waiting if done is not leaving]


class Couchdb35:
    """A server; what is asked of it is answered at once.

    Args:
        seed: of whatever is left to chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self.url = "http://couchdb.example:5984"
        self.chance = Random(seed)
        self.databases: dict[str, Database35] = {}
        self.away = False
        self._made = 0

    def make(self, name: str) -> Database35:
        """Make a database, anew if there is one."""
        self.drop(name)
        self._made += 1
        made = self.databases[name] = Database35(self._made, self.chance)
        return made

    def drop(self, name: str) -> None:
        """Take a database away."""
        old = self.databases.pop(name, None)
        if old is not None:
            old.leave(CouchUnreached("it closed the feed"))

    def leave(self) -> None:
        """Be away until :meth:`come_back`."""
        self.away = True
        for database in self.databases.values():
            database.leave(CouchUnreached("it is away"))

    def come_back(self) -> None:
        """Answer again."""
        self.away = False

    def referenced(self) -> set[str]:
        """Return the digests that any leaf of any document refers to, as the truth is."""
        return {
            entry["sha512"]
            for database in self.databases.values()
            for document in database.documents.values()
            for body in document.leaves.values()
            if not body.get("_deleted")
            for entry in body.get("dtfc", {}).values()
        }

    # -- as dtfc.couchdb.client.Couch has it ------------------------------------

    async def ask(
        self, method: str, path: str, _who: Any, _most: int, *, content: Any = None, **_more: Any
    ) -> Answer:
        if self.away:
            raise CouchUnreached("it is away")
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        status, told = self._answer(
            method, parts.path.strip("/").split("/"), query, json.loads(content or b"null")
        )
        return Answer(status, json.dumps(told).encode())

    async def stream(self, path: str, _who: Any, _heard: Callable[..., Any], **_more: Any) -> int:
        if self.away:
            raise CouchUnreached("it is away")
        parts = urlsplit(path)
        found = self.databases.get(unquote(parts.path.split("/")[1]))
        if found is None:
            return 404
        return await found.wait(parse_qs(parts.query)["since"][0])

    async def close(self) -> None:
        return

    def _answer(  # noqa: PLR0911 -- one for each question
        self, method: str, path: list[str], query: dict[str, str], content: Any
    ) -> tuple[int, Any]:
        if path == ["_up"]:
            return 200, {"status": "ok", "seeds": {}}
        found = self.databases.get(unquote(path[0]))
        if found is None:
            return 404, {"error": "not_found", "reason": "Database does not exist."}
        match path[1:]:
            case []:
                return 200, found.info()
            case ["_changes"]:
                return 200, found.changes(query["since"], int(query["limit"]))
            case ["_bulk_get"]:
                return 200, {"results": [_got(found, each) for each in content["docs"]]}
            case ["_local", name]:
                return _local(found, method, name, content)
            case [name]:
                body = found.revision(unquote(name), query["rev"])
                if body is not None:
                    return 200, body
        return 404, {"error": "not_found", "reason": "missing"}


def _got(database: Database35, asked: Body) -> Body:
    body = database.revision(asked["id"], asked["rev"])
    if body is not None:
        return {"id": asked["id"], "docs": [{"ok": body}]}
    error = {"id": asked["id"], "rev": asked["rev"], "error": "not_found", "reason": "missing"}
    return {"id": asked["id"], "docs": [{"error": error}]}


def _local(database: Database35, method: str, name: str, content: Any) -> tuple[int, Any]:
    old = database.local.get(name)
    if method == "GET":
        if old is None:
            return 404, {"error": "not_found", "reason": "missing"}
        return 200, old
    if (old or {}).get("_rev") != content.get("_rev"):
        return 409, {"error": "conflict", "reason": "Document update conflict."}
    rev = f"0-{hashlib.md5(json.dumps(content).encode()).hexdigest()}"  # noqa: S324 -- no secret
    database.local[name] = {**content, "_id": f"_local/{name}", "_rev": rev}
    return 201, {"ok": True, "id": f"_local/{name}", "rev": rev}

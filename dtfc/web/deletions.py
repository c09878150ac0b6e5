"""Deletion everywhere: what clients ask for, and what nodes tell one another."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from dtfc.access.verbs import Verb
from dtfc.http.problems import Problem, not_found
from dtfc.peers.agreement import MOST_BYTES
from dtfc.store.records import is_id
from dtfc.web.peerbody import read_small

if TYPE_CHECKING:
    from dtfc.digest import Digest
    from dtfc.peers.agreement import Heard
    from dtfc.peers.deletions import Deletions
    from dtfc.store.memory import Delivery, Receipt
    from dtfc.web.gate import Gate
    from dtfc.web.request import Request

JSON = "application/json"


class DeletionPages:
    """The answers to requests about deletions everywhere.

    Args:
        deletions: deletes, and hears of deletions.
        gate: who may do what.
    """

    def __init__(self, deletions: Deletions, gate: Gate) -> None:
        self._deletions = deletions
        self._gate = gate

    async def delete(self, request: Request, digest: Digest) -> None:
        """Delete a blob everywhere; the caller has looked who asks, and under which conditions."""
        deleted, receipt = await self._deletions.everywhere(digest)
        request.put("Location", f"/deletions/{receipt.id}")
        told = plain(receipt) | {"was_here": deleted.info is not None}
        if deleted.info is not None:
            told |= {"filename": deleted.info.name, "length": deleted.info.length}
        _answer(request, 202, told)

    async def receipt(self, request: Request, name: str) -> None:
        """Answer what became of a deletion that began here."""
        await self._gate.let_in(request, Verb.GET)
        found = await self._deletions.receipt(name) if is_id(name) else None
        if found is None:
            request.problem(not_found(request.path.decode("latin-1")))
            return
        _answer(request, 200, plain(found))

    async def hear(self, request: Request) -> None:
        """Take what a peer tells of deletions."""
        self._gate.admit_peer(request)
        body = await read_small(request, MOST_BYTES, "the protocol")
        heard, wait = await self._deletions.hear(body, _sender(request))
        if wait is None:
            request.put("Cache-Control", "no-store")
            request.answer(200, heard.body(), JSON)
        else:
            request.problem(_too_many(heard, wait))

    async def compare(self, request: Request) -> None:
        """Answer what a peer asks about what is remembered here."""
        self._gate.admit_peer(request)
        body = await read_small(request, MOST_BYTES, "the protocol")
        found = await self._deletions.answer(body)
        request.put("Cache-Control", "no-store")
        request.answer(200, found, JSON)


def plain(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as JSON carries it."""
    waiting = not receipt.addressed or any(each.state == "pending" for each in receipt.deliveries)
    return {
        "id": receipt.id,
        "sha512": receipt.digest.hex,
        "status": "pending" if waiting else "complete",
        "deleted_at": receipt.at,
        "counter": receipt.counter,
        "peers": {each.peer: _delivery(each) for each in receipt.deliveries},
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    told: dict[str, Any] = {"state": delivery.state}
    if delivery.state != "pending":
        return told | {"at": delivery.at}
    told["reason"] = delivery.reason or "it has not been told yet"
    told["attempts"] = delivery.failures
    if delivery.next_try is not None:
        at = dt.datetime.fromtimestamp(delivery.next_try, dt.UTC)
        told["next_try"] = at.isoformat(timespec="seconds")
    return told


def _too_many(heard: Heard, wait: int) -> Problem:
    return Problem(
        429,
        "Too many deletions at once",
        "this node takes so many a minute from its peers as --peer-deletions says",
        {"taken": heard.taken, "newer": [each.plain() for each in heard.newer]},
        (("Retry-After", str(wait)),),
    )


def _sender(request: Request) -> str:
    address = request.getClientAddress()
    return str(getattr(address, "host", "this machine"))


def _answer(request: Request, status: int, value: dict[str, Any]) -> None:
    request.put("Cache-Control", "no-store")
    request.answer(status, json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n", JSON)

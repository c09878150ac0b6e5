"""What a node says of itself."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dtfc import __version__
from dtfc.access.verbs import Verb
from dtfc.couchdb.sharednames import Named, SharedNames, merged
from dtfc.errors import BadInput, DtfcError
from dtfc.http.problems import Problem
from dtfc.web.colleagues import Alone, Colleagues
from dtfc.web.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dtfc.disk import Disk
    from dtfc.peers.picker import PeerStatus
    from dtfc.peers.roster import Roster, RosterChange
    from dtfc.store.blobs import Space, Store
    from dtfc.store.listing import Page
    from dtfc.store.outbox import Length
    from dtfc.web.families import Family
    from dtfc.web.gate import Gate
    from dtfc.web.request import Request

JSON = "application/json"

#: Names in one page of /files.json.
DEFAULT_PAGE = 100
LARGEST_PAGE = 1000


class Status:
    """Health, readiness, names and peers.

    Args:
        store: whose state is told.
        disk: where blocking work runs.
        roster: the peers.
        gate: who may do what.
        draining: whether the node is shutting down.
        metrics: makes the text for Prometheus (blocks), with what all processes
            of the node have counted, if there are others.
        clock: tells when the disk was tried last.
        colleagues: the other processes of the node.
        peers: says how the peers are.
        queue: tells how many blobs lack copies on other nodes; None where
            nothing is copied.
        look_up: asks DNS for peers, and waits for its answer.
        changed: told what each reading of the peer list led to.
    """

    def __init__(
        self,
        store: Store,
        disk: Disk,
        roster: Roster,
        gate: Gate,
        *,
        draining: Callable[[], bool],
        metrics: Callable[[Sequence[Family]], bytes],
        clock: IReactorTime,
        colleagues: Colleagues | None = None,
        peers: Callable[[], Sequence[PeerStatus]] = tuple,
        queue: Callable[[], Length | None] = lambda: None,
        look_up: Callable[[], Awaitable[None]] | None = None,
        changed: Callable[[RosterChange], None] = lambda _change: None,
    ) -> None:
        self._store = store
        self._disk = disk
        self._roster = roster
        self._gate = gate
        self._draining = draining
        self._metrics = metrics
        self._clock = clock
        self._colleagues = colleagues or Alone()
        self._peers = peers
        self._queue = queue
        self._look_up = look_up
        self._changed = changed
        self.shared: SharedNames | None = None
        self._looked = 0.0
        self._looked_at: Space | None = None

    def health(self, request: Request) -> None:
        """The 2015 program's words: this process answers."""
        request.put("Cache-Control", "no-store")
        request.answer(200, b"All systems go.", "text/plain; charset=utf-8")

    def livez(self, request: Request) -> None:
        """This process answers; in JSON."""
        self._tell(request, 200, {"status": "ok", "version": __version__})

    async def readyz(self, request: Request) -> None:
        """Whether this node can do its work: 503 while draining or when the disk refuses."""
        checks: dict[str, Any] = {"draining": self._draining()}
        ready = not self._draining()
        try:
            space = await self._look_at_store()
            checks["store"] = "writable"
            checks["free_bytes"] = space.free
            checks["reserve_bytes"] = space.reserve
            checks["quarantine"] = len(await self._disk.run(self._store.repair.quarantined))
            pending = await self._disk.run(self._store.memory.pending_count)
            checks["deletions_pending"] = pending
        except DtfcError as error:
            checks["store"] = str(error)
            ready = False
        checks["peers"] = len(self._roster.current())
        queue = self._queue()
        if queue is not None:
            checks["replica_queue"] = queue.entries
            checks["replica_stuck"] = queue.stuck
            checks["replica_oldest_seconds"] = queue.age(self._clock.seconds())
        serving, wanted = self._colleagues.present()
        if wanted > 1:
            checks["workers"] = wanted
            checks["workers_serving"] = serving
        status = {"status": "ok" if ready else "unavailable"}
        if request.query("verbose") is not None:
            status |= checks
        self._tell(request, 200 if ready else 503, status)

    async def _look_at_store(self) -> Space:
        """Try the disk, at most once a second whoever asks: each try writes and syncs."""
        now = self._clock.seconds()
        if self._looked_at is None or now - self._looked > 1:
            self._looked = now
            self._looked_at = None
            await self._disk.run(self._store.writable)
            self._looked_at = await self._disk.run(self._store.space)
        return self._looked_at

    async def metrics(self, request: Request) -> None:
        """What this node has done, for Prometheus."""
        await self._gate.let_in(request, Verb.GET)
        counted = await self._colleagues.counts()
        text = await self._disk.run(self._metrics, counted)
        request.put("Cache-Control", "no-store")
        request.answer(200, text, CONTENT_TYPE)

    async def files(self, request: Request) -> None:
        """Names and the digests they stand for, a page at a time."""
        await self._gate.let_in(request, Verb.GET)
        limit = _page_size(request.query("limit"))
        given = request.query("name"), request.query("prefix")
        usual = _normalised(given[0]), _normalised(given[1])
        # Names are kept in NFC; but not those that the 2015 program was given.
        for name, prefix in dict.fromkeys((usual, given)):
            page = await self._disk.run(
                self._store.catalog.by_name,
                name=name,
                prefix=prefix,
                after=request.query("after"),
                limit=limit,
            )
            rows = [Named(row.name, row.digest, row.length, row.at) for row in page.rows]
            following = page.next
            if self.shared is not None:
                found = await self._disk.run(
                    self.shared.rows, name, prefix, request.query("after"), limit + 1
                )
                rows, following = await self._disk.run(self._with_others, page, found, limit)
            if rows or following:
                break
        self._tell(request, 200, {"files": [*map(_file, rows)], "next": following})

    def _with_others(
        self, page: Page, others: Sequence[Named], limit: int
    ) -> tuple[list[Named], str | None]:
        """Return a page of the names of all sites, without what is denied here (blocks)."""
        rows, following = merged(page, others, limit)
        return [
            each if each.at is not None else replace(each, here=self._store.holds(each.digest))
            for each in rows
            if each.at is not None or self._store.marker(each.digest) is None
        ], following

    async def refresh_peers(self, request: Request) -> None:
        """Read the peer list again, and tell the peers now in force."""
        await self._gate.let_in(request, Verb.PUT)
        self._changed(self._roster.apply(await self._disk.run(self._roster.read)))
        self._colleagues.peers_read()
        if self._look_up is not None:
            await self._look_up()
        change = self._roster.last_change
        self._tell(
            request,
            200,
            {
                "peers": [peer.url for peer in change.peers],
                "bad_lines": [
                    {"line": bad.number, "text": bad.text, "reason": bad.reason}
                    for bad in change.bad
                ],
                "errors": list(change.errors),
                "health": [health_of(each) for each in self._peers()],
            },
        )

    def _tell(self, request: Request, status: int, value: dict[str, Any]) -> None:
        request.put("Cache-Control", "no-store")
        if status == 503:
            request.problem(
                Problem(
                    503,
                    "Not Ready",
                    "this node cannot do its work now",
                    members=value,
                    fields=(("Retry-After", "5"),),
                )
            )
            return
        request.answer(status, json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n", JSON)


def _file(row: Named) -> dict[str, Any]:
    found = {"name": row.name, "sha512": row.digest.hex, "length": row.length, "stored_at": row.at}
    # Of those that were named here it is plain.
    return found if row.at is not None else found | {"here": row.here}


def health_of(peer: PeerStatus) -> dict[str, Any]:
    """Return what is known of a peer, as JSON has it."""
    state = "lied" if peer.lying else "failed" if peer.rests else "fine"
    measured = peer.first_byte is not None or peer.rate is not None
    return {
        "url": peer.url,
        "zone": peer.zone,
        "weight": peer.weight,
        "state": state if measured or state != "fine" else "unknown",
        "rests_for": round(peer.rests, 3),
        "first_byte": None if peer.first_byte is None else round(peer.first_byte, 6),
        "rate": None if peer.rate is None else round(peer.rate),
        "received": peer.received,
        "failures": peer.failures,
        "lies": peer.lies,
    }


def _normalised(text: str | None) -> str | None:
    return None if text is None else unicodedata.normalize("NFC", text)


def _page_size(given: str | None) -> int:
    if given is None:
        return DEFAULT_PAGE
    if not (given.isascii() and given.isdigit() and len(given) <= len(str(LARGEST_PAGE))):
        raise BadInput(f"limit is a number from 1 to {LARGEST_PAGE}")
    if not 1 <= int(given) <= LARGEST_PAGE:
        raise BadInput(f"limit is a number from 1 to {LARGEST_PAGE}")
    return int(given)

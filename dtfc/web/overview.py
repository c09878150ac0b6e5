"""What a node is, holds and does at this moment, as one value: ``/status.json``.

Rules of this file: it asks and changes nothing, tells no secret, and costs the
disk the same however many ask: what has to be read from there is read once a
second at most.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dtfc import __version__
from dtfc.errors import DtfcError
from dtfc.web.colleagues import Alone, Colleagues
from dtfc.web.samples import EVERY, Samples
from dtfc.web.status import health_of
from dtfc.web.transfers import MOST_TOLD, moving, told
from dtfc.web.troubles import Troubles

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dtfc.couchdb.follower import FollowerStatus
    from dtfc.disk import Disk
    from dtfc.integrity.progress import Progress
    from dtfc.peers.flight import LoadStatus
    from dtfc.peers.picker import PeerStatus
    from dtfc.store.blobs import Store
    from dtfc.store.outbox import Length
    from dtfc.web.site import Site

#: Seconds for which what was read from the disk is told again.
FRESH = 1.0


@dataclass(frozen=True, slots=True)
class CouchStatus:
    """What is done beside CouchDB.

    Args:
        databases: that are followed, the catalog of names included.
        prefetch: blobs that are still to be loaded; None where none are.
        publish: blobs whose names are still to be published; None likewise.
    """

    databases: Sequence[FollowerStatus]
    prefetch: int | None = None
    publish: int | None = None

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "databases": [
                {
                    "database": each.database,
                    "state": each.state,
                    "trouble": each.trouble or None,
                    "complete": each.complete,
                    "seconds_since_heard": None if each.heard is None else round(each.heard, 1),
                }
                for each in self.databases
            ],
            "prefetch_waiting": self.prefetch,
            "publish_waiting": self.publish,
        }


async def _no_couchdb() -> None:
    """Tell that nothing is done beside CouchDB."""


@dataclass(slots=True)
class Sources:
    """Whom the overview asks.

    Args:
        began: when the node was started, in seconds since 1970.
        draining: whether it is shutting down.
        me: its URL in the peer list; None if it does not know.
        loads: what is being loaded from peers.
        peers: how they are.
        scrub: how far it is, and the seconds from one pass to the next; 0 for none (blocks).
        pending: missing acknowledgements of deletions, by peer (blocks).
        queue: how many blobs lack copies; None where nothing is copied.
        couchdb: what is done beside it; None where nothing is.
    """

    began: float
    draining: Callable[[], bool]
    me: Callable[[], str | None] = lambda: None
    loads: Callable[[], Sequence[LoadStatus]] = tuple
    peers: Callable[[], Sequence[PeerStatus]] = tuple
    scrub: Callable[[], tuple[Progress, float]] | None = None
    pending: Callable[[], Mapping[str, int]] = dict
    queue: Callable[[], Length | None] = lambda: None
    couchdb: Callable[[], Awaitable[CouchStatus | None]] = field(default=_no_couchdb)


class Overview:
    """Gathers it.

    Args:
        site: its connections.
        store: its blobs.
        disk: where blocking work runs.
        clock: tells the time of day.
        sources: everything else.
        samples: what went through lately.
        troubles: what went wrong lately.
        colleagues: the other processes of the node.
    """

    def __init__(
        self,
        site: Site,
        store: Store,
        disk: Disk,
        clock: IReactorTime,
        sources: Sources,
        *,
        samples: Samples,
        troubles: Troubles,
        colleagues: Colleagues | None = None,
    ) -> None:
        self._site = site
        self._store = store
        self._disk = disk
        self._clock = clock
        self._sources = sources
        self._samples = samples
        self._troubles = troubles
        self._colleagues = colleagues or Alone()
        self._read: dict[str, Any] = {}
        self._read_at: float | None = None

    async def tell(self, *, since: float = 0.0, troubles: bool = False) -> dict[str, Any]:
        """Return all of it, as JSON has it.

        Args:
            since: only samples that are later.
            troubles: whether what the log says is told.
        """
        now = self._clock.seconds()
        return {
            "node": self._node(now),
            **await self._from_disk(now),
            "rates": {
                "every": EVERY,
                "samples": [each.plain() for each in self._samples.since(since)],
            },
            **self._transfers(),
            "peers": [health_of(each) for each in self._sources.peers()],
            "replicas": self._replicas(now),
            "couchdb": await self._couchdb(),
            "problems": [each.plain() for each in self._troubles.latest()] if troubles else None,
        }

    def _node(self, now: float) -> dict[str, Any]:
        serving, wanted = self._colleagues.present()
        return {
            "version": __version__,
            "id": self._store.node_id,
            "url": self._sources.me(),
            "now": round(now, 3),
            "uptime_seconds": round(max(0.0, now - self._sources.began), 1),
            "draining": self._sources.draining(),
            "workers": wanted,
            "workers_serving": serving,
            "connections": len(self._site.channels),
        }

    async def _from_disk(self, now: float) -> dict[str, Any]:
        if self._read_at is None or not 0 <= now - self._read_at < FRESH:
            self._read_at = now
            self._read = await self._disk.run(self._look)
        return self._read

    def _look(self) -> dict[str, Any]:
        """Read what has to be read; where that fails, say so in its place (blocks)."""
        return {
            "store": _or_trouble(self._of_store),
            "scrub": _or_trouble(self._of_scrub),
            "deletions": _or_trouble(self._of_deletions),
            "spool": _or_trouble(self._of_spool),
        }

    def _of_store(self) -> dict[str, Any]:
        totals, space = self._store.catalog.totals(), self._store.space()
        return {
            "blobs": totals.blobs,
            "bytes": totals.bytes,
            "free_bytes": space.free,
            "total_bytes": space.total,
            "reserve_bytes": space.reserve,
            "quarantine": len(self._store.repair.quarantined()),
        }

    def _of_scrub(self) -> dict[str, Any] | None:
        if self._sources.scrub is None:
            return None
        progress, period = self._sources.scrub()
        return {
            "under_way": progress.under_way,
            "began": progress.began or None,
            "ended": progress.ended or None,
            "blobs": progress.blobs,
            "bytes": progress.bytes,
            "corrupt": progress.corrupt,
            "period_seconds": period,
        }

    def _of_deletions(self) -> dict[str, Any]:
        pending = self._sources.pending()
        return {
            "pending": sum(pending.values()),
            "peers": [{"url": peer, "pending": count} for peer, count in pending.items()],
        }

    def _of_spool(self) -> dict[str, Any]:
        spool = self._store.uploads.spool()
        return {"uploads": spool.uploads, "bytes": spool.size}

    def _transfers(self) -> dict[str, Any]:
        now, loads = moving(self._site), self._sources.loads()
        largest = sorted(loads, key=lambda each: each.length or 0, reverse=True)[:MOST_TOLD]
        return {
            "loads": {"running": len(loads), "largest": [_load(each) for each in largest]},
            "uploads": told(now.uploads),
            "downloads": told(now.downloads),
        }

    def _replicas(self, now: float) -> dict[str, Any] | None:
        queue = self._sources.queue()
        if queue is None:
            return None
        return {
            "queue": queue.entries,
            "stuck": queue.stuck,
            "oldest_seconds": round(queue.age(now), 1),
        }

    async def _couchdb(self) -> dict[str, Any] | None:
        try:
            found = await self._sources.couchdb()
        except DtfcError as error:
            return {"trouble": str(error)}
        return None if found is None else found.plain()


def _or_trouble(look: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    try:
        return look()
    except DtfcError as error:
        return {"trouble": str(error)}


def _load(load: LoadStatus) -> dict[str, Any]:
    return {
        "sha512": load.digest.hex,
        "name": load.name,
        "length": load.length,
        "done": load.held,
        "waiting": load.waiting,
        "peers": [{"url": url, "bytes": count} for url, count in load.peers.items()],
        "elsewhere": load.elsewhere,
    }

"""``GET /metrics``: what this process has done, for Prometheus.

Rules of this file: the hot path counts in plain integers; what they are called
is said here alone, when somebody asks. No digest or name is a label, and no
address but those that the operator wrote into the peer list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from dtfc import __version__
from dtfc.web.families import REQUESTS, STALL_MAX, Family, Labels, Rule

if TYPE_CHECKING:
    from dtfc.couchdb.collector import Collector as GarbageCollector
    from dtfc.couchdb.follower import FollowerStatus
    from dtfc.couchdb.prefetching import Prefetching
    from dtfc.couchdb.publishing import Publishing
    from dtfc.couchdb.sharedcatalog import SharedCatalog
    from dtfc.integrity.upkeep import Upkeep
    from dtfc.peers.deletions import Deletions
    from dtfc.peers.picker import PeerStatus
    from dtfc.peers.receivers import Receivers
    from dtfc.peers.transfer import Counters
    from dtfc.replicas.owed import Replicas
    from dtfc.store.blobs import Store
    from dtfc.web.site import Site
    from dtfc.web.stalls import StallDetector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Tally:
    """What the site counts.

    Attributes:
        requests: answers, by method and status.
        hits: those of them that the fast lane gave.
        sent: bytes of their bodies.
        received: bytes of requests' bodies.
    """

    __slots__ = ("hits", "received", "requests", "sent")

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.hits = 0
        self.sent = 0
        self.received = 0


class Metrics:
    """Gives every metric its name.

    Args:
        site: connections and answers.
        loads: what came from peers.
        store: blobs and space.
        stalls: of the loop.
        upkeep: what was verified, healed and scrubbed.
        peers: says how the peers are.
        deletions: deletions everywhere.
        receivers: nodes that whole blobs are sent to.

    Attributes:
        replicas: copies to other nodes; None if nothing is copied.
        followed: how the databases are that this process follows.
        collector: of what no document refers to; None where there is none.
        prefetching: loads what their documents refer to; None if nothing does.
        shared: shares names with other sites; None if nothing does.
        asked_couchdb: how often CouchDB was asked, by what came of it; None if it never is.
    """

    def __init__(
        self,
        site: Site,
        loads: Counters,
        store: Store,
        stalls: StallDetector,
        upkeep: Upkeep,
        *,
        peers: Callable[[], Sequence[PeerStatus]] = tuple,
        deletions: Deletions | None = None,
        receivers: Receivers | None = None,
    ) -> None:
        self._site = site
        self._loads = loads
        self._store = store
        self._stalls = stalls
        self._upkeep = upkeep
        self._peers = peers
        self.replicas: Replicas | None = None
        self.followed: Callable[[], Sequence[FollowerStatus]] = tuple
        self.collector: GarbageCollector | None = None
        self.prefetching: Prefetching | None = None
        self.shared: SharedCatalog | None = None
        self.asked_couchdb: Callable[[], Mapping[str, int] | None] = lambda: None
        self._deletions = deletions
        self._receivers = receivers

    def text(self, node: Iterable[Family] = ()) -> bytes:
        """Return everything in the text format (blocks: asks catalog and disk).

        Args:
            node: what all processes of the node have counted together, where
                this is not the only one; it stands for what this one counts.
        """
        by_name = {each.name: each for each in node}
        families = [by_name.pop(each.name, each) for each in self._all()]
        registry = CollectorRegistry()
        registry.register(_Told([*families, *by_name.values()]))
        return generate_latest(registry)

    def counts(self) -> list[Family]:
        """Return what this process counts for itself, without asking the disk."""
        return [
            *self._of_site(),
            *self._of_couchdb(),
            *self._of_loads(),
            *self._of_peers(),
            *self._of_receivers(),
            *self._of_upkeep(),
            *self._of_replicas(),
            *self._of_deletions(),
            *self._of_process(),
        ]

    def _all(self) -> Iterator[Family]:
        yield _gauge("dtfc_build_info", "The version that runs.", 1, "same", version=__version__)
        yield from self._of_site()
        yield from self._of_couchdb()
        yield from self._of_loads()
        yield from self._of_peers()
        yield from self._of_receivers()
        yield from self._of_upkeep()
        yield from self._of_replicas()
        yield from self._of_deletions()
        totals = self._store.catalog.totals()
        space = self._store.space()
        for name, text, value in (
            ("dtfc_store_blobs", "Blobs kept here.", totals.blobs),
            ("dtfc_store_bytes", "Bytes of the blobs kept here.", totals.bytes),
            ("dtfc_disk_free_bytes", "Free bytes of the store's file system.", space.free),
            ("dtfc_disk_reserve_bytes", "Bytes of them kept back.", space.reserve),
        ):
            yield _gauge(name, text, value, "same")
        yield _gauge(
            "dtfc_quarantine_blobs",
            "Damaged blobs put aside.",
            len(self._store.repair.quarantined()),
            "same",
        )
        if self._deletions is not None:
            yield _gauge(
                "dtfc_deletions_pending",
                "Peers' acknowledgements of deletions everywhere that are missing.",
                self._deletions.pending(),
                "same",
            )
            yield _gauge(
                "dtfc_deletions_remembered",
                "Digests that were ever deleted everywhere.",
                self._deletions.remembered(),
                "same",
            )
        progress = self._upkeep.scrubber.told()
        yield _gauge(
            "dtfc_scrub_last_pass_timestamp_seconds",
            "When the last whole scrub ended, since 1970; 0 if none did.",
            progress.ended,
            "same",
        )
        yield _gauge(
            "dtfc_scrub_pass_bytes", "Bytes that this pass has read.", progress.bytes, "same"
        )
        yield from self._of_process()

    def _of_upkeep(self) -> Iterator[Family]:
        checks, healing = self._upkeep.checks, self._upkeep.healing
        scrubber = self._upkeep.scrubber
        for name, text, value in (
            ("dtfc_verified_chunks", "Chunks verified before they left.", checks.chunks),
            ("dtfc_verified_blobs", "Blobs whose SHA-512 was verified.", checks.wholes),
            ("dtfc_corrupt", "Times that something was found damaged.", checks.corrupt),
            ("dtfc_healed_chunks", "Chunks that a peer had right.", healing.healed_chunks),
            ("dtfc_healed_blobs", "Blobs made whole again.", healing.healed),
            ("dtfc_quarantined_blobs", "Blobs put aside as damaged.", healing.quarantined),
            ("dtfc_scrub_bytes", "Bytes that the scrub has read.", scrubber.bytes),
        ):
            yield _counter(name, text, value)
        yield Family(
            "dtfc_scrub_findings",
            "What the scrub found, by kind.",
            "counter",
            "sum",
            {(("kind", kind),): count for kind, count in scrubber.found.items()},
        )

    def _of_replicas(self) -> Iterator[Family]:
        if self.replicas is None:
            return
        counts, queue = self.replicas.counts, self.replicas.length
        for name, text, value in (
            ("dtfc_replica_sent", "Copies that peers have stored.", counts.sent),
            ("dtfc_replica_sent_bytes", "Bytes of those.", counts.sent_bytes),
            ("dtfc_replica_found", "Copies that peers had already.", counts.found),
            ("dtfc_replica_full", "Requests refused for a full queue.", counts.turned_away),
            ("dtfc_quorum_missed", "Clients told of too few copies.", counts.quorum_missed),
        ):
            yield _counter(name, text, value)
        yield Family(
            "dtfc_replica_failed",
            "Copies that were not made, by reason.",
            "counter",
            "sum",
            {
                (("reason", reason),): getattr(counts, reason)
                for reason in ("unreached", "refused", "unreadable")
            },
        )
        age = queue.age(self.replicas.now())
        yield _gauge("dtfc_replica_queue", "Blobs that lack copies.", queue.entries, "max")
        yield _gauge("dtfc_replica_stuck", "Those that nobody takes.", queue.stuck, "max")
        yield _gauge("dtfc_replica_oldest_seconds", "Since when the oldest does.", age, "max")

    def _of_deletions(self) -> Iterator[Family]:
        deletions = self._deletions
        if deletions is None:
            return
        courier = deletions.courier
        for name, text, value in (
            ("dtfc_deletions_made", "Deletions everywhere that began here.", deletions.made),
            ("dtfc_deletions_acknowledged", "Times that a peer took one.", courier.delivered),
            ("dtfc_deletions_failures", "Times that a peer did not.", courier.failures),
            ("dtfc_deletions_compared_bytes", "Bytes of comparisons.", deletions.bytes),
        ):
            yield _counter(name, text, value)
        for name, text, found in (
            ("dtfc_deletions_heard", "Records that peers told, by result.", deletions.heard),
            ("dtfc_deletions_rounds", "Comparisons with peers, by result.", deletions.rounds),
        ):
            values: dict[Labels, float] = {
                (("result", result),): count for result, count in found.items()
            }
            yield Family(name, text, "counter", "sum", values)

    def _of_process(self) -> Iterator[Family]:
        yield _counter("dtfc_store_failed_syncs", "fsyncs that failed.", self._store.failed_syncs)
        yield _gauge(
            STALL_MAX,
            "The longest time that the loop looked at no socket.",
            self._stalls.longest,
            "max",
        )
        yield _gauge(
            "dtfc_loop_own_stall_seconds_max",
            "The same, less what the loop waited for a processor that others had.",
            self._stalls.longest_own,
            "max",
        )
        yield _counter(
            "dtfc_loop_stall_seconds", "All stalls of the loop together.", self._stalls.total
        )

    def _of_site(self) -> Iterator[Family]:
        tally = self._site.tally
        requests: dict[Labels, float] = {
            (("method", method), ("code", str(code))): count
            for (method, code), count in tally.requests.items()
        }
        yield Family(REQUESTS, "Answers, by method and status.", "counter", "sum", requests)
        yield _counter("dtfc_http_hot_hits", "Answers given without the router.", tally.hits)
        yield _counter("dtfc_http_sent_bytes", "Bytes of answers' bodies.", tally.sent)
        yield _counter("dtfc_http_received_bytes", "Bytes of requests' bodies.", tally.received)
        yield Family(
            "dtfc_http_limited",
            "Times that a limit of what one caller may take, or of connections, was reached.",
            "counter",
            "sum",
            {
                (("limit", limit),): self._site.callers.refused[limit]
                for limit in ("requests", "uploads", "connections", "room")
            },
        )
        yield _gauge("dtfc_http_connections", "Connections now.", len(self._site.channels), "sum")

    def _of_couchdb(self) -> Iterator[Family]:
        asked = self.asked_couchdb()
        if asked is not None:
            yield Family(
                "dtfc_couchdb_asked",
                "What came of asking CouchDB who somebody is, or for a document.",
                "counter",
                "sum",
                {(("result", result),): count for result, count in asked.items()},
            )
        followed = [*self.followed(), *(self.shared.here() if self.shared is not None else ())]
        if self.shared is not None:
            yield from _of_publishing(self.shared.publishing)
        if self.prefetching is not None:
            yield from _of_prefetching(self.prefetching)
        if not followed:
            return
        for name, text in (
            ("changes", "Changes read of a followed database."),
            ("documents", "Documents read of a followed database."),
            ("senseless", "Entries of documents that say no digest."),
            ("scans", "Times that a followed database was begun to be read from its beginning."),
            ("failures", "Times that a followed database could not be read on."),
        ):
            yield Family(
                f"dtfc_couchdb_follower_{name}",
                text,
                "counter",
                "sum",
                {(("database", each.database),): each.counts.get(name, 0) for each in followed},
            )
        yield Family(
            "dtfc_couchdb_follower_complete",
            "Whether a followed database was read from beginning to end.",
            "gauge",
            "sum",
            {(("database", each.database),): float(each.complete) for each in followed},
        )
        yield Family(
            "dtfc_couchdb_follower_silence_seconds",
            "Seconds since a followed database was heard last.",
            "gauge",
            "sum",
            {
                (("database", each.database),): each.heard
                for each in followed
                if each.heard is not None
            },
        )
        yield from self._of_collector()

    def _of_collector(self) -> Iterator[Family]:
        if self.collector is None:
            return
        counts, known = self.collector.counts, self.collector.known
        for name, text, value in (
            ("dtfc_gc_passes", "Passes of the collector.", counts["passes"]),
            ("dtfc_gc_held_up", "Passes that could not collect.", counts["held_up"]),
            ("dtfc_gc_deleted", "Blobs collected.", counts["blobs"]),
            ("dtfc_gc_deleted_bytes", "Bytes of these.", counts["bytes"]),
            (
                "dtfc_gc_restored",
                "Collected blobs that came back.",
                counts["restored"],
            ),
            ("dtfc_gc_expired", "Collected blobs that are gone for good.", counts["expired"]),
        ):
            yield _counter(name, text, value)
        for name, text, key in (
            ("dtfc_gc_candidates", "Blobs that no document refers to.", "candidates"),
            ("dtfc_gc_candidate_bytes", "Bytes of these.", "candidate_bytes"),
        ):
            yield _gauge(name, text, known.get(key, 0), "sum")

    def _of_loads(self) -> Iterator[Family]:
        loads = self._loads
        yield Family(
            "dtfc_loads",
            "Loads from peers that ended, by result.",
            "counter",
            "sum",
            {
                (("result", result),): getattr(loads, result)
                for result in ("loaded", "absent", "unreached", "stopped", "failed")
            },
        )
        yield _gauge("dtfc_loads_running", "Loads from peers in progress.", loads.running, "sum")
        for name, text, value in (
            ("dtfc_loaded_bytes", "Bytes of the blobs loaded.", loads.loaded_bytes),
            ("dtfc_peer_fetch_bytes", "Bytes that came from peers.", loads.received_bytes),
            ("dtfc_peer_refetched_bytes", "Those that came again.", loads.refetched_bytes),
            ("dtfc_peer_failures", "Times that a peer broke off.", loads.peer_failures),
        ):
            yield _counter(name, text, value)

    def _of_receivers(self) -> Iterator[Family]:
        if self._receivers is None:
            return
        for name, text, value in (
            ("dtfc_receivers_refused", "Nodes sent elsewhere.", self._receivers.refused),
            ("dtfc_receivers_cut", "Nodes cut off for others.", self._receivers.cut),
        ):
            yield _counter(name, text, value)

    def _of_peers(self) -> Iterator[Family]:
        peers = self._peers()
        yield _by_peer(
            "dtfc_peer_resting_seconds",
            "How long a peer is asked only when nobody else is left.",
            {each.url: each.rests for each in peers},
        )
        yield _by_peer(
            "dtfc_peer_first_byte_seconds",
            "The wait for a peer's first byte, lately.",
            {each.url: each.first_byte for each in peers},
        )
        yield _by_peer(
            "dtfc_peer_rate_bytes",
            "Bytes a second that came from a peer, lately.",
            {each.url: each.rate for each in peers},
        )
        for name, text, count in (
            ("dtfc_peer_received_bytes", "Bytes that came from a peer.", "received"),
            ("dtfc_peer_broken", "Times that a peer was not reached or broke off.", "failures"),
            ("dtfc_peer_lies", "Times that a peer sent wrong bytes.", "lies"),
        ):
            counts: dict[Labels, float] = {
                (("peer", each.url),): getattr(each, count) for each in peers
            }
            yield Family(name, text, "counter", "sum", counts)


class _Told(Collector):
    """Families as Prometheus' own library wants them."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def describe(self) -> list[Metric]:
        """Describe nothing in advance: names do not change."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        for each in self._families:
            metric = Metric(each.name, each.text, each.kind)
            suffix = "_total" if each.kind == "counter" else ""
            for labels, value in _in_order(each):
                metric.add_sample(each.name + suffix, dict(labels), value)
            yield metric


def _in_order(family: Family) -> Iterable[tuple[Labels, float]]:
    """Return the values; those of many codes sorted, as they come when they may."""
    if family.name == REQUESTS:
        return sorted(family.values.items(), key=lambda item: [value for _, value in item[0]])
    return family.values.items()


def _by_peer(name: str, text: str, values: Mapping[str, float | None]) -> Family:
    known: dict[Labels, float] = {
        (("peer", url),): value for url, value in values.items() if value is not None
    }
    return Family(name, text, "gauge", "max", known)


def _of_publishing(publishing: Publishing) -> Iterator[Family]:
    name = "dtfc_couchdb_catalog"
    counts = publishing.counts
    yield _counter(f"{name}_published", "Blobs whose names were published.", counts["published"])
    yield _counter(f"{name}_deleted", "Entries deleted with their blobs.", counts["deleted"])
    yield _counter(f"{name}_refused", "Entries that the database refused.", counts["refused"])
    yield _counter(f"{name}_failures", "Times that none could be written.", counts["failures"])
    waiting = publishing.waiting
    yield _gauge(f"{name}_waiting", "Blobs whose names are to be published.", waiting, "sum")


def _of_prefetching(prefetching: Prefetching) -> Iterator[Family]:
    name = "dtfc_couchdb_prefetch"
    counts = prefetching.counts
    yield _counter(f"{name}_loaded", "Blobs loaded before anybody asked.", counts["loaded"])
    yield _counter(f"{name}_failed", "Times that such a load failed.", counts["failed"])
    yield _counter(f"{name}_dropped", "Deleted or denied: not to be loaded.", counts["dropped"])
    waiting = prefetching.waiting
    yield _gauge(f"{name}_waiting", "Blobs that are still to be loaded.", waiting, "sum")
    rests = int(prefetching.rests)
    yield _gauge(f"{name}_resting", "Whether a full disk is waited for.", rests, "sum")


def _counter(name: str, text: str, value: float) -> Family:
    return Family(name, text, "counter", "sum", {(): value})


def _gauge(name: str, text: str, value: float, rule: Rule, **labels: str) -> Family:
    return Family(name, text, "gauge", rule, {tuple(labels.items()): value})

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
from dtfc.web.families import REQUESTS, STALL_MAX, Family, Labels, counter, gauge
from dtfc.web.transfers import under_way

if TYPE_CHECKING:
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
        of_couchdb: what is done beside CouchDB.
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
        self.of_couchdb: Callable[[], Iterable[Family]] = tuple
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
            *self.of_site(),
            *self.of_couchdb(),
            *self._of_loads(),
            *self._of_peers(),
            *self._of_receivers(),
            *self._of_upkeep(),
            *self._of_replicas(),
            *self._of_deletions(),
            *self._of_process(),
        ]

    def _all(self) -> Iterator[Family]:
        yield gauge("dtfc_build_info", "The version that runs.", 1, "same", version=__version__)
        yield from self.of_site()
        yield from self.of_couchdb()
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
            yield gauge(name, text, value, "same")
        yield gauge(
            "dtfc_quarantine_blobs",
            "Damaged blobs put aside.",
            len(self._store.repair.quarantined()),
            "same",
        )
        if self._deletions is not None:
            yield gauge(
                "dtfc_deletions_pending",
                "Peers' acknowledgements of deletions everywhere that are missing.",
                self._deletions.pending(),
                "same",
            )
            yield gauge(
                "dtfc_deletions_remembered",
                "Digests that were ever deleted everywhere.",
                self._deletions.remembered(),
                "same",
            )
        progress = self._upkeep.scrubber.told()
        yield gauge(
            "dtfc_scrub_last_pass_timestamp_seconds",
            "When the last whole scrub ended, since 1970; 0 if none did.",
            progress.ended,
            "same",
        )
        yield gauge(
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
            yield counter(name, text, value)
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
            yield counter(name, text, value)
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
        yield gauge("dtfc_replica_queue", "Blobs that lack copies.", queue.entries, "max")
        yield gauge("dtfc_replica_stuck", "Those that nobody takes.", queue.stuck, "max")
        yield gauge("dtfc_replica_oldest_seconds", "Since when the oldest does.", age, "max")

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
            yield counter(name, text, value)
        for name, text, found in (
            ("dtfc_deletions_heard", "Records that peers told, by result.", deletions.heard),
            ("dtfc_deletions_rounds", "Comparisons with peers, by result.", deletions.rounds),
        ):
            values: dict[Labels, float] = {
                (("result", result),): count for result, count in found.items()
            }
            yield Family(name, text, "counter", "sum", values)

    def _of_process(self) -> Iterator[Family]:
        yield counter("dtfc_store_failed_syncs", "fsyncs that failed.", self._store.failed_syncs)
        yield gauge(
            STALL_MAX,
            "The longest time that the loop looked at no socket.",
            self._stalls.longest,
            "max",
        )
        yield gauge(
            "dtfc_loop_own_stall_seconds_max",
            "The same, less what the loop waited for a processor that others had.",
            self._stalls.longest_own,
            "max",
        )
        yield counter(
            "dtfc_loop_stall_seconds", "All stalls of the loop together.", self._stalls.total
        )

    def of_site(self) -> Iterator[Family]:
        """Yield what the site counts."""
        tally = self._site.tally
        requests: dict[Labels, float] = {
            (("method", method), ("code", str(code))): count
            for (method, code), count in tally.requests.items()
        }
        yield Family(REQUESTS, "Answers, by method and status.", "counter", "sum", requests)
        yield counter("dtfc_http_hot_hits", "Answers given without the router.", tally.hits)
        sent, received = under_way(self._site)
        yield counter("dtfc_http_sent_bytes", "Bytes of answers' bodies.", tally.sent + sent)
        yield counter(
            "dtfc_http_received_bytes", "Bytes of requests' bodies.", tally.received + received
        )
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
        yield gauge("dtfc_http_connections", "Connections now.", len(self._site.channels), "sum")

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
        yield gauge("dtfc_loads_running", "Loads from peers in progress.", loads.running, "sum")
        for name, text, value in (
            ("dtfc_loaded_bytes", "Bytes of the blobs loaded.", loads.loaded_bytes),
            ("dtfc_peer_fetch_bytes", "Bytes that came from peers.", loads.received_bytes),
            ("dtfc_peer_refetched_bytes", "Those that came again.", loads.refetched_bytes),
            ("dtfc_peer_failures", "Times that a peer broke off.", loads.peer_failures),
        ):
            yield counter(name, text, value)

    def _of_receivers(self) -> Iterator[Family]:
        if self._receivers is None:
            return
        for name, text, value in (
            ("dtfc_receivers_refused", "Nodes sent elsewhere.", self._receivers.refused),
            ("dtfc_receivers_cut", "Nodes cut off for others.", self._receivers.cut),
        ):
            yield counter(name, text, value)

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

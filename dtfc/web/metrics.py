"""``GET /metrics``: what this process has done, for Prometheus.

Rules of this file: the hot path counts in plain integers; they become metrics
here, when somebody asks, under the names of :mod:`dtfc.web.metricnames`. No digest
or name is a label, and no address but those that the operator wrote into the peer
list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Exposed
from prometheus_client.registry import Collector

from dtfc import __version__
from dtfc.web.families import RELOADS, REQUESTS, STALL_MAX, SUM, Family, Labels, told, told_by
from dtfc.web.metricnames import METRICS
from dtfc.web.peermetrics import (
    deletion_families,
    load_families,
    peer_families,
    tombstone_families,
)
from dtfc.web.processmetrics import process_families
from dtfc.web.tally import BOUNDS
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
    from dtfc.web.tally import Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
        checks: how often was asked who may do what, by result.
        reread: how often the settings were read again, by result.

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
        checks: Mapping[str, int] | None = None,
        reread: Mapping[str, int] | None = None,
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
        self._checks = checks or {}
        self._reloads = reread or {}

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
            *load_families(self._loads),
            *peer_families(self._peers()),
            *self._of_receivers(),
            *self._of_upkeep(),
            *self._of_replicas(),
            *(() if self._deletions is None else deletion_families(self._deletions)),
            *self._of_process(),
        ]

    def _all(self) -> Iterator[Family]:
        yield told("dtfc_build_info", 1, version=__version__)
        yield from self.counts()
        totals = self._store.catalog.totals()
        space = self._store.space()
        limit = totals.bytes + max(0, space.free - space.reserve)
        yield told("dtfc_store_blobs", totals.blobs)
        yield told("dtfc_store_bytes", totals.bytes)
        yield told("dtfc_store_limit_bytes", limit)
        yield told("dtfc_disk_free_bytes", space.free)
        yield told("dtfc_disk_size_bytes", space.total)
        yield told("dtfc_disk_reserve_bytes", space.reserve)
        yield told("dtfc_quarantine_blobs", len(self._store.repair.quarantined()))
        if self._deletions is not None:
            yield from tombstone_families(self._deletions)
        progress = self._upkeep.scrubber.told()
        yield told("dtfc_scrub_last_success_timestamp_seconds", progress.ended)
        yield told("dtfc_scrub_pass_bytes", progress.bytes)
        yield told("dtfc_scrub_progress_ratio", progress.ratio)

    def _of_upkeep(self) -> Iterator[Family]:
        checks, healing = self._upkeep.checks, self._upkeep.healing
        scrubber = self._upkeep.scrubber
        yield told("dtfc_chunks_verified", checks.chunks)
        yield told("dtfc_blobs_verified", checks.wholes)
        yield told("dtfc_chunks_corrupt", checks.corrupt)
        yield told("dtfc_chunks_repaired", healing.healed_chunks)
        yield told("dtfc_blobs_repaired", healing.healed)
        yield told("dtfc_blobs_quarantined", healing.quarantined)
        yield told("dtfc_scrub_bytes", scrubber.bytes)
        found = {str(kind): count for kind, count in scrubber.found.items()}
        yield told_by("dtfc_scrub_findings", "kind", found)

    def _of_replicas(self) -> Iterator[Family]:
        if self.replicas is None:
            return
        counts, queue = self.replicas.counts, self.replicas.length
        yield told("dtfc_replica_sent", counts.sent)
        yield told("dtfc_replica_sent_bytes", counts.sent_bytes)
        yield told("dtfc_replica_found", counts.found)
        yield told("dtfc_replica_full", counts.turned_away)
        yield told("dtfc_quorum_missed", counts.quorum_missed)
        reasons = ("unreached", "refused", "unreadable")
        failed = {reason: getattr(counts, reason) for reason in reasons}
        yield told_by("dtfc_replica_failed", "reason", failed)
        yield told("dtfc_replica_queue", queue.entries)
        yield told("dtfc_replica_stuck", queue.stuck)
        yield told("dtfc_replica_oldest_seconds", queue.age(self.replicas.now()))

    def _of_process(self) -> Iterator[Family]:
        yield told_by(RELOADS, "result", self._reloads)
        yield told("dtfc_store_failed_syncs", self._store.failed_syncs)
        yield told(STALL_MAX, self._stalls.longest)
        yield told("dtfc_loop_own_stall_seconds_max", self._stalls.longest_own)
        yield told("dtfc_loop_stall_seconds", self._stalls.total)
        yield from process_families()

    def of_site(self) -> Iterator[Family]:
        """Yield what the site counts."""
        tally = self._site.tally
        requests: dict[Labels, float] = {
            (("method", method), ("route", route), ("code", str(code))): count
            for (method, route, code), count in tally.requests.items()
        }
        yield Family(METRICS[REQUESTS], requests)
        yield _durations(tally)
        yield told("dtfc_http_hot_hits", tally.hits)
        sent, received = under_way(self._site)
        yield told("dtfc_http_sent_bytes", tally.sent + sent)
        yield told("dtfc_http_received_bytes", tally.received + received)
        refused = self._site.callers.refused
        limits = ("requests", "uploads", "connections", "room")
        yield told_by("dtfc_http_limited", "limit", {each: refused[each] for each in limits})
        yield told("dtfc_http_connections", len(self._site.channels))
        yield told_by("dtfc_auth_checks", "result", self._checks)

    def _of_receivers(self) -> Iterator[Family]:
        if self._receivers is not None:
            yield told("dtfc_receivers_refused", self._receivers.refused)
            yield told("dtfc_receivers_cut", self._receivers.cut)


class _Told(Collector):
    """Families as Prometheus' own library wants them."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def describe(self) -> list[Exposed]:
        """Describe nothing in advance: names do not change."""
        return []

    def collect(self) -> Iterator[Exposed]:
        """Yield every family."""
        for each in self._families:
            kind = each.metric.kind
            metric = Exposed(each.name, each.metric.text, kind)
            for labels, value in _in_order(each):
                if kind == "histogram":
                    _add_class(metric, dict(labels), value)
                else:
                    metric.add_sample(each.metric.exposed, dict(labels), value)
            yield metric


def _in_order(family: Family) -> Iterable[tuple[Labels, float]]:
    """Return the values; those of many codes sorted, as they come when they may."""
    if family.name == REQUESTS:
        return sorted(family.values.items(), key=lambda item: [value for _, value in item[0]])
    return family.values.items()


def _add_class(metric: Exposed, labels: dict[str, str], value: float) -> None:
    """Add a class of a histogram, and behind the last one how many there are in all."""
    others = {name: label for name, label in labels.items() if name != "le"}
    if labels["le"] == SUM:
        metric.add_sample(metric.name + "_sum", others, value)
        return
    metric.add_sample(metric.name + "_bucket", labels, value)
    if labels["le"] == "+Inf":
        metric.add_sample(metric.name + "_count", others, value)


def _durations(tally: Tally) -> Family:
    values: dict[Labels, float] = {}
    for route, classes in sorted(tally.durations().items()):
        up_to = accumulate(classes)
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), up_to, strict=True):
            values[("route", route), ("le", bound)] = count
        values[("route", route), ("le", SUM)] = tally.seconds.get(route, 0.0)
    return Family(METRICS["dtfc_http_request_duration_seconds"], values)

"""``GET /metrics``: what this process has done, for Prometheus.

Rules of this file: the hot path counts in plain integers; what they are called
is said here alone, when somebody asks. No digest, name or address is a label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dtfc import __version__

if TYPE_CHECKING:
    from dtfc.peers.transfer import Counters
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


class Metrics(Collector):
    """Gives every metric its name.

    Args:
        site: connections and answers.
        loads: what came from peers.
        store: blobs and space.
        stalls: of the loop.
    """

    def __init__(self, site: Site, loads: Counters, store: Store, stalls: StallDetector) -> None:
        self._site = site
        self._loads = loads
        self._store = store
        self._stalls = stalls
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return everything in the text format (blocks: asks catalog and disk)."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Describe nothing in advance: names do not change."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as it is now."""
        yield _gauge("dtfc_build_info", "The version that runs.", 1, version=__version__)
        yield from self._of_site()
        yield from self._of_loads()
        totals = self._store.catalog.totals()
        space = self._store.space()
        yield _gauge("dtfc_store_blobs", "Blobs kept here.", totals.blobs)
        yield _gauge("dtfc_store_bytes", "Bytes of the blobs kept here.", totals.bytes)
        yield _gauge("dtfc_disk_free_bytes", "Free bytes of the store's file system.", space.free)
        yield _gauge("dtfc_disk_reserve_bytes", "Bytes of them kept back.", space.reserve)
        yield _counter("dtfc_store_failed_syncs", "fsyncs that failed.", self._store.failed_syncs)
        yield _gauge(
            "dtfc_loop_stall_seconds_max",
            "The longest time that the loop looked at no socket.",
            self._stalls.longest,
        )
        yield _counter(
            "dtfc_loop_stall_seconds", "All stalls of the loop together.", self._stalls.total
        )

    def _of_site(self) -> Iterator[Metric]:
        tally = self._site.tally
        requests = CounterMetricFamily(
            "dtfc_http_requests", "Answers, by method and status.", labels=("method", "code")
        )
        for (method, code), count in sorted(tally.requests.items()):
            requests.add_metric((method, str(code)), count)
        yield requests
        yield _counter("dtfc_http_hot_hits", "Answers given without the router.", tally.hits)
        yield _counter("dtfc_http_sent_bytes", "Bytes of answers' bodies.", tally.sent)
        yield _counter("dtfc_http_received_bytes", "Bytes of requests' bodies.", tally.received)
        yield _gauge("dtfc_http_connections", "Connections now.", len(self._site.channels))

    def _of_loads(self) -> Iterator[Metric]:
        loads = self._loads
        results = CounterMetricFamily(
            "dtfc_loads", "Loads from peers that ended, by result.", labels=("result",)
        )
        for result in ("loaded", "absent", "unreached", "stopped", "failed"):
            results.add_metric((result,), getattr(loads, result))
        yield results
        yield _gauge("dtfc_loads_running", "Loads from peers in progress.", loads.running)
        for name, text, value in (
            ("dtfc_loaded_bytes", "Bytes of the blobs loaded.", loads.loaded_bytes),
            ("dtfc_peer_fetch_bytes", "Bytes that came from peers.", loads.received_bytes),
            ("dtfc_peer_refetched_bytes", "Those that came again.", loads.refetched_bytes),
            ("dtfc_peer_failures", "Times that a peer broke off.", loads.peer_failures),
        ):
            yield _counter(name, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    metric = CounterMetricFamily(name, text)
    metric.add_metric((), value)
    return metric


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    metric = GaugeMetricFamily(name, text, labels=tuple(labels))
    metric.add_metric(tuple(labels.values()), value)
    return metric

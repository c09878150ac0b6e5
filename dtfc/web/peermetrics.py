"""Loads, peers and deletions, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dtfc.web.families import Family, told, told_by
from dtfc.web.metricnames import METRICS

if TYPE_CHECKING:
    from dtfc.peers.deletions import Deletions
    from dtfc.peers.picker import PeerStatus
    from dtfc.peers.transfer import Counters


def load_families(loads: Counters) -> Iterator[Family]:
    """Yield what came of loads from peers."""
    results = ("loaded", "absent", "unreached", "stopped", "failed")
    yield told_by("dtfc_loads", "result", {each: getattr(loads, each) for each in results})
    yield told("dtfc_loads_running", loads.running)
    yield told("dtfc_single_flight_waiters", loads.waiters)
    yield told_by("dtfc_hedges", "won", {"true": loads.hedges_won, "false": loads.hedges_lost})
    yield told("dtfc_loaded_bytes", loads.loaded_bytes)
    yield told("dtfc_loads_received_bytes", loads.received_bytes)
    yield told("dtfc_loads_refetched_bytes", loads.refetched_bytes)
    yield told("dtfc_loads_peer_failures", loads.peer_failures)


def peer_families(peers: Sequence[PeerStatus]) -> Iterator[Family]:
    """Yield how each peer of the list is."""
    for name, values in (
        ("dtfc_peer_up", {each.url: float(not each.rests) for each in peers}),
        ("dtfc_peer_resting_seconds", {each.url: each.rests for each in peers}),
        ("dtfc_peer_latency_seconds", {each.url: each.first_byte for each in peers}),
        ("dtfc_peer_rate_bytes", {each.url: each.rate for each in peers}),
        ("dtfc_peer_fetch_bytes", {each.url: each.received for each in peers}),
        ("dtfc_peer_broken", {each.url: each.failures for each in peers}),
        ("dtfc_peer_lies", {each.url: each.lies for each in peers}),
    ):
        known = {url: value for url, value in values.items() if value is not None}
        yield told_by(name, "peer", known)
    yield Family(
        METRICS["dtfc_peer_fetches"],
        {
            (("peer", each.url), ("result", result)): count
            for each in peers
            for result, count in each.fetches.items()
        },
    )


def deletion_families(deletions: Deletions) -> Iterator[Family]:
    """Yield what this process did about deletions everywhere."""
    yield told("dtfc_deletions_made", deletions.made)
    yield told("dtfc_deletions_acknowledged", deletions.courier.delivered)
    yield told("dtfc_deletions_failures", deletions.courier.failures)
    yield told("dtfc_deletions_compared_bytes", deletions.bytes)
    yield told_by("dtfc_deletions_heard", "result", deletions.heard)
    yield told_by("dtfc_deletions_rounds", "result", deletions.rounds)


def tombstone_families(deletions: Deletions) -> Iterator[Family]:
    """Yield what the node remembers of deletions (asks the catalog)."""
    pending = deletions.pending_since()
    missing = {peer: count for peer, (count, _) in pending.items()}
    oldest = {peer: made for peer, (_, made) in pending.items()}
    yield told_by("dtfc_tombstones_pending", "peer", missing)
    yield told_by("dtfc_tombstones_oldest_pending_timestamp_seconds", "peer", oldest)
    yield told("dtfc_deletions_remembered", deletions.remembered())

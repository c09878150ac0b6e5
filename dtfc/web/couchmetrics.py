"""What a node does beside CouchDB, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dtfc.web.families import Family, told, told_by

if TYPE_CHECKING:
    from dtfc.couchdb.collector import Collector
    from dtfc.couchdb.follower import FollowerStatus
    from dtfc.couchdb.following import Following
    from dtfc.couchdb.prefetching import Prefetching
    from dtfc.couchdb.publishing import Publishing
    from dtfc.couchdb.sharedcatalog import SharedCatalog


def couch_families(
    asked: Mapping[str, int] | None, following: Following | None, shared: SharedCatalog | None
) -> Iterator[Family]:
    """Yield all of them.

    Args:
        asked: how often CouchDB was asked, by what came of it; None if it never is.
        following: the databases that are followed; None if there are none.
        shared: the names of all sites; None if they are not shared.
    """
    if asked is not None:
        yield told_by("dtfc_couchdb_asked", "result", asked)
    followed: list[FollowerStatus] = []
    if following is not None:
        followed += following.here()
        yield from _of_collector(following.collector)
        if following.prefetching is not None:
            yield from _of_prefetching(following.prefetching)
    if shared is not None:
        followed += shared.here()
        yield from _of_publishing(shared.publishing)
    if followed:
        yield from _of_followers(followed)


def _of_followers(followed: Sequence[FollowerStatus]) -> Iterator[Family]:
    for counted in ("changes", "documents", "senseless", "scans", "failures"):
        counts = {each.database: each.counts.get(counted, 0) for each in followed}
        yield told_by(f"dtfc_couchdb_follower_{counted}", "database", counts)
    for name, values in (
        ("follower_complete", {each.database: float(each.complete) for each in followed}),
        (
            "follower_silence_seconds",
            {each.database: each.heard for each in followed if each.heard is not None},
        ),
        ("changes_lag", {each.database: each.lag for each in followed}),
        (
            "last_checkpoint_timestamp_seconds",
            {each.database: each.kept for each in followed},
        ),
    ):
        yield told_by(f"dtfc_couchdb_{name}", "database", values)


def _of_collector(collector: Collector) -> Iterator[Family]:
    counts, known = collector.counts, collector.known
    yield told("dtfc_gc_passes", counts["passes"])
    yield told("dtfc_gc_held_up", counts["held_up"])
    yield told("dtfc_gc_deleted", counts["blobs"])
    yield told("dtfc_gc_deleted_bytes", counts["bytes"])
    yield told("dtfc_gc_restored", counts["restored"])
    yield told("dtfc_gc_expired", counts["expired"])
    yield told("dtfc_gc_candidates", known.get("candidates", 0))
    yield told("dtfc_gc_candidate_bytes", known.get("candidate_bytes", 0))


def _of_publishing(publishing: Publishing) -> Iterator[Family]:
    for counted in ("published", "deleted", "refused", "failures"):
        yield told(f"dtfc_couchdb_catalog_{counted}", publishing.counts[counted])
    yield told("dtfc_couchdb_catalog_waiting", publishing.waiting)


def _of_prefetching(prefetching: Prefetching) -> Iterator[Family]:
    for counted in ("loaded", "failed", "dropped"):
        yield told(f"dtfc_couchdb_prefetch_{counted}", prefetching.counts[counted])
    yield told("dtfc_couchdb_prefetch_waiting", prefetching.waiting)
    yield told("dtfc_couchdb_prefetch_resting", float(prefetching.rests))

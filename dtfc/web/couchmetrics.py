"""What a node does beside CouchDB, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dtfc.web.families import Family, counter, gauge

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
        yield Family(
            "dtfc_couchdb_asked",
            "What came of asking CouchDB who somebody is, or for a document.",
            "counter",
            "sum",
            {(("result", result),): count for result, count in asked.items()},
        )
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
        {(("database", each.database),): each.heard for each in followed if each.heard is not None},
    )


def _of_collector(collector: Collector) -> Iterator[Family]:
    counts, known = collector.counts, collector.known
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
        yield counter(name, text, value)
    for name, text, key in (
        ("dtfc_gc_candidates", "Blobs that no document refers to.", "candidates"),
        ("dtfc_gc_candidate_bytes", "Bytes of these.", "candidate_bytes"),
    ):
        yield gauge(name, text, known.get(key, 0), "sum")


def _of_publishing(publishing: Publishing) -> Iterator[Family]:
    name = "dtfc_couchdb_catalog"
    counts = publishing.counts
    yield counter(f"{name}_published", "Blobs whose names were published.", counts["published"])
    yield counter(f"{name}_deleted", "Entries deleted with their blobs.", counts["deleted"])
    yield counter(f"{name}_refused", "Entries that the database refused.", counts["refused"])
    yield counter(f"{name}_failures", "Times that none could be written.", counts["failures"])
    waiting = publishing.waiting
    yield gauge(f"{name}_waiting", "Blobs whose names are to be published.", waiting, "sum")


def _of_prefetching(prefetching: Prefetching) -> Iterator[Family]:
    name = "dtfc_couchdb_prefetch"
    counts = prefetching.counts
    yield counter(f"{name}_loaded", "Blobs loaded before anybody asked.", counts["loaded"])
    yield counter(f"{name}_failed", "Times that such a load failed.", counts["failed"])
    yield counter(f"{name}_dropped", "Deleted or denied: not to be loaded.", counts["dropped"])
    waiting = prefetching.waiting
    yield gauge(f"{name}_waiting", "Blobs that are still to be loaded.", waiting, "sum")
    rests = int(prefetching.rests)
    yield gauge(f"{name}_resting", "Whether a full disk is waited for.", rests, "sum")

"""What ``/metrics`` tells: every name, with its kind, its labels, and what it means.

Rules of this file: pure, and one table. A metric that does not stand here cannot be
told; ``docs/metrics.md`` is made from it. Names are Prometheus' own way
(prometheus.io/docs/practices/naming): base units, ``_total`` behind what is
counted. No digest, name or user is ever a label, and every label has few values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

Rule = Literal["sum", "max", "min", "same"]
"""How the values of several processes make one: ``same`` is told by any of them."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One name.

    Args:
        name: without the ``_total`` of a counter.
        kind: of metric.
        text: what it means, for people; one sentence or two.
        labels: in order; without the ``le`` of a histogram.
        rule: how several processes' values make one.
        when: when it is told at all; empty for always.
    """

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    rule: Rule = "sum"
    when: str = ""

    @property
    def exposed(self) -> str:
        """The name that Prometheus sees, or of a histogram what its names begin with."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


def _c(name: str, text: str, *labels: str, when: str = "") -> Metric:
    return Metric(name, "counter", text, labels, "sum", when)


def _g(name: str, rule: Rule, text: str, *labels: str, when: str = "") -> Metric:
    return Metric(name, "gauge", text, labels, rule, when)


_WORKERS = "with --workers"
_COPIES = "where copies are made (--replicas)"
_FOLLOWS = "with --couchdb-db or --couchdb-catalog"
_COLLECTS = "with --couchdb-db"
_PREFETCHES = "with --couchdb-prefetch"
_SHARES = "with --couchdb-catalog"
_LINUX = "on Linux"

TABLE = (
    _g("dtfc_build_info", "same", "1, at the version that runs.", "version"),
    _c("dtfc_reloads", "Times that the settings were read again: ok, failed.", "result"),
    # -- HTTP
    _c(
        "dtfc_http_requests",
        "Answers, by method, class of URL and status. 499: the client left first. Method -: it "
        "never became a request, or was cut off.",
        "method",
        "route",
        "code",
    ),
    Metric(
        "dtfc_http_request_duration_seconds",
        "histogram",
        "From the end of a request's head to the end of its answer, by class of URL. What was "
        "answered within a turn of the loop counts as nothing.",
        ("route",),
    ),
    _c("dtfc_http_hot_hits", "Answers that were given without the router."),
    _c("dtfc_http_sent_bytes", "Bytes of answers' bodies."),
    _c("dtfc_http_received_bytes", "Bytes of requests' bodies."),
    _c(
        "dtfc_http_limited",
        "Times that a limit was reached: requests and uploads of one caller, connections of one "
        "address; room: one that did nothing useful was closed for another.",
        "limit",
    ),
    _g("dtfc_http_connections", "sum", "Connections now, without those that wait to be let in."),
    _c(
        "dtfc_auth_checks",
        "Times that was asked who may do what: allowed, denied (403), unauthenticated (401: it "
        "says nothing of who it is), invalid (401: what it says is no good), limited (429), busy "
        "(503). Hot GETs that all may make ask nobody.",
        "result",
    ),
    # -- the store
    _g("dtfc_store_blobs", "same", "Blobs kept here, as the catalog knows them."),
    _g("dtfc_store_bytes", "same", "Bytes of the blobs kept here."),
    _g(
        "dtfc_store_limit_bytes",
        "same",
        "Bytes of blobs that can be kept here as the disk is now: those that are, and what is "
        "free above the reserve.",
    ),
    _g("dtfc_disk_free_bytes", "same", "Free bytes of the store's file system."),
    _g("dtfc_disk_size_bytes", "same", "Size of the store's file system."),
    _g("dtfc_disk_reserve_bytes", "same", "Free bytes that are kept back (--reserve)."),
    _c("dtfc_store_failed_syncs", "fsyncs that failed."),
    # -- uploads that resume
    _g("dtfc_uploads_open", "same", "Uploads that resume and are not complete."),
    _g("dtfc_upload_spool_bytes", "same", "Bytes that these hold."),
    _c("dtfc_uploads_expired", "Uploads that nobody went on with (--upload-ttl)."),
    # -- integrity
    _c("dtfc_chunks_verified", "Chunks verified before they left."),
    _c("dtfc_blobs_verified", "Blobs whose SHA-512 was verified before they left."),
    _c("dtfc_chunks_corrupt", "Times that what was about to be sent turned out to be wrong."),
    _c("dtfc_chunks_repaired", "Wrong chunks that a peer had right."),
    _c("dtfc_blobs_repaired", "Blobs made whole again."),
    _c("dtfc_blobs_quarantined", "Blobs put aside because no peer had them right."),
    _g("dtfc_quarantine_blobs", "same", "Blobs in quarantine now."),
    _c("dtfc_scrub_bytes", "Bytes that the scrub has read."),
    _c(
        "dtfc_scrub_findings",
        "What the scrub found: corrupt, missing, unreadable, map, mode, stray.",
        "kind",
    ),
    _g("dtfc_scrub_pass_bytes", "same", "Bytes that the pass under way, or the last one, read."),
    _g("dtfc_scrub_progress_ratio", "same", "How far the pass under way is, 0 to 1."),
    _g(
        "dtfc_scrub_last_success_timestamp_seconds",
        "same",
        "When the last whole pass ended, since 1970; 0 if none did.",
    ),
    # -- loads and peers
    _c(
        "dtfc_loads",
        "Loads from peers that ended: loaded, absent, unreached, stopped (nobody waited any more, "
        "or shutdown), failed (something on this node).",
        "result",
    ),
    _g("dtfc_loads_running", "sum", "Loads from peers in progress."),
    _g(
        "dtfc_single_flight_waiters",
        "sum",
        "Clients that wait for a load that was begun for another one.",
    ),
    _c("dtfc_loaded_bytes", "Bytes of the blobs loaded."),
    _c("dtfc_loads_received_bytes", "Bytes that came for loads, wanted or not."),
    _c("dtfc_loads_refetched_bytes", "Those of them that had been here before."),
    _c("dtfc_loads_peer_failures", "Times that a peer gave a load nothing usable, or broke off."),
    _c(
        "dtfc_hedges",
        "Requests to one more peer because another was late or slow, by whether its answer was "
        "used: true, false.",
        "won",
    ),
    _c(
        "dtfc_peer_fetches",
        "Requests of loads to a peer: ok, absent (it has it not), refused, unreached, broken, "
        "dropped (no longer wanted).",
        "peer",
        "result",
    ),
    _c("dtfc_peer_fetch_bytes", "Bytes of blobs that came from a peer.", "peer"),
    _c("dtfc_peer_broken", "Times that a peer was not reached or broke off.", "peer"),
    _c("dtfc_peer_lies", "Times that a peer sent wrong bytes.", "peer"),
    _g(
        "dtfc_peer_up",
        "min",
        "1 if a peer may be asked, 0 while it rests after failures. With --workers 0 if it rests "
        "for any.",
        "peer",
    ),
    _g("dtfc_peer_resting_seconds", "max", "How long a peer still rests, 0 if not.", "peer"),
    _g(
        "dtfc_peer_latency_seconds",
        "max",
        "The wait for a peer's first byte, lately; absent until measured. With --workers the "
        "highest.",
        "peer",
    ),
    _g("dtfc_peer_rate_bytes", "max", "Bytes a second that came from a peer, lately.", "peer"),
    _c("dtfc_receivers_refused", "Nodes sent elsewhere for a large blob (--peer-receivers)."),
    _c("dtfc_receivers_cut", "Nodes cut off in the middle of one, for others."),
    # -- copies
    _c("dtfc_replica_sent", "Copies that peers have stored.", when=_COPIES),
    _c("dtfc_replica_sent_bytes", "Bytes of those.", when=_COPIES),
    _c("dtfc_replica_found", "Copies that peers had already.", when=_COPIES),
    _c("dtfc_replica_full", "Requests refused because of --replica-queue.", when=_COPIES),
    _c("dtfc_quorum_missed", "Clients that were told of too few copies.", when=_COPIES),
    _c(
        "dtfc_replica_failed",
        "Copies that were not made: unreached (the peer), refused (by the peer), unreadable "
        "(here).",
        "reason",
        when=_COPIES,
    ),
    _g("dtfc_replica_queue", "max", "Blobs that lack copies.", when=_COPIES),
    _g("dtfc_replica_stuck", "max", "Those of them that nobody takes.", when=_COPIES),
    _g("dtfc_replica_oldest_seconds", "max", "Since when the oldest does.", when=_COPIES),
    # -- deletions
    _c("dtfc_deletions_made", "Deletions everywhere that began here."),
    _c("dtfc_deletions_acknowledged", "Times that a peer took one."),
    _c("dtfc_deletions_failures", "Times that a peer could not be told."),
    _c("dtfc_deletions_compared_bytes", "Bytes of comparisons, both ways, without the heads."),
    _c(
        "dtfc_deletions_heard",
        "Records that peers told: applied, known (the same or a newer one was), put off "
        "(--peer-deletions), refused (--accept-deletions off).",
        "result",
    ),
    _c(
        "dtfc_deletions_rounds",
        "Comparisons with peers: equal, differed, failed, unversed (it knows nothing of this).",
        "result",
    ),
    _g("dtfc_deletions_remembered", "same", "Digests that were ever deleted everywhere."),
    _g("dtfc_tombstones_pending", "same", "Deletions that a peer has not acknowledged.", "peer"),
    _g(
        "dtfc_tombstones_oldest_pending_timestamp_seconds",
        "same",
        "When the oldest of them was made, since 1970; 0 if there is none.",
        "peer",
    ),
    # -- CouchDB
    _c(
        "dtfc_couchdb_asked",
        "What came of asking CouchDB: known or nobody, document or no document, unreached; "
        "refused: too many wrong passwords, so that it was not asked; entered, entry refused and "
        "entry contended: files that a PUT was to enter in a document.",
        "result",
        when="with --couchdb",
    ),
    _c("dtfc_couchdb_follower_changes", "Changes read.", "database", when=_FOLLOWS),
    _c("dtfc_couchdb_follower_documents", "Documents read.", "database", when=_FOLLOWS),
    _c(
        "dtfc_couchdb_follower_senseless",
        "Entries of documents that say no digest.",
        "database",
        when=_FOLLOWS,
    ),
    _c(
        "dtfc_couchdb_follower_scans",
        "Times that a database was begun to be read from its beginning.",
        "database",
        when=_FOLLOWS,
    ),
    _c(
        "dtfc_couchdb_follower_failures",
        "Times that a database could not be read on.",
        "database",
        when=_FOLLOWS,
    ),
    _g(
        "dtfc_couchdb_follower_complete",
        "sum",
        "1 if a database was read from beginning to end.",
        "database",
        when=_FOLLOWS,
    ),
    _g(
        "dtfc_couchdb_follower_silence_seconds",
        "sum",
        "Seconds since a database was heard last.",
        "database",
        when=_FOLLOWS,
    ),
    _g(
        "dtfc_couchdb_changes_lag",
        "sum",
        "Changes that are still to be read, as far as the database says.",
        "database",
        when=_FOLLOWS,
    ),
    _g(
        "dtfc_couchdb_last_checkpoint_timestamp_seconds",
        "max",
        "When a database was last told how far it is read, since 1970; 0 if never. Where nothing "
        "changes, nothing is told.",
        "database",
        when=_FOLLOWS,
    ),
    _c("dtfc_gc_passes", "Passes of the collector.", when=_COLLECTS),
    _c("dtfc_gc_held_up", "Passes that could not collect.", when=_COLLECTS),
    _c("dtfc_gc_deleted", "Blobs collected.", when=_COLLECTS),
    _c("dtfc_gc_deleted_bytes", "Bytes of these.", when=_COLLECTS),
    _c("dtfc_gc_restored", "Collected blobs that came back.", when=_COLLECTS),
    _c("dtfc_gc_expired", "Collected blobs that are gone for good.", when=_COLLECTS),
    _g("dtfc_gc_candidates", "sum", "Blobs that no document refers to.", when=_COLLECTS),
    _g("dtfc_gc_candidate_bytes", "sum", "Bytes of these.", when=_COLLECTS),
    _g(
        "dtfc_couchdb_prefetch_waiting",
        "sum",
        "Blobs that documents refer to and that are still to be loaded.",
        when=_PREFETCHES,
    ),
    _g(
        "dtfc_couchdb_prefetch_resting",
        "sum",
        "1 while a full disk is waited for.",
        when=_PREFETCHES,
    ),
    _c("dtfc_couchdb_prefetch_loaded", "Blobs loaded before anybody asked.", when=_PREFETCHES),
    _c("dtfc_couchdb_prefetch_failed", "Times that such a load failed.", when=_PREFETCHES),
    _c(
        "dtfc_couchdb_prefetch_dropped",
        "Blobs not loaded because they were deleted here, or are denied.",
        when=_PREFETCHES,
    ),
    _g(
        "dtfc_couchdb_catalog_waiting",
        "sum",
        "Blobs whose names are to be published.",
        when=_SHARES,
    ),
    _c("dtfc_couchdb_catalog_published", "Blobs whose names were published.", when=_SHARES),
    _c("dtfc_couchdb_catalog_deleted", "Entries deleted with their blobs.", when=_SHARES),
    _c("dtfc_couchdb_catalog_refused", "Entries that the database refused.", when=_SHARES),
    _c("dtfc_couchdb_catalog_failures", "Times that none could be written.", when=_SHARES),
    # -- the process
    _g(
        "dtfc_loop_stall_seconds_max",
        "max",
        "The longest time since the start in which the loop looked at no socket.",
    ),
    _g(
        "dtfc_loop_own_stall_seconds_max",
        "max",
        "The same, less what the loop waited for a processor that others had (Linux).",
    ),
    _c("dtfc_loop_stall_seconds", "All stalls of the loop together."),
    _g("dtfc_worker_up", "same", "1 if this worker serves.", "worker", when=_WORKERS),
    _c("dtfc_worker_starts", "Workers started in this place.", "worker", when=_WORKERS),
    _c("dtfc_worker_requests", "Answers of this worker.", "worker", when=_WORKERS),
    _g("dtfc_worker_connections", "same", "Its connections now.", "worker", when=_WORKERS),
    _g(
        "dtfc_worker_loop_stall_seconds_max",
        "same",
        "The longest stall of its loop.",
        "worker",
        when=_WORKERS,
    ),
    _c("process_cpu_seconds", "User and system CPU time.", when=_LINUX),
    _g("process_virtual_memory_bytes", "sum", "Virtual memory.", when=_LINUX),
    _g("process_resident_memory_bytes", "sum", "Resident memory.", when=_LINUX),
    _g("process_open_fds", "sum", "Open files.", when=_LINUX),
    _g("process_max_fds", "min", "Open files that the system allows a process.", when=_LINUX),
    _g(
        "process_start_time_seconds",
        "min",
        "When the process started, since 1970; with --workers the oldest that serves.",
        when=_LINUX,
    ),
)
"""In the order in which the documentation has them."""

METRICS = {each.name: each for each in TABLE}


def reference() -> str:
    """Return the table as Markdown, for ``docs/metrics.md``."""
    lines = ["| name | kind | what |", "|---|---|---|"]
    for each in TABLE:
        labels = f"{{{','.join(each.labels)}}}" if each.labels else ""
        when = f" Only {each.when}." if each.when else ""
        lines.append(f"| `{each.exposed}{labels}` | {each.kind} | {each.text}{when} |")
    return "\n".join(lines) + "\n"

"""What each room is told, out of the settings.

Nothing here knows another setting than by reading it, or does more: a room gets
its own terms, and never sees the settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtfc.access.decisions import Policy
from dtfc.access.sessions import USUAL, Grants
from dtfc.access.signatures import PeerTerms, Secrets, authority_of
from dtfc.access.verbs import Verb
from dtfc.couchdb.collecting import CollectorTerms
from dtfc.couchdb.sessions import SessionTerms
from dtfc.http.heads import Limits
from dtfc.integrity.scrubber import Pace
from dtfc.media.probe import ProbeTerms
from dtfc.peers.body import PeerLimits
from dtfc.peers.certificates import PeerPolicy, read_authorities, read_own
from dtfc.peers.deletions import DeletionTerms
from dtfc.peers.pull import PullLimits
from dtfc.peers.surroundings import LoadLimits
from dtfc.replicas.copying import CopyTerms
from dtfc.web.blobs import Terms
from dtfc.web.callers import CallerTerms
from dtfc.web.edge import EdgeTerms
from dtfc.web.loading import Trust
from dtfc.web.site import Bounds
from dtfc.web.uploads import UploadTerms

if TYPE_CHECKING:
    from dtfc.settings import Settings


def policy_of_peers(settings: Settings) -> PeerPolicy | None:
    """Return whose certificates are believed of https peers, and which are shown them.

    None: the platform's, and none.

    Raises:
        BadSetting: a file cannot be used.
    """
    authorities = read_authorities(settings.peer_ca)
    own = read_own(settings.peer_cert, settings.peer_key)
    return PeerPolicy(authorities, own) if authorities or own is not None else None


def policy_of(settings: Settings) -> Policy:
    """Return what the settings say about access."""
    open_to_all = frozenset[Verb]() if settings.private else frozenset({Verb.GET, Verb.HEAD})
    return Policy(
        deny_prefix=settings.deny or "",
        anonymous=frozenset(map(Verb, settings.allow_anonymous)) | open_to_all,
        trusted_proxies=settings.trusted_proxies,
        tokens=settings.tokens is not None,
        couchdb=settings.couchdb is not None,
        grants=grants_of(settings),
    )


def peer_terms_of(settings: Settings, shared: Secrets | None, own: frozenset[str]) -> PeerTerms:
    """Return what proves that a peer asks.

    Args:
        settings: in force.
        shared: the secrets that their file holds.
        own: this node's URLs.
    """
    authorities = frozenset(map(authority_of, own))
    return PeerTerms(secrets=shared, skew=settings.peer_clock_skew, own=authorities)


def limits_of(settings: Settings) -> Limits:
    """Return the limits of a request's head."""
    return Limits(
        head_bytes=settings.max_head,
        line_bytes=settings.max_request_line,
        fields=settings.max_fields,
    )


def bounds_of(settings: Settings) -> Bounds:
    """Return what a client may take and hold."""
    return Bounds(
        header=settings.header_timeout,
        idle=settings.idle_timeout,
        body_rate=settings.body_rate,
        body_grace=settings.body_grace,
        write_stall=settings.write_stall,
        send_rate=settings.send_rate,
        last_call=settings.drain_idle,
        linger=settings.linger_timeout,
        connections=settings.max_connections,
        per_address=settings.max_connections_per_address,
    )


def collector_terms_of(settings: Settings) -> CollectorTerms:
    """Return when a blob that nothing refers to is collected."""
    return CollectorTerms(
        grace=settings.purge_untracked,
        dry_run=settings.purge_dry_run,
        undelete=settings.undelete,
        period=settings.purge_period,
        verify=settings.purge_verify,
    )


def probe_terms_of(settings: Settings) -> ProbeTerms:
    """Return how much ffprobe may take."""
    return ProbeTerms(
        program=settings.ffprobe or "",
        at_once=settings.ffprobe_processes,
        queue=settings.ffprobe_queue,
        seconds=settings.ffprobe_timeout,
        memory=settings.ffprobe_memory,
    )


def session_terms_of(settings: Settings) -> SessionTerms:
    """Return how CouchDB is asked who somebody is."""
    return SessionTerms(
        cache=settings.couchdb_cache,
        failures=settings.couchdb_failures,
        largest_document=settings.couchdb_max_document,
    )


def grants_of(settings: Settings) -> Grants:
    """Return what CouchDB's users may do; HEAD comes with GET."""
    by_role: dict[str, frozenset[Verb]] = {}
    for role, words in settings.couchdb_grant:
        verbs = {Verb(word) for word in words}
        more = {Verb.HEAD} if Verb.GET in verbs else set()
        by_role[role] = by_role.get(role, frozenset()) | verbs | more
    return Grants(by_role or USUAL.by_role, settings.couchdb_read == "document")


def edge_terms_of(settings: Settings) -> EdgeTerms:
    """Return under which names, over what, and for which pages this node answers."""
    return EdgeTerms(
        hosts=frozenset(settings.host),
        https=settings.require_https or "",
        origins=frozenset(settings.cors_origin),
        trusted_proxies=settings.trusted_proxies,
    )


def caller_terms_of(settings: Settings) -> CallerTerms:
    """Return how much one caller may take."""
    return CallerTerms(
        requests_per_address=settings.requests_per_address,
        requests_per_token=settings.requests_per_token,
        burst=settings.request_burst,
        rate_per_address=settings.rate_per_address,
        rate_per_token=settings.rate_per_token,
        uploads=settings.uploads_per_principal,
    )


def terms_of(settings: Settings) -> Terms:
    """Return on which terms blobs are taken and given."""
    return Terms(
        max_body=settings.max_body,
        max_age=int(settings.max_age),
        max_ranges=settings.max_ranges,
        loading_ranges=Trust(settings.loading_ranges),
    )


def upload_terms_of(settings: Settings) -> UploadTerms:
    """Return on which terms uploads that resume are taken."""
    return UploadTerms(ttl=settings.upload_ttl, most_open=settings.max_open_uploads)


def pace_of(settings: Settings) -> Pace:
    """Return how fast the store is scrubbed."""
    return Pace(rate=settings.scrub_rate, period=settings.scrub_period)


def load_limits_of(settings: Settings) -> LoadLimits:
    """Return how loads are bounded."""
    return LoadLimits(
        finish_load=settings.finish_load,
        remember_absent=settings.absent_ttl,
        most_remembered=settings.absent_max,
        most_loads=settings.max_loads,
        asks_per_peer=settings.peer_requests,
        spread=PullLimits(
            peers=settings.load_requests,
            per_peer=settings.load_requests_per_peer,
            hedge=settings.peer_hedge,
        ),
    )


def copy_terms_of(settings: Settings) -> CopyTerms:
    """Return how many copies are made, and how patiently."""
    return CopyTerms(
        replicas=settings.replicas,
        quorum=settings.write_quorum,
        quorum_timeout=settings.quorum_timeout,
        queue=settings.replica_queue,
        patience=settings.replica_patience,
        retry=settings.replica_retry,
        at_once=settings.replica_copies,
        at_once_to_one=settings.replica_peer_copies,
        zone=settings.zone or "",
    )


def deletion_terms_of(settings: Settings) -> DeletionTerms:
    """Return on which terms deletions are taken and spread."""
    return DeletionTerms(
        accept=settings.accept_deletions == "on",
        per_minute=settings.peer_deletions,
        keep=settings.deletion_ttl,
        period=settings.reconcile_period,
    )


def peer_limits_of(settings: Settings) -> PeerLimits:
    """Return how slow a peer may be."""
    return PeerLimits(
        connect=settings.peer_timeout,
        first_byte=settings.peer_timeout,
        stall=settings.peer_stall,
        lowest_rate=settings.peer_rate,
        networks=settings.peer_networks,
    )

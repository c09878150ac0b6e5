"""One node: the rooms, joined.

Everything that the process around it does to a node goes through
:class:`Node`: start, reload, drain, abort, say how it is.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import random
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService
from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from dtfc.access.signatures import Secrets
from dtfc.access.verbs import Verb
from dtfc.beside import BesideCouchDB
from dtfc.couchdb.prefetching import LargerThanWanted
from dtfc.disk import DiskThreads, NodeDisk
from dtfc.errors import BadSetting, Draining, DtfcError
from dtfc.integrity.reading import Mode
from dtfc.integrity.upkeep import Upkeep
from dtfc.logfile import ReopenableFile
from dtfc.media.probe import Prober
from dtfc.peers.asking import Asking
from dtfc.peers.client import PeerHTTP, open_peer_http
from dtfc.peers.correspondence import Correspondence
from dtfc.peers.deletions import Deletions
from dtfc.peers.discovery import Discovery, Lookup, NameServers
from dtfc.peers.loader import Loader
from dtfc.peers.mirrors import Mirrors, Naming
from dtfc.peers.picker import PeerStatus, Picker
from dtfc.peers.pieces import Pieces
from dtfc.peers.receivers import Receivers
from dtfc.peers.roster import Roster, RosterChange, RosterWatch
from dtfc.peers.secretfile import URL_SECRETS, read_secrets
from dtfc.peers.signing import Signer
from dtfc.replicas.courier import Courier
from dtfc.replicas.filterfile import read_filter
from dtfc.replicas.owed import Replicas
from dtfc.replicas.pacing import CopyPacing
from dtfc.steady import SteadyClock
from dtfc.store.blobs import Store, open_store
from dtfc.store.outbox import Outbox
from dtfc.store.small import read_small, write_small
from dtfc.terms import (
    bounds_of,
    caller_terms_of,
    copy_terms_of,
    deletion_terms_of,
    edge_terms_of,
    limits_of,
    load_limits_of,
    pace_of,
    peer_limits_of,
    peer_terms_of,
    policy_of,
    policy_of_peers,
    probe_terms_of,
    terms_of,
    upload_terms_of,
)
from dtfc.web.accesslog import AccessLog
from dtfc.web.assets import read_assets
from dtfc.web.blobs import Blobs
from dtfc.web.colleagues import Alone, Colleagues
from dtfc.web.couchpages import CouchPages
from dtfc.web.deletions import DeletionPages
from dtfc.web.descriptors import Fitting, fitting
from dtfc.web.fastlane import FastLane
from dtfc.web.frontpage import FrontPage
from dtfc.web.gate import Gate
from dtfc.web.hotblobs import HotBlobs
from dtfc.web.mediapages import MediaPages
from dtfc.web.metalink import Links, MetalinkPages
from dtfc.web.metrics import Metrics
from dtfc.web.overview import Overview, Sources
from dtfc.web.receivers import Bound
from dtfc.web.routes import Routes
from dtfc.web.samples import EVERY, Samples, totals_of
from dtfc.web.sharedreplays import SharedReplays
from dtfc.web.site import Site
from dtfc.web.smallputs import Writer
from dtfc.web.stalls import Queued, StallDetector, keep_collections_short
from dtfc.web.status import Status
from dtfc.web.tokenfile import read_tokens
from dtfc.web.torrents import TorrentPages
from dtfc.web.transmit import FileServer, LocalServer
from dtfc.web.troubles import Troubles
from dtfc.web.uploading import Uploading
from dtfc.web.uploads import UploadPages
from dtfc.web.wakeups import Wakeups, wakeups_of

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort

    from dtfc.digest import Digest
    from dtfc.settings import Settings
    from dtfc.web.families import Family

#: Seconds between two looks for partials that have expired.
EXPIRY_PERIOD = 3600

#: Seconds that a node which stops waits for steps of the disk that follow others.
SETTLING = 10.0


class Node(MultiService):
    """A store, its peers, and the site that serves them.

    The store is opened when the service starts: by then the process has its
    final identity, and what it makes belongs to it.

    Args:
        settings: in force from the start; :meth:`reload` replaces them.
        reactor: the loop and the clock.
        access_log: takes whole lines, without their line ends.
        colleagues: the other processes that serve the same store; None if
            there are none.
        chores: whether this process does what only one of them should: expire
            partials, make the catalog anew.
        disk: where blocking work runs; threads of its own if None. The node
            starts and stops it.
        ticks: seconds that no change of the time of day moves.
        owns_process: whether the process is this node's: then it watches how long
            the loop stands still, and keeps the collections of garbage short.
        sender: 16 hexadecimal digits that nobody else has, to sign requests
            with; random ones if empty.
        random: returns a number from 0 to 1.
        lookup: asks DNS; the system's name servers if None.
    """

    _log = Logger()

    def __init__(  # noqa: PLR0915 - the rooms, one after the other
        self,
        settings: Settings,
        reactor: Any,
        access_log: Callable[[Sequence[str]], object],
        *,
        colleagues: Colleagues | None = None,
        chores: bool = True,
        disk: NodeDisk | None = None,
        ticks: Callable[[], float] = time.monotonic,
        owns_process: bool = True,
        sender: str = "",
        random: Callable[[], float] = random,
        lookup: Lookup | None = None,
    ) -> None:
        MultiService.__init__(self)
        self._ticks = ticks
        self._colleagues = colleagues or Alone()
        self._chores = chores
        self._owns_process = owns_process
        self.settings = settings
        self._reactor = reactor
        self._disk = disk or DiskThreads(reactor, settings.disk_threads)
        self._gate = Gate(policy_of(settings), now=reactor.seconds)
        # Read here to refuse early, and again by the user that serves.
        shared = read_secrets(settings.peer_secret_file)
        self._gate.tokens = read_tokens(settings.tokens)
        self._gate.url_secrets = read_secrets(settings.url_secret_file, URL_SECRETS)
        self._gate.certificates = settings.peer_ca is not None
        policy_of_peers(settings)
        self._signer = Signer(shared, sender or token_hex(8), reactor)
        self._hot = HotBlobs(settings.hot_blobs)
        self._roster = Roster(settings.peerlist, me=settings.me, melist=settings.melist)
        self._picker = Picker(self._roster, random, settings.zone or "")
        self._receivers = Receivers(settings.peer_receivers)
        self._watch = RosterWatch(
            self._roster,
            self._disk,
            reactor,
            seconds=settings.peerlist_poll,
            changed=self._peers_changed,
        )
        self._discovery = Discovery(
            self._roster,
            lookup or NameServers(reactor, self._disk),
            reactor,
            self._peers_changed,
            keep=self._keep_discovered,
        )
        # What is remembered for so many seconds, and how quick somebody is.
        self._steady = SteadyClock(reactor, ticks)
        self._queued = Queued()
        self._stalls = StallDetector(reactor, ticks, self._queued)
        self._expiry = LoopingCall(self._expire)
        self._expiry.clock = reactor
        self._access_log = AccessLog(access_log, settings.log_format, reactor, self._disk)
        # Its resource is put in place when the store is open.
        self.site = Site(
            Resource(),
            reactor,
            limits_of(settings),
            bounds_of(settings),
            access_log=self._access_log.note,
            disk=self._disk,
            ticks=ticks,
        )
        self._limit_callers(settings)
        self._stopping = False
        self._wakeups: Wakeups | None = None
        self._store: Store | None = None
        self._loader: Loader | None = None
        self._upkeep: Upkeep | None = None
        self._deletions: Deletions | None = None
        self._blobs: Blobs | None = None
        self._mirrors: Mirrors | None = None
        self._metalinks: MetalinkPages | None = None
        self._random = random
        self._wants = read_filter(settings.replica_filter)
        self._began = began = reactor.seconds() - ticks()
        # What is owed is dated, and measured: from the time of day at the start on.
        self._owing = SteadyClock(reactor, lambda: began + ticks())
        self._pacing = CopyPacing(self._owing)
        self._replicas: Replicas | None = None
        self._http: PeerHTTP | None = None
        self._writer: Writer | None = None
        self._metrics: Metrics | None = None
        self._reread = {"ok": 0, "failed": 0}
        self._replays: SharedReplays | None = None
        self._uploading: Uploading | None = None
        self._uploads: UploadPages | None = None
        self._beside = BesideCouchDB(
            reactor,
            self._disk,
            self._gate,
            steady=self._steady.seconds,
            ticks=ticks,
            chance=random,
            load=self._load_up_to,
        )
        self._fit: Fitting | None = None
        # In a process of its own each; a line is written in one piece.
        self._audit_file = ReopenableFile(settings.audit_log) if settings.audit_log else None
        self._audit: AccessLog | None = None
        self._prober = Prober(reactor, probe_terms_of(settings), self._steady.seconds)
        self._assets = read_assets()
        self._samples = Samples()
        self._troubles = Troubles()
        self._sampling = LoopingCall(self._sample)
        self._sampling.clock = reactor

    @property
    def store(self) -> Store:
        """The store.

        Raises:
            LookupError: it is not open yet.
        """
        if self._store is None:
            raise LookupError("the store is opened when the node starts")
        return self._store

    def listening(self, port: IListeningPort) -> None:
        """Let the port's connections send files, and be counted."""
        if isinstance(port, unix.Port):
            port.transport = LocalServer
        elif isinstance(port, tcp.Port):
            port.transport = FileServer
            if self._wakeups is None:
                self._wakeups = wakeups_of(self._reactor)
            # FileServer looks for it there, in its own constructor already.
            port.wakeups = self._wakeups  # type: ignore[attr-defined]  # a port of ours
        self.site.add_port(port)

    # -- start and stop -----------------------------------------------------

    def startService(self) -> None:  # noqa: N802 -- Twisted's name
        """Open the store, read the peer list, put the URLs in place.

        Raises:
            BadSetting: this process may not read the peers' secrets.
            BrokenStore, NoSpace, StoreFailure: the store cannot be used.
        """
        settings = self.settings
        if self._owns_process:
            # What the log says is of the process.
            self._troubles.start()
        self._signer.secrets = read_secrets(settings.peer_secret_file)
        self._gate.tokens = read_tokens(settings.tokens)
        self._gate.url_secrets = read_secrets(settings.url_secret_file, URL_SECRETS)
        store = open_store(
            settings.basedir,
            temp=settings.temp,
            fan_out=settings.fan_out,
            reserve=settings.reserve,
        )
        self._store = store
        if store.temp_refused:
            self._log.warn("--temp is not used: {reason}", reason=store.temp_refused)
        self._fit_descriptors(settings)
        self._open_audit_log()
        self._share_replays(self._signer.secrets)
        self._beside.ask_under(settings)
        self._peers_changed(self._roster.reload())
        self._discovery.recall(read_small(store.layout.own("discovered")))
        http = self._http = open_peer_http(
            self._reactor, peer_limits_of(settings), policy_of_peers(settings), signer=self._signer
        )
        self._loader = Loader(
            store,
            self._disk,
            self._roster,
            http,
            self._steady,
            picker=self._picker,
            limits=load_limits_of(settings),
            shared=settings.workers > 1,
        )
        self._upkeep = Upkeep(
            store,
            self._disk,
            Pieces(http, self._picker, self._steady),
            self._load,
            self._reactor,
            mode=Mode(settings.verify),
            pace=pace_of(settings),
            retry_every=settings.quarantine_retry,
            # The others are for those whose blobs need no such thing.
            most_wholes=max(1, settings.disk_threads // 2),
        )
        self._deletions = Deletions(
            store,
            self._disk,
            self._roster,
            Correspondence(http),
            self._reactor,
            ticks=self._ticks,
            chance=self._random,
            token=lambda: token_hex(16),
            terms=deletion_terms_of(settings),
            gone=self._owe_nothing,
        )
        self._writer = Writer(store, self._reactor)
        self._writer.start()
        self._blobs = Blobs(
            store,
            self._disk,
            self._loader,
            self._upkeep,
            self._gate,
            terms=terms_of(settings),
            hot=self._hot,
            small_puts=self._writer,
            revived=self._deletions.revived,
            bound=Bound(
                self._receivers, self._picker.knows, self._gate.may_be_of_peer, self._steady.seconds
            ),
        )
        metalinks, torrents = self._open_mirrors(http, store, self._blobs, self._upkeep)
        self._open_fast_lane()
        self._metrics = Metrics(
            self.site,
            self._loader.counters,
            store,
            self._stalls,
            self._upkeep,
            peers=self._how_peers_are,
            deletions=self._deletions,
            receivers=self._receivers,
            checks=self._gate.checks,
            reread=self._reread,
        )
        self._metrics.of_couchdb = self._beside.metrics
        replicas = self._open_replicas(settings)
        status = Status(
            store,
            self._disk,
            self._roster,
            self._gate,
            draining=lambda: self.site.leaving,
            metrics=self._metrics.text,
            clock=self._reactor,
            colleagues=self._colleagues,
            peers=self._how_peers_are,
            queue=lambda: None if self._replicas is None else self._replicas.length,
            look_up=self._discovery.ask_now,
            changed=self._peers_changed,
            couchdb=self._beside.standing,
        )
        pages = DeletionPages(self._deletions, self._gate)
        media = MediaPages(self._prober, self._blobs, store, self._disk, self._upkeep, self._load)
        uploads = self._open_uploads(settings, store)
        self._beside.open(settings, store)
        status.shared = self._beside.names
        following = self._beside.following
        couch = None if following is None else CouchPages(following, self._gate, store.holds)
        self.site.resource = Routes(
            self._blobs,
            status,
            deletions=pages,
            media=media,
            couch=couch,
            uploads=uploads,
            metalinks=metalinks,
            torrents=torrents,
            page=self._front_page(store),
        ).resource()
        # From here on nothing can fail: the threads would keep the process alive.
        self._disk.start()
        self._watch.startService()
        self._discovery.startService()
        if self._owns_process:
            self._watch_process()
        self._upkeep.start(chores=self._chores)
        if replicas is not None:
            replicas.start(chores=self._chores)
        self._deletions.start(chores=self._chores)
        if self._chores:
            self._start_chores(store)
        MultiService.startService(self)

    def _watch_process(self) -> None:
        """Begin to look after the process, and at what it does."""
        keep_collections_short()
        # Here and not before: a daemon is another process by now.
        self._queued.open()
        self._stalls.start()
        self._sampling.start(EVERY)

    def _start_chores(self, store: Store) -> None:
        """Begin what only one of a node's processes does."""
        self._expiry.start(EXPIRY_PERIOD)
        self._beside.start(store)
        if store.needs_reindex:
            self._log.info("the catalog is made anew from the tree")
            reindexing = self._disk.run(store.reindex, lambda: self._stopping)
            reindexing.addCallbacks(self._reindexed, self._reindex_failed)

    def stopService(self) -> Deferred[Any]:  # noqa: N802 -- Twisted's name
        """Cut what is left, keep what was loaded of partials, close the store."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        await MultiService.stopService(self)
        self.site.abort()
        # What is cut notices it in the next turn, and has a line to write.
        await deferLater(self._reactor, 0)
        steps: list[Callable[[], Any] | None] = [
            self._access_log.flush,
            None if self._audit is None else self._audit.flush,
            self._stalls.stop,
            self._troubles.stop,
            self._sampling.stop if self._sampling.running else None,
            self._queued.close,
            self._expiry.stop if self._expiry.running else None,
            self._watch.stopService,
            None if self._uploading is None else self._uploading.stop,
            None if self._replicas is None else self._replicas.stop,
            self._discovery.stopService,
            None if self._upkeep is None else self._upkeep.stop,
            self._beside.stop_loading,
            None if self._deletions is None else self._deletions.stop,
            None if self._loader is None else self._loader.stop,
            None if self._writer is None else self._writer.stop,
            self._beside.stop,
            self._prober.stop,
            None if self._wakeups is None else self._wakeups.close,
            self._hot.clear,
            self._settled,
            # Its threads would keep the process alive, whatever went wrong before.
            self._disk.stop,
            None if self._replays is None else self._replays.close,
            None if self._audit_file is None else self._audit_file.close,
            None if self._store is None else self._store.close,
        ]
        for step in steps:
            if step is not None:
                await self._end(step)

    async def _settled(self) -> None:
        """Wait for what was given up, and closes its files behind the step that ran."""
        ends = self._ticks() + SETTLING
        while self._disk.busy and self._ticks() < ends:
            await deferLater(self._reactor, 0.001)

    async def _end(self, step: Callable[[], Any]) -> None:
        try:
            ending = step()
            if ending is not None:
                await ending
        except Exception:  # noqa: BLE001 - the others must still have their turn
            self._log.failure("stopping: {step}", step=step)

    # -- while it runs ------------------------------------------------------

    def reload(self, settings: Settings) -> None:
        """Put new settings in force, and read the peer list again."""
        # The steps that can refuse come first.
        shared = read_secrets(settings.peer_secret_file)
        tokens = read_tokens(settings.tokens)
        url_secrets = read_secrets(settings.url_secret_file, URL_SECRETS)
        wants = read_filter(settings.replica_filter)
        https_policy = policy_of_peers(settings)
        self._share_replays(shared)
        if self._http is not None and https_policy is not None:
            self._http.set_policy(https_policy)
        self._roster.set_sources(settings.peerlist, me=settings.me, melist=settings.melist)
        self._signer.secrets = shared
        self._picker.zone = settings.zone or ""
        self._wants = wants
        if self._store is not None:
            self._beside.ask_under(settings)
        self._gate.policy = policy_of(settings)
        self._gate.tokens = tokens
        self._gate.url_secrets = url_secrets
        self._gate.terms = peer_terms_of(settings, shared, self._roster.own)
        self.site.limits = limits_of(settings)
        self.settings = settings
        self._receivers.most = settings.peer_receivers
        if self._blobs is not None:
            self._blobs.terms = terms_of(settings)
        if self._uploads is not None:
            self._uploads.terms = upload_terms_of(settings)
        self._limit_callers(settings)
        self._prober.terms = probe_terms_of(settings)
        self._watch.set_period(settings.peerlist_poll)
        if self._store is not None:
            self._store.set_reserve(settings.reserve)
        self._fit_descriptors(settings)
        self._name_mirrors(settings)
        self._open_fast_lane()
        if self._loader is not None:
            self._loader.set_limits(load_limits_of(settings), peer_limits_of(settings))
        if self._upkeep is not None:
            self._upkeep.checks.mode = Mode(settings.verify)
            self._upkeep.scrubber.pace = pace_of(settings)
            self._upkeep.retry_every = settings.quarantine_retry
        self._reload_replicas(settings)
        if self._deletions is not None:
            self._deletions.set_terms(deletion_terms_of(settings))
        self.read_peers()

    def _open_mirrors(
        self, http: PeerHTTP, store: Store, blobs: Blobs, upkeep: Upkeep
    ) -> tuple[MetalinkPages, TorrentPages]:
        """Make what tells clients who else has a blob."""
        asking = Asking(http, self._picker, self._steady)
        self._mirrors = Mirrors(self._picker, asking, self._steady)
        blobs.links = links = Links(self._mirrors)
        self._hot.still = links.still
        pages = self._metalinks = MetalinkPages(blobs, store, self._disk, upkeep, self._mirrors)
        self._name_mirrors(self.settings)
        return pages, TorrentPages(blobs, store, self._disk, upkeep, pages)

    def _name_mirrors(self, settings: Settings) -> None:
        """Tell clients under these settings who else has a blob."""
        if self._mirrors is not None and self._metalinks is not None:
            self._mirrors.naming = Naming(settings.metalink)
            self._metalinks.zone = settings.zone or ""

    def reloaded(self, *, well: bool) -> None:
        """Count a reload."""
        self._reread["ok" if well else "failed"] += 1

    def _share_replays(self, shared: Secrets | None) -> None:
        """Remember signed requests together with the node's other processes.

        Raises:
            StoreFailure: the file for it cannot be made.
        """
        if shared is not None and self._replays is None and self._store is not None:
            self._gate.replays = self._replays = SharedReplays(self._store.layout.own("senders"))

    def _open_uploads(self, settings: Settings, store: Store) -> UploadPages | None:
        if self._blobs is None:
            return None
        self._uploading = Uploading(store.uploads, self._disk, self._reactor)
        self._uploads = UploadPages(
            self._blobs,
            self._uploading,
            self._disk,
            self._gate,
            terms=upload_terms_of(settings),
            now=time.time,
        )
        return self._uploads

    def _open_replicas(self, settings: Settings) -> Replicas | None:
        """Make what copies to other nodes, if anything is to be copied, or was.

        Raises:
            BrokenStore, StoreFailure: its queue cannot be used.
        """
        store, http, upkeep = self._store, self._http, self._upkeep
        if self._replicas is not None or store is None or http is None or upkeep is None:
            return None
        folder = store.layout.own("replicas")
        if settings.replicas <= 1 and not os.path.exists(folder):
            return None
        if settings.replicas > 1 and not self._roster.own:
            self._log.warn(
                "copies to other nodes: without --me or --melist this node cannot know itself in "
                "the peer list; if it stands there, a copy on itself counts"
            )
        self._pacing.set_rates(settings.replica_rate, settings.replica_peer_rate, settings.workers)
        courier = Courier(
            http,
            store,
            self._disk,
            upkeep.checks,
            upkeep.healing.heal,
            self._reactor,
            pacing=self._pacing,
        )
        self._replicas = Replicas(
            Outbox(folder),
            self._disk,
            self._roster,
            courier,
            self._owing,
            terms=copy_terms_of(settings),
            wants=self._wants,
            random=self._random,
        )
        if self._blobs is not None:
            self._blobs.storing.replicas = self._replicas
        if self._mirrors is not None:
            self._mirrors.copies = self._replicas.known
        if self._metrics is not None:
            self._metrics.replicas = self._replicas
        return self._replicas

    def _reload_replicas(self, settings: Settings) -> None:
        if self._replicas is not None:
            self._pacing.set_rates(
                settings.replica_rate, settings.replica_peer_rate, settings.workers
            )
            self._replicas.set_terms(copy_terms_of(settings), self._wants)
            return
        try:
            replicas = self._open_replicas(settings)
        except DtfcError as error:
            self._log.error("copies to other nodes: {error}", error=str(error))
            return
        if replicas is not None:
            replicas.start(chores=self._chores)

    async def _owe_nothing(self, digest: Digest) -> None:
        """Copy a blob that was deleted to nobody any more."""
        if self._replicas is not None:
            await self._replicas.forget(digest)

    def _open_audit_log(self) -> None:
        """Begin to write down what is changed and refused.

        Raises:
            BadSetting: the file cannot be opened.
        """
        file = self._audit_file
        if file is None:
            return
        try:
            file.open()
        except OSError as error:
            raise BadSetting("audit-log", f"{file.path}: {error.strerror}") from error
        self._audit = AccessLog(file.lines, "audit", self._reactor, self._disk)
        self.site.audit = self._audit.note

    def _fit_descriptors(self, settings: Settings) -> None:
        """Take no more connections than this process has open files for."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            limit = sys.maxsize
        fit = fitting(limit, settings.max_connections, settings.hot_blobs)
        if fit.connections < settings.max_connections and fit != self._fit:
            self._log.warn(
                "of {connections} connections (--max-connections) {fit} fit into the {limit} open "
                "files that the system allows, and no more are taken; see ulimit -n",
                connections=settings.max_connections,
                fit=fit.connections,
                limit=limit,
            )
        self._fit = fit
        self._hot.most = fit.hot_blobs
        self.site.set_bounds(replace(bounds_of(settings), connections=fit.connections))

    def _limit_callers(self, settings: Settings) -> None:
        """Hold callers to what they may take under these settings."""
        self.site.trusted_proxies = settings.trusted_proxies
        callers = self._gate.callers = self.site.callers
        callers.trusted_proxies = settings.trusted_proxies
        callers.is_peer = self._gate.is_signed
        callers.set_terms(caller_terms_of(settings))
        self.site.edge.terms = edge_terms_of(settings)

    def read_peers(self) -> None:
        """Read the peer list again, soon."""
        self._disk.run(self._roster.read).addCallback(self._roster.apply).addCallbacks(
            self._peers_changed,
            lambda failure: self._log.failure("reading the peer list", failure),
        )

    def _open_fast_lane(self) -> None:
        """Begin it anew: what it remembers was made under other settings."""
        self._hot.clear()
        self.site.fast_lane = FastLane(
            self._hot,
            self.site.limits,
            lambda: self._gate.admits_all(Verb.GET),
            self._reactor,
            self.site.edge.takes_host,
        )

    async def ready(self) -> None:
        """Return at once: it serves when it has started."""

    def answers(self) -> bool:
        """Say yes: who can ask has the loop, and the loop is all there is."""
        return True

    def reopen_log(self) -> None:
        """Open the audit log anew; the log is the process's own."""
        if self._audit_file is not None and self._audit is not None:
            self._audit_file.reopen()

    async def leave_ports(self) -> None:
        """Do nothing: the ports are the process's own."""

    def counts(self) -> list[Family]:
        """Return what this process counts for itself."""
        return self._metrics.counts() if self._metrics is not None else []

    def numbers(self) -> tuple[int, int]:
        """Return how many connections and peers there are."""
        return len(self.site.channels), len(self._roster.current())

    def announce_end(self) -> None:
        """Say in /readyz that this node is about to drain."""
        self.site.leaving = True

    def set_succeeded(self, *, yes: bool) -> None:
        """Say whether another process serves in this one's place, and does the chores."""
        self.site.succeeded = yes
        # What is under way here may be wanted there.
        if self._loader is not None:
            self._loader.share()
        if yes and self._chores:
            self._chores = False
            Deferred.fromCoroutine(self._leave_chores()).addErrback(
                lambda failure: self._log.failure("leaving the chores to another", failure)
            )

    async def _leave_chores(self) -> None:
        """Stop what only one of a node's processes does."""
        if self._expiry.running:
            self._expiry.stop()
        if self._upkeep is not None:
            await self._upkeep.scrubber.stop()
        if self._deletions is not None:
            self._deletions.leave_turns()
        await self._beside.stop_following()

    async def drain(self) -> None:
        """Take nothing new and finish what is in flight."""
        await self.site.drain()

    def abort(self) -> None:
        """Cut every connection."""
        self.site.abort()

    def status(self) -> str:
        """Say in one line how the node is."""
        connections, peers = self.numbers()
        return f"{connections} connections, {peers} peers"

    def _front_page(self, store: Store) -> FrontPage:
        """Return the page for people, now that the rooms that it tells of are open."""
        loader, upkeep, deletions = self._loader, self._upkeep, self._deletions
        sources = Sources(
            began=self._reactor.seconds(),
            draining=lambda: self.site.leaving,
            me=lambda: self._roster.me,
            peers=self._how_peers_are,
            queue=lambda: None if self._replicas is None else self._replicas.length,
            couchdb=self._beside.told,
        )
        if loader is not None and upkeep is not None and deletions is not None:
            sources.loads = loader.status
            sources.scrub = lambda: (upkeep.scrubber.told(), upkeep.scrubber.pace.period)
            sources.pending = deletions.pending_by_peer
        overview = Overview(
            self.site,
            store,
            self._disk,
            self._reactor,
            sources,
            samples=self._samples,
            troubles=self._troubles,
            colleagues=self._colleagues,
        )
        return FrontPage(self._assets, overview, self._gate)

    def _sample(self) -> None:
        """Note how much has gone through the node, this process or all of them."""
        heard = self._colleagues.totals()
        if heard is not None:
            self._samples.note(self._began + heard[0], heard[1])
        elif self._metrics is not None and self.settings.workers <= 1:
            self._samples.note(self._owing.seconds(), totals_of(self._metrics.of_site()))

    def _keep_discovered(self, found: bytes) -> None:
        """Keep what DNS says: the next start may be at a time when it says nothing."""
        if self._store is not None:
            self._disk.run(write_small, self._store.layout.own("discovered"), found)

    def _how_peers_are(self) -> Sequence[PeerStatus]:
        return self._picker.snapshot(self._steady.seconds())

    def _load(self, digest: Digest) -> Deferred[object]:
        """Bring a blob from the peers, whoever noticed that it is missing."""

        async def bring() -> object:
            if self._loader is None:
                raise Draining
            with self._loader.ensure(digest) as load:
                return await load.finished()

        return Deferred.fromCoroutine(bring())

    async def _load_up_to(self, digest: Digest, most: int | None) -> object:
        """Bring a blob from the peers that nobody waits for, if it is no larger.

        Raises:
            LargerThanWanted: it is.
        """
        if self._loader is None:
            raise Draining
        with self._loader.ensure(digest) as load:
            if most is not None:
                length = await load.sized()
                if length > most:
                    raise LargerThanWanted(length)
            return await load.finished()

    def _peers_changed(self, change: RosterChange) -> None:
        self._discovery.sync()
        # The file of --melist says who this node is.
        self._gate.terms = peer_terms_of(self.settings, self._signer.secrets, self._roster.own)
        for wrong in (*change.bad, *change.errors):
            self._log.warn("the peer list: {wrong}", wrong=str(wrong))
        if change.added:
            self._beside.peers_came()
        if change.added or change.removed:
            self._log.info(
                "peers in force: {peers}",
                peers=", ".join(peer.url for peer in change.peers) or "none",
            )

    def _expire(self) -> Deferred[None]:
        """Remove what is left of loads and uploads that nobody resumed."""

        def told(counts: tuple[int, int]) -> None:
            partials, uploads = counts
            if partials:
                self._log.info("{count} partials have expired", count=partials)
            if uploads:
                self._log.info("{count} uploads have expired", count=uploads)

        expiring = self._disk.run(self._expire_all)
        return expiring.addCallbacks(
            told, lambda failure: self._log.failure("expiring partials and uploads", failure)
        )

    def _expire_all(self) -> tuple[int, int]:
        if self._store is None:
            return 0, 0
        partials = self._store.expire_partials(self.settings.partial_ttl, self._reactor.seconds())
        return partials, self._store.uploads.expire(time.time() - self.settings.upload_ttl)

    def _reindexed(self, counts: object) -> None:
        self._log.info("the catalog is complete: {counts}", counts=counts)

    def _reindex_failed(self, failure: Failure) -> None:
        if failure.check(Draining):
            self._log.info("the catalog is made anew at the next start")
            return
        self._log.failure("the catalog could not be made anew; 'dtfc reindex' tries again", failure)

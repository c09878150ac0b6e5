"""What a node does beside CouchDB: its rooms, joined.

Rules of this file: no decision is made here. One CouchDB is asked who somebody is,
which the settings may change while the node runs; another connection follows
databases and shares names, for as long as the node lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dtfc.couchdb.asking import Asking
from dtfc.couchdb.catalogqueue import CatalogQueue
from dtfc.couchdb.client import Couch
from dtfc.couchdb.entering import Entries
from dtfc.couchdb.feed import Database
from dtfc.couchdb.follower import Follower
from dtfc.couchdb.following import Following
from dtfc.couchdb.nodeuser import NodeUser, node_user
from dtfc.couchdb.prefetching import Prefetching
from dtfc.couchdb.prefetchlist import PrefetchList
from dtfc.couchdb.prefetchrules import read_rules
from dtfc.couchdb.publishing import Publishing
from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.couchdb.references import References
from dtfc.couchdb.sessions import Sessions
from dtfc.couchdb.sharedcatalog import SharedCatalog
from dtfc.couchdb.sharednames import SharedNames
from dtfc.terms import collector_terms_of, session_terms_of
from dtfc.web.couchmetrics import couch_families
from dtfc.web.overview import CouchStatus

if TYPE_CHECKING:
    from dtfc.digest import Digest
    from dtfc.disk import Disk
    from dtfc.settings import Settings
    from dtfc.store.blobs import Store
    from dtfc.web.families import Family
    from dtfc.web.gate import Gate


class BesideCouchDB:
    """Asks, follows, collects, prefetches and shares names, as far as the settings say.

    Args:
        reactor: the clock, and what connects.
        disk: where files block.
        gate: is told who asks CouchDB.
        steady: seconds for what is remembered for so many of them.
        ticks: seconds that no change of the time of day moves.
        chance: returns a number from 0 to 1.
        load: brings a blob that is no larger than so many bytes (None: than any).

    Attributes:
        following: the followed databases; None if there are none.
        names: of all sites' blobs; None if they are not shared.
        shared: the catalog that has them; None likewise.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        disk: Disk,
        gate: Gate,
        *,
        steady: Callable[[], float],
        ticks: Callable[[], float],
        chance: Callable[[], float],
        load: Callable[[Digest, int | None], Awaitable[object]],
    ) -> None:
        self._reactor = reactor
        self._disk = disk
        self._gate = gate
        self._steady = steady
        self._ticks = ticks
        self._chance = chance
        self._load = load
        self._couch: Couch | None = None
        self.following: Following | None = None
        self.shared: SharedCatalog | None = None
        self.names: SharedNames | None = None

    # -- who somebody is ------------------------------------------------------

    def metrics(self) -> Iterator[Family]:
        """Yield what is counted of all this."""
        sessions = self._gate.sessions
        asked = None if sessions is None else sessions.counts
        return couch_families(asked, self.following, self.shared)

    def ask_under(self, settings: Settings) -> None:
        """Ask the CouchDB of these settings who somebody is, if they name one."""
        terms = session_terms_of(settings)
        old = self._couch
        if old is not None and old.url == settings.couchdb and self._gate.sessions is not None:
            self._gate.sessions.set_terms(terms)
            if self._gate.entries is not None:
                self._gate.entries.largest = terms.largest_document
            return
        self._couch = self._gate.sessions = self._gate.entries = None
        if old is not None:
            Deferred.fromCoroutine(old.close()).addErrback(
                lambda failure: self._log.failure("leaving a CouchDB", failure)
            )
        if settings.couchdb is not None:
            self._couch = couch = self._new_couch(settings.couchdb, settings)
            sessions = self._gate.sessions = Sessions(couch, terms, self._steady)
            self._gate.entries = Entries(
                couch, self._reactor, self._chance, terms.largest_document, sessions.counts
            )

    def _new_couch(self, url: str, settings: Settings) -> Couch:
        return Couch(self._reactor, url, settings.couchdb_timeout)

    # -- what its documents say -------------------------------------------------

    def open(self, settings: Settings, store: Store) -> None:
        """Make what follows databases and shares names, if that is wanted.

        Raises:
            BadSetting: the node's own user, or the file of selectors, cannot be read.
            BrokenStore, StoreFailure: its files cannot be used.
        """
        if settings.couchdb is None:
            return
        user = node_user(settings.couchdb_user_file, settings.couchdb_user_auth, self._ticks)
        if settings.couchdb_db:
            couch = self._new_couch(settings.couchdb, settings)
            self.following = self._follow(settings, store, couch, user)
        if settings.couchdb_catalog is not None:
            couch = self._new_couch(settings.couchdb, settings)
            self._share(settings.couchdb_catalog, store, couch, user)

    def _follow(self, settings: Settings, store: Store, couch: Couch, user: NodeUser) -> Following:
        rules = read_rules(settings.couchdb_prefetch, settings.couchdb_db)
        file = ReferenceFile(store.layout.own("references.sqlite"))
        prefetching = Prefetching(
            PrefetchList(file, settings.couchdb_prefetch_max_size),
            self._disk,
            self._reactor,
            holds=store.holds,
            load=self._load,
            jobs=settings.couchdb_prefetch_jobs,
            ticks=self._ticks,
            chance=self._chance,
        )
        return Following(
            couch,
            user,
            settings.couchdb_db,
            file,
            self._disk,
            stock=store.collected,
            terms=collector_terms_of(settings),
            node_id=store.node_id,
            reactor=self._reactor,
            ticks=self._ticks,
            chance=self._chance,
            rules=rules,
            prefetching=None if settings.couchdb_prefetch == "none" else prefetching,
        )

    def _share(self, name: str, store: Store, couch: Couch, user: NodeUser) -> None:
        references = References(ReferenceFile(store.layout.own("names.sqlite")))
        self.names = SharedNames(references, name)
        follower = Follower(
            Database(couch, user, name, store.node_id, self._reactor),
            references,
            self._disk,
            self._reactor,
            ticks=self._ticks,
            chance=self._chance,
        )
        publishing = Publishing(
            Asking(couch, user, name),
            CatalogQueue(store.catalog),
            self.names,
            disk=self._disk,
            clock=self._reactor,
            ticks=self._ticks,
            chance=self._chance,
        )
        self.shared = SharedCatalog(couch, follower, publishing, references, self._disk)

    def start(self, store: Store) -> None:
        """Begin what only one of a node's processes does."""
        if self.following is not None:
            self.following.start()
        if self.shared is not None:
            self.shared.start()
        else:
            self._disk.run(CatalogQueue(store.catalog).end).addErrback(
                lambda failure: self._log.failure("publishing names no longer", failure)
            )

    async def told(self) -> CouchStatus | None:
        """Say how all this is, whichever process of the node does it; None if nothing is done.

        Raises:
            StoreFailure: what is known of the databases cannot be read.
        """
        following, shared = self.following, self.shared
        if following is None and shared is None:
            return None
        databases = [] if following is None else await following.told()
        prefetching = None if following is None else following.prefetching
        return CouchStatus(
            databases if shared is None else [*databases, *shared.here()],
            None if prefetching is None else prefetching.waiting,
            None if shared is None else shared.publishing.waiting,
        )

    def peers_came(self) -> None:
        """There are peers that were never asked for what is missing: ask them."""
        if self.following is not None:
            self.following.peers_came()

    async def stop_loading(self) -> None:
        """Load nothing more that nobody waits for; to be called before loads are ended."""
        if self.following is not None:
            await self.following.stop_prefetching()

    async def stop_following(self) -> None:
        """Leave databases to another process; say who somebody is, as before."""
        following, self.following = self.following, None
        shared, self.shared = self.shared, None
        if following is not None:
            await following.stop_prefetching()
            await following.stop()
        if shared is not None:
            await shared.stop()

    async def stop(self) -> None:
        """End all of it."""
        await self.stop_following()
        if self._couch is not None:
            await self._couch.close()

"""All databases that a node follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.couchdb.client import Couch
from dtfc.couchdb.collecting import CollectorTerms
from dtfc.couchdb.collector import Collector, Stock
from dtfc.couchdb.feed import Database, Pick
from dtfc.couchdb.follower import Follower, FollowerStatus
from dtfc.couchdb.marks import Marks
from dtfc.couchdb.nodeuser import NodeUser
from dtfc.couchdb.prefetching import Prefetching
from dtfc.couchdb.prefetchlist import PrefetchList
from dtfc.couchdb.prefetchrules import Rules
from dtfc.couchdb.referencefile import ReferenceFile
from dtfc.couchdb.references import References, Wanted
from dtfc.digest import Digest
from dtfc.disk import Disk

#: Blobs that one answer names as missing.
MOST_MISSING = 1000


@dataclass(frozen=True, slots=True)
class Missing:
    """Blobs that a database's documents refer to, and that are not here.

    Args:
        status: of the database.
        wanted: the first of them, :data:`MOST_MISSING` at most.
        more: whether there are others.
    """

    status: FollowerStatus
    wanted: tuple[Wanted, ...]
    more: bool


class Following:
    """Follows databases.

    Args:
        couch: where they are.
        user: the node's own.
        names: of the databases.
        file: where is kept what they refer to; closed with this.
        disk: where files block.
        stock: the blobs that may be collected.
        terms: of the collector.
        node_id: of this node.
        reactor: the clock.
        ticks: seconds that no change of the time of day moves.
        chance: returns a number from 0 to 1.
        rules: which documents have their blobs loaded.
        prefetching: loads them; ended before this. None if none have.
    """

    _log = Logger()

    def __init__(
        self,
        couch: Couch,
        user: NodeUser,
        names: Sequence[str],
        file: ReferenceFile,
        disk: Disk,
        *,
        stock: Stock,
        terms: CollectorTerms,
        node_id: str,
        reactor: Any,
        ticks: Callable[[], float],
        chance: Callable[[], float],
        rules: Rules | None = None,
        prefetching: Prefetching | None = None,
    ) -> None:
        self._couch = couch
        self._rules = rules or Rules({})
        self.prefetching = prefetching
        self._started = self._stopped = False
        self._preparing: Deferred[None] | None = None
        self._file = file
        self._references = references = References(file)
        self._disk = disk
        self._followers = {
            name: Follower(
                Database(couch, user, name, node_id, reactor, pick=self._pick_of(name)),
                references,
                disk,
                reactor,
                ticks=ticks,
                chance=chance,
                applied=self._applied,
            )
            for name in names
        }
        self.collector = Collector(
            stock,
            Marks(file),
            disk,
            reactor,
            followers=self._statuses,
            confirm=self._confirm,
            terms=terms,
            ticks=ticks,
        )

    def start(self) -> None:
        """Begin to follow all of them, and forget those that nobody names any more."""
        self._started = True
        if self._file.was_spoiled:
            self._log.warn("the file of references cannot be used: all databases are read anew")
        preparing = self._disk.run(self._prepare).addErrback(self._unprepared)
        self._preparing = preparing.addCallback(self._begin)

    def _unprepared(self, failure: Failure) -> tuple[list[str], list[str]]:
        # The followers go on as before, and say what is wrong; the next start tries again.
        self._log.failure("preparing to follow", failure)
        return [], []

    def _prepare(self) -> tuple[list[str], list[str]]:
        """Bring what is known in line with the settings.

        Returns:
            The databases that are followed no longer, and those to be read anew.
        """
        gone = [name for name in self._references.databases() if name not in self._followers]
        for name in gone:
            self._references.forget_database(name)
        rules = {name: self._rules.of(name).text for name in self._followers}
        return gone, PrefetchList(self._file).begin(rules)

    def _begin(self, prepared: tuple[list[str], list[str]]) -> None:
        gone, anew = prepared
        for name in gone:
            self._log.info("the database {name} is followed no longer", name=name)
        for name in anew:
            self._log.info("what is prefetched of {name} is decided anew: it is read", name=name)
        if self._stopped:
            return
        for follower in self._followers.values():
            follower.start()
        if self.prefetching is not None:
            self.prefetching.start()
        self.collector.start()

    def peers_came(self) -> None:
        """There are peers that were never asked for what is missing: ask them."""
        if self.prefetching is not None:
            self.prefetching.try_again()

    async def stop_prefetching(self) -> None:
        """Load nothing more; to be called before loads are ended."""
        self._stopped = True
        if self.prefetching is not None:
            await self.prefetching.stop()

    async def stop(self) -> None:
        """Follow none any more."""
        self._stopped = True
        if self._preparing is not None:
            await self._preparing
        await self.collector.stop()
        for follower in self._followers.values():
            await follower.stop()
        await self._couch.close()
        self._file.close()

    def _statuses(self) -> list[FollowerStatus]:
        return [self._status(name) for name in self._followers]

    def _applied(self) -> None:
        if self.prefetching is not None:
            self.prefetching.wake()
        self.collector.wake()

    def _confirm(self, anew: bool) -> Deferred[bool]:  # noqa: FBT001 -- of one argument
        asked = [follower.confirm(anew=anew) for follower in self._followers.values()]

        async def all_of_them() -> bool:
            # One after another: who gives up waiting must find a CancelledError, no other.
            return all([await each for each in asked])

        return Deferred.fromCoroutine(all_of_them())

    def _pick_of(self, name: str) -> Pick | None:
        """Return what tells which documents of a database have their blobs loaded."""
        rule = self._rules.of(name)
        if rule.selector is None:
            return None

        async def pick(documents: Sequence[Mapping[str, Any]]) -> Sequence[bool | None]:
            # In a thread, however long it takes.
            found = await self._disk.run(rule.pick, documents)
            if None in found:
                self._log.warn(
                    "{count} documents of {name} take too long to compare with the selector of "
                    "--couchdb-prefetch: they count as others",
                    count=found.count(None),
                    name=name,
                )
            return found

        return pick

    def here(self) -> list[FollowerStatus]:
        """Return how those are that this process follows."""
        return [each for each in self._statuses() if each.state != "elsewhere"]

    async def told(self) -> list[FollowerStatus]:
        """Return how all are, whichever process follows them.

        Raises:
            StoreFailure: the references cannot be read.
        """
        return await self._disk.run(lambda: [self._told(name) for name in self._followers])

    def _status(self, name: str) -> FollowerStatus:
        status = self._followers[name].status
        # While it is being prepared, none has begun.
        begins = self._started and status.state == "elsewhere"
        return replace(status, state="starting") if begins else status

    def _told(self, name: str) -> FollowerStatus:
        status = self._status(name)
        return replace(status, complete=self._references.state(name).complete)

    async def missing(self, name: str, holds: Callable[[Digest], bool]) -> Missing:
        """Return what documents refer to that is not here.

        Args:
            name: of the database.
            holds: tells whether a blob is here (blocks).

        Raises:
            LookupError: it is not followed.
            StoreFailure: the references cannot be read.
        """
        if name not in self._followers:
            raise LookupError(name)

        def look() -> Missing:
            found: list[Wanted] = []
            for wanted in self._references.all_of(name):
                if not holds(wanted.digest):
                    found.append(wanted)
                if len(found) > MOST_MISSING:
                    break
            some = tuple(found[:MOST_MISSING])
            return Missing(self._told(name), some, len(found) > MOST_MISSING)

        return await self._disk.run(look)

"""All databases that a node follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from dtfc.couchdb.client import Couch
from dtfc.couchdb.collecting import CollectorTerms
from dtfc.couchdb.collector import Collector, Stock
from dtfc.couchdb.feed import Database
from dtfc.couchdb.follower import Follower, FollowerStatus
from dtfc.couchdb.marks import Marks
from dtfc.couchdb.nodeuser import NodeUser
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
    ) -> None:
        self._couch = couch
        self._file = file
        self._references = references = References(file)
        self._disk = disk
        self._followers = {
            name: Follower(
                Database(couch, user, name, node_id, reactor),
                references,
                disk,
                reactor,
                ticks=ticks,
                chance=chance,
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
        if self._file.was_spoiled:
            self._log.warn("the file of references cannot be used: all databases are read anew")
        for name in self._references.databases():
            if name not in self._followers:
                self._references.forget_database(name)
                self._log.info("the database {name} is followed no longer", name=name)
        for follower in self._followers.values():
            follower.start()
        self.collector.start()

    async def stop(self) -> None:
        """Follow none any more."""
        await self.collector.stop()
        for follower in self._followers.values():
            await follower.stop()
        await self._couch.close()
        self._file.close()

    def _statuses(self) -> list[FollowerStatus]:
        return [follower.status for follower in self._followers.values()]

    def _confirm(self, anew: bool) -> Deferred[bool]:  # noqa: FBT001 -- of one argument
        asked = [follower.confirm(anew=anew) for follower in self._followers.values()]
        return gatherResults(asked).addCallback(all)

    def here(self) -> list[FollowerStatus]:
        """Return how those are that this process follows."""
        return [each for each in self._statuses() if each.state != "elsewhere"]

    async def told(self) -> list[FollowerStatus]:
        """Return how all are, whichever process follows them.

        Raises:
            StoreFailure: the references cannot be read.
        """
        return await self._disk.run(lambda: [self._told(name) for name in self._followers])

    def _told(self, name: str) -> FollowerStatus:
        status = self._followers[name].status
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

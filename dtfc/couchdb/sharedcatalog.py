"""A catalog that the nodes of all sites share: ``--couchdb-catalog``.

It is a database of CouchDB, which CouchDB itself replicates. The node follows it
as any other, into a file of its own, since what it refers to keeps no blob alive;
and publishes in it the names that its blobs have.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dtfc.couchdb.client import Couch
from dtfc.couchdb.follower import Follower, FollowerStatus
from dtfc.couchdb.publishing import Publishing
from dtfc.couchdb.references import References
from dtfc.disk import Disk


class SharedCatalog:
    """Follows the database and publishes in it.

    Args:
        couch: where the database is; closed with this.
        follower: reads it.
        publishing: writes to it.
        references: what was read; closed with this.
        disk: where that blocks.
    """

    _log = Logger()

    def __init__(
        self,
        couch: Couch,
        follower: Follower,
        publishing: Publishing,
        references: References,
        disk: Disk,
    ) -> None:
        self._disk = disk
        self._stopped = False
        self._preparing: Deferred[None] | None = None
        self._couch = couch
        self._follower = follower
        self.publishing = publishing
        self._references = references

    def start(self) -> None:
        """Begin to follow and to publish."""
        preparing = self._disk.run(self._forget_others)
        preparing.addErrback(
            lambda failure: self._log.failure("forgetting another catalog", failure)
        )
        self._preparing = preparing.addCallback(self._begin)

    def _forget_others(self) -> None:
        for name in self._references.databases():
            if name != self._follower.status.database:
                self._references.forget_database(name)

    def _begin(self, _result: object) -> None:
        if not self._stopped:
            self._follower.start()
            self.publishing.start()

    async def stop(self) -> None:
        """End both."""
        self._stopped = True
        if self._preparing is not None:
            await self._preparing
        await self.publishing.stop()
        await self._follower.stop()
        await self._couch.close()
        self._references.file.close()

    def here(self) -> list[FollowerStatus]:
        """Return how the database is, if this process follows it."""
        status = self._follower.status
        return [] if status.state == "elsewhere" else [status]

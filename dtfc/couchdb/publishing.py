"""Writes the names that blobs have here into the shared catalog.

Rules of this file: what is there already is read before it is written, and stays.
Nothing leaves the queue before the database has it. Of a conflict between sites
the losers' names are written to the winner, and the losers deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.background import Background
from dtfc.couchdb.asking import Asking
from dtfc.couchdb.catalogqueue import CatalogQueue, Changed
from dtfc.couchdb.documents import parse_json
from dtfc.couchdb.entries import deletions, without_conflicts, written
from dtfc.couchdb.sharednames import SharedNames
from dtfc.disk import Disk
from dtfc.errors import CouchUnreached, StoreFailure, TooLarge

#: Blobs whose names are published with one request.
BATCH = 100

#: Seconds between two looks at the queue.
PERIOD = 1.0

#: Seconds to wait after the first failure, and after many.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0

#: Seconds after which what the database refuses is tried again.
REFUSED_FOR = 3600.0

#: Bytes of an answer; where more come, less is asked for.
MOST = 16 * 1024 * 1024


class Publishing:
    """Publishes what is on a queue.

    Args:
        asking: the database, as a user who may write to it.
        queue: whose names have changed.
        names: that the database has, as far as it was read.
        disk: where these block.
        clock: waits.
        ticks: seconds that no change of the time of day moves.
        chance: returns a number from 0 to 1.

    Attributes:
        counts: blobs whose names were ``published``, entries ``deleted``, documents
            ``refused``; ``failures``.
        waiting: blobs on the queue, as it was when it was read last.
        trouble: why it does not get on; empty if it does.
    """

    _log = Logger()

    def __init__(
        self,
        asking: Asking,
        queue: CatalogQueue,
        names: SharedNames,
        *,
        disk: Disk,
        clock: Any,
        ticks: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._asking = asking
        self._queue = queue
        self._names = names
        self._disk = disk
        self._clock = clock
        self._ticks = ticks
        self._chance = chance
        self._failures = 0
        self._batch = BATCH
        self._begun = False
        self._background = Background(self._run, self._ended)
        self.counts: Counter[str] = Counter(published=0, deleted=0, refused=0, failures=0)
        self.trouble = ""
        self.waiting = 0

    def start(self) -> None:
        """Begin to publish."""
        self._background.start()

    async def stop(self) -> None:
        """Publish no more; what is on the queue stays there."""
        await self._background.stop()

    def _ended(self, failure: Failure) -> None:
        self._log.failure("publishing names in {name}", failure, name=self._asking.name)
        self.trouble = f"it ended with {type(failure.value).__name__}"

    async def _run(self) -> None:
        while True:
            try:
                wait = await self._publish()
                self._is("")
                self._failures = 0
            except (CouchUnreached, StoreFailure) as error:
                self._is(error.reason if isinstance(error, CouchUnreached) else str(error))
                self.counts["failures"] += 1
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures, 16))
                wait *= 0.5 + self._chance() / 2
                self._failures += 1
            await deferLater(self._clock, wait)

    def _is(self, trouble: str) -> None:
        if trouble and not self.trouble:
            self._log.warn(
                "names are not published in {name}: {why}", name=self._asking.name, why=trouble
            )
        elif self.trouble and not trouble:
            self._log.info("names are published in {name} again", name=self._asking.name)
        self.trouble = trouble

    async def _publish(self) -> float:
        """Publish some; return how long to wait for more."""
        found = await self._disk.run(self._look)
        if not found:
            return PERIOD
        wanted = [each for each, needed in found if needed]
        try:
            outdated, refused = await self._write(wanted) if wanted else (set[str](), set[str]())
        except TooLarge:
            if self._batch > 1:
                self._batch = max(1, self._batch // 4)
                return 0.0
            outdated, refused = set(), {each.digest.hex for each in wanted}
            self._log.warn("the entry {id} is too large", id=", ".join(refused))
        self._batch = min(BATCH, 2 * self._batch)
        done = [each for each, _ in found if each.digest.hex not in outdated | refused]
        later = [each for each, _ in found if each.digest.hex in refused - outdated]
        await self._disk.run(self._settle, done, later)
        # What somebody else wrote meanwhile is read again, but not all the time.
        return FIRST_WAIT if outdated else 0.0

    def _look(self) -> list[tuple[Changed, bool]]:
        """Return what is on the queue, and for each whether there is anything to write."""
        if not self._begun or not self._queue.is_there():
            self._begin()
        anew = self._names.is_anew()
        if anew:
            # A database that was made anew, or purged, may lack what it had.
            self._queue.fill()
            self._names.taken(anew)
        self.waiting = self._queue.count()
        return [
            # Of what is gone, an entry may just have been written that was not read back.
            (each, each.gone or not each.names <= self._names.of(each.digest))
            for each in self._queue.some(self._ticks(), self._batch)
        ]

    def _begin(self) -> None:
        if not self._queue.is_there():
            # In this order: cut off between the two, it begins anew.
            self._names.taken(0)
            self._queue.begin()
        self._queue.try_again()
        self._begun = True

    def _settle(self, done: Sequence[Changed], later: Sequence[Changed]) -> None:
        self._queue.done(done)
        if later:
            self._queue.put_off(later, self._ticks() + REFUSED_FOR)

    # -- the database --------------------------------------------------------

    async def _write(self, wanted: Sequence[Changed]) -> tuple[set[str], set[str]]:
        """Write entries.

        Returns:
            The ids of those that somebody else wrote meanwhile, and of those that the
            database refuses.

        Raises:
            CouchUnreached: it does not answer.
            TooLarge: the entries are, together.
        """
        rows = await self._entries([each.digest.hex for each in wanted])
        documents: list[dict[str, Any]] = []
        for each, old in zip(wanted, rows, strict=True):
            documents += await self._changes(each, old)
        if not documents:
            return set(), set()
        results = await self._ask("/_bulk_docs", {"docs": documents})
        if not isinstance(results, list):
            raise CouchUnreached("its answer to _bulk_docs makes no sense")
        outdated: set[str] = set()
        refused: dict[str, str] = {}
        for each in results:
            if isinstance(each, dict) and "error" in each:
                if each["error"] == "conflict":
                    outdated.add(str(each.get("id")))
                else:
                    refused[str(each.get("id"))] = str(each.get("reason", each["error"]))
        for why in set(refused.values()):
            self._log.warn("{name} refuses names: {why}", name=self._asking.name, why=why)
        came = {each["_id"] for each in documents} - refused.keys() - outdated
        gone = {each.digest.hex for each in wanted if each.gone}
        self.counts["refused"] += len(refused)
        self.counts["deleted"] += len(came & gone)
        self.counts["published"] += len(came - gone)
        return outdated, set(refused)

    async def _changes(
        self, each: Changed, found: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        """Return the documents to write, so that the entry of a blob is as it should be."""
        if found is None:
            new = None if each.gone else written(each.digest, each.length, each.names, None)
            return [] if new is None else [new]
        old, losers = without_conflicts(found)
        if each.gone:
            return deletions(old, [str(old.get("_rev")), *losers])
        names = each.names
        if losers:
            # Only those that were read: what is in the others would be lost.
            leaves = await self._disk.run(self._names.leaves, each.digest)
            losers = [revision for revision in losers if revision in leaves]
            names = names.union(*(leaves[revision] for revision in losers))
        new = written(each.digest, each.length, names, old)
        return [*([] if new is None else [new]), *deletions(old, losers)]

    async def _entries(self, ids: Sequence[str]) -> list[dict[str, Any] | None]:
        found = await self._ask("/_all_docs?include_docs=true&conflicts=true", {"keys": list(ids)})
        rows = found.get("rows") if isinstance(found, dict) else None
        if not isinstance(rows, list) or len(rows) != len(ids):
            raise CouchUnreached("its answer to _all_docs makes no sense")
        return [_document_in(row, name) for row, name in zip(rows, ids, strict=True)]

    async def _ask(self, path: str, content: Any) -> Any:
        answer = await self._asking.ask("POST", path, MOST, content)
        if answer.status in {401, 403}:
            raise CouchUnreached(f"the node's user may not write to it: {answer.status}")
        if answer.status == 404:
            raise CouchUnreached("there is no such database")
        if answer.status not in {200, 201, 202}:
            raise CouchUnreached(f"it answered {answer.status}")
        try:
            return parse_json(answer.body)
        except ValueError as error:
            raise CouchUnreached(f"its answer makes no sense: {error}") from None


def _document_in(row: Any, name: str) -> dict[str, Any] | None:
    """Return the document in a row of ``_all_docs``; None if it is not there, or deleted."""
    if not isinstance(row, dict) or row.get("key", row.get("id")) != name:
        raise CouchUnreached("its answer to _all_docs makes no sense")
    document = row.get("doc")
    return document if isinstance(document, dict) and "_deleted" not in document else None

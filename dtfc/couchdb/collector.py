"""Collects blobs that nothing refers to any more, and brings them back if something does.

A pass marks, verifies and sweeps. It marks every blob of the store that no document
refers to. What has borne its mark for the time of grace is ripe. Before anything goes,
all databases are read from their beginning, and read on once more to where they end.
Right before a blob goes it is looked at again: does nothing refer to it, has nobody
stored it again?

The first pass after a start only reports. What is collected moves aside, and comes
back by itself as soon as a document refers to it.
"""

from __future__ import annotations

import json
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtfc.background import Background
from dtfc.couchdb.collecting import CollectorTerms, Counter, obstacle
from dtfc.couchdb.follower import FollowerStatus
from dtfc.couchdb.marks import Marked, Marks
from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import DtfcError, StaysDeleted, StoreFailure
from dtfc.store.collected import Here, Lying
from dtfc.store.facts import BlobInfo

#: Seconds between two looks at the clock, and at what has to come back.
STEP = 60.0

#: Blobs that are looked at, or collected, in one trip to the disk.
AT_ONCE = 200

#: Blobs that an answer names.
MOST_TOLD = 1000


class Stock(Protocol):
    """The part of a store that the collector works on; all of it blocks."""

    def digests(self, after: Digest | None) -> Sequence[Digest]:
        """Return the next blobs that are here, in order."""

    def look(self, digest: Digest) -> Here | None:
        """Look at a blob; None if it is not here."""

    def collect(self, seen: Here) -> BlobInfo | None:
        """Move a blob aside, unless it was stored again."""

    def restore(self, digest: Digest) -> BlobInfo:
        """Put a blob back."""

    def lying(self) -> Iterable[Lying]:
        """Yield what was moved aside."""

    def drop(self, digest: Digest) -> bool:
        """Remove what was moved aside for good."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What the collector knows.

    Args:
        told: what it said of its last pass; empty before the first.
        blobs: that nothing refers to.
        bytes: of these.
        first: the oldest of them, :data:`MOST_TOLD` at most.
        lying: the collected, as many at most.
    """

    told: dict[str, Any]
    blobs: int
    bytes: int
    first: tuple[Marked, ...]
    lying: tuple[Lying, ...]


class Collector:
    """Collects what nothing refers to.

    Args:
        stock: the blobs.
        marks: what is known of them.
        disk: where that blocks.
        clock: waits.
        followers: how the followed databases are.
        confirm: has all of them read on to their end now, from their beginning if
            told so; whether that was done.
        terms: what the operator says.
        ticks: seconds that no change of the time of day moves.

    Attributes:
        counts: blobs and bytes collected, blobs that came back, that are gone for
            good, passes, passes that were held up.
        known: figures for metrics: candidates, their bytes.
    """

    _log = Logger()

    def __init__(
        self,
        stock: Stock,
        marks: Marks,
        disk: Disk,
        clock: Any,
        *,
        followers: Callable[[], Sequence[FollowerStatus]],
        confirm: Callable[[bool], Deferred[bool]],
        terms: CollectorTerms,
        ticks: Callable[[], float],
    ) -> None:
        self._stock = stock
        self._marks = marks
        self._followers = followers
        self._confirm = confirm
        self._terms = terms
        self._disk = disk
        self._clock = clock
        self._ticks = ticks
        self._counter = Counter(ticks())
        self._next_pass: float | None = None
        self._reported = False
        self._background = Background(
            self._run, lambda failure: self._log.failure("the collector ended", failure)
        )
        self._sleeping: Deferred[None] | None = None
        self._holds_some = True
        self.counts: Counts[str] = Counts()
        self.known: dict[str, int] = {}

    # -- by itself --------------------------------------------------------------

    def start(self) -> None:
        """Begin to collect."""
        self._background.start()

    async def stop(self) -> None:
        """Collect no more; what is on its way to the disk is waited for."""
        await self._background.stop()

    async def _run(self) -> None:
        await self._tried(self._take_over)
        due = self._ticks()
        while True:
            due = max(due, self._ticks()) + min(STEP, self._terms.period)
            while (left := due - self._ticks()) > 0:
                await self._sleep(left)
                await self._tried(self.bring_back)
            await self._tried(self.step)

    async def _sleep(self, seconds: float) -> None:
        self._sleeping = deferLater(self._clock, seconds)
        try:
            await self._sleeping
        except CancelledError:
            if not self._background.runs:
                raise
        finally:
            self._sleeping = None

    def wake(self) -> None:
        """Something was read: perhaps it refers to what was collected."""
        if self._holds_some and self._sleeping is not None:
            self._sleeping.cancel()

    async def _tried(self, act: Callable[[], Any]) -> None:
        try:
            await act()
        except StoreFailure as error:
            self._log.error("nothing is collected for now: {why}", why=str(error))

    async def step(self) -> None:
        """Look at the clock, bring back what is wanted, and make a pass if it is time.

        Raises:
            StoreFailure: the disk refuses.
        """
        await self._count()
        await self._expire()
        if self._terms.grace is None or obstacle(self._followers()):
            return
        if self._next_pass is None or self._ticks() >= self._next_pass:
            await self.run_pass()

    async def _count(self) -> None:
        self._counter, seconds = self._counter.look(self._ticks(), self._followers())
        if seconds:
            await self._disk.run(self._marks.advance, seconds)

    # -- a pass --------------------------------------------------------------------

    async def run_pass(self) -> None:
        """Mark what nothing refers to, and collect what has been so for long enough.

        Raises:
            StoreFailure: the disk refuses.
        """
        grace = self._terms.grace
        if grace is None:
            return
        # Whatever comes: it must not be tried all the time.
        self._next_pass = self._ticks() + self._terms.period
        report_only = self._terms.dry_run or not self._reported
        self.counts["passes"] += 1
        await self._mark()
        await self._disk.run(self._marks.end_pass)
        ripe = await self._disk.run(self._marks.ripe, grace)
        held_up, collected = "", 0
        if ripe.blobs and not report_only:
            held_up = await self._verify(grace)
            if not held_up:
                held_up, collected = await self._sweep(grace)
        self.counts["held_up"] += bool(held_up)
        await self._tell(held_up, collected, report_only=report_only)
        self._reported = True

    async def _mark(self) -> None:
        after: Digest | None = None
        while page := await self._disk.run(self._mark_some, after):
            after = page[-1]

    def _mark_some(self, after: Digest | None) -> Sequence[Digest]:
        page = self._stock.digests(after)
        found = []
        for digest in self._marks.unreferenced(page):
            seen = self._stock.look(digest)
            if seen is not None:
                found.append(seen)
        self._marks.mark(found)
        return page

    async def _verify(self, grace: float) -> str:
        """Have all databases read on, anew if need be; return what is in the way."""
        anew = False
        unverified = await self._disk.run(self._marks.unverified, grace)
        if unverified.blobs:
            anew = await self._disk.run(self._marks.since_verified) >= self._terms.verify
        done = await self._confirm(anew)
        await self._count()
        if not done:
            return obstacle(self._followers()) or "a database could not be read to its end"
        if anew:
            await self._disk.run(self._marks.note_verified)
        return ""

    async def _sweep(self, grace: float) -> tuple[str, int]:
        """Collect; return what came in the way, and how many blobs went."""
        after: Digest | None = None
        collected = 0
        while page := await self._disk.run(self._marks.to_collect, grace, after, AT_ONCE):
            held_up = obstacle(self._followers())
            if held_up:
                return held_up, collected
            self._holds_some = True
            gone = await self._disk.run(self._collect_some, page)
            for info in gone:
                self._log.info(
                    "collected {digest}, {length} bytes, {name}: no document refers to it",
                    digest=info.digest.hex,
                    length=info.length,
                    name=json.dumps(info.name),
                )
            collected += len(gone)
            self.counts["blobs"] += len(gone)
            self.counts["bytes"] += sum(info.length for info in gone)
            # What was referred to while it went, and not before.
            await self.bring_back()
            after = page[-1].digest
        return "", collected

    def _collect_some(self, page: Sequence[Here]) -> list[BlobInfo]:
        gone = []
        for seen in page:
            if not self._marks.still(seen):
                continue
            info = self._stock.collect(seen)
            if info is not None:
                self._marks.note_collected(seen.digest)
                gone.append(info)
        return gone

    async def _tell(self, held_up: str, collected: int, *, report_only: bool) -> None:
        marked = await self._disk.run(self._marks.all_marked)
        ripe = await self._disk.run(self._marks.ripe, self._terms.grace or 0.0)
        self.known = {"candidates": marked.blobs, "candidate_bytes": marked.bytes}
        told = {
            "report_only": report_only,
            "held_up": held_up or None,
            "ripe": ripe.blobs,
            "ripe_bytes": ripe.bytes,
            "collected": collected,
        }
        await self._disk.run(self._marks.tell, json.dumps(told))
        self._log.info(
            "a pass of the collector{mode}: nothing refers to {blobs} blobs of {bytes} bytes, "
            "{ripe} of them for long enough; {collected} were collected{why}",
            mode=" that only reports" if report_only else "",
            blobs=marked.blobs,
            bytes=marked.bytes,
            ripe=ripe.blobs + collected,
            collected=collected,
            why=f"; held up: {held_up}" if held_up else "",
        )

    # -- and back --------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Learn what lies among the collected, also if another process put it there."""

        def look() -> int:
            digests = [each.digest for each in self._stock.lying()]
            self._marks.note_lying(digests)
            return len(digests)

        lying = await self._disk.run(look)
        self._holds_some = lying > 0
        if lying and self._terms.grace is None:
            self._log.info("{n} collected blobs can still come back: dtfc undelete", n=lying)

    async def bring_back(self) -> None:
        """Restore what was collected, and is referred to by now.

        Raises:
            StoreFailure: the disk refuses.
        """
        for digest in await self._disk.run(self._marks.wanted_back):
            try:
                await self._disk.run(self._stock.restore, digest)
                self.counts["restored"] += 1
                self._log.info("{digest} is back: a document refers to it", digest=digest.hex)
            except StaysDeleted:
                self._log.info("{digest} was deleted, and stays so", digest=digest.hex)
            except StoreFailure:
                raise
            except DtfcError as error:
                self._log.warn("{digest} is not back: {why}", digest=digest.hex, why=str(error))
            await self._disk.run(self._marks.forget_collected, digest)

    async def _expire(self) -> None:
        for digest in await self._disk.run(self._marks.over, self._terms.undelete):
            if await self._disk.run(self._stock.drop, digest):
                self.counts["expired"] += 1
                self._log.info("{digest} is gone for good", digest=digest.hex)
            await self._disk.run(self._marks.forget_collected, digest)

    # -- what it knows ------------------------------------------------------------------

    async def garbage(self) -> Garbage:
        """Return what it knows, whichever process collects.

        Raises:
            StoreFailure: it cannot be read.
        """

        def look() -> Garbage:
            marked = self._marks.all_marked()
            lying = []
            for each in self._stock.lying():
                lying.append(each)
                if len(lying) == MOST_TOLD:
                    break
            return Garbage(
                json.loads(self._marks.told()),
                marked.blobs,
                marked.bytes,
                tuple(self._marks.first(MOST_TOLD)),
                tuple(lying),
            )

        return await self._disk.run(look)

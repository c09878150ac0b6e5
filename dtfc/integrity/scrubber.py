"""The scrub while the node runs: at a bounded rate, and out of the way of those who are served.

Rules of this file: one step of the disk at a time, so that a stop waits for one
MiB at most; what is found is mended before it goes on, so that a disk that
fails does not fill the log.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import DtfcError
from dtfc.integrity.healing import Healing
from dtfc.integrity.progress import Ledger, Progress
from dtfc.integrity.scrubbing import BAD, MEANING, Finding, Reader, Scrub
from dtfc.store.blobs import Store

#: Seconds until it is looked again whether a pass is due, or whether the
#: process that scrubs has ended.
LOOK_AGAIN = 60.0

#: Seconds until it is looked again whether a scrub that is off was switched on.
LOOK_WHILE_OFF = 1.0

#: Seconds after which progress is written down.
WRITE_EVERY = 10.0

#: Bytes, or what costs as much, that are read in one trip to the disk.
STEP_COST = 1 << 20

#: What looking at a blob costs beside its bytes, as bytes: it is found, opened and
#: judged by Python, which holds up the loop, where hashing does not.
BLOB_COST = 128 << 10

#: Blobs whose verification is entered into the catalog at once.
NOTED_TOGETHER = 500

#: While others are served it goes on this much more slowly.
PAUSED = 10


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a scrub may be.

    Args:
        rate: bytes a second (``--scrub-rate``); 0 does not scrub.
        period: seconds from the beginning of a pass to that of the next
            (``--scrub-period``).
    """

    rate: int = 20 << 20
    period: float = 30 * 86400.0


class Scrubber:
    """Scrubs a store for as long as the node runs.

    Args:
        store: whose blobs.
        disk: where it reads.
        healing: told of what is damaged.
        clock: measures time.
        pace: may be replaced.
        resident: whether bytes of a file are in the page cache.
        busy: whether others are served so much that it should wait.
        load: brings a blob from the peers.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        disk: Disk,
        healing: Healing,
        clock: IReactorTime,
        pace: Pace,
        *,
        resident: Callable[[int, int, int], bool],
        busy: Callable[[], bool],
        load: Callable[[Digest], Deferred[object]],
    ) -> None:
        self._store = store
        self._disk = disk
        self._healing = healing
        self._clock = clock
        self.pace = pace
        self._resident = resident
        self._busy = busy
        self._load = load
        self._ledger = Ledger(store.layout.own("scrub"))
        self._running: Deferred[None] | None = None
        self._stopping = False
        self.progress = Progress()
        self.bytes = 0
        """Read by this process."""
        self.found = dict.fromkeys(MEANING, 0)
        """What this process has found, by kind."""

    def told(self) -> Progress:
        """Return how far the scrub of the store is, whoever scrubs it (blocks)."""
        return self.progress if self.progress.under_way else self._ledger.read()

    def start(self) -> None:
        """Begin, or go on from where an earlier process was."""
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Stop after the step that is under way."""
        self._stopping = True
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await running
        self._ledger.close()

    async def _run(self) -> None:
        try:
            while not self._stopping:
                try:
                    await self._pass_if_due()
                except (DtfcError, OSError) as error:
                    self._log.error("the scrub stopped for now: {why}", why=str(error))
                except CancelledError:
                    raise
                except Exception:  # noqa: BLE001 - the next pass may get through
                    self._log.failure("the scrub stopped for now")
                await deferLater(self._clock, LOOK_AGAIN if self.pace.rate else LOOK_WHILE_OFF)
        except CancelledError:
            pass

    async def _pass_if_due(self) -> None:
        if not self.pace.rate or not await self._disk.run(self._ledger.take):
            return
        self.progress = await self._disk.run(self._ledger.read)
        now = time.time()
        if not self.progress.due(now, self.pace.period):
            return
        if not self.progress.under_way:
            self.progress = self.progress.new_pass(now)
        before = self.progress
        scrub = Scrub(self._store, Reader(self._resident), after=before.cursor)
        steps = scrub.steps()
        written = self._clock.seconds()
        while True:
            began = self._clock.seconds()
            read_now, cost, more = await self._disk.run(_some, steps)
            self.bytes += read_now
            found = scrub.tally.found
            blobs, read = scrub.done
            self.progress = replace(
                before,
                cursor=scrub.cursor,
                blobs=before.blobs + blobs,
                bytes=before.bytes + read,
                corrupt=before.corrupt + found["corrupt"] + found["missing"],
            )
            await self._treat(scrub)
            if len(scrub.right) >= NOTED_TOGETHER or not more:
                right, scrub.right = scrub.right, []
                await self._disk.run(self._store.catalog.note_verified, right, time.time())
            if not more:
                break
            if began - written >= WRITE_EVERY:
                written = began
                await self._disk.run(self._ledger.write, self.progress)
            await self._wait(cost, began)
        self.progress = self.progress.completed(time.time())
        await self._disk.run(self._ledger.write, self.progress)
        self._log.info(
            "scrubbed {blobs} blobs, {bytes} bytes; damaged: {corrupt}",
            blobs=self.progress.blobs,
            bytes=self.progress.bytes,
            corrupt=self.progress.corrupt,
        )

    async def _wait(self, cost: int, began: float) -> None:
        """Wait until the rate allows the next step, longer while others are served."""
        while not self.pace.rate:
            # Switched off by a reload, and perhaps on again by another one.
            await deferLater(self._clock, LOOK_WHILE_OFF)
        seconds = cost / self.pace.rate
        if self._busy():
            seconds *= PAUSED
        left = seconds - (self._clock.seconds() - began)
        await deferLater(self._clock, max(0.0, left))

    async def _treat(self, scrub: Scrub) -> None:
        findings, scrub.findings = scrub.findings, []
        for finding in findings:
            self.found[finding.kind] += 1
            self._tell(finding)
            if finding.digest is None:
                continue
            if finding.kind == "corrupt":
                await self._healing.mend(finding.digest)
            elif finding.kind == "missing":
                # It is found again by the next pass.
                with contextlib.suppress(DtfcError):
                    await self._load(finding.digest)

    def _tell(self, finding: Finding) -> None:
        level: Any = self._log.error if finding.kind in BAD else self._log.warn
        level("scrub: {where}: {meaning}", where=finding.where, meaning=MEANING[finding.kind])


def _some(steps: Iterator[int]) -> tuple[int, int, bool]:
    """Take some steps; return the bytes read, what it cost, and whether there is more."""
    read = cost = 0
    while cost < STEP_COST:
        try:
            count = next(steps)
        except StopIteration:
            return read, cost, False
        read += count
        cost += count or BLOB_COST
    return read, cost, True

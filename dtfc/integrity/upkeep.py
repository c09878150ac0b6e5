"""What a node does for its bytes all the time, joined: look, scrub, heal, bring back."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import DtfcError
from dtfc.integrity import residency
from dtfc.integrity.damaged import Pieces
from dtfc.integrity.healing import Healing
from dtfc.integrity.reading import Checks, Mode
from dtfc.integrity.scrubber import Pace, Scrubber
from dtfc.store.blobs import Store

#: Seconds between two looks whether what was verified is still in the page cache ...
LOOK_EVERY = 1.0

#: ... which may take this share of a disk thread's time: else it looks less often.
LOOK_SHARE = 0.02

#: A process that takes more of a processor than this is busy: its scrub waits.
BUSY_SHARE = 0.5


class ProcessLoad:
    """How much of a processor this process takes.

    Args:
        used: seconds of processor time so far.
        clock: seconds.
    """

    def __init__(
        self,
        used: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._used = used
        self._clock = clock
        self._at = clock()
        self._then = used()
        self._busy = False

    def is_busy(self) -> bool:
        """Tell whether it was busy in the last second or so."""
        now = self._clock()
        if now - self._at >= 1.0:
            used = self._used()
            self._busy = used - self._then > BUSY_SHARE * (now - self._at)
            self._at, self._then = now, used
        return self._busy


class Upkeep:
    """Verifies, heals and scrubs for one process.

    Args:
        store: whose blobs.
        disk: where blocking work runs.
        pieces: gets right bytes from the peers.
        load: brings a whole blob from the peers.
        clock: measures time.
        mode: what is verified before a byte leaves.
        pace: of the scrub.
        retry_every: seconds after which peers are asked again for what lies in
            quarantine.
        most_wholes: blobs that are read whole at once before they are sent.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        disk: Disk,
        pieces: Pieces,
        load: Callable[[Digest], Deferred[object]],
        clock: IReactorTime,
        *,
        mode: Mode,
        pace: Pace,
        retry_every: float,
        most_wholes: int = 4,
    ) -> None:
        self._disk = disk
        self._load = load
        self.clock = clock
        self.retry_every = retry_every
        there = residency.plain()
        self.checks = Checks(
            store.repair,
            residency.calm(),
            mode,
            there=there,
            surely=residency.best(),
            most_wholes=most_wholes,
        )
        self.healing = Healing(store, disk, pieces, max(1, most_wholes // 2))
        self.scrubber = Scrubber(
            store,
            disk,
            self.healing,
            clock,
            pace,
            resident=there,
            busy=ProcessLoad().is_busy,
            load=load,
        )
        self._running: list[Deferred[None]] = []

    def start(self, *, chores: bool) -> None:
        """Begin.

        Args:
            chores: whether to do what one process of a node should: scrub, and
                empty the quarantine.
        """
        self._running.append(Deferred.fromCoroutine(self._look()))
        if chores:
            self._running.append(Deferred.fromCoroutine(self._retry()))
            self.scrubber.start()

    async def stop(self) -> None:
        """Stop, behind the step that is under way."""
        self.checks.stopping = True
        await self.scrubber.stop()
        for running in self._running:
            running.cancel()
            await running
        await self.healing.stop()

    async def _look(self) -> None:
        """Look again and again whether what was verified is still in the page cache."""
        pause = LOOK_EVERY
        try:
            while True:
                await deferLater(self.clock, pause)
                try:
                    took = await self._disk.run(self._timed_look)
                except CancelledError:
                    raise  # told to stop in the middle of a look
                except Exception:  # noqa: BLE001 - whatever it was, it must be looked again
                    self._log.failure("looking at the page cache")
                    took = 0.0
                pause = max(LOOK_EVERY, took / LOOK_SHARE)
        except CancelledError:
            pass

    def _timed_look(self) -> float:
        began = time.monotonic()
        self.checks.look_again()
        return time.monotonic() - began

    async def _retry(self) -> None:
        try:
            while True:
                # Also at the start: what lies there may have waited for long.
                await deferLater(self.clock, min(self.retry_every, 5.0))
                await self._retry_once()
                await deferLater(self.clock, self.retry_every)
        except CancelledError:
            pass

    async def _retry_once(self) -> None:
        try:
            await self.healing.retry(self._load)
        except DtfcError as error:
            self._log.error("the quarantine could not be looked through: {why}", why=str(error))
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the next time may get through
            self._log.failure("looking through the quarantine")

"""Loads what documents refer to and is not here, before anybody asks.

Rules of this file: few at once, so that clients are not in its way nor it in
theirs. Nothing is given up but what was deleted here, or is denied; what fails
is tried again, less and less often. When the disk is full, all wait.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger

from dtfc.couchdb.prefetchlist import PrefetchList, ToLoad
from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import Absent, Denied, DtfcError, NoSpace, PeersUnreached, StoreFailure

#: Seconds to wait after the first failure of a blob, and after many.
FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0

#: Seconds to wait when the disk is full, or the list cannot be read.
REST = 60.0

#: Blobs that are read from the list at once.
BATCH = 100


class LargerThanWanted(Exception):
    """A peer says that a blob is larger than is loaded unasked.

    Args:
        length: of the blob in bytes.
    """

    def __init__(self, length: int) -> None:
        super().__init__(f"it has {length} bytes")
        self.length = length


class Prefetching:
    """Loads what is on a list.

    Args:
        wanted: the list.
        disk: where reading it blocks.
        clock: waits.
        holds: tells whether a blob is here (blocks).
        load: brings a blob that is no larger than so many bytes (None: than any), and
            raises LargerThanWanted or what a load raises.
        jobs: blobs at once.
        ticks: seconds that no change of the time of day moves.
        chance: returns a number from 0 to 1.

    Attributes:
        waiting: blobs on the list, as it was when it was read last.
        counts: what became of loads: ``loaded``, ``failed``, ``dropped``.
    """

    _log = Logger()

    def __init__(
        self,
        wanted: PrefetchList,
        disk: Disk,
        clock: Any,
        *,
        holds: Callable[[Digest], bool],
        load: Callable[[Digest, int | None], Awaitable[object]],
        jobs: int,
        ticks: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._wanted = wanted
        self._disk = disk
        self._clock = clock
        self._holds = holds
        self._load = load
        self._jobs = jobs
        self._ticks = ticks
        self._chance = chance
        self._read: deque[ToLoad] = deque()
        self._under_way: set[Digest] = set()
        self._one_reads = DeferredLock()
        self._sleeping: set[Deferred[None]] = set()
        self._news = False
        self._rests_until = float("-inf")
        self._running: list[Deferred[None]] = []
        self.waiting = 0
        self.counts: Counter[str] = Counter(loaded=0, failed=0, dropped=0)

    def start(self) -> None:
        """Begin to load."""
        for _ in range(self._jobs):
            running = Deferred.fromCoroutine(self._work())
            self._running.append(running.addErrback(self._ended))

    async def stop(self) -> None:
        """Load no more; what has come of a blob is kept for the next time."""
        running, self._running = self._running, []
        for each in running:
            each.cancel()
        for each in running:
            await each

    def try_again(self) -> None:
        """Try now what failed before: there is somebody else to ask."""
        if self._running:
            self._disk.run(self._wanted.try_again).addCallbacks(
                lambda _result: self.wake(),
                lambda failure: self._log.failure("prefetching again", failure),
            )

    def wake(self) -> None:
        """Look at the list: there is something new on it."""
        self._news = True
        for each in list(self._sleeping):
            self._wake_one(each)

    @property
    def rests(self) -> bool:
        """Whether all wait because the disk is full."""
        return self._ticks() < self._rests_until

    def _ended(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            self._log.failure("prefetching", failure)

    async def _work(self) -> None:
        while True:
            each = await self._next()
            try:
                await self._bring(each)
            except StoreFailure as error:
                # The list cannot be written: it will name the blob again.
                self._log.error("what was prefetched: {error}", error=str(error))
                await self._sleep(REST)
            finally:
                self._under_way.discard(each.digest)

    # -- the list -----------------------------------------------------------

    async def _next(self) -> ToLoad:
        """Wait for a blob that is to be loaded now."""
        await self._one_reads.acquire()
        try:
            while True:
                left = self._rests_until - self._ticks()
                if left > 0:
                    await self._sleep(left)
                elif self._read:
                    each = self._read.popleft()
                    # Before another one may read on.
                    self._under_way.add(each.digest)
                    return each
                else:
                    await self._read_on()
        finally:
            self._one_reads.release()

    async def _read_on(self) -> None:
        """Read from the list, or wait until there is something on it."""
        self._news = False
        try:
            found, due = await self._disk.run(self._look, frozenset(self._under_way))
        except StoreFailure as error:
            self._log.error("what is to be prefetched: {error}", error=str(error))
            await self._sleep(REST)
            return
        self._read.extend(found)
        if not found and not self._news:
            # What is under way is due, too; whoever brings it wakes nobody.
            wait = LONGEST_WAIT if due is None else due - self._ticks()
            await self._sleep(min(LONGEST_WAIT, max(1.0, wait)))

    def _look(self, under_way: frozenset[Digest]) -> tuple[list[ToLoad], float | None]:
        while True:
            due = self._wanted.due(self._ticks(), BATCH + len(under_way))
            here = {each.digest for each in due if self._holds(each.digest)} - under_way
            self._wanted.take_off(here)
            found = [each for each in due if each.digest not in here | under_way]
            if found or not here:
                break
        self.waiting = self._wanted.count()
        return found, None if found else self._wanted.next_due()

    async def _sleep(self, seconds: float) -> None:
        # Fired by the clock, or by whoever wakes it.
        sleeping: Deferred[None] = Deferred(self._sleeping.discard)
        self._sleeping.add(sleeping)
        over = self._clock.callLater(seconds, self._wake_one, sleeping)
        try:
            await sleeping
        finally:
            if over.active():
                over.cancel()

    def _wake_one(self, sleeping: Deferred[None]) -> None:
        self._sleeping.discard(sleeping)
        sleeping.callback(None)

    # -- loads --------------------------------------------------------------

    async def _bring(self, each: ToLoad) -> None:
        try:
            await self._load(each.digest, self._wanted.largest)
        except CancelledError:
            raise
        except LargerThanWanted as larger:
            await self._disk.run(self._wanted.note_length, each.digest, larger.length)
        except NoSpace as error:
            self._rest(error)
        except DtfcError as error:
            if _is_final(error):
                await self._drop(each, str(error))
            else:
                await self._put_off(each, str(error), _retry_after(error))
        except Exception as error:  # noqa: BLE001 -- one blob must not end all the others
            self._log.failure("prefetching {digest}", digest=each.digest.hex)
            await self._put_off(each, str(error))
        else:
            self.counts["loaded"] += 1
            await self._take_off(each)

    async def _take_off(self, each: ToLoad) -> None:
        await self._disk.run(self._wanted.take_off, [each.digest])
        self.waiting = max(0, self.waiting - 1)

    async def _drop(self, each: ToLoad, why: str) -> None:
        self.counts["dropped"] += 1
        self._log.info("not prefetched: {digest}: {why}", digest=each.digest.hex, why=why)
        await self._take_off(each)

    async def _put_off(self, each: ToLoad, why: str, at_least: float = 0.0) -> None:
        self.counts["failed"] += 1
        if each.tries == 0:
            # Once, not every hour.
            self._log.info(
                "to be prefetched later: {digest}: {why}", digest=each.digest.hex, why=why
            )
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(each.tries, 16))
        # Not all that failed together come back together.
        wait = max(at_least, wait * (0.5 + self._chance() / 2))
        due = self._ticks() + wait
        await self._disk.run(self._wanted.put_off, each.digest, each.tries + 1, due)

    def _rest(self, error: NoSpace) -> None:
        if not self.rests:
            self._log.warn(
                "nothing is prefetched for {seconds:g} seconds: {error}",
                seconds=REST,
                error=str(error),
            )
        self._rests_until = self._ticks() + REST


def _is_final(error: DtfcError) -> bool:
    """Tell whether the node is not to have the blob."""
    return isinstance(error, Denied) or (isinstance(error, Absent) and error.deleted)


def _retry_after(error: DtfcError) -> float:
    return error.retry_after if isinstance(error, PeersUnreached) else 0.0

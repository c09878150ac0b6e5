"""Follows one database, for as long as the node runs.

Rules of this file: everything may be said twice, and in any order; what is read
again says the same again. What is not sure is read from the beginning. While
that lasts, and while the database cannot be read, it is not complete.

Two checkpoints are kept, one in the node's own file and one in the database,
``_local/dtfc-<node>``; the older one wins. So a database that was restored from a
backup is read again from where it was, and so is one whose node was. Where the
one in the database is missing, or of another reading, all is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.background import Background
from dtfc.couchdb.asking import DatabaseGone
from dtfc.couchdb.documents import Page
from dtfc.couchdb.feed import Checkpoint, Database
from dtfc.couchdb.references import DatabaseState, References
from dtfc.disk import Disk
from dtfc.errors import CouchUnreached, StoreFailure

#: Changes of a page.
PAGE = 500

#: Seconds after which is asked whether anything was purged, which no feed tells.
LOOK_EVERY = 60.0

#: Seconds between two checkpoints in the database.
KEEP_EVERY = 10.0

#: Seconds to wait after the first failure, and after many.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0

State = Literal["elsewhere", "starting", "scanning", "following", "unreached", "gone"]


@dataclass(frozen=True, slots=True)
class FollowerStatus:
    """How a follower is doing.

    Args:
        database: which it follows.
        state: of it; ``elsewhere`` where another process of the node follows it.
        trouble: why it does not get on; empty if it does.
        complete: whether the database was read from beginning to end.
        heard: seconds since the database answered last; None if it never did.
        counts: changes, documents, entries that make no sense, readings from the
            beginning, failures.
        lag: changes that are still to be read, as far as the database says.
        kept: when the database was last told how far it is read, in seconds since
            1970; 0 if it was not.
    """

    database: str
    state: State
    trouble: str
    complete: bool
    heard: float | None
    counts: dict[str, int]
    lag: int = 0
    kept: float = 0.0


class Follower:
    """Keeps what one database refers to.

    Args:
        database: which.
        references: where it is kept.
        disk: where that blocks.
        clock: waits.
        ticks: seconds that no change of the time of day moves.
        chance: returns a number from 0 to 1.
        applied: is called when something that was read is kept.
    """

    _log = Logger()

    def __init__(
        self,
        database: Database,
        references: References,
        disk: Disk,
        clock: Any,
        *,
        ticks: Callable[[], float],
        chance: Callable[[], float],
        applied: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._applied = applied
        self._references = references
        self._disk = disk
        self._clock = clock
        self._ticks = ticks
        self._chance = chance
        self._counts: Counter[str] = Counter()
        self._state: State = "elsewhere"
        self._trouble = ""
        self._heard: float | None = None
        self._failures = 0
        self._known = DatabaseState()
        self._kept = float("-inf")
        self._looked = float("-inf")
        self._may_keep = True
        self._kept_at = 0.0
        self._lag = 0
        self._background = Background(self._run, self._ended)
        self._waiting: Deferred[bool] | None = None
        self._asked: list[Deferred[bool]] = []
        self._asked_anew = False

    def start(self) -> None:
        """Begin to follow."""
        self._state = "starting"
        self._background.start()

    async def stop(self) -> None:
        """Follow no longer; what was read is kept."""
        await self._background.stop()
        self._answer(done=False)

    def confirm(self, *, anew: bool) -> Deferred[bool]:
        """Read on to the end of the database at once.

        Args:
            anew: from its beginning.

        Returns:
            Whether it was done; not, if the database does not answer.
        """
        done: Deferred[bool] = Deferred(self._asked.remove)
        if not self._background.runs or self._state in {"unreached", "gone"}:
            done.callback(False)
            return done
        self._asked.append(done)
        self._asked_anew = self._asked_anew or anew
        if self._waiting is not None:
            self._waiting.cancel()
        return done

    def _answer(self, *, done: bool, whom: list[Deferred[bool]] | None = None) -> None:
        for each in list(self._asked if whom is None else whom):
            if each in self._asked:
                self._asked.remove(each)
                each.callback(done)

    def _ended(self, failure: Failure) -> None:
        self._log.failure("following {name}", failure, name=self._database.name)
        # What nobody follows must not look followed.
        self._is("unreached", f"following it ended with {type(failure.value).__name__}")
        self._answer(done=False)

    @property
    def status(self) -> FollowerStatus:
        """How it is doing."""
        return FollowerStatus(
            self._database.name,
            self._state,
            self._trouble,
            self._known.complete,
            None if self._heard is None else self._ticks() - self._heard,
            dict(self._counts),
            self._lag,
            self._kept_at,
        )

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except DatabaseGone:
                self._is("gone", "there is no such database")
            except (CouchUnreached, StoreFailure) as error:
                reason = error.reason if isinstance(error, CouchUnreached) else str(error)
                self._is("unreached", reason)
            self._asked_anew = False
            self._answer(done=False)
            self._counts["failures"] += 1
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self._failures, 16))
            self._failures += 1
            # Followers of many nodes do not come back all at once.
            await deferLater(self._clock, wait * (0.5 + self._chance() / 2))

    def _is(self, state: State, trouble: str = "") -> None:
        if (state, trouble) != (self._state, self._trouble):
            say = self._log.warn if trouble else self._log.info
            say(
                "the database {name}: {state}{why}",
                name=self._database.name,
                state=state,
                why=f", {trouble}" if trouble else "",
            )
        self._state, self._trouble = state, trouble

    async def _follow(self) -> None:
        """Read on from the checkpoint, and wait for more; ends with a failure only."""
        await self._begin()
        woken = False
        while True:
            asked = list(self._asked)
            if asked:
                anew, self._asked_anew = self._asked_anew, False
                await self._look_again(anew=anew)
            came = await self._catch_up()
            if not self._known.complete:
                await self._finish()
            self._failures = 0
            self._is("following")
            self._answer(done=True, whom=asked)
            await self._keep()
            if woken and not came:
                # A server that says so all the time must not be asked all the time.
                await deferLater(self._clock, FIRST_WAIT)
            await self._wait()
            woken = True

    async def _wait(self) -> None:
        """Wait until there is something to read."""
        changed = False
        while not changed and self._known.complete and not self._asked:
            self._waiting = Deferred.fromCoroutine(
                self._database.wait(self._known.since, LOOK_EVERY)
            )
            try:
                changed = await self._waiting
            except CancelledError:
                if not self._background.runs or not self._asked:
                    raise
                return
            finally:
                self._waiting = None
            self._heard = self._ticks()
            if self._heard - self._looked >= LOOK_EVERY:
                await self._look_again()

    async def _begin(self) -> None:
        name = self._database.name
        info = await self._database.info()
        there = await self._database.checkpoint()
        self._heard = self._ticks()
        here = self._known = await self._disk.run(self._references.state, name)
        as_it_was = (here.instance, here.purged) == (info.instance, info.purges)
        if here.scan == 0 or not as_it_was or there is None or there.scan != here.scan:
            await self._scan()
            return
        if there.written < here.written:
            await self._disk.run(self._references.rewind, name, there.since, there.written)
            self._known = await self._disk.run(self._references.state, name)

    async def _scan(self) -> None:
        """Read the database from its beginning."""
        name = self._database.name
        info = await self._database.info()
        await self._disk.run(self._references.begin_scan, name, info.purges, info.instance)
        self._known = await self._disk.run(self._references.state, name)
        self._counts["scans"] += 1
        self._is("scanning")
        await self._keep(at_once=True)

    async def _look_again(self, *, anew: bool = False) -> None:
        """Begin anew if the database is another, or something was purged: no feed tells that."""
        info = await self._database.info()
        self._looked = self._ticks()
        known = self._known
        if anew or (info.instance, info.purges) != (known.instance, known.purged):
            await self._scan()

    async def _catch_up(self) -> int:
        """Read on to the end; return how many changes came."""
        came = 0
        coming = self._ask_for(self._known.since)
        try:
            while True:
                page = await coming
                self._heard = self._ticks()
                # CouchDB says how many come behind a page; where nobody does, a full one
                # tells that there are some.
                self._lag = len(page.changes) + (
                    int(len(page.changes) == PAGE) if page.pending is None else page.pending
                )
                if not page.changes and page.since == self._known.since:
                    return came
                if page.changes:
                    # The server makes the next one while this one is entered.
                    coming = self._ask_for(page.since)
                await self._enter(page)
                came += len(page.changes)
                if not page.changes:
                    return came
        finally:
            coming.addErrback(lambda _failure: None)
            coming.cancel()

    def _ask_for(self, since: str) -> Deferred[Page]:
        return Deferred.fromCoroutine(self._database.page(since, PAGE))

    async def _enter(self, page: Page) -> None:
        name = self._database.name
        states, wrong = await self._database.states(page.changes)
        await self._disk.run(self._references.apply, name, states, page.since)
        self._known = await self._disk.run(self._references.state, name)
        self._applied()
        self._counts["changes"] += len(page.changes)
        self._lag = max(0, self._lag - len(page.changes))
        self._counts["documents"] += len(states)
        self._counts["senseless"] += wrong

    async def _finish(self) -> None:
        name = self._database.name
        gone = await self._disk.run(self._references.finish_scan, name)
        self._known = await self._disk.run(self._references.state, name)
        self._log.info(
            "the database {name} is read: {changes} changes; {gone} documents are gone",
            name=name,
            changes=self._counts["changes"],
            gone=gone,
        )

    async def _keep(self, *, at_once: bool = False) -> None:
        """Let the database remember how far it was read."""
        if not at_once and self._ticks() - self._kept < KEEP_EVERY:
            return
        known = self._known
        checkpoint = Checkpoint(known.since, known.written, known.scan)
        kept = await self._database.keep(checkpoint)
        self._kept = self._ticks()
        if kept:
            self._kept_at = self._clock.seconds()
        if self._may_keep and not kept:
            self._log.warn(
                "the node's user may not write _local documents in {name}: it is read from its "
                "beginning at each start",
                name=self._database.name,
            )
        self._may_keep = kept

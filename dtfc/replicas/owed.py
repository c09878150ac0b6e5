"""Copies of new blobs on other peers: owed from the PUT on, until they are there.

Rules of this file: what is owed stands in the queue on the disk before a client
is answered; memory holds what is being copied now, whom a client waits for, and
nothing that grows with the queue. Which peers are to hold a copy says
:mod:`dtfc.replicas.placement`; whether one has it says the peer.

An entry is *worked on* until nothing more can be done for it. Then it is done,
or it waits: for a peer that is down or busy, which is given what waits for it
when it is back; and for a time, when another one takes its place, or when those
that refused are asked again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from random import random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dtfc.digest import Digest
from dtfc.disk import Disk
from dtfc.errors import DtfcError, QueueFull, QuorumMissed
from dtfc.http.traces import Trace, carried, carrying
from dtfc.media_types import content_type
from dtfc.peers.roster import Roster
from dtfc.replicas.copyfilter import CopyFilter, Described
from dtfc.replicas.copying import Copying, CopyTerms, Work
from dtfc.replicas.courier import Deliveries
from dtfc.replicas.ledger import Ledger
from dtfc.replicas.quorum import Quorum
from dtfc.store.blobs import BlobInfo
from dtfc.store.outbox import Add, Again, Drop, Length, Outbox, Wait

#: Seconds between two looks at what time has changed.
TICK = 1.0

#: Seconds between two looks for what dead processes have left.
ADOPT_EVERY = 5.0

#: Digests kept in memory to save a look into the queue.
FRESH = 1000

#: Seconds after which a client that was told of too few copies should ask again.
RETRY_AFTER = 5


class Replicas:
    """Makes the copies that are owed.

    Args:
        outbox: the queue.
        disk: where blocking work runs.
        roster: the peers.
        deliveries: makes a copy.
        clock: measures time.
        terms: replaced as a whole when the configuration is read again.
        wants: of which blobs copies are made; likewise.
        random: returns a number from 0 to 1; spreads what would happen at once.
    """

    _log = Logger()

    def __init__(
        self,
        outbox: Outbox,
        disk: Disk,
        roster: Roster,
        deliveries: Deliveries,
        clock: IReactorTime,
        *,
        terms: CopyTerms,
        wants: CopyFilter,
        random: Callable[[], float] = random,
    ) -> None:
        self.wants = wants
        self.length = Length(0, 0, None)
        """The queue of all processes together, as it was a second ago at most."""
        self._outbox = outbox
        self._disk = disk
        self._roster = roster
        self._clock = clock
        self._ledger = Ledger(outbox, disk)
        self._quorum = Quorum(clock)
        self._copying = Copying(
            roster,
            deliveries,
            clock,
            self._quorum,
            terms,
            random,
        )
        self.counts = self._copying.counts
        self._works: dict[Digest, Work] = {}
        self._fresh: OrderedDict[Digest, Trace | None] = OrderedDict()
        self._awaited: set[str] = set()
        self._chores = False
        self._adopt_at = float("-inf")
        self._generation = roster.generation
        self._feeding = self._hungry = False
        self._more = True
        """Whether the queue may hold something that is due and that nobody works on."""
        self._stopping = False
        self._probes: set[Deferred[None]] = set()
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = clock
        self._ticking: Deferred[None] | None = None

    @property
    def terms(self) -> CopyTerms:
        """What is in force."""
        return self._copying.terms

    def now(self) -> float:
        """Return the time by which the queue goes, in seconds since 1970."""
        return self._clock.seconds()

    # -- what a request asks --------------------------------------------------

    def admit(self) -> None:
        """Return if one more blob may be owed copies.

        Raises:
            QueueFull: no.
        """
        if self.terms.replicas > 1 and self.length.entries >= self.terms.queue:
            self.counts.turned_away += 1
            raise QueueFull(self.terms.queue, "--replica-queue")

    async def owe(self, info: BlobInfo) -> bool | None:
        """Note durably that copies of a blob are owed; a client has stored it.

        Returns:
            Whether this process makes them; None if none are owed.

        Raises:
            StoreFailure: it cannot be noted.
        """
        if self.terms.replicas <= 1 or not self._wanted(info):
            return None
        own = await self._ledger.enter(Add(info.digest, self._clock.seconds()))
        if own:
            self._owed(info.digest)
        return own

    async def enough(self, digest: Digest, *, own: bool) -> int:
        """Wait for as many copies as a client must have; return how many are durable.

        The one here is counted.

        Args:
            digest: of what is owed.
            own: what :meth:`owe` said.

        Raises:
            QuorumMissed: too few, in the time that there is.
            StoreFailure: the queue cannot be read.
            Absent: the blob was deleted meanwhile.
        """
        wanted = self.terms.quorum - 1
        if wanted <= 0:
            return 1
        if own:
            # Before all others, whatever there is room for: somebody waits.
            self._begin(digest)
        deadline = self._clock.seconds() + self.terms.quorum_timeout
        held = await self._quorum.wait(
            digest, wanted, deadline, lambda: self._count(digest), own=own
        )
        if held < wanted:
            self.counts.quorum_missed += 1
            raise QuorumMissed(digest.hex, held + 1, wanted + 1, RETRY_AFTER)
        return held + 1

    async def known(self, digest: Digest) -> list[str]:
        """Return the URLs of the peers that are known to have a blob.

        Raises:
            StoreFailure: the queue cannot be read.
        """
        return await self._disk.run(self._outbox.copies, digest)

    async def forget(self, digest: Digest) -> None:
        """Note that a blob was deleted here: nothing is owed any more.

        Where it cannot be noted, who is about to copy the blob finds it gone,
        all the same.
        """
        self._fresh.pop(digest, None)
        work = self._works.get(digest)
        if work is not None and work.running is not None:
            work.running.cancel()
        self._quorum.tell(digest, deleted=True)
        try:
            await self._ledger.enter(Drop(digest))
        except DtfcError as error:
            self._log.error("the queue of copies: {error}", error=str(error))

    def _wanted(self, info: BlobInfo) -> bool:
        kind = content_type(info.name).partition(";")[0]
        return self.wants.wants(Described(info.name or "", kind, info.length))

    def _owed(self, digest: Digest) -> None:
        work = self._works.get(digest)
        if work is not None:
            work.again = True
        elif len(self._fresh) < FRESH:
            self._fresh[digest] = carried()
            self._feed()
        else:
            self._more = True

    async def _count(self, digest: Digest) -> int:
        work = self._works.get(digest)
        return len(await self.known(digest) if work is None else work.held)

    # -- what is worked on ----------------------------------------------------

    def _begin(self, digest: Digest) -> None:
        fresh = digest in self._fresh
        trace = self._fresh.pop(digest, None)
        if digest in self._works or self._stopping:
            return
        work = self._works[digest] = Work(digest)
        with carrying(trace):
            running = Deferred.fromCoroutine(self._work(work, fresh=fresh))
        if not running.called:
            work.running = running
        running.addErrback(self._broken)

    def _broken(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("copying to peers", failure)

    async def _work(self, work: Work, *, fresh: bool) -> None:
        """Do what can be done for an entry, and note what came of it."""
        try:
            if not fresh:
                work.held.update(await self.known(work.digest))
                # Whoever waits has counted what this work knew, which was nothing yet.
                self._quorum.tell(work.digest)
            step = await self._copying.work(work)
            if step is not None:
                await self._ledger.enter(step)
                if isinstance(step, Wait):
                    self._awaited.update(step.peers)
        except DtfcError as error:
            # It stands in the queue as it did; the next tick looks at it again.
            self._log.error("the queue of copies: {error}", error=str(error))
            return
        finally:
            self._works.pop(work.digest, None)
        self._feed()

    # -- what is taken up -------------------------------------------------------

    def _feed(self) -> None:
        """Take up more, as far as there is room for it."""
        self._hungry = True
        if not self._feeding and not self._stopping:
            self._feeding = True
            # Whoever's request it is that makes room: what is taken up is others'.
            with carrying(None):
                feeding = Deferred.fromCoroutine(self._fed())
            feeding.addErrback(lambda failure: self._log.failure("the queue of copies", failure))

    async def _fed(self) -> None:
        try:
            while self._hungry and not self._stopping:
                self._hungry = False
                await self._take_up()
        except DtfcError as error:
            # The next tick tries again.
            self._log.error("the queue of copies: {error}", error=str(error))
        finally:
            self._feeding = False

    async def _take_up(self) -> None:
        while self._fresh and self._room() > 0:
            self._begin(next(iter(self._fresh)))
        if self._more and self._room() > 0:
            limit = self._room() + len(self._works)
            due = await self._disk.run(self._outbox.due, self._clock.seconds(), limit)
            # What is due later, the next tick finds.
            self._more = len(due) == limit
            self._begin_some(due)
        for url in list(self._awaited):
            room = min(self._room(), self._copying.room_of(url))
            if room > 0:
                found = await self._disk.run(self._outbox.waiting_for, url, room)
                if not found:
                    self._awaited.discard(url)
                self._begin_some(found)

    def _begin_some(self, digests: Sequence[Digest]) -> None:
        for digest in digests:
            if self._room() > 0:
                self._begin(digest)

    def _room(self) -> int:
        return 4 * self.terms.at_once - len(self._works)

    # -- time passes --------------------------------------------------------------

    def start(self, *, chores: bool) -> None:
        """Begin.

        Args:
            chores: whether to look after what dead processes have left.
        """
        self._chores = chores
        if self._outbox.set_aside:
            self._log.error(
                "the queue of copies was damaged and is set aside: what it held lacks copies"
            )
        self._ticks.start(TICK)

    def set_terms(self, terms: CopyTerms, wants: CopyFilter) -> None:
        """Put other terms in force."""
        self._copying.set_terms(terms)
        self.wants = wants

    def _tick(self) -> Deferred[None]:
        # LoopingCall does not call again before this Deferred has fired.
        self._ticking = Deferred.fromCoroutine(self._ticked())
        return self._ticking

    async def _ticked(self) -> None:
        try:
            await self._look()
        except DtfcError as error:
            self._log.error("the queue of copies: {error}", error=str(error))
        except Exception:  # noqa: BLE001 - one failed look must not end all later ones
            self._log.failure("the queue of copies")

    async def _look(self) -> None:
        now = self._clock.seconds()
        if self._chores and now >= self._adopt_at:
            self._adopt_at = now + ADOPT_EVERY
            latest = now + 3 * self.terms.retry
            adopted = await self._disk.run(self._outbox.adopt, latest)
            if adopted:
                self._log.info("{count} blobs lack copies from before", count=adopted)
        self.length = await self._disk.run(self._outbox.length)
        if self._roster.generation != self._generation:
            self._generation = self._roster.generation
            self._copying.list_changed()
            # What every peer refused, or what lacked peers, may be taken now.
            await self._ledger.enter(Again(now))
        for url in self._copying.reach.to_probe(now):
            probe = Deferred.fromCoroutine(self._probe(url))
            self._probes.add(probe)
            probe.addBoth(self._probed, probe)
        if self.length.entries:
            self._awaited.update(await self._disk.run(self._outbox.awaited))
            self._more = True
            self._feed()

    async def _probe(self, url: str) -> None:
        if await self._copying.probe(url):
            for digest in self._quorum.own():
                self._begin(digest)
            self._feed()

    def _probed(self, result: Failure | None, probe: Deferred[None]) -> None:
        self._probes.discard(probe)
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("asking a peer whether it is there", result)

    async def stop(self) -> None:
        """Give up what is being copied; what is owed stays in the queue."""
        self._stopping = True
        if self._ticks.running:
            self._ticks.stop()
        if self._ticking is not None:
            await self._ticking
        for running in [*self._probes, *(work.running for work in self._works.values())]:
            if running is not None:
                running.cancel()
        await self._ledger.settled()
        await self._disk.run(self._outbox.close)

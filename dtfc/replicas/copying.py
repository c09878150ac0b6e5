"""One entry of the queue of copies: whatever can be done for it now.

Rules of this file: what a peer failed at is noted of the peer, and nothing more
is sent there until it answers again; what a peer refused is noted of the entry.
A peer that has much to do already is given no more by those who can wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dtfc.digest import Digest
from dtfc.errors import Absent, Draining, DtfcError
from dtfc.peers.failure import PeerFailure, one_line
from dtfc.peers.roster import Roster
from dtfc.peers.sending import Refused
from dtfc.peers.slots import Slots
from dtfc.replicas.courier import Deliveries
from dtfc.replicas.placement import choose
from dtfc.replicas.quorum import Quorum
from dtfc.replicas.reach import Reach
from dtfc.store.outbox import Done, Drop, Step, Wait

#: Seconds between two lines in the log on what lacks copies.
SAY_EVERY = 10.0

#: Seconds after which a peer is asked once more that says that a blob was deleted.
HEARING = 1.0

_BURIED = str(Refused(410))


@dataclass(frozen=True, slots=True)
class CopyTerms:
    """How many copies, how patiently.

    Args:
        replicas: copies in all, the one here included (``--replicas``).
        quorum: of them durable before a client is answered (``--write-quorum``).
        quorum_timeout: seconds that a client waits for that.
        queue: most blobs that may lack copies (``--replica-queue``).
        patience: seconds after which a peer that is down is followed by the
            next one (``--replica-patience``).
        retry: seconds after which those that refused are asked again
            (``--replica-retry``).
        at_once: copies at once (``--replica-copies``) ...
        at_once_to_one: ... and to one peer (``--replica-peer-copies``).
        zone: where this node stands (``--zone``).
    """

    replicas: int = 1
    quorum: int = 1
    quorum_timeout: float = 10.0
    queue: int = 1_000_000
    patience: float = 600.0
    retry: float = 600.0
    at_once: int = 16
    at_once_to_one: int = 4
    zone: str = ""


@dataclass(slots=True)
class CopyCounts:
    """What came of copies, since the process started.

    Args:
        sent: copies that a peer has stored.
        sent_bytes: bytes of those.
        found: copies that a peer had already.
        unreached: times that a peer was not reached, or could not then.
        refused: times that a peer did not want a copy.
        unreadable: times that a blob could not be read here.
        quorum_missed: clients that were told that there are too few copies.
        turned_away: clients that were told that the queue is full.
    """

    sent: int = 0
    sent_bytes: int = 0
    found: int = 0
    unreached: int = 0
    refused: int = 0
    unreadable: int = 0
    quorum_missed: int = 0
    turned_away: int = 0


@dataclass(slots=True)
class Work:
    """An entry that is being worked on.

    Args:
        digest: which.
        held: URLs of the peers that have it.
        refused: peers that do not want it, and what they said.
        running: ends when nothing more can be done.
        again: whether it was stored once more meanwhile.
    """

    digest: Digest
    held: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    running: Deferred[None] | None = None
    again: bool = False


class Copying:
    """Works on entries.

    Args:
        roster: the peers.
        deliveries: makes a copy.
        clock: measures time.
        quorum: the clients that wait.
        terms: replaced as a whole when the configuration is read again.
        random: returns a number from 0 to 1; spreads what would happen at once.
    """

    _log = Logger()

    def __init__(  # noqa: PLR0917 -- what it works with; one caller
        self,
        roster: Roster,
        deliveries: Deliveries,
        clock: IReactorTime,
        quorum: Quorum,
        terms: CopyTerms,
        random: Callable[[], float],
    ) -> None:
        self.terms = terms
        self.counts = CopyCounts()
        self.reach = Reach(random)
        self._roster = roster
        self._deliveries = deliveries
        self._clock = clock
        self._quorum = quorum
        self._random = random
        self._slots = Slots(terms.at_once)
        self._slots_of: dict[str, Slots] = {}
        self._backlog: dict[str, int] = {}
        self._said_at = -SAY_EVERY
        self._unsaid = 0

    def set_terms(self, terms: CopyTerms) -> None:
        """Put other terms in force."""
        self.terms = terms
        self._slots.most = terms.at_once
        for slots in self._slots_of.values():
            slots.most = terms.at_once_to_one

    def room_of(self, url: str) -> int:
        """How much of what waits for a peer may be taken up."""
        if self.reach.is_down(url):
            return 0
        return 2 * self.terms.at_once_to_one - self._backlog.get(url, 0)

    def list_changed(self) -> None:
        """Forget the peers that are no longer in force."""
        urls = {peer.url for peer in self._roster.current()}
        self.reach.keep(urls)
        for url in self._slots_of.keys() - urls:
            if not self._backlog.get(url):
                del self._slots_of[url]
                self._backlog.pop(url, None)

    async def work(self, work: Work) -> Step | None:
        """Make copies, and return what is to be noted; None if all stays as it is."""
        try:
            step: Step = await self._copied(work)
            while work.again:
                # Whoever stored it once more is to know that copies are there,
                # not that they were.
                work.again = False
                work.held.clear()
                step = await self._copied(work)
        except Absent as absent:
            return Drop(work.digest) if absent.deleted else self._lacks(work, str(absent))
        except Draining:
            return None
        except DtfcError as error:
            self.counts.unreadable += 1
            return self._lacks(work, str(error))
        return step

    async def _copied(self, work: Work) -> Step:
        """Make copies until no further one can be made now.

        Raises:
            DtfcError: the blob cannot be read here.
        """
        while True:
            terms = self.terms
            peers = self._roster.current()
            work.held.intersection_update(peer.url for peer in peers)
            now = self._clock.seconds()
            gone = {peer.url for peer in peers if self.reach.is_gone(peer.url, now, terms.patience)}
            chosen = choose(
                work.digest,
                peers,
                terms.replicas - 1,
                own_zone=terms.zone,
                held=work.held,
                out=gone | work.refused.keys(),
            )
            missing = [peer.url for peer in chosen if peer.url not in work.held]
            possible = [url for url in missing if self._takes(url, work.digest)]
            if possible:
                await _all([self._deliver(work, url) for url in possible])
            elif missing:
                return Wait(work.digest, tuple(work.held), self._look_at(missing), tuple(missing))
            elif len(work.held) >= terms.replicas - 1:
                return Done(work.digest, tuple(work.held))
            else:
                return self._lacks(work, _why(work, len(peers), gone), gone)

    def _takes(self, url: str, digest: Digest) -> bool:
        """Whether a peer takes a copy now; one for a client that waits is never put off."""
        busy = self._backlog.get(url, 0) >= 4 * self.terms.at_once_to_one
        return not self.reach.is_down(url) and (not busy or self._quorum.waits(digest))

    def _look_at(self, missing: Sequence[str]) -> float:
        """When to look again at what waits for these peers: another one may take a place then."""
        gone_at = [self.reach.gone_at(url, self.terms.patience) for url in missing]
        return min([self._in_a_while(), *(at for at in gone_at if at is not None)])

    def _in_a_while(self) -> float:
        return self._clock.seconds() + self.terms.retry * (1 + self._random())

    def _lacks(self, work: Work, why: str, peers: Collection[str] = ()) -> Wait:
        """Say that an entry cannot be done, and when it is tried again."""
        now = self._clock.seconds()
        self._unsaid += 1
        if now - self._said_at >= SAY_EVERY:
            self._log.warn(
                "{digest} has {held} of {wanted} copies: {why}{more}",
                digest=work.digest.hex,
                held=len(work.held) + 1,
                wanted=self.terms.replicas,
                why=why,
                more=f" (and {self._unsaid - 1} others lack copies)" if self._unsaid > 1 else "",
            )
            self._said_at, self._unsaid = now, 0
        return Wait(work.digest, tuple(work.held), self._in_a_while(), tuple(peers), why)

    # -- one copy -------------------------------------------------------------

    async def _deliver(self, work: Work, url: str) -> None:
        """Make one copy, and note what came of it.

        Raises:
            DtfcError: the blob cannot be read here.
        """
        self._backlog[url] = self._backlog.get(url, 0) + 1
        try:
            await self._in_turn(work, url)
            if work.refused.get(url) == _BURIED:
                # A client has stored again what was deleted everywhere, and
                # the peer is about to hear of it.
                await deferLater(self._clock, HEARING)
                del work.refused[url]
                await self._in_turn(work, url)
        finally:
            self._backlog[url] -= 1

    async def _in_turn(self, work: Work, url: str) -> None:
        slots = self._slots_of.setdefault(url, Slots(self.terms.at_once_to_one))
        await slots.take()
        try:
            await self._slots.take()
            try:
                # It may have gone down while others were before this one.
                if not self.reach.is_down(url):
                    await self._send(work, url)
            finally:
                self._slots.give_back()
        finally:
            slots.give_back()

    async def _send(self, work: Work, url: str) -> None:
        try:
            delivered = await self._deliveries.deliver(work.digest, url)
        except PeerFailure as failure:
            self.counts.unreached += 1
            if self.reach.failed(url, self._clock.seconds()):
                reason = one_line(failure.reason)
                self._log.warn("{peer} takes no copies now: {reason}", peer=url, reason=reason)
            return
        except Refused as refused:
            self.reach.took(url)
            self.counts.refused += 1
            work.refused[url] = str(refused)
            return
        self.reach.took(url)
        if delivered.sent is None:
            self.counts.found += 1
        else:
            self.counts.sent += 1
            self.counts.sent_bytes += delivered.sent
        work.held.add(url)
        self._quorum.tell(work.digest)

    async def probe(self, url: str) -> bool:
        """Ask a peer that was down whether it is there; return whether it is."""
        try:
            await self._deliveries.probe(url)
        except PeerFailure:
            self.reach.failed(url, self._clock.seconds())
            return False
        except Refused:
            pass  # that is an answer, too
        self.reach.answers(url)
        self._log.info("{peer} answers again", peer=url)
        return True


def _why(work: Work, peers: int, gone: Collection[str]) -> str:
    if work.refused:
        said = ", ".join(f"{url} {why}" for url, why in sorted(work.refused.items())[:5])
        return f"no other peer takes it; {said}"
    if gone:
        return f"{len(gone)} of {peers} peers cannot be reached"
    return f"the peer list has {peers} peers"


async def _all(steps: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run them side by side; the first failure, or a cancellation, ends all."""
    running = [Deferred.fromCoroutine(step) for step in steps]
    try:
        await DeferredList(running, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    finally:
        for each in running:
            each.cancel()

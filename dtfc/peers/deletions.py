"""Deletion everywhere: from the client that asks for it to the last peer that hears of it.

Rules of this file: this is the door of the subject for the rest of the program.
What counts is decided by counters (``dtfc.store.records``), never by a clock;
what is remembered lies in the store; how peers are told is
``dtfc.peers.courier``, how two nodes find out what differs
``dtfc.peers.comparing``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from dtfc.errors import Denied, DtfcError, NoSpace, StoreFailure
from dtfc.peers.agreement import (
    Allowance,
    Heard,
    parse_question,
    parse_records,
    wait_after,
)
from dtfc.peers.comparing import Comparing, Round, answer
from dtfc.peers.correspondence import Correspondence, Unversed
from dtfc.peers.courier import Courier
from dtfc.store.memory import Receipt

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from dtfc.digest import Digest
    from dtfc.disk import Disk
    from dtfc.peers.roster import Roster
    from dtfc.store.blobs import Deleted, Store
    from dtfc.store.records import Record

#: Seconds between two looks for what is due.
TURN = 5.0

#: Seconds after which a peer that is no more in the list is not waited for any
#: longer: a list may be broken for a while, or not be read yet.
UNLISTED = 3600.0

#: Seconds that a client waits for the peers' first word.
PATIENCE = 1.0

#: Seconds for which records of one message are worked on; the rest is taken later.
WORKED_ON = 3.0

#: Rounds with peers at once.
MOST_ROUNDS = 4

#: Peers that are told at once of what was stored again; the others are compared with soon.
MOST_TELLINGS = 100

#: Receipts that are tidied up in one turn.
_MANY = 1000


async def _nothing(digest: Digest) -> None:
    del digest


@dataclass(frozen=True, slots=True)
class DeletionTerms:
    """On which terms deletions are taken and spread.

    Args:
        accept: whether what peers delete is deleted here.
        per_minute: how many records of peers are taken a minute.
        keep: seconds for which receipts are kept.
        period: seconds between two comparisons with one peer.
    """

    accept: bool = True
    per_minute: int = 6000
    keep: float = 90 * 86400.0
    period: float = 600.0


class Deletions:
    """Deletes everywhere, and hears of what others delete.

    Args:
        store: what is here, and remembered.
        disk: where blocking work runs.
        roster: the peers.
        correspondence: tells peers.
        clock: runs what is due, and tells the time of day for people.
        ticks: seconds that no change of the time of day moves.
        chance: a random number from 0 to 1.
        token: 32 hexadecimal digits that nobody else has.
        terms: replaced as a whole when the configuration is read again.
        gone: told of each blob that was deleted here, whoever asked for it.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        disk: Disk,
        roster: Roster,
        correspondence: Correspondence,
        clock: IReactorTime,
        *,
        ticks: Callable[[], float],
        chance: Callable[[], float],
        token: Callable[[], str],
        terms: DeletionTerms | None = None,
        gone: Callable[[Digest], Awaitable[None]] = _nothing,
    ) -> None:
        self.terms = terms or DeletionTerms()
        self.heard: Counter[str] = Counter()
        """Records that came from peers, by what became of them."""
        self.rounds: Counter[str] = Counter()
        """Comparisons with peers, by result."""
        self.bytes = 0
        """Of all comparisons, both ways, without the heads."""
        self.made = 0
        """Deletions everywhere that began here."""
        self._store = store
        self._memory = store.memory
        self._disk = disk
        self._roster = roster
        self._correspondence = correspondence
        self._clock = clock
        self._ticks = ticks
        self._chance = chance
        self._token = token
        self._gone = gone
        self._allowance = Allowance(self.terms.per_minute)
        self.courier = Courier(
            self._memory,
            disk,
            correspondence,
            clock,
            chance=chance,
            overruled=self.take,
            reached=self._reached,
        )
        self._turns = LoopingCall(self._turn)
        self._turns.clock = clock
        self._due: dict[str, float] = {}
        self._unmet: dict[str, int] = {}
        self._unlisted: dict[str, float] = {}
        self._meeting: dict[str, Deferred[None]] = {}
        self._telling: set[Deferred[None]] = set()
        self._expired_at = 0.0
        self._asked_at = -TURN
        self._looking: Deferred[None] | None = None
        self._stopped = False

    # -- for clients ------------------------------------------------------------

    async def everywhere(self, digest: Digest) -> tuple[Deleted, Receipt]:
        """Delete a blob here and at every peer.

        When this returns it is gone from here, and that the others have to hear
        of it is durable; those that answered within a second have.

        Raises:
            NoSpace: there is no room for the record; the others will not hear.
            StoreFailure: the disk refuses.
        """
        name = self._token()
        deleted = await self._disk.run(self._store.delete_everywhere, digest, name)
        record = deleted.record
        if record is None:
            raise LookupError("a deletion everywhere has a record")
        self.made += 1
        self._log.info(
            "deleted everywhere: {digest}, counter {counter}, receipt {id}, {here}",
            digest=digest.hex,
            counter=record.counter,
            id=name,
            here="was here" if deleted.info is not None else "was not here",
        )
        await self._gone(digest)
        peers = self._peers()
        await self._disk.run(self._memory.address, name, peers)
        await self._wait_for([self.courier.visit(peer) for peer in peers])
        receipt = await self._disk.run(self._memory.receipt, name)
        if receipt is None:
            # The catalog could not be written: it is made anew from the tree,
            # and the receipt with it.
            receipt = Receipt(name, digest, record.counter, record.at, addressed=False)
        return deleted, receipt

    async def receipt(self, name: str) -> Receipt | None:
        """Return what became of a deletion that began here; None if there is none.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return await self._disk.run(self._memory.receipt, name)

    def revived(self, record: Record) -> None:
        """Tell the peers, soon, that a client has stored again what was deleted everywhere.

        Who cannot be told learns it when the two compare what they remember.
        """
        self._log.info(
            "stored again: {digest}, counter {counter}",
            digest=record.digest.hex,
            counter=record.counter,
        )
        for peer in self._peers():
            if len(self._telling) >= MOST_TELLINGS:
                self._due[peer] = 0.0
                continue
            telling = Deferred.fromCoroutine(self._tell_one(peer, record))
            self._telling.add(telling)
            telling.addBoth(self._has_told, telling)

    def _has_told(self, _result: object, telling: Deferred[None]) -> None:
        self._telling.discard(telling)

    async def _tell_one(self, peer: str, record: Record) -> None:
        try:
            await self._correspondence.tell(peer, [record])
        except Unversed:
            pass
        except DtfcError:
            self._due[peer] = min(self._due.get(peer, 0.0), self._ticks() + TURN)

    # -- for peers ------------------------------------------------------------------

    async def hear(self, body: bytes, sender: str) -> tuple[Heard, int | None]:
        """Take records that a peer tells.

        Args:
            body: its message.
            sender: who it is, for the log.

        Returns:
            What became of them, and after how many seconds more are taken; None
            if they are now.

        Raises:
            BadInput: they make no sense.
            Denied: this node takes none.
            NoSpace, StoreFailure: the disk refuses.
        """
        records = parse_records(body)
        if not self.terms.accept:
            self.heard["refused"] += len(records)
            raise Denied(
                "this node deletes nothing because a peer says so",
                "its operator allows it with --accept-deletions on",
            )
        self._somebody_is_back()
        return await self._hear(records, sender)

    async def answer(self, body: bytes) -> bytes:
        """Answer what a peer asks about the records here.

        Raises:
            BadInput: the question makes no sense.
            StoreFailure: the catalog cannot be read.
        """
        asked = parse_question(body)
        self._somebody_is_back()
        found = await self._disk.run(answer, self._memory, asked)
        return found.body()

    async def take(self, records: Sequence[Record], peer: str) -> tuple[int, bool]:
        """Take records that a peer has, because it was asked.

        Returns:
            How many count here now, and whether some are left for later.
        """
        if not self.terms.accept:
            self.heard["refused"] += len(records)
            return 0, False
        before = self.heard["applied"]
        heard, _ = await self._hear(records, peer)
        return self.heard["applied"] - before, heard.taken < len(records)

    async def _hear(self, records: Sequence[Record], sender: str) -> tuple[Heard, int | None]:
        until = self._ticks() + WORKED_ON
        known = await self._disk.run(self._known, records)
        newer: list[Record] = []
        full: NoSpace | None = None
        for taken, record in enumerate(records):
            ours = known.get(record.digest)
            if record.newer_than(ours):
                if taken and self._ticks() > until:
                    return Heard(taken, tuple(newer)), None
                if not self._allowance.take(self._ticks()):
                    self.heard["put off"] += 1
                    return Heard(taken, tuple(newer)), self._allowance.wait()
                try:
                    ours = await self._apply(record, sender)
                except NoSpace as error:
                    # The others may free the disk.
                    full = error
            else:
                self.heard["known"] += 1
            if ours is not None and ours.newer_than(record):
                newer.append(ours)
        if full is not None:
            raise full
        return Heard(len(records), tuple(newer)), None

    def _known(self, records: Sequence[Record]) -> dict[Digest, Record]:
        found: dict[Digest, Record] = {}
        for each in records:
            try:
                known = self._memory.get(each.digest)
            except StoreFailure:
                # The tree knows; it is asked before anything is done.
                known = None
            if known is not None:
                found[each.digest] = known
        return found

    async def _apply(self, record: Record, sender: str) -> Record:
        heard = await self._disk.run(self._store.hear, record)
        if not heard.changed:
            self.heard["known"] += 1
            return heard.known
        self.heard["applied"] += 1
        if record.deleted:
            await self._gone(record.digest)
        self._log.info(
            "{what} by {sender}: {digest}, counter {counter}, id {id}, made by node {node}, {here}",
            what="deleted" if record.deleted else "allowed again",
            sender=sender,
            digest=record.digest.hex,
            counter=record.counter,
            id=record.id,
            node=record.node,
            here="was not here" if heard.info is None else f"{heard.info.length} bytes were here",
        )
        return heard.known

    # -- what is due -------------------------------------------------------------

    def start(self, *, chores: bool) -> None:
        """Begin.

        Args:
            chores: whether this process is the one that looks for what is due.
        """
        if chores:
            self._turns.start(TURN, now=False)
            # Who was away asks at once: others may have deleted meanwhile.
            self._clock.callLater(self._chance(), self._first_turn)

    def leave_turns(self) -> None:
        """Look no longer for what is due: another process does."""
        if self._turns.running:
            self._turns.stop()

    async def stop(self) -> None:
        """End what is on its way; it is gone on with at the next start."""
        self._stopped = True
        self.leave_turns()
        looking = [] if self._looking is None else [self._looking]
        for each in [*looking, *self._meeting.values(), *self._telling]:
            each.cancel()
        await self.courier.stop()

    def set_terms(self, terms: DeletionTerms) -> None:
        """Put other terms in force."""
        if terms.per_minute != self.terms.per_minute:
            self._allowance = Allowance(terms.per_minute)
        self.terms = terms

    def pending(self) -> int:
        """Return how many peers' acknowledgements are missing (blocks).

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return self._memory.pending_count()

    def pending_by_peer(self) -> dict[str, int]:
        """Return how many acknowledgements of each peer are missing (blocks).

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return self._memory.pending_by_peer()

    def pending_since(self) -> dict[str, tuple[int, float]]:
        """Return how many acknowledgements of each peer are missing, and since when (blocks).

        Returns:
            By peer, those of the list among them with none missing, too; the time is
            that of the oldest deletion, in seconds since 1970, 0 where none is missing.

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return dict.fromkeys(self._peers(), (0, 0.0)) | self._memory.pending_since()

    def remembered(self) -> int:
        """Return how many records there are (blocks).

        Raises:
            StoreFailure: the catalog cannot be read.
        """
        return self._memory.count()

    def _peers(self) -> list[str]:
        return [peer.url for peer in self._roster.current()]

    def _first_turn(self) -> None:
        if not self._stopped:
            self._turn()

    def _turn(self) -> Deferred[None]:
        if self._looking is None or self._looking.called:
            self._looking = Deferred.fromCoroutine(self._look())
        return self._looking

    async def _look(self) -> None:
        """Do what is due; the visits and rounds that it begins are not waited for."""
        try:
            peers = self._peers()
            for name in await self._disk.run(self._memory.unaddressed, _MANY):
                await self._disk.run(self._memory.address, name, peers)
            for peer in await self._disk.run(self._memory.pending_peers):
                if peer in peers:
                    self._unlisted.pop(peer, None)
                    self.courier.visit(peer)
                elif self._ticks() - self._unlisted.setdefault(peer, self._ticks()) >= UNLISTED:
                    del self._unlisted[peer]
                    await self._disk.run(self._memory.forget_peer, peer)
            self._meet(peers)
            await self._expire()
        except CancelledError:
            return
        except DtfcError as error:
            self._log.error("deletions that are due: {error}", error=str(error))
        except Exception:  # noqa: BLE001 - one turn that fails must not be the last
            self._log.failure("deletions that are due")

    async def _expire(self) -> None:
        now = self._clock.seconds()
        if 0 <= now - self._expired_at < 3600:
            return
        self._expired_at = now
        while await self._disk.run(self._memory.expire, now - self.terms.keep, _MANY) == _MANY:
            pass

    def _somebody_is_back(self) -> None:
        """Leave nobody alone any longer: a peer that asks may be one that was away."""
        now = self._ticks()
        if now - self._asked_at >= TURN:
            self._asked_at = now
            self._disk.run(self._memory.try_again).addErrback(lambda _failure: None)

    def _reached(self, peer: str) -> None:
        """A peer that had been away has answered: compare with it soon."""
        self._due[peer] = 0.0

    # -- comparing --------------------------------------------------------------

    def _meet(self, peers: Sequence[str]) -> None:
        """Begin rounds with those peers whose turn it is."""
        now = self._ticks()
        for peer in set(self._due).difference(peers):
            del self._due[peer]
            self._unmet.pop(peer, None)
        due = [peer for peer in peers if self._due.get(peer, 0.0) <= now]
        for peer in sorted(due, key=lambda each: self._due.get(each, 0.0)):
            if len(self._meeting) >= MOST_ROUNDS:
                break
            if peer not in self._meeting:
                # Taken out by its own end, which can come before it is put in.
                meeting = Deferred.fromCoroutine(self.compare_with(peer))
                if not meeting.called:
                    self._meeting[peer] = meeting
                    meeting.addBoth(self._met, peer)

    def _met(self, _result: object, peer: str) -> None:
        self._meeting.pop(peer, None)
        if not self._stopped:
            self._meet(self._peers())

    async def compare_with(self, peer: str) -> None:
        """Compare with a peer what both remember, and bring each other to the same."""
        comparing = Comparing(
            self._memory,
            self._disk,
            lambda question: self._correspondence.ask(peer, question),
            lambda records: self.take(records, peer),
            lambda records: self._give(peer, records),
        )
        wait = self.terms.period * (0.75 + self._chance() / 2)
        result = "failed"
        # Not again before it is over.
        self._due[peer] = self._ticks() + wait
        try:
            found = await comparing.run()
        except CancelledError:
            return
        except Unversed:
            result = "unversed"
        except DtfcError as error:
            failures = self._unmet[peer] = self._unmet.get(peer, 0) + 1
            wait = min(wait, wait_after(failures, self._chance()))
            if failures == 1:
                self._log.info(
                    "comparing deletions with {peer}: {error}", peer=peer, error=str(error)
                )
        except Exception:  # noqa: BLE001 - the next round tries again
            self._log.failure("comparing deletions with {peer}", peer=peer)
        else:
            self._unmet.pop(peer, None)
            result = "differed" if found.differed else "equal"
            if not found.complete:
                wait = TURN
            self._told(peer, found)
        self.rounds[result] += 1
        self.bytes += comparing.round.sent + comparing.round.received
        self._due[peer] = self._ticks() + wait

    def _told(self, peer: str, found: Round) -> None:
        if found.differed:
            self._log.info(
                "deletions compared with {peer}: {taken} taken, {given} given, in {questions} "
                "questions and {bytes} bytes{rest}",
                peer=peer,
                taken=found.taken,
                given=found.given,
                questions=found.questions,
                bytes=found.sent + found.received,
                rest="" if found.complete else "; more to come",
            )

    async def _give(self, peer: str, records: Sequence[Record]) -> tuple[Heard, int, int]:
        """Tell a peer records, for as long as it takes them."""
        taken = sent = received = 0
        newer: list[Record] = []
        while taken < len(records):
            reply = await self._correspondence.tell(peer, records[taken:])
            sent += reply.sent
            received += reply.received
            taken += reply.heard.taken
            newer += reply.heard.newer
            if reply.retry_after is not None or not reply.heard.taken:
                break
        if newer:
            await self.take(newer, peer)
        return Heard(taken, tuple(newer)), sent, received

    async def _wait_for(self, running: Sequence[Deferred[None]]) -> None:
        """Wait until all are over, but not long."""
        missing = [each for each in running if not each.called]
        if not missing:
            return
        # Fired by the last of them, or by the clock.
        over: Deferred[None] = Deferred()
        left = len(missing)

        def done(_result: object) -> None:
            nonlocal left
            left -= 1
            if not left and not over.called:
                over.callback(None)

        for each in missing:
            each.addBoth(done)
        timer = self._clock.callLater(
            PATIENCE, lambda: None if over.called else over.callback(None)
        )
        try:
            await over
        finally:
            if timer.active():
                timer.cancel()

"""Who is asked for which bytes, while a load goes on: the dealing of ``dtfc.peers.pull``.

Rules of this file: pure. What becomes of answers is for who builds on it; here
is what is missing, who is idle, and which ask is cut short for whom.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from dtfc.peers.asks import Job, Record
from dtfc.peers.hearsay import Hearsay
from dtfc.peers.steps import Action, Ask, Drop, Shorten
from dtfc.store.chunkmap import CHUNK
from dtfc.store.spans import Spans

WORTH_SPLITTING = 0.2
"""An ask that is over within so many seconds is left alone."""

SILENT = 2.0
"""Seconds without a byte in the middle of a body, after which it gets a rival."""

SOON = 0.1
"""Wanted bytes that come by themselves within so many seconds are waited for ..."""

NEAR = 2 * CHUNK
"""... and those that are so near, where no rate is known."""

SOUGHT = 16
"""Peers that did not have it, after which no further ones are sought for speed alone."""

FIRST_WAIT = 0.1
"""Seconds after which a peer that sends to others first is asked again, doubled each time."""

SEEKING = 4
"""So many times the usual number is asked at once, while nobody that was asked has it."""

ASK_BACK_AFTER = (0.1, 0.4)
"""Seconds after which an ancestor that did not have the blob is asked again, each once ..."""

LATER = 4 * CHUNK
"""... if more bytes than this are still to come from others."""

HAIR = 0.001
"""Seconds that a timer may be early."""


@dataclass(frozen=True, slots=True)
class PullLimits:
    """How a load is spread.

    Args:
        peers: asks in progress at once.
        per_peer: of these, to one peer.
        hedge: seconds that a peer may say nothing before the next is asked too.
    """

    peers: int = 4
    per_peer: int = 2
    hedge: float = 0.5


class Dealing:
    """What is missing, dealt to peers.

    Args:
        peers: URLs in the order in which to ask.
        held: what is held from an earlier process; a number for so many bytes
            from 0 on.
        digest_hex: the blob, to recognise a peer that is about to send another;
            None if there is nothing to compare.
        length: of the blob, as the earlier process believed it.
        limits: how the load is spread.
        ancestors: those of the peers that may be loading it themselves, and do
            not ask this node for it: they are waited for.
    """

    def __init__(
        self,
        peers: Sequence[str],
        held: Spans | int = 0,
        digest_hex: str | None = None,
        *,
        length: int | None = None,
        limits: PullLimits | None = None,
        ancestors: Sequence[str] = (),
    ) -> None:
        self.held = Spans([(0, held)]) if isinstance(held, int) else Spans(held)
        """Bytes held, those of the blob as far as anyone knows."""
        self.length = length
        """Of the whole, as a peer said it; not certain before the load is over."""
        self.hearsay: Hearsay | None = None
        """What peers say of the chunks, once the length is known."""
        self.limits = limits or PullLimits()
        self._digest_hex = digest_hex
        # The nearest comes first.
        self._ancestors = {peer: place for place, peer in enumerate(ancestors)}
        self._records = {peer: Record() for peer in (*self._ancestors, *peers)}
        self._queue = deque(self._records)
        self._jobs: dict[int, Job] = {}
        self._asks = 0
        self.hedges = 0
        """Asks because another peer was late or slow."""
        self.hedges_won = 0
        """Those whose answer was taken."""
        self._now = 0.0
        # One more peer is asked at a time for each that did not have it.
        self._width = 1
        self._sought = 0
        # Since when nothing worthwhile came.
        self._fruitless = 0
        self._progress = False
        # Where the bytes held came from (None: an earlier process); the length
        # binds once some are held.
        self._from: dict[str | None, Spans] = {}
        if self.held.total:
            self._from[None] = Spans(self.held)
        self._length_bound = length is not None
        self._wanted = Spans()
        self._maps_awaited: set[str] = set()
        self._map_wanted = False
        self._doubting = False
        self._evidence: dict[str, tuple[int, bytes]] = {}
        self._alone = False
        self._alone_with: str | None = None
        self._waited_for_busy = False
        # Who sends to others first, and when to ask again: if nothing comes, and
        # if something does; since when nothing came of anybody because of that.
        self._later: dict[str, tuple[float, float]] = {}
        self._refused_since = math.inf
        self._verifying = False
        self._pausing = False
        self._look_due = False
        self._look_at = 0.0
        self._over = False

    @property
    def ready(self) -> int:
        """The bytes ``[0, ready)`` are held."""
        return self.held.front

    @property
    def over(self) -> bool:
        """Whether :class:`Finish` was given out."""
        return self._over

    @property
    def left_over(self) -> bool:
        """Whether any of the bytes held are an earlier process's."""
        return bool(self._from.get(None, Spans()).total)

    def _ask_more(self) -> list[Action]:
        actions: list[Action] = []
        if self.length is None or not self._length_bound:
            return self._ask_for_whole()
        while len(self._jobs) < self.limits.peers:
            more = self._ask_for_wanted() or self._ask_for_gap() or self._split() or self._rival()
            if not more:
                break
            actions += more
        return [*actions, *self._make_room_for_wanted()]

    def _ask_for_whole(self) -> list[Action]:
        """Ask one more, while nobody has said how long it is."""
        actions: list[Action] = []
        late = all(self._waited_for(job) >= self.limits.hedge for job in self._jobs.values())
        taking = any(job.taking for job in self._jobs.values())
        # Somebody who has begun binds the length with his first byte.
        hedged = min(len(self._jobs) + 1, self.limits.peers) if late else 0
        width = 0 if taking else max(self._width, hedged)
        while len(self._jobs) < width:
            peer = self._next_peer()
            if peer is None:
                break
            if not self._jobs:
                self.length = None
            beside_late = len(self._jobs) >= self._width
            ask = self._ask(peer, self.held.front, None)
            actions.append(ask)
            if beside_late:
                self._hedges(ask)
        return actions

    def _hedges(self, ask: Ask) -> None:
        self.hedges += 1
        self._jobs[ask.number].hedges = True

    def _ask_for_wanted(self) -> list[Action]:
        """Ask for bytes that somebody waits for, if they do not come soon."""
        total = self.length or 0
        for start, end in self._wanted:
            for gap, _ in self.held.gaps(start, min(end, total)):
                owner = self._owner(gap)
                if owner is not None and self._comes_soon(owner, gap):
                    continue
                stop = owner.end if owner is not None else self._next_owned(gap, total)
                peer = self._next_peer(proven=True) or self._second_ask(owner) or self._next_peer()
                if peer is None or stop is None or stop <= gap:
                    return []
                actions: list[Action] = []
                if owner is not None:
                    actions += self._shorten(owner, gap)
                ask = self._ask(peer, gap, None if stop >= total else stop)
                self._jobs[ask.number].for_wanted = True
                return [*actions, ask]
        return []

    def _comes_soon(self, owner: Job, offset: int) -> bool:
        distance = offset - owner.at
        if owner.for_wanted and not owner.taking:
            return distance < NEAR
        if not owner.taking:
            return distance < CHUNK
        if owner.rate is None or owner.for_wanted:
            return distance < NEAR
        return distance < CHUNK or distance / max(owner.rate, 1.0) < SOON

    def _second_ask(self, owner: Job | None) -> str | None:
        """Return a peer that is sending already, and may be asked for more beside it."""
        counts: dict[str, int] = {}
        for job in self._jobs.values():
            counts[job.peer] = counts.get(job.peer, 0) + 1
        sending = [job for job in self._jobs.values() if self._records[job.peer].proven]
        sending.sort(key=lambda job: (counts[job.peer], job is not owner, -(job.rate or 0.0)))
        for job in sending:
            record = self._records[job.peer]
            willing = record.usable and not record.whole_only and not record.suspect
            if willing and counts[job.peer] < self.limits.per_peer:
                return job.peer
        return None

    def _make_room_for_wanted(self) -> list[Action]:
        """Shorten an ask that brings nothing wanted, while wanted bytes wait for a place."""
        total = self.length or 0
        if not any(self._waits_for_room(start, min(end, total)) for start, end in self._wanted):
            return []
        victim: Job | None = None
        for job in self._jobs.values():
            stop = (job.at // CHUNK + 1) * CHUNK
            if not job.taking or self._is_wanted(job.at, stop):
                continue
            if job.left(total) <= CHUNK:
                return []  # it will be over in a moment
            victim = victim or job
        if victim is None:
            return []
        return self._shorten(victim, (victim.at // CHUNK + 1) * CHUNK)

    def _waits_for_room(self, start: int, end: int) -> bool:
        for gap, _ in self.held.gaps(start, end):
            owner = self._owner(gap)
            return owner is None or not self._comes_soon(owner, gap)
        return False

    def _is_wanted(self, start: int, end: int) -> bool:
        return list(self._wanted.gaps(start, end)) != [(start, end)]

    def _owner(self, offset: int) -> Job | None:
        """Return the ask that is to bring a byte."""
        for job in self._jobs.values():
            if job.rival_of is None and job.at <= offset and (job.end is None or offset < job.end):
                return job
        return None

    def _next_owned(self, offset: int, total: int) -> int:
        """Return where the stretch of missing bytes ends that nobody is asked for."""
        stop = total
        for start, _ in self.held:
            if start > offset:
                stop = min(stop, start)
                break
        for job in self._jobs.values():
            if job.rival_of is None and offset < job.at < stop:
                stop = job.at
        return stop

    def _ask_for_gap(self) -> list[Action]:
        """Ask for the first missing bytes that nobody is asked for."""
        total = self.length or 0
        for start, end in self.held.gaps(0, total):
            at = start
            while at < end:
                owner = self._owner(at)
                if owner is not None:
                    at = end if owner.end is None else owner.end
                    continue
                # Who sends comes to it, too: no need to ask everybody.
                sought = any(job.taking for job in self._jobs.values())
                peer = self._next_peer(chunk=at // CHUNK, sought=sought)
                if peer is None:
                    return []
                stop = min(end, self._next_owned(at, total))
                return [self._ask(peer, at, None if stop >= total else stop)]
        return []

    def _split(self) -> list[Action]:
        """Give the end of the ask that takes the longest to an idle peer."""
        total = self.length or 0
        longest: Job | None = None
        most = WORTH_SPLITTING
        for job in self._jobs.values():
            seconds = job.seconds_left(total) if job.rival_of is None and job.taking else None
            if seconds is not None and seconds > most and job.left(total) >= 2 * CHUNK:
                longest, most = job, seconds
        if longest is None or longest.rate is None:
            return []
        far = self._distance(longest.peer)
        if all(self._distance(peer) > far for peer in self._queue):
            return []
        end = total if longest.end is None else longest.end
        too_slow: list[str] = []
        actions: list[Action] = []
        while not actions and (peer := self._next_peer(sought=True)) is not None:
            if self._distance(peer) > far:
                # That one has its own sources behind it: who has the whole
                # would be asked by all.
                too_slow.append(peer)
                continue
            theirs = self._records[peer].rate or max(longest.rate, 1.0)
            share = theirs / (theirs + max(longest.rate, 1.0))
            if self._distance(peer) < far:
                share = 1.0
            start = (longest.at + int(longest.left(total) * (1 - share))) // CHUNK * CHUNK
            start = max(start, (longest.at // CHUNK + 1) * CHUNK)
            if start >= end:
                too_slow.append(peer)
                continue
            actions = self._shorten(longest, start)
            actions.append(self._ask(peer, start, None if end >= total else end))
        self._queue.extend(too_slow)
        return actions

    def _ask_back(self) -> None:
        """Let ancestors that did not have it be asked again: they may have begun to load it."""
        far = max(
            (
                self._distance(job.peer)
                for job in self._jobs.values()
                if job.taking and job.left(self.length or 0) > LATER
            ),
            default=-1,
        )
        for peer in reversed(self._ancestors):
            record = self._records[peer]
            again = record.absent and record.asked_back < len(ASK_BACK_AFTER)
            if not again or self._distance(peer) >= far:
                continue
            if self._now - record.absent_at >= ASK_BACK_AFTER[record.asked_back]:
                record.absent = False
                record.asked_back += 1
                record.failures = 0
                record.lost = False
                self._queue.appendleft(peer)

    def _give_way(self, job: Job, reason: str, most: float) -> None:
        """Ask a peer again later: it sends to others first, which is no fault of anybody's.

        Args:
            job: the ask that was refused, or cut off.
            reason: for people.
            most: seconds after which it is to be asked again; sooner at first.
        """
        record = self._records[job.peer]
        record.reason = reason
        if job.delivered:
            record.times_refused = 0
        waits = 2.0 ** min(record.times_refused, 4)
        record.times_refused += 1
        soon, late = self._now + min(most, FIRST_WAIT * waits), self._now + most * waits
        self._later[job.peer] = soon, late
        self._refused_since = min(self._refused_since, self._now)
        # It is there, and will send: nothing was in vain.
        self._fruitless = 0
        self._widen(job)

    def _widen(self, gone: Job) -> None:
        """Ask one more at a time, as one that was asked has nothing to give.

        Not so while an ancestor is waited for: if all nodes of a crowd asked
        all others meanwhile, everything would take longer.
        """
        if not any(job.ask.partial for job in self._jobs.values() if job is not gone):
            self._width = min(self._width + 1, self.limits.peers * SEEKING)

    def _ask_again(self) -> None:
        """Let those be asked again whose time has come.

        And if nobody else is left, the ancestors as well, for they are sent to
        first.
        """
        # While somebody sends, or will, it would be for speed alone.
        coming = any(job.taking or job.ask.partial for job in self._jobs.values())
        due = [
            peer
            for peer, (soon, late) in self._later.items()
            if (late if coming else soon) <= self._now + HAIR
        ]
        for peer in due:
            del self._later[peer]
            if self._records[peer].usable and peer not in self._queue:
                self._queue.appendleft(peer)
        if not due or self._jobs or self._alone:
            return
        for peer in reversed(self._ancestors):
            record = self._records[peer]
            if record.absent:
                record.absent = False
                record.failures = 0
                record.lost = False
                self._queue.appendleft(peer)

    def _distance(self, peer: str) -> int:
        """Return how far a peer is up the way; all that are not on it are further."""
        return self._ancestors.get(peer, len(self._ancestors))

    def _may_ask_back(self) -> bool:
        """Whether there is an ancestor that will be asked again."""
        return any(
            self._records[peer].absent and self._records[peer].asked_back < len(ASK_BACK_AFTER)
            for peer in self._ancestors
        )

    def _rival(self) -> list[Action]:
        """Ask an idle peer for what another has not begun to send, or stopped sending."""
        contested = {job.rival_of for job in self._jobs.values()}
        for job in self._jobs.values():
            if job.rival_of is not None or job.number in contested or job.complete:
                continue
            silent = self._waited_for(job) >= (SILENT if job.taking else self.limits.hedge)
            slow = (job.seconds_left(self.length or 0) or 0.0) > SILENT
            slow = slow and job.peer not in self._ancestors
            peer = self._next_peer() if silent or slow else None
            if peer is None:
                continue
            if not silent and not self._much_faster(peer, job):
                self._queue.append(peer)
                continue
            end = None if job.end is None or job.end >= (self.length or 0) else job.end
            ask = self._ask(peer, job.at, end)
            self._jobs[ask.number].rival_of = job.number
            self._jobs[ask.number].for_slow = not silent
            self._hedges(ask)
            return [ask]
        return []

    def _much_faster(self, peer: str, job: Job) -> bool:
        theirs = self._records[peer].rate
        return theirs is None or theirs > 4 * (job.rate or 0.0)

    def _waited_for(self, job: Job) -> float:
        """Return for how many seconds nothing has come of an ask."""
        # Timers are not to be a hair too early.
        return self._now - (job.moved if job.taking else job.began) + HAIR

    def _shorten(self, job: Job, end: int) -> list[Action]:
        job.end = end
        return [Shorten(job.number, end)] if job.taking else []

    def _next_peer(
        self, *, chunk: int | None = None, sought: bool = False, proven: bool = False
    ) -> str | None:
        """Take the next idle peer from the queue; None if there is none.

        Args:
            chunk: who sent it wrong before is passed over.
            sought: it is only for speed: not many that turn out not to have it
                are asked.
            proven: only one that is known to have the blob.
        """
        avoid: set[str | None] = set()
        if chunk is not None and self.hearsay is not None:
            avoid = {peer for peer, _ in self.hearsay.replaced.get(chunk, ())}
        busy = {job.peer for job in self._jobs.values()}
        put_off: list[str] = []
        found: str | None = None
        unwilling: str | None = None
        while self._queue and found is None:
            peer = self._queue.popleft()
            record = self._records[peer]
            if not record.usable or peer in busy:
                continue
            if peer in avoid or record.suspect or (record.whole_only and self._jobs):
                put_off.append(peer)
                if not record.whole_only and peer not in avoid:
                    unwilling = unwilling or peer
            elif (
                record.whole_only
                and any(
                    self._records[each].usable and not self._records[each].whole_only
                    for each in self._queue
                )
            ) or (not record.proven and (proven or (sought and self._sought >= SOUGHT))):
                put_off.append(peer)
            else:
                found = peer
        self._queue.extend(put_off)
        if found is None and put_off and not self._jobs and not (sought or proven):
            # Nobody else is left.
            found = unwilling or put_off[0]
            self._queue.remove(found)
        return found

    def _ask(self, peer: str, start: int, end: int | None) -> Ask:
        self._asks += 1
        ask = Ask(self._asks, peer, start, end, peer in self._ancestors)
        stop = end
        if end is None and self.length is not None and self._length_bound:
            stop = self.length
        self._jobs[ask.number] = Job(ask, start, stop, self._now)
        return ask

    def _drop(self, job: Job) -> list[Action]:
        return [Drop(job.number), *self._forget(job)]

    def _forget(self, job: Job) -> list[Action]:
        self._jobs.pop(job.number, None)
        actions: list[Action] = []
        for other in list(self._jobs.values()):
            if other.rival_of != job.number:
                continue
            if job.complete:
                # Nothing is left for which it could stand in.
                actions += self._set_aside(other)
            else:
                # What it was to stand in for is its own now, from where that stopped.
                other.rival_of, other.at, other.end = None, job.at, job.end
        return actions

    def _set_aside(self, job: Job) -> list[Action]:
        """Give up an ask that somebody else does better; the peer may be asked for more."""
        actions = self._drop(job)
        self._queue.append(job.peer)
        return actions

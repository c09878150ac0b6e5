"""One load: whom to ask next, and for what.

Rules of this file: pure. Events in, actions out; no reactor, no file, no clock,
no random number. Whoever drives it (``dtfc.peers.transfer``, a client, a
simulation) performs each action, reports what came of it, and tells the time.
A machine fed the same events gives the same actions.

Theory of operation
-------------------

The bytes held are stretches, and nothing but the digest of the whole says
whether they are right. What is missing is divided among asks in progress, each
of one peer for one stretch; a peer that breaks off leaves its stretch to
others.

**The first ask** is for the whole, without a range, so that a server that knows
no ranges can answer. Who says nothing for ``hedge`` seconds gets a *rival*, the
next peer, asked for the same; so does one that stops in the middle. The first
of the two that sends is kept, the other dropped. After each "I do not have it"
one more peer is asked at a time, up to ``SEEKING`` times as many as may send; but
not by those who wait for an ancestor, for they are many.

**Several peers.** A lone fast peer keeps its one long ask. While others are
idle, the ask that will take the longest is shortened, and an idle peer gets its
end, in proportion to what is known of both rates; nothing is divided that will
be here within ``WORTH_SPLITTING`` seconds, or is shorter than two chunks.

**Ancestors** are peers that are asked also for what they are loading
themselves. Nothing is divided between one of them and others; who did not have
it is asked again a little later, and then takes over what a peer that has the
whole is sending. So one that has the whole is asked by few.

**Who sends to others first** (a 503 that says so, or a body cut off after a head
that had said so) did nothing wrong. It is asked again a little later, while others
are asked; where there is nobody else the load waits for it, and does not end.

**Wanted bytes** come first. If they will not come by themselves within a
moment, the ask that would bring them is shortened to end before them, and
somebody is asked for them and all that follow, on a second connection to the
same peer if there is no other. Where there is no room for one more ask, one
that brings nothing that is wanted is shortened to its current chunk.

**The peers are asked in order.** A *round* is one pass over them; who delivered
something and broke off comes again at its end. A round that brought bytes is
followed by another, a round that brought none ends the load: *nobody has it* if
every single peer said so, otherwise *not reached*, with what each of them did.

**Lengths.** The first peer whose bytes are kept binds the length. One that
names another length, or says that there is nothing where bytes are missing,
*disputes* it; it is passed over, since only the digest knows who is right.

**Ranges.** A peer that answers a range with the whole (200) is put off until
there is no other; then its body is passed over up to what is missing.

**Chunk maps** (``dtfc.peers.hearsay``) are asked for when there is use for them:
bytes of several peers, or of an earlier process, somebody who waits for a
chunk to be compared, a whole that is wrong. A chunk against the word of the
maps is asked for once more, from another peer. If that one sends the same
bytes, or there is no other, it is the maps that are believed no longer.
Otherwise it is the first sender.

**A wrong whole.** If there are maps, one after the other is followed: the
chunks it calls wrong are fetched again, from others than sent them, until the
digest is right or the map is refuted. If there are none, then: if one peer
alone gave the bytes, it lied: it is excluded, and the load begins again without
it. If several did (or a left-over part was used), or the round ended on a
dispute, nobody can say which: the load begins again *alone*, taking the whole
from one peer at a time, and then a wrong whole has one author.

**Bounds.** Each ask that brings less than ``FRUITFUL`` bytes and not all of
what it was for costs patience, each other one restores it; the patience is
``4 * peers + 4``. A peer that failed twice running without a byte is out for
this load. A chunk is fetched again because of a map at most once for each peer,
each followed map ends refuted or with the load, wrong wholes without maps
exclude a peer or begin the *alone* pass, of which there is one. So every load
ends.

**Busy.** A peer that says 503 with a ``Retry-After`` of at most ``SHORT_WAIT``
seconds is asked once more, after the others.
"""

from __future__ import annotations

import math

from dtfc.http.ranges import Offer, Refusal, judge_reply
from dtfc.http.replies import GIVES_WAY, YES
from dtfc.peers.asks import Job, Record
from dtfc.peers.dealing import HAIR, SILENT, PullLimits
from dtfc.peers.doubting import Doubting
from dtfc.peers.hearsay import Hearsay
from dtfc.peers.steps import (
    Action,
    Answered,
    Ended,
    Event,
    Failed,
    Finish,
    Got,
    Hashed,
    Lacks,
    Mapped,
    MapWanted,
    NobodyHasIt,
    Note,
    NotReached,
    Outcome,
    Take,
    Verified,
    Verify,
    Wait,
    Waited,
    Wanted,
)
from dtfc.store.chunkmap import CHUNK
from dtfc.store.spans import Spans

__all__ = ["Pull", "PullLimits"]

FRUITFUL = 64 * 1024
"""An ask that brought at least so many bytes was worth it."""

SHORT_WAIT = 5
"""The longest ``Retry-After``, in seconds, that is waited for within a load."""

PAUSE = 1.0
"""Seconds between two rounds, so that a peer that restarts is not hammered."""

DEFAULT_RETRY_AFTER = 10
"""Seconds after which a client should ask again, if no peer named a time."""

LONGEST_RETRY_AFTER = 3600
"""No peer makes clients wait longer than so many seconds."""

LONGEST_REFUSED = 600.0
"""Seconds for which peers may send to others first, and nothing comes, before that ends a load."""

LOOK_EVERY = 0.1
"""Seconds between two looks at how fast the asks in progress are."""

_MOST_WISHES = 64
_ALONE_TRIES = 3
_LOST = 2
_UNAVAILABLE = 503
_ABOUT_THE_BYTES = (200, 206, 416)


class Pull(Doubting):
    """One load; its arguments are :class:`dtfc.peers.dealing.Dealing`'s."""

    def begin(self, now: float = 0.0) -> list[Action]:
        """The first actions."""
        self._now = now
        if self.length is not None:
            self.hearsay = Hearsay(self.length)
        if self.held.total and (self.length is None or self.ready >= self.length):
            # It may be the whole.
            self._verifying = True
            return [Verify()]
        return self._go_on()

    def on(self, event: Event, now: float | None = None) -> list[Action]:
        """What to do now that ``event`` has happened.

        An event that does not fit (a late one, of an ask that is over) changes
        nothing.

        Args:
            event: what happened.
            now: the time; None if it is still the same.
        """
        if now is not None:
            self._now = max(self._now, now)
        actions: list[Action] = []
        if self._over:
            return actions
        match event:
            case Answered() | Ended() | Failed() | Got():
                job = self._jobs.get(event.number)
                if job is not None:
                    actions = self._on_job(job, event)
            case Verified() if self._verifying:
                self._verifying = False
                actions = self._verified(event)
            case Waited():
                actions = self._waited()
            case Wanted():
                actions = self._wants(event)
            case Hashed() | Mapped() | MapWanted():
                actions = self._on_maps(event)
        return actions

    def _on_maps(self, event: Hashed | Mapped | MapWanted) -> list[Action]:
        match event:
            case Hashed():
                return self._hashed(event.chunk, event.sha256)
            case Mapped():
                return self._mapped(event)
        self._map_wanted = True
        return self._ask_maps()

    def _wants(self, wanted: Wanted) -> list[Action]:
        if len(self._wanted) > _MOST_WISHES:
            for held in self.held:
                self._wanted.remove(*held)
        start, end = wanted.start, wanted.end
        self._wanted.add(start - start % CHUNK, -(-end // CHUNK) * CHUNK)
        return self._go_on() if self._jobs else []

    def _on_job(self, job: Job, event: Answered | Ended | Failed | Got) -> list[Action]:
        match event:
            case Got():
                return self._got(job, event.count)
            case Failed():
                return [*self._broke_off(job, event.reason), *self._go_on()]
            case Answered() if not job.taking:
                return self._answered(job, event)
            case Ended() if job.taking:
                return self._ended(job, event)
        return []

    # -- an answer ---------------------------------------------------------------

    def _answered(self, job: Job, event: Answered) -> list[Action]:
        record = self._records[job.peer]
        job.gives_way = event.fields(GIVES_WAY.lower()) == [YES]
        judged = judge_reply(
            event.status,
            event.fields,
            job.ask.start,
            self.length if self._length_bound else None,
            self._digest_hex,
            end=job.ask.end,
        )
        if isinstance(judged, Refusal):
            if job.gives_way and event.status == _UNAVAILABLE:
                after = min(judged.retry_after or 1, SHORT_WAIT)
                self._give_way(job, "sends to others first", float(max(1, after)))
                return [*self._drop(job), *self._go_on()]
            return self._refused(job, record, event, judged)
        if judged.total < job.ask.start:
            reason = f"says {judged.total} bytes, {job.ask.start} are here already"
            return self._disputed(job, record, reason)
        if judged.start < job.ask.start and not self._alone and self._others_serve_ranges(job):
            record.whole_only = True
            record.reason = "ignores ranges"
            self._queue.append(job.peer)
            self._fruitless += 1
            return [*self._drop(job), *self._go_on()]
        base = self._jobs.get(job.rival_of) if job.rival_of is not None else None
        dropped: list[Action] = []
        if base is not None:
            alive = not job.for_slow and self._now - base.moved < SILENT
            if base.taking and (alive or base.complete):
                # It has come to life again, or is about to end.
                return [*self._set_aside(job), *self._go_on()]
            if base.taking:
                how = "is slow" if job.for_slow else f"sent nothing for {SILENT:g} seconds"
                dropped.append(Note(base.peer, f"{how}; another sends the rest"))
            job.at, job.end = base.at, base.end
            dropped += self._set_aside(base)
        job.rival_of = None
        return [*dropped, *self._take(job, judged), *self._go_on()]

    def _take(self, job: Job, offer: Offer) -> list[Action]:
        if self.length != offer.total or self.hearsay is None:
            self.length = offer.total
            self.hearsay = Hearsay(offer.total)
        end = offer.total if job.end is None else min(job.end, offer.total)
        job.end = end
        # Of what it was asked for, some may have come from a rival meanwhile.
        job.at = min(max(job.at, job.ask.start), end)
        job.takes(self._now)
        self.hedges_won += job.hedges
        job.hedges = False
        self._records[job.peer].proven = True
        actions: list[Action] = []
        for other in list(self._jobs.values()):
            # Whoever was asked for the same when the length was not known.
            if other is not job and not other.taking and other.end is None:
                actions += self._set_aside(other)
        return [*actions, Take(job.number, job.at - offer.start, end - job.at, job.at)]

    def _others_serve_ranges(self, job: Job) -> bool:
        return any(
            not self._records[peer].whole_only and self._records[peer].usable
            for peer in (*self._queue, *(j.peer for j in self._jobs.values() if j is not job))
        )

    def _refused(self, job: Job, record: Record, event: Answered, refusal: Refusal) -> list[Action]:
        if refusal.kind == "absent":
            record.absent = True
            record.absent_at = self._now
            self._widen(job)
            self._sought += 1
            actions = self._drop(job)
            self._settle(job)
            return [*actions, Lacks(job.peer), *self._go_on()]
        if refusal.kind == "wrong" and event.status in _ABOUT_THE_BYTES:
            if job.ask.start or self._length_bound:
                return self._disputed(job, record, refusal.reason)
            record.excluded = True
        record.retry_after = refusal.retry_after
        return [*self._drop(job), *self._broke_off(job, refusal.reason), *self._go_on()]

    def _disputed(self, job: Job, record: Record, reason: str) -> list[Action]:
        record.disputes = True
        record.lost = not self._alone
        return [*self._drop(job), *self._broke_off(job, reason), *self._go_on()]

    # -- a body ------------------------------------------------------------------

    def _got(self, job: Job, count: int) -> list[Action]:
        if count <= 0 or not job.taking:
            return []
        end = job.at + count
        self.held.add(job.at, end)
        for peer, spans in self._from.items():
            if peer != job.peer:
                spans.remove(job.at, end)
        self._from.setdefault(job.peer, Spans()).add(job.at, end)
        job.at = end
        job.delivered += count
        job.moved = self._now
        self._refused_since = math.inf
        self._progress = True
        first, self._length_bound = not self._length_bound, True
        return self._go_on() if first and self._wanted and job.at < (job.end or 0) else []

    def _ended(self, job: Job, event: Ended) -> list[Action]:
        if job.at < (job.end or 0):
            reason = event.cut or "sent less than it offered"
            if job.gives_way and event.broken_off:
                self._give_way(job, reason, 1.0)
                return [*self._forget(job), *self._go_on()]
            return [*self._broke_off(job, reason), *self._go_on()]
        # The end is its word too, even if it sent no byte (of an empty blob).
        self._from.setdefault(job.peer, Spans())
        self._length_bound = True
        actions = self._forget(job)
        self._records[job.peer].rate = job.rate or self._records[job.peer].rate
        self._settle(job, whole=True)
        if not self._alone:
            self._queue.appendleft(job.peer)
        return [*actions, *self._go_on()]

    def _broke_off(self, job: Job, reason: str) -> list[Action]:
        record = self._records[job.peer]
        record.reason = reason
        actions = self._forget(job)
        if job.delivered and self._alone:
            self._queue.appendleft(job.peer)
        elif job.delivered:
            self._queue.append(job.peer)
        self._settle(job)
        return [*actions, Note(job.peer, reason)]

    def _settle(self, job: Job, *, whole: bool = False) -> None:
        record = self._records[job.peer]
        record.failures = 0 if job.delivered or whole else record.failures + 1
        if record.failures >= _LOST:
            record.lost = True
        if job.delivered >= FRUITFUL or (whole and job.delivered):
            self._fruitless = 0
            record.tries_alone = 0
        else:
            self._fruitless += 1
            record.tries_alone += 1

    # -- what next ---------------------------------------------------------------

    def _go_on(self) -> list[Action]:
        """Give work to whoever has none, and see whether it is over."""
        if self._over or self._verifying or self._pausing:
            return []
        if self.length is not None and self._length_bound and self.held.has(0, self.length):
            # Whoever sent the last of it is about to end.
            ending = any(j.taking and j.complete for j in self._jobs.values())
            return [] if ending else self._all_here()
        if self._fruitless > 4 * len(self._records) + 4:
            # Whoever is sending may finish.
            if any(job.taking for job in self._jobs.values()):
                return []
            return [*self._drop_all(), *self._give_up()]
        actions = self._ask_alone() if self._alone else self._ask_more()
        if not self._jobs:
            return [*actions, *self._round_over()]
        actions += self._ask_maps()
        return [*actions, *self._look_later()]

    def _all_here(self) -> list[Action]:
        actions = self._drop_all()
        self._verifying = True
        return [*actions, Verify()]

    def _drop_all(self) -> list[Action]:
        actions: list[Action] = []
        while self._jobs:
            actions += self._set_aside(next(iter(self._jobs.values())))
        return actions

    def _look_later(self) -> list[Action]:
        """Ask to be woken, if time alone can change what is to be done."""
        if self._alone or not (self._queue or self._later or self._may_ask_back()):
            return []
        silent = all(not job.taking for job in self._jobs.values())
        seconds = self.limits.hedge if silent else LOOK_EVERY
        if self._look_due and self._look_at <= self._now + seconds + HAIR:
            return []
        self._look_due = True
        self._look_at = self._now + seconds
        return [Wait(seconds)]

    def _waited(self) -> list[Action]:
        self._look_due = False
        self._pausing = False
        for job in self._jobs.values():
            job.look(self._now)
            if job.rate is not None:
                self._records[job.peer].rate = job.rate
        self._ask_again()
        if not self._alone:
            self._ask_back()
        return self._go_on()

    def _ask_alone(self) -> list[Action]:
        if self._jobs:
            return []
        while self._queue:
            peer = self._queue.popleft()
            record = self._records[peer]
            if not record.usable or record.tries_alone >= _ALONE_TRIES:
                continue
            actions: list[Action] = []
            if peer != self._alone_with:
                self._alone_with = peer
                actions += self._restart()
            if not self._length_bound:
                self.length = None
            return [*actions, self._ask(peer, self.held.front, None)]
        return []

    # -- rounds ------------------------------------------------------------------

    def _round_over(self) -> list[Action]:
        if self._later:
            if self._now - self._refused_since < LONGEST_REFUSED:
                soonest, _ = min(self._later.values())
                return self._pause(max(0.0, soonest - self._now))
            self._later.clear()
        if not self._alone:
            if self._progress:
                self._new_round()
                if self._queue:
                    return self._pause(PAUSE)
            if self.held.total and any(
                record.disputes and not record.excluded for record in self._records.values()
            ):
                return [*self._begin_alone(), *self._go_on()]
        busy = {
            peer: record.retry_after
            for peer, record in self._records.items()
            if record.retry_after is not None and record.retry_after <= SHORT_WAIT
        }
        if busy and not self._waited_for_busy:
            self._waited_for_busy = True
            self._queue.extend(busy)
            return self._pause(max(1.0, *busy.values()))
        return self._give_up()

    def _pause(self, seconds: float) -> list[Action]:
        self._pausing = True
        self._look_due = True
        self._look_at = self._now + seconds
        return [Wait(seconds)]

    # -- over --------------------------------------------------------------------

    def _give_up(self) -> list[Action]:
        if all(record.absent for record in self._records.values()):
            return self._finish(NobodyHasIt())
        reasons = {
            peer: record.reason for peer, record in self._records.items() if not record.absent
        }
        named = [r.retry_after for r in self._records.values() if r.retry_after is not None]
        after = max(1, min(named, default=DEFAULT_RETRY_AFTER))
        return self._finish(NotReached(reasons, min(after, LONGEST_RETRY_AFTER)))

    def _finish(self, outcome: Outcome) -> list[Action]:
        self._over = True
        self._jobs.clear()
        return [Finish(outcome)]

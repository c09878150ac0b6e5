"""One load: whom to ask next, and for what.

Rules of this file: pure. Events in, actions out; no reactor, no file, no clock,
no random number. Whoever drives it (``dtfc.peers.loader``, a client, a
simulation) performs each action and reports what came of it. A machine fed the
same events gives the same actions.

Theory of operation
-------------------

The bytes held are always ``[0, ready)``, and nothing but the digest of the
whole says whether they are right. Peers are asked in the order of the list,
each for ``bytes=ready-``. A peer that breaks off is followed by the next one,
which goes on where the first stopped; having delivered something, the first
may come again at the end of the round. A *round* is one pass over the peers. A
round that brought bytes is followed by another, a round that brought none ends
the load: *nobody has it* if every single peer said so, otherwise *not reached*,
with what each of them did.

What is left over from an earlier process is checked before anybody is asked:
it may be the whole. Its length is not believed to be right, only hoped.

**Lengths.** The first peer whose bytes are kept binds the length. One that
names another length, or says that there is nothing at ``ready``, *disputes*
it; it is passed over, since only the digest knows who is right.

**Ranges.** A peer that answers a range with the whole (200) is put off until
the round has no other; then the first ``ready`` bytes of its body are skipped.

**Wrong bytes.** If one peer alone gave them, it lied: it is excluded, and the
load begins again without it. If several did (or a left-over part was used), or
the round ended on a dispute, nobody can say which: the load begins again
*alone*, taking the whole from one peer at a time, and then a wrong whole has
one author.

**Bounds.** Each ask that brings less than ``FRUITFUL`` bytes costs patience,
each other one restores it; the patience is ``4 * peers + 4``. A peer that failed
twice running without a byte is out for this load. Wrong wholes exclude a peer or
begin the *alone* pass, of which there is one. So every load ends.

**Busy.** A peer that says 503 with a ``Retry-After`` of at most ``SHORT_WAIT``
seconds is asked once more, after the others.

Transitions
-----------

====================  =================================  ==============================
state                 event                              actions, next state
====================  =================================  ==============================
new                   (begin) something left over        Verify, *verifying*
new                   (begin)                            as *next*
asking                Answered: bytes at ``ready``       Take, *taking*
asking                Answered: the whole, others left   Drop, put off, as *next*
asking                Answered: the whole, none left     Take with skip, *taking*
asking                Answered: it has no such blob      Drop, as *next*
asking                Answered: anything else            Drop, Note, as *next*
asking, taking        Failed                             Note, as *next*
taking                Got                                *taking*
taking                Ended, all there                   Verify, *verifying*
taking                Ended, cut                         Note, as *next*
verifying             Verified, right                    Finish(Complete), *over*
verifying             Verified, wrong, left over         as *next*
verifying             Verified, wrong                    Note, Restart, as *next*
waiting               Waited                             as *next*
over                  anything                           nothing
====================  =================================  ==============================

*next*: a peer is left in this round: Ask, *asking*. Else the round brought
bytes: Wait, *waiting*, and a new round. Else there was a dispute: Restart, the
*alone* pass. Else somebody was briefly busy: Wait, *waiting*. Else Finish,
*over*.

Every Ask carries a number, and an event that names another number than the ask
in progress is ignored: so several asks can be open at once in a later form of
this machine without a change of its vocabulary.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from dtfc.http.ranges import Offer, Refusal, judge_reply
from dtfc.peers.steps import (
    Action,
    Answered,
    Ask,
    Complete,
    Drop,
    Ended,
    Event,
    Failed,
    Finish,
    Got,
    NobodyHasIt,
    Note,
    NotReached,
    Outcome,
    Restart,
    Take,
    Verified,
    Verify,
    Wait,
    Waited,
)

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

_ALONE_TRIES = 3
_LOST = 2
_ABOUT_THE_BYTES = (200, 206, 416)


class _State(enum.Enum):
    NEW = "new"
    ASKING = "asking"
    TAKING = "taking"
    VERIFYING = "verifying"
    WAITING = "waiting"
    OVER = "over"


@dataclass(slots=True)
class _Record:
    """What one peer has done during this load."""

    reason: str = "not asked"
    absent: bool = False
    excluded: bool = False
    disputes: bool = False
    whole_only: bool = False
    failures: int = 0
    tries_alone: int = 0
    retry_after: int | None = None

    @property
    def asked_again(self) -> bool:
        return not self.absent and not self.excluded and self.failures < _LOST


class Pull:
    """One load.

    Args:
        peers: URLs in the order in which to ask.
        ready: bytes held from an earlier process.
        digest_hex: the blob, to recognise a peer that is about to send another;
            None if there is nothing to compare.
    """

    def __init__(self, peers: Sequence[str], ready: int = 0, digest_hex: str | None = None) -> None:
        self.ready = ready
        """Bytes held: those of the blob from 0 on, as far as anyone knows."""
        self.length: int | None = None
        """Of the whole, as a peer said it; not certain before the load is over."""
        self._digest_hex = digest_hex
        self._records = {peer: _Record() for peer in peers}
        self._state = _State.NEW
        self._queue = deque(self._records)
        self._ask: Ask | None = None
        self._asks = 0
        # What the ask in progress brought, and since when nothing worthwhile came.
        self._delivered = 0
        self._fruitless = 0
        self._progress = False
        # Where the bytes held came from; the length binds once some are held.
        self._left_over = ready > 0
        self._sources: set[str] = set()
        self._length_bound = False
        self._alone = False
        self._alone_with: str | None = None
        self._waited_for_busy = False

    @property
    def over(self) -> bool:
        """Whether :class:`Finish` was given out."""
        return self._state is _State.OVER

    def begin(self) -> list[Action]:
        """The first actions."""
        if self._left_over:
            self._state = _State.VERIFYING
            return [Verify()]
        return self._next()

    def on(self, event: Event) -> list[Action]:
        """What to do now that ``event`` has happened.

        An event that does not fit the state (a late one, of an ask that is
        over) changes nothing.
        """
        actions: list[Action] = []
        match event, self._state:
            case Verified(), _State.VERIFYING:
                actions = self._verified(event)
            case Waited(), _State.WAITING:
                actions = self._next()
            case ((Answered() | Got() | Ended() | Failed()), (_State.ASKING | _State.TAKING)):
                if self._ask is not None and event.number == self._ask.number:
                    actions = self._on_ask(self._ask, event)
        return actions

    def _on_ask(self, ask: Ask, event: Answered | Got | Ended | Failed) -> list[Action]:
        actions: list[Action] = []
        match event, self._state:
            case Failed(), _:
                actions = self._broke_off(ask, event.reason)
            case Answered(), _State.ASKING:
                actions = self._answered(ask, event)
            case Got(), _State.TAKING:
                self._got(ask, event)
            case Ended(), _State.TAKING:
                actions = self._ended(ask, event)
        return actions

    # asking

    def _answered(self, ask: Ask, event: Answered) -> list[Action]:
        record = self._records[ask.peer]
        judged = judge_reply(event.status, event.fields, ask.start, self.length, self._digest_hex)
        if isinstance(judged, Refusal):
            return self._refused(ask, record, event, judged)
        if judged.total < ask.start:
            reason = f"says {judged.total} bytes, {ask.start} are here already"
            return self._disputed(ask, record, reason)
        whole_unasked = judged.start < ask.start
        if whole_unasked and not self._alone and self._others_serve_ranges():
            record.whole_only = True
            record.reason = "ignores ranges"
            self._queue.append(ask.peer)
            self._fruitless += 1
            self._ask = None
            return [Drop(ask.number), *self._next()]
        return self._take(ask, judged)

    def _take(self, ask: Ask, offer: Offer) -> list[Action]:
        skip = ask.start - offer.start
        self.length = offer.total
        self._state = _State.TAKING
        return [Take(ask.number, skip, offer.total - ask.start)]

    def _others_serve_ranges(self) -> bool:
        return any(not self._records[peer].whole_only for peer in self._queue)

    def _refused(
        self, ask: Ask, record: _Record, event: Answered, refusal: Refusal
    ) -> list[Action]:
        if refusal.kind == "absent":
            record.absent = True
            self._settle(ask)
            return [Drop(ask.number), *self._next()]
        if refusal.kind == "wrong" and event.status in _ABOUT_THE_BYTES:
            if ask.start:
                return self._disputed(ask, record, refusal.reason)
            record.excluded = True
        record.retry_after = refusal.retry_after
        return [Drop(ask.number), *self._broke_off(ask, refusal.reason)]

    def _disputed(self, ask: Ask, record: _Record, reason: str) -> list[Action]:
        record.disputes = True
        return [Drop(ask.number), *self._broke_off(ask, reason)]

    # taking

    def _got(self, ask: Ask, event: Got) -> None:
        if event.count > 0:
            self.ready += event.count
            self._delivered += event.count
            self._length_bound = True
            self._progress = True
            self._sources.add(ask.peer)

    def _ended(self, ask: Ask, event: Ended) -> list[Action]:
        if event.cut is not None or self.ready != self.length:
            return self._broke_off(ask, event.cut or "sent less than it offered")
        # The end is its word too, even if it sent no byte (of an empty blob).
        self._sources.add(ask.peer)
        self._settle(ask)
        self._state = _State.VERIFYING
        return [Verify()]

    def _broke_off(self, ask: Ask, reason: str) -> list[Action]:
        record = self._records[ask.peer]
        record.reason = reason
        if self._delivered and self._alone:
            self._queue.appendleft(ask.peer)
        elif self._delivered:
            self._queue.append(ask.peer)
        self._settle(ask)
        return [Note(ask.peer, reason), *self._next()]

    def _settle(self, ask: Ask) -> None:
        record = self._records[ask.peer]
        if self._delivered:
            record.failures = 0
        else:
            record.failures += 1
        if self._delivered >= FRUITFUL:
            self._fruitless = 0
            record.tries_alone = 0
        else:
            self._fruitless += 1
            record.tries_alone += 1
        self._ask = None
        self._delivered = 0

    # verifying

    def _verified(self, event: Verified) -> list[Action]:
        if event.right:
            return self._finish(Complete())
        if not self._sources:
            # What was left over is not the whole, as was to be expected.
            return self._next()
        if len(self._sources) == 1 and not self._left_over:
            return self._blame(*self._sources)
        return [*self._begin_alone(), *self._next()]

    def _blame(self, peer: str) -> list[Action]:
        record = self._records[peer]
        record.excluded = True
        record.reason = "sent bytes with another digest"
        actions: list[Action] = [Note(peer, record.reason), *self._restart()]
        if not self._alone:
            self._new_round()
        return [*actions, *self._next()]

    # next

    def _next(self) -> list[Action]:
        if self._fruitless > 4 * len(self._records) + 4:
            return self._give_up()
        while self._queue:
            peer = self._queue.popleft()
            if not self._records[peer].asked_again:
                continue
            if self._alone and self._records[peer].tries_alone >= _ALONE_TRIES:
                continue
            return self._ask_peer(peer)
        return self._round_over()

    def _ask_peer(self, peer: str) -> list[Action]:
        actions: list[Action] = []
        if self._alone and peer != self._alone_with:
            self._alone_with = peer
            actions += self._restart()
        if not self._length_bound:
            self.length = None
        self._asks += 1
        self._delivered = 0
        self._ask = Ask(self._asks, peer, self.ready)
        self._state = _State.ASKING
        return [*actions, self._ask]

    def _round_over(self) -> list[Action]:
        if not self._alone:
            if self._progress:
                self._new_round()
                if self._queue:
                    return self._wait(PAUSE)
            if self.ready and any(
                record.disputes and not record.excluded for record in self._records.values()
            ):
                return [*self._begin_alone(), *self._next()]
        busy = {
            peer: record.retry_after
            for peer, record in self._records.items()
            if record.retry_after is not None and record.retry_after <= SHORT_WAIT
        }
        if busy and not self._waited_for_busy:
            self._waited_for_busy = True
            self._queue.extend(busy)
            return self._wait(max(1.0, *busy.values()))
        return self._give_up()

    def _wait(self, seconds: float) -> list[Action]:
        self._state = _State.WAITING
        return [Wait(seconds)]

    def _new_round(self) -> None:
        self._progress = False
        self._queue = deque(peer for peer, record in self._records.items() if record.asked_again)

    def _begin_alone(self) -> list[Action]:
        self._alone = True
        self._fruitless = 0
        usable = [peer for peer, record in self._records.items() if not record.excluded]
        usable.sort(key=lambda peer: not self._records[peer].disputes)
        for peer in usable:
            self._records[peer].failures = 0
            self._records[peer].tries_alone = 0
        self._queue = deque(usable)
        return self._restart()

    def _restart(self) -> list[Action]:
        held = self.ready
        self.ready = 0
        self.length = None
        self._length_bound = False
        self._sources.clear()
        self._left_over = False
        return [Restart()] if held else []

    # over

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
        self._state = _State.OVER
        self._ask = None
        return [Finish(outcome)]

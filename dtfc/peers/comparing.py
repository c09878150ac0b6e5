"""Two nodes compare what they remember of deletions, and bring each other to the same.

How little is sent for that, and why, is told in ``dtfc.peers.agreement``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dtfc.digest import Digest
from dtfc.errors import BadInput
from dtfc.peers.agreement import (
    DEPTH,
    FEW,
    MOST_RANGES,
    MOST_RECORDS,
    Answer,
    Heard,
    Question,
    Told,
    compare,
    differing,
    parse_answer,
)

if TYPE_CHECKING:
    from dtfc.disk import Disk
    from dtfc.store.memory import Range
    from dtfc.store.records import Record

#: Questions in one round; what is left then waits for the next one. It is
#: enough to go down to each of the narrowest ranges once.
MOST_QUESTIONS = 2000


class Records(Protocol):
    """What one node remembers (blocks): :class:`dtfc.store.memory.Memory`."""

    def range(self, prefix: str) -> Range:
        """Return hash and number of the records in a range, and the hashes of its parts."""

    def records(self, prefix: str, after: Digest | None, limit: int) -> list[Record]:
        """List the records of a range in the order of their digests."""


@dataclass(slots=True)
class Round:
    """What one round with one peer came to.

    Args:
        questions: that were asked.
        taken: records that came from the peer and count now.
        given: records that the peer was told.
        sent: bytes of our messages.
        received: bytes of its answers.
        complete: whether nothing was left for the next round.
    """

    questions: int = 0
    taken: int = 0
    given: int = 0
    sent: int = 0
    received: int = 0
    complete: bool = False

    @property
    def differed(self) -> bool:
        """Whether the two did not remember the same."""
        return bool(self.taken or self.given or not self.complete)


#: Sends a question, and returns the body of the answer.
Ask = Callable[[bytes], Awaitable[bytes]]

#: Takes records that a peer has; returns how many count now. Fewer than could
#: be, if it takes no more for the moment: then the round ends.
Take = Callable[[Sequence["Record"]], Awaitable[tuple[int, bool]]]

#: Tells a peer records; returns how many it took, and bytes sent and received.
Give = Callable[[Sequence["Record"]], Awaitable[tuple[Heard, int, int]]]


def answer(memory: Records, asked: Question) -> Answer:
    """Answer a question (blocks)."""
    told: dict[str, Told] = {}
    room = MOST_RECORDS
    left: list[str] = []
    for prefix, hash_ in asked.ranges.items():
        found = memory.range(prefix)
        if found.hash.hex() == hash_:
            continue
        if len(prefix) < DEPTH and found.records > FEW and asked.after is None:
            told[prefix] = Told({digit: each.hex() for digit, each in found.children.items()})
            continue
        if room <= 0:
            left.append(prefix)
            continue
        records = memory.records(prefix, asked.after, room + 1)
        more = len(records) > room
        told[prefix] = Told(None, tuple(records[:room]), more)
        room -= len(records)
    return Answer(told, tuple(left))


class Comparing:
    """One round with one peer.

    Args:
        memory: what this node remembers.
        disk: where it is looked up.
        ask: sends a question.
        take: takes what the peer has.
        give: tells the peer what it lacks.
    """

    def __init__(self, memory: Records, disk: Disk, ask: Ask, take: Take, give: Give) -> None:
        self._memory = memory
        self._disk = disk
        self._ask = ask
        self._take = take
        self._give = give
        self.round = Round()
        self._giving: list[Record] = []
        self._refused = False
        self._cut = False

    async def run(self) -> Round:
        """Compare, and exchange what differs.

        Raises:
            BadInput: the peer's answers make no sense.
            DtfcError: as ``ask``, ``take`` and ``give`` say; what was exchanged
                stays.
        """
        whole = await self._disk.run(self._memory.range, "")
        # The last ones first: narrow ranges, so that few are waiting.
        waiting: list[tuple[str, str]] = [("", whole.hash.hex())]
        while waiting and not self._refused and self.round.questions < MOST_QUESTIONS:
            batch = dict(waiting[-MOST_RANGES:])
            del waiting[-MOST_RANGES:]
            waiting += await self._about(Question(batch))
        await self._give_all()
        self.round.complete = not (waiting or self._refused or self._cut)
        return self.round

    async def _about(self, asked: Question) -> list[tuple[str, str]]:
        """Ask one question; return what to ask about next."""
        found = await self._answer(asked)
        if found.left and not found.ranges:
            raise BadInput("an answer says something of a range at least")
        following = [(prefix, asked.ranges[prefix]) for prefix in found.left]
        for prefix, told in found.ranges.items():
            if told.children is None:
                await self._exchange(prefix, told)
            else:
                ours = await self._disk.run(self._memory.range, prefix)
                following += differing(prefix, ours, told).items()
        return following

    async def _answer(self, asked: Question) -> Answer:
        body = asked.body()
        said = await self._ask(body)
        self.round.questions += 1
        self.round.sent += len(body)
        self.round.received += len(said)
        return parse_answer(said, asked)

    async def _exchange(self, prefix: str, told: Told) -> None:
        """Compare the records of a range, page for page."""
        after: Digest | None = None
        while True:
            last = told.records[-1].digest if told.more else None
            ours = await self._disk.run(self._stretch, prefix, after, last)
            await self._settle(ours, told.records)
            if last is None or self._refused or self.round.questions >= MOST_QUESTIONS:
                self._refused = self._refused or last is not None
                return
            after = last
            found = await self._answer(Question({prefix: ""}, after))
            if prefix not in found.ranges:
                # No more records, although more were promised: they are gone.
                found = Answer({prefix: Told()})
            told = found.ranges[prefix]
            if told.children is not None:
                raise BadInput("a further page holds records")

    def _stretch(self, prefix: str, after: Digest | None, last: Digest | None) -> list[Record]:
        """List our records behind one digest, up to another one."""
        found: list[Record] = []
        while page := self._memory.records(prefix, after, MOST_RECORDS):
            for each in page:
                if last is not None and each.digest > last:
                    return found
                found.append(each)
            if last is None and len(found) >= _MOST_AT_ONCE:
                self._cut = True
                return found
            after = page[-1].digest
        return found

    async def _settle(self, ours: Iterable[Record], theirs: Iterable[Record]) -> None:
        exchange = compare(ours, theirs)
        if exchange.take:
            taken, refused = await self._take(exchange.take)
            self.round.taken += taken
            self._refused = self._refused or refused
        self._giving += exchange.give
        while len(self._giving) >= MOST_RECORDS and not self._refused:
            await self._give_some()

    async def _give_all(self) -> None:
        while self._giving and not self._refused:
            await self._give_some()

    async def _give_some(self) -> None:
        batch = self._giving[:MOST_RECORDS]
        del self._giving[:MOST_RECORDS]
        heard, sent, received = await self._give(batch)
        self.round.given += heard.taken
        self.round.sent += sent
        self.round.received += received
        self._refused = self._refused or heard.taken < len(batch)


#: Records of a narrowest range that are given in one round, where the peer has none.
_MOST_AT_ONCE = 20_000

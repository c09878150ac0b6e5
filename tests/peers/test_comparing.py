"""How two nodes find what differs, and how little they send for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import BadInput
from dtfc.peers import comparing
from dtfc.peers.agreement import (
    MOST_RECORDS,
    Answer,
    Heard,
    Told,
    parse_question,
    records_body,
)
from dtfc.peers.comparing import Comparing, Round, answer
from dtfc.store.catalog import Catalog
from dtfc.store.memory import Memory
from dtfc.store.records import Record
from tests.peers.deleting import now


def record(number: int, counter: int = 1, *, prefix: bytes = b"") -> Record:
    digest = Digest(prefix + hashlib.sha512(b"%d" % number).digest()[len(prefix) :])
    return Record(
        digest,
        counter,
        deleted=True,
        id=f"{number:032x}",
        at="2026-11-26T00:53:39.067+00:00",
        node="cd" * 16,
    )


class Pair:
    """Two nodes' memories, and the messages between them."""

    def __init__(self, ours: Memory, theirs: Memory) -> None:
        self.ours = ours
        self.theirs = theirs
        self.takes: int | None = None

    def compare(self) -> Round:
        """Let one ask the other."""
        made = Comparing(self.ours, InlineDisk(), self.ask, self.take, self.give)
        return now(Deferred.fromCoroutine(made.run()))

    async def ask(self, body: bytes) -> bytes:
        return answer(self.theirs, parse_question(body)).body()

    async def take(self, records: Sequence[Record]) -> tuple[int, bool]:
        self.ours.note_all(records)
        return len(records), False

    async def give(self, records: Sequence[Record]) -> tuple[Heard, int, int]:
        taken = len(records) if self.takes is None else min(self.takes, len(records))
        self.theirs.note_all(records[:taken])
        return Heard(taken), len(records_body(records)), 25

    @property
    def same(self) -> bool:
        """Whether both remember the same."""
        return self.ours.range("") == self.theirs.range("")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    memories = []
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        memories.append(Memory(Catalog(str(tmp_path / name), populated=lambda: False)))
    yield Pair(*memories)
    for each in memories:
        each._catalog.close()


def test_nothing_and_nothing(pair: Pair) -> None:
    found = pair.compare()
    assert (found.questions, found.differed, found.complete) == (1, False, True)
    assert found.sent + found.received < 70


@pytest.mark.parametrize("theirs", [0, 1, 8, 9, 300])
@pytest.mark.parametrize("ours", [0, 1, 8, 9, 300])
def test_each_gets_what_it_lacks(pair: Pair, ours: int, theirs: int) -> None:
    pair.ours.note_all(record(n) for n in range(ours))
    pair.theirs.note_all(record(n) for n in range(1000, 1000 + theirs))
    found = pair.compare()
    assert pair.same
    assert (found.taken, found.given) == (theirs, ours)
    assert found.complete


def test_the_newer_one_counts_on_both_sides(pair: Pair) -> None:
    pair.ours.note_all(record(n, 1 + n % 3) for n in range(200))
    pair.theirs.note_all(record(n, 1 + n % 2) for n in range(200))
    pair.compare()
    assert pair.same
    assert all(
        pair.ours.get(record(n).digest) == record(n, max(1 + n % 3, 1 + n % 2)) for n in range(200)
    )


def test_many_in_the_narrowest_range_come_in_pages(pair: Pair) -> None:
    count = 2 * MOST_RECORDS + 7
    pair.theirs.note_all(record(n, prefix=b"\xab\xcd") for n in range(count))
    pair.ours.note_all(record(n, prefix=b"\xab\xcd") for n in range(count - 5, count + 50))
    found = pair.compare()
    assert pair.same
    assert (found.taken, found.given) == (count - 5, 50)


def test_a_peer_that_takes_no_more_ends_the_round(pair: Pair) -> None:
    pair.ours.note_all(record(n) for n in range(20))
    pair.takes = 5
    found = pair.compare()
    assert (found.given, found.complete) == (5, False)


def test_a_round_has_an_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MOST_QUESTIONS", 8)
    pair.theirs.note_all(record(n) for n in range(3000))
    found = pair.compare()
    assert not found.complete
    assert found.questions == 8
    for _ in range(100):
        if pair.compare().complete:
            break
    assert pair.same


def test_a_peer_that_always_has_more_to_say_ends_too(pair: Pair) -> None:
    async def more(body: bytes) -> bytes:
        asked = parse_question(body)
        last = 0 if asked.after is None else int.from_bytes(asked.after.raw[2:8], "big")
        digest = Digest(b"\0\0" + (last + 1).to_bytes(6, "big") + bytes(56))
        endless = Record(digest, 1, deleted=True, id="ab" * 16, at="2026", node="cd" * 16)
        return Answer({prefix: Told(None, (endless,), more=True) for prefix in asked.ranges}).body()

    pair.ask = more  # type: ignore[method-assign]  # a liar
    found = pair.compare()
    assert found.questions == comparing.MOST_QUESTIONS
    assert not found.complete


def test_a_peer_that_says_nothing_of_what_it_was_asked(pair: Pair) -> None:
    async def nothing(body: bytes) -> bytes:
        return Answer({}, tuple(parse_question(body).ranges)).body()

    pair.ask = nothing  # type: ignore[method-assign]  # a liar
    with pytest.raises(BadInput):
        pair.compare()


HUNDRED_THOUSAND = 100_000

CHANGES: list[tuple[str, Callable[[Pair], None], int]] = [
    ("nothing", lambda _pair: None, 100),
    ("one, here", lambda pair: pair.ours.note(record(HUNDRED_THOUSAND)), 6_000),
    ("one, there", lambda pair: pair.theirs.note(record(HUNDRED_THOUSAND + 1)), 6_000),
    ("one, newer there", lambda pair: pair.theirs.note(record(5, 2)), 6_000),
    ("a hundred", lambda pair: pair.theirs.note_all(record(n, 3) for n in range(100)), 300_000),
]


def test_bytes_when_of_100000_records_few_differ(pair: Pair) -> None:
    for memory in (pair.ours, pair.theirs):
        memory.note_all(map(record, range(HUNDRED_THOUSAND)))
    for what, change, most in CHANGES:
        change(pair)
        found = pair.compare()
        print(
            f"\nof 100,000 records differ {what}: {found.sent} bytes sent, {found.received} "
            f"received in {found.questions} questions"
        )
        assert pair.same
        assert found.sent + found.received <= most

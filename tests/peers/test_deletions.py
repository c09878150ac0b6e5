"""Deletion everywhere between nodes in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from dtfc.digest import Digest
from dtfc.errors import BadInput, Denied, NoSpace
from dtfc.peers.agreement import parse_records, records_body
from dtfc.peers.deletions import MOST_TELLINGS, TURN, UNLISTED, DeletionTerms
from dtfc.store import durable
from dtfc.store.records import Record
from tests.peers.deleting import Node, Wire, mesh, now

DATA = b"data"


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about what a loss of power leaves."""
    monkeypatch.setattr(durable, "sync", lambda _fd: None)


@pytest.fixture
def wire() -> Wire:
    return Wire()


class Mesh:
    """Makes nodes, and closes their stores."""

    def __init__(self, wire: Wire, folder: Path) -> None:
        self._wire = wire
        self._folder = folder
        self.nodes: list[Node] = []

    def __call__(self, count: int, **more: Any) -> list[Node]:
        self.nodes = mesh(self._wire, self._folder, count, **more)
        return self.nodes


@pytest.fixture
def made(wire: Wire, tmp_path: Path) -> Iterator[Mesh]:
    each = Mesh(wire, tmp_path)
    yield each
    for node in each.nodes:
        node.store.close()


def told(counter: int, *, deleted: bool = True) -> bytes:
    record = Record(
        Digest.of(DATA), counter, deleted=deleted, id="ab" * 16, at="2026", node="cd" * 16
    )
    return records_body([record])


def test_all_acknowledge(made: Mesh) -> None:
    one, two, three = made(3)
    for node in (one, two, three):
        node.put(DATA)
    receipt = one.everywhere(DATA)
    assert one.states(receipt) == {two.name: "acknowledged", three.name: "acknowledged"}
    assert not any(node.has(DATA) for node in (one, two, three))


def test_whoever_copies_it_is_told_here_and_there_and_of_no_revival(made: Mesh) -> None:
    one, other = made(2)
    one.everywhere(DATA)
    one.put(DATA)
    assert one.gone == other.gone == [Digest.of(DATA)]


def test_who_is_down_is_told_when_it_is_back(made: Mesh, wire: Wire) -> None:
    one, two = made(2)
    two.put(DATA)
    wire.down.add(two.name)
    receipt = one.everywhere(DATA)
    assert one.states(receipt) == {two.name: "pending"}
    one.deletions.start(chores=True)
    wire.down.clear()
    one.clock.pump([1.0] * 10)
    assert one.states(receipt) == {two.name: "acknowledged"}
    assert not two.has(DATA)
    now(Deferred.fromCoroutine(one.deletions.stop()))


def test_attempts_are_further_and_further_apart(made: Mesh, wire: Wire) -> None:
    one, two = made(2)
    wire.down.add(two.name)
    one.everywhere(DATA)
    one.deletions.start(chores=True)
    one.clock.pump([1.0] * 600)
    failures, _ = one.store.memory.unreached(two.name)
    assert 5 <= failures <= 8
    now(Deferred.fromCoroutine(one.deletions.stop()))


def test_a_clock_that_was_set_back_does_not_put_off_for_an_hour(made: Mesh, wire: Wire) -> None:
    one, two = made(2)
    wire.down.add(two.name)
    receipt = one.everywhere(DATA)
    one.store.memory.put_off(two.name, 1, one.clock.seconds() + 3600, "the clock was an hour ahead")
    wire.down.clear()
    one.deletions.courier.visit(two.name)
    assert one.states(receipt) == {two.name: "acknowledged"}


def test_who_asks_after_it_was_away_is_told_at_once(made: Mesh, wire: Wire) -> None:
    one, two = made(2)
    wire.down.add(two.name)
    one.everywhere(DATA)
    one.store.memory.put_off(two.name, 9, one.clock.seconds() + 500, "down")
    wire.down.clear()
    two.compare(one)
    assert one.store.memory.unreached(two.name)[1] == 0


def test_a_process_that_was_killed_before_it_looked_up_the_peers(made: Mesh) -> None:
    one, two = made(2)
    two.put(DATA)
    one.store.delete_everywhere(Digest.of(DATA), "ef" * 16)
    one.deletions.start(chores=True)
    one.clock.advance(1)
    assert one.states("ef" * 16) == {two.name: "acknowledged"}
    assert not two.has(DATA)
    now(Deferred.fromCoroutine(one.deletions.stop()))


def test_who_is_no_peer_any_more_is_waited_for_no_longer(made: Mesh, wire: Wire) -> None:
    one, two = made(2)
    wire.down.add(two.name)
    receipt = one.everywhere(DATA)
    one.roster.urls = []
    one.deletions.start(chores=True)
    one.clock.pump([UNLISTED / 2] * 2)
    assert one.states(receipt) == {two.name: "pending"}
    one.clock.pump([UNLISTED / 2] * 3)
    assert one.states(receipt) == {}
    now(Deferred.fromCoroutine(one.deletions.stop()))


def test_a_receipt_expires(made: Mesh) -> None:
    one, _ = made(2, terms=DeletionTerms(keep=1000))
    receipt = one.everywhere(DATA)
    one.deletions.start(chores=True)
    # By the clock of the process, which for this store is today's.
    one.clock.advance(10 * 365 * 86400)
    assert one.store.memory.receipt(receipt) is None
    assert one.rank(DATA) == (1, True)
    now(Deferred.fromCoroutine(one.deletions.stop()))


def test_an_old_node_is_told_to_delete(made: Mesh) -> None:
    one, two = made(2)
    two.old = True
    two.put(DATA)
    receipt = one.everywhere(DATA)
    assert one.states(receipt) == {two.name: "acknowledged"}
    assert not two.has(DATA)


def test_a_later_put_that_was_not_known_overrules(made: Mesh, wire: Wire) -> None:
    one, two = made(2)
    one.everywhere(DATA)
    wire.down.add(one.name)
    two.put(DATA)
    two.everywhere(DATA)
    two.put(DATA)
    wire.down.clear()
    receipt = one.everywhere(DATA)
    assert one.states(receipt) == {two.name: "overruled"}
    assert two.has(DATA)
    assert one.rank(DATA) == two.rank(DATA)
    assert one.load(DATA, two)


def test_of_what_is_stored_again_no_more_are_told_at_once_than_may_be(
    made: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = made(2)
    asked: list[str] = []

    def silent(peer: str, _records: object) -> Deferred[None]:
        asked.append(peer)
        return Deferred()

    one.deletions.start(chores=True)
    one.clock.advance(1)
    one.store.hear(parse_records(told(1, deleted=False))[0])
    with monkeypatch.context() as patch:
        patch.setattr(one.deletions._correspondence, "tell", silent)
        for _ in range(MOST_TELLINGS + 5):
            one.deletions.revived(parse_records(told(1, deleted=False))[0])
    assert len(asked) == MOST_TELLINGS
    one.clock.advance(TURN)
    assert other.rank(DATA) == (1, False)
    now(Deferred.fromCoroutine(one.deletions.stop()).addCallback(lambda _none: True))


def test_a_revival_is_told_at_once(made: Mesh) -> None:
    one, two = made(2)
    one.everywhere(DATA)
    assert two.put(DATA) is not None
    assert one.rank(DATA) == (2, False)
    assert one.load(DATA, two)


class TestThreat17:
    """Forged, replayed, older, too many."""

    def hear(self, node: Node, body: bytes) -> Any:
        return now(Deferred.fromCoroutine(node.deletions.hear(body, "somebody")))

    def test_an_older_one_is_ignored_and_answered_with_the_newer(self, made: Mesh) -> None:
        (one,) = made(1)
        self.hear(one, told(5))
        one.put(DATA)
        heard, _ = self.hear(one, told(5))
        assert one.has(DATA)
        assert [each.rank for each in heard.newer] == [(6, False)]

    def test_the_same_again_does_nothing(self, made: Mesh) -> None:
        (one,) = made(1)
        self.hear(one, told(5))
        self.hear(one, told(5))
        assert one.deletions.heard == {"applied": 1, "known": 1}

    def test_nonsense_is_refused(self, made: Mesh) -> None:
        (one,) = made(1)
        with pytest.raises(BadInput):
            self.hear(one, b'{"records": [{"sha512": "x"}]}')

    def test_it_can_be_switched_off(self, made: Mesh) -> None:
        (one,) = made(1, terms=DeletionTerms(accept=False))
        one.put(DATA)
        with pytest.raises(Denied, match="accept-deletions"):
            self.hear(one, told(5))
        assert one.has(DATA)

    def test_switched_off_nothing_comes_by_comparing_either(self, made: Mesh) -> None:
        one, two = made(2)
        one.deletions.terms = DeletionTerms(accept=False)
        one.put(DATA)
        two.everywhere(DATA)
        one.compare(two)
        two.compare(one)
        assert one.has(DATA)

    def test_so_many_a_minute(self, made: Mesh) -> None:
        (one,) = made(1, terms=DeletionTerms(per_minute=60))
        records = [
            Record(Digest.of(b"%d" % n), 1, deleted=True, id="ab" * 16, at="2026", node="cd" * 16)
            for n in range(100)
        ]
        heard, wait = self.hear(one, records_body(records))
        assert heard.taken == 60
        assert wait == 7
        one.clock.advance(wait)
        heard, wait = self.hear(one, records_body(records))
        assert heard.taken == 67

    def test_what_is_here_goes_although_there_is_no_room_to_remember_the_rest(
        self, made: Mesh
    ) -> None:
        (one,) = made(1)
        one.put(DATA)
        one.store.set_reserve(1 << 60)
        elsewhere = Record(
            Digest.of(b"not here"), 1, deleted=True, id="ab" * 16, at="2026", node="cd" * 16
        )
        here = Record(Digest.of(DATA), 1, deleted=True, id="ab" * 16, at="2026", node="cd" * 16)
        with pytest.raises(NoSpace):
            self.hear(one, records_body([elsewhere, here]))
        assert not one.has(DATA)

    def test_what_was_too_many_comes_later(self, made: Mesh) -> None:
        one, two = made(2)
        two.deletions.set_terms(DeletionTerms(per_minute=60))
        blobs = [b"%d" % number for number in range(100)]
        receipts = [one.everywhere(data) for data in blobs]
        assert [one.states(each)[two.name] for each in receipts].count("pending") == 40
        one.deletions.start(chores=True)
        for _ in range(120):
            one.clock.advance(1)
            two.clock.advance(1)
        assert {one.states(each)[two.name] for each in receipts} == {"acknowledged"}
        now(Deferred.fromCoroutine(one.deletions.stop()))


class TestComparing:
    def test_it_goes_both_ways(self, made: Mesh, wire: Wire) -> None:
        one, two = made(2)
        wire.down.update((one.name, two.name))
        for number in range(30):
            one.everywhere(b"one %d" % number)
            two.everywhere(b"two %d" % number)
        wire.down.clear()
        one.compare(two)
        assert one.store.memory.range("") == two.store.memory.range("")
        assert one.store.memory.count() == 60

    def test_equal_nodes_need_one_short_question(self, made: Mesh, wire: Wire) -> None:
        one, two = made(2)
        one.everywhere(DATA)
        wire.bytes = wire.messages = 0
        one.compare(two)
        assert wire.messages == 1
        assert wire.bytes < 100
        assert one.deletions.rounds == {"equal": 1}

    def test_it_is_done_at_start_and_then_every_period(self, made: Mesh, wire: Wire) -> None:
        one, two = made(2, terms=DeletionTerms(period=100))
        wire.down.add(one.name)
        two.everywhere(DATA)
        wire.down.clear()
        one.deletions.start(chores=True)
        one.clock.advance(1)
        assert one.rank(DATA) == (1, True)
        one.clock.pump([1.0] * 350)
        assert 3 <= one.deletions.rounds["equal"] <= 4
        now(Deferred.fromCoroutine(one.deletions.stop()))

    def test_a_peer_that_comes_back_is_compared_with_before_its_turn(
        self, made: Mesh, wire: Wire
    ) -> None:
        one, two = made(2, terms=DeletionTerms(period=86400))
        wire.down.add(two.name)
        one.deletions.start(chores=True)
        one.clock.advance(1)
        two.everywhere(DATA)
        wire.down.clear()
        one.clock.pump([1.0] * int(2 * TURN + 5))
        assert one.rank(DATA) == (1, True)
        now(Deferred.fromCoroutine(one.deletions.stop()))

    def test_a_liar_is_not_believed(self, made: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
        one, two = made(2)
        one.everywhere(DATA)

        async def lie(_body: bytes) -> bytes:
            return b'{"ranges": {"": {"parts": {"0": "00"}}}}'

        monkeypatch.setattr(two.deletions, "answer", lie)
        one.compare(two)
        assert one.deletions.rounds == {"failed": 1}

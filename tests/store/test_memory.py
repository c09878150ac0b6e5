from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtfc.digest import Digest
from dtfc.errors import StoreFailure
from dtfc.store.catalog import Catalog
from dtfc.store.memory import Memory
from dtfc.store.records import Record

ID = "ab" * 16
NODE = "cd" * 16


def record(number: int, counter: int = 1, *, deleted: bool = True) -> Record:
    digest = Digest(hashlib.sha512(b"%d" % number).digest())
    name = hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()
    return Record(digest, counter, deleted=deleted, id=name, at="2026-01-01", node=NODE)


def new_memory(folder: Path) -> Memory:
    folder.mkdir(exist_ok=True)
    return Memory(Catalog(str(folder), populated=lambda: False))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    made = new_memory(tmp_path)
    yield made
    made._catalog.close()


def test_a_newer_record_takes_the_place_of_an_older_one(memory: Memory) -> None:
    memory.note(record(1, 2))
    memory.note(record(1, 3, deleted=False))
    memory.note(record(1, 1))
    assert memory.get(record(1).digest) == record(1, 3, deleted=False)


def test_records_of_a_range_come_in_order_and_pages(memory: Memory) -> None:
    memory.note_all(record(number) for number in range(500))
    prefix = record(7).digest.hex[:1]
    found: list[Record] = []
    while page := memory.records(prefix, found[-1].digest if found else None, 7):
        found += page
    expected = [record(n) for n in range(500) if record(n).digest.hex.startswith(prefix)]
    assert found == sorted(expected, key=lambda each: each.digest)


class TestRanges:
    def test_of_nothing(self, memory: Memory) -> None:
        assert memory.range("").records == 0
        assert memory.range("abcd").hash == b""
        assert memory.range("").children == {}

    def test_two_nodes_with_the_same_records_have_the_same_hash(self, tmp_path: Path) -> None:
        one, other = new_memory(tmp_path / "a"), new_memory(tmp_path / "b")
        one.note_all(record(n) for n in range(300))
        other.range("")
        for number in reversed(range(300)):
            other.note(record(number))
            if number % 50 == 0:
                other.range("")
        assert one.range("") == other.range("")
        one._catalog.close()
        other._catalog.close()

    def test_what_changes_shows_all_the_way_up(self, memory: Memory) -> None:
        memory.note_all(record(n) for n in range(300))
        path = record(5).digest.hex
        before = [memory.range(path[:depth]) for depth in range(5)]
        memory.note(record(5, 2))
        after = [memory.range(path[:depth]) for depth in range(5)]
        assert all(one.hash != other.hash for one, other in zip(before, after, strict=True))
        assert [each.records for each in before] == [each.records for each in after]

    def test_a_revival_hashes_otherwise_than_the_deletion(self, memory: Memory) -> None:
        memory.note(record(1, 2, deleted=False))
        before = memory.range("").hash
        memory.note(record(1, 2))
        assert memory.range("").hash != before

    def test_who_made_it_and_when_makes_no_difference(self, tmp_path: Path) -> None:
        hashes = set()
        for name in "ab":
            memory = new_memory(tmp_path / name)
            each = Record(record(1).digest, 1, deleted=True, id=name * 32, at=name, node=name * 32)
            memory.note(each)
            hashes.add(memory.range("").hash)
            memory._catalog.close()
        assert len(hashes) == 1

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4), st.booleans()), max_size=60),
        st.data(),
    )
    def test_kept_hashes_are_those_that_would_be_made_anew(
        self, changes: list[tuple[int, int, bool]], data: st.DataObject
    ) -> None:
        import tempfile  # noqa: PLC0415 - a folder for each example

        with tempfile.TemporaryDirectory() as folder:
            memory = new_memory(Path(folder) / "a")
            for number, counter, deleted in changes:
                memory.note(record(number, counter, deleted=deleted))
                if data.draw(st.booleans()):
                    memory.range(record(number).digest.hex[: data.draw(st.integers(0, 4))])
            kept = memory.range("")
            memory._catalog.write(lambda c: c.execute("DELETE FROM ranges"))
            assert memory.range("") == kept
            assert kept.records == len({number for number, _, _ in changes})
            memory._catalog.close()

    def test_a_catalog_that_cannot_be_written_is_not_an_empty_one(
        self, memory: Memory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory.note(record(1))
        monkeypatch.setattr(Catalog, "write", lambda *_args: None)
        with pytest.raises(StoreFailure):
            memory.range("")


@pytest.mark.prove
def test_a_million_records(memory: Memory) -> None:
    chance = random.Random(1)
    for _ in range(100):
        memory.note_all(
            Record(Digest(chance.randbytes(64)), 1, deleted=True, id=ID, at="t", node=NODE)
            for _ in range(10_000)
        )
    begun = time.monotonic()
    assert memory.range("").records == 1_000_000
    first = time.monotonic() - begun
    memory.note(record(1))
    begun = time.monotonic()
    memory.range("")
    again = time.monotonic() - begun
    begun = time.monotonic()
    memory.range("")
    known = time.monotonic() - begun
    print(
        f"\na million records: hashed in {first:.2f} s; after one more in {again * 1000:.2f} ms; "
        f"asked again in {known * 1000:.2f} ms"
    )
    assert again < 0.1


class TestReceipts:
    def made(self, memory: Memory, *peers: str) -> str:
        memory.note(record(1), ours=NODE)
        name = record(1).id
        memory.address(name, peers)
        return name

    def test_all_are_pending_at_first(self, memory: Memory) -> None:
        receipt = memory.receipt(self.made(memory, "http://a", "http://b"))
        assert receipt is not None
        assert [(each.peer, each.state) for each in receipt.deliveries] == [
            ("http://a", "pending"),
            ("http://b", "pending"),
        ]
        assert memory.pending_count() == 2

    def test_a_peer_that_was_not_reached_says_why(self, memory: Memory) -> None:
        name = self.made(memory, "http://a")
        memory.put_off("http://a", 3, 99.0, "no connection")
        receipt = memory.receipt(name)
        assert receipt is not None
        assert receipt.deliveries[0].reason == "no connection"
        assert (receipt.deliveries[0].failures, receipt.deliveries[0].next_try) == (3, 99.0)

    def test_what_was_delivered_is_not_delivered_again(self, memory: Memory) -> None:
        name = self.made(memory, "http://a", "http://b")
        memory.delivered("http://a", [(name, "acknowledged")], "now")
        assert memory.pending("http://a", 10) == []
        assert memory.pending_peers() == ["http://b"]
        receipt = memory.receipt(name)
        assert receipt is not None
        assert receipt.deliveries[0].at == "now"

    def test_what_is_pending_is_told_by_peer(self, memory: Memory) -> None:
        name = self.made(memory, "http://a", "http://b")
        memory.delivered("http://a", [(name, "acknowledged")], "now")
        pending = memory.pending_since()
        assert {peer: count for peer, (count, _) in pending.items()} == {"http://b": 1}
        assert pending["http://b"][1] > 0

    def test_what_is_delivered_is_what_counts_now(self, memory: Memory) -> None:
        name = self.made(memory, "http://a")
        memory.note(record(1, 2, deleted=False))
        assert memory.pending("http://a", 10) == [(name, 1, record(1, 2, deleted=False))]

    def test_noting_the_same_again_leaves_what_was_delivered(self, memory: Memory) -> None:
        name = self.made(memory, "http://a")
        memory.delivered("http://a", [(name, "acknowledged")], "now")
        memory.note(record(1), ours=NODE)
        assert memory.unaddressed(10) == []
        assert memory.pending_count() == 0

    def test_who_is_no_peer_any_more_has_nothing_pending(self, memory: Memory) -> None:
        self.made(memory, "http://a", "http://b")
        assert memory.forget_peer("http://a") == 1
        assert memory.pending_peers() == ["http://b"]

    def test_a_receipt_expires_and_its_record_does_not(self, memory: Memory) -> None:
        name = self.made(memory, "http://a")
        assert memory.expire(0.0, 10) == 0
        assert memory.expire(1e12, 10) == 1
        assert memory.receipt(name) is None
        assert memory.pending_count() == 0
        assert memory.get(record(1).digest) == record(1)

    def test_an_unknown_one(self, memory: Memory) -> None:
        assert memory.receipt("00" * 16) is None

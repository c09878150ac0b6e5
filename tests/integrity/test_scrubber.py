"""The scrub keeps its pace, goes out of the way, and goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent
from dtfc.integrity.healing import Healing
from dtfc.integrity.progress import Ledger
from dtfc.integrity.scrubber import BLOB_COST, LOOK_AGAIN, PAUSED, Pace, Scrubber
from dtfc.store.chunkmap import CHUNK

RATE = 1 << 20


class Nobody:
    """Peers that have nothing."""

    async def fetch(
        self, digest: Digest, _length: int, _start: int, _count: int, _is_right: Callable[..., bool]
    ) -> bytes:
        raise Absent(digest.hex, everywhere=True)


class Node:
    """A scrubber, and what is around it."""

    def __init__(self, spoilt: Any, pace: Pace | None = None) -> None:
        self.clock = Clock()
        self.busy = False
        self.loaded: list[Digest] = []
        self.healing = Healing(spoilt.store, InlineDisk(), Nobody())
        self.scrubber = Scrubber(
            spoilt.store,
            InlineDisk(),
            self.healing,
            self.clock,
            pace or Pace(RATE, 1e6),
            resident=lambda *_: True,
            busy=lambda: self.busy,
            load=self.load,
        )

    def load(self, digest: Digest) -> Deferred[object]:
        self.loaded.append(digest)
        return succeed(None)

    def run(self, seconds: float) -> None:
        """Let time pass, in steps of a tenth."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)


@pytest_twisted.ensureDeferred
async def test_it_reads_no_faster_than_it_may(spoilt: Any) -> None:
    for _ in range(6):
        spoilt.put(os.urandom(CHUNK))
    node = Node(spoilt)
    node.scrubber.start()
    node.run(3)
    assert 3 * CHUNK <= node.scrubber.bytes <= 4 * CHUNK
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_small_blobs_cost_more_than_their_bytes(spoilt: Any) -> None:
    for number in range(100):
        spoilt.put(b"%d" % number)
    node = Node(spoilt)
    node.scrubber.start()
    node.run(5)
    in_a_second = RATE // BLOB_COST
    assert 4 * in_a_second <= node.scrubber.progress.blobs <= 7 * in_a_second
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_while_others_are_served_it_is_slower(spoilt: Any) -> None:
    for _ in range(6):
        spoilt.put(os.urandom(CHUNK))
    node = Node(spoilt)
    node.busy = True
    node.scrubber.start()
    node.run(PAUSED - 1)
    assert node.scrubber.bytes == CHUNK
    node.run(PAUSED)
    assert node.scrubber.bytes == 2 * CHUNK
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_switched_off_it_reads_nothing_and_switched_on_it_goes_on(spoilt: Any) -> None:
    for _ in range(6):
        spoilt.put(os.urandom(CHUNK))
    node = Node(spoilt)
    node.scrubber.start()
    node.run(2)
    node.scrubber.pace = Pace(0, 1e6)
    node.run(1)
    read = node.scrubber.bytes
    node.run(100)
    assert node.scrubber.bytes == read
    node.scrubber.pace = Pace(RATE, 1e6)
    node.run(10)
    assert node.scrubber.bytes == 6 * CHUNK
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_off_from_the_start_it_begins_soon_after_it_was_switched_on(spoilt: Any) -> None:
    spoilt.put(b"blob")
    node = Node(spoilt, Pace(0, 1e6))
    node.scrubber.start()
    node.run(5)
    node.scrubber.pace = Pace(RATE, 1e6)
    node.run(3)
    assert node.scrubber.progress.blobs == 1
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_the_next_process_goes_on_where_it_was(spoilt: Any) -> None:
    for _ in range(40):
        spoilt.put(os.urandom(CHUNK))
    node = Node(spoilt)
    node.scrubber.start()
    node.run(20)
    read = node.scrubber.bytes
    await node.scrubber.stop()
    other = Node(spoilt)
    other.scrubber.start()
    other.run(60)
    await other.scrubber.stop()
    # Each of both has read its share, but for what was not written down.
    assert read + other.scrubber.bytes < 52 * CHUNK
    assert other.scrubber.progress.blobs == 40
    assert not other.scrubber.progress.under_way


@pytest_twisted.ensureDeferred
async def test_after_a_pass_it_rests_until_the_period_is_over(spoilt: Any) -> None:
    spoilt.put(b"blob")
    node = Node(spoilt)
    node.scrubber.start()
    node.run(2 * LOOK_AGAIN)
    assert node.scrubber.bytes == 4
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_one_process_of_a_store_scrubs(spoilt: Any) -> None:
    spoilt.put(b"blob")
    with Ledger(spoilt.store.layout.own("scrub")) as ledger:
        assert ledger.take()
        node = Node(spoilt)
        node.scrubber.start()
        node.run(2)
        assert node.scrubber.bytes == 0
    node.run(LOOK_AGAIN)
    assert node.scrubber.bytes == 4
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_a_rate_of_nothing_scrubs_nothing(spoilt: Any) -> None:
    spoilt.put(b"blob")
    node = Node(spoilt, Pace(0, 1.0))
    node.scrubber.start()
    node.run(2)
    assert node.scrubber.bytes == 0
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_what_it_finds_is_put_aside_and_the_rest_read(spoilt: Any) -> None:
    bad = [spoilt.put(os.urandom(100)) for _ in range(5)]
    good = [spoilt.put(os.urandom(100)) for _ in range(5)]
    for each in bad:
        spoilt.flip(each)
    node = Node(spoilt)
    node.scrubber.start()
    node.run(5)
    assert node.scrubber.found["corrupt"] == 5
    assert {each for each, _ in spoilt.store.repair.quarantined()} == set(bad)
    assert all(spoilt.store.holds(each) for each in good)
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_what_is_missing_is_loaded(spoilt: Any) -> None:
    digest = spoilt.put(b"blob")
    (spoilt.folder(digest) / "data").unlink()
    node = Node(spoilt)
    node.scrubber.start()
    node.run(2)
    assert node.loaded == [digest]
    await node.scrubber.stop()


@pytest_twisted.ensureDeferred
async def test_when_a_blob_was_found_right_is_remembered(spoilt: Any) -> None:
    right, wrong = spoilt.put(b"right"), spoilt.put(b"wrong")
    spoilt.flip(wrong)
    node = Node(spoilt)
    node.scrubber.start()
    node.run(2)
    await node.scrubber.stop()
    assert spoilt.store.catalog.verified_at(right) == pytest.approx(
        node.scrubber.progress.ended, abs=60
    )
    assert spoilt.store.catalog.verified_at(wrong) is None

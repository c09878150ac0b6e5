"""Healing takes no more of the disk than it must, and leaves nothing open behind it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail

from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, Corrupt, Draining, NoSpace
from dtfc.integrity.healing import Healing
from dtfc.integrity.mending import Mending, Patch
from dtfc.integrity.reading import Checks, Reading
from dtfc.store.chunkmap import CHUNK

LARGE = os.urandom(2 * CHUNK + 99)


class Peers:
    """Peers whose answers wait until the test lets them go."""

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {Digest.of(each): each for each in blobs}
        self.asked: list[Digest] = []
        self.waiting: list[Deferred[None]] = []
        self.late = False

    async def fetch(
        self,
        digest: Digest,
        _length: int,
        start: int,
        count: int,
        _is_right: Callable[[bytes], bool],
    ) -> bytes:
        self.asked.append(digest)
        if self.late:
            turn: Deferred[None] = Deferred()
            self.waiting.append(turn)
            await turn
        found = self.blobs.get(digest)
        if found is None:
            raise Absent(digest.hex, everywhere=True)
        return found[start : start + count]

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)


def never(_digest: Digest) -> Deferred[object]:
    return fail(Absent("0" * 128, everywhere=True))


@pytest_twisted.ensureDeferred
async def test_what_is_right_after_all_stays_although_no_peer_has_it(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    healing = Healing(spoilt.store, InlineDisk(), Peers())
    with spoilt.store.open(digest) as blob:
        reading = Reading(Checks(spoilt.store.repair, lambda *_: True), digest, blob.fd, len(LARGE))
        await healing.heal(reading, 1)  # the disk erred once
        reading.close()
    assert spoilt.content(digest) == LARGE
    assert not spoilt.store.repair.quarantined()


@pytest_twisted.ensureDeferred
async def test_all_who_doubt_wait_for_one_examination(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest)
    peers = Peers()
    peers.late = True
    healing = Healing(spoilt.store, InlineDisk(), peers)
    examined: list[None] = []
    real = healing._is_right

    def counted(damaged: Any) -> bool:
        examined.append(None)
        return real(damaged)

    healing._is_right = counted  # type: ignore[method-assign]  # counts what is private
    checks = Checks(spoilt.store.repair, lambda *_: True)
    with spoilt.store.open(digest) as blob:
        readings = [Reading(checks, digest, blob.fd, len(LARGE)) for _ in range(3)]
        heals = [Deferred.fromCoroutine(healing.heal(each, 0)) for each in readings]
        while peers.waiting:
            peers.answer()
        for each in heals:
            with pytest.raises(Corrupt):
                await each
        for reading in readings:
            reading.close()
    assert len(examined) == 1


@pytest_twisted.ensureDeferred
async def test_so_many_blobs_are_mended_at_once(spoilt: Any) -> None:
    first, second = os.urandom(CHUNK + 1), os.urandom(CHUNK + 2)
    digests = [spoilt.put(first), spoilt.put(second)]
    for each in digests:
        spoilt.flip(each)
    peers = Peers(first, second)
    peers.late = True
    healing = Healing(spoilt.store, InlineDisk(), peers, 1)
    mendings = [Deferred.fromCoroutine(healing.mend(each)) for each in digests]
    assert peers.asked == digests[:1]
    peers.answer()
    assert peers.asked == digests
    peers.answer()
    for mending in mendings:
        await mending
    assert [spoilt.content(each) for each in digests] == [first, second]


@pytest_twisted.ensureDeferred
async def test_nothing_is_copied_again_until_a_peer_has_what_was_lacking(
    spoilt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest, CHUNK)
    spoilt.store.repair.quarantine(digest)
    copied: list[None] = []
    real = Mending.copy

    def copy(self: Mending, patch: Patch) -> list[int]:
        copied.append(None)
        return real(self, patch)

    monkeypatch.setattr(Mending, "copy", copy)
    peers = Peers()
    healing = Healing(spoilt.store, InlineDisk(), peers)
    for _ in range(3):
        assert await healing.retry(never) == 0
    assert len(copied) == 1
    peers.blobs[digest] = LARGE
    assert await healing.retry(never) == 1
    assert spoilt.content(digest) == LARGE


def test_the_last_examination_of_a_mended_blob_can_be_given_up(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    with spoilt.store.open(digest) as blob:
        chunk_map = spoilt.store.repair.read_map(digest, len(LARGE))
        mending = Mending(
            spoilt.store.repair, blob.fd, digest, len(LARGE), chunk_map, stopped=lambda: True
        )
        with pytest.raises(Draining):
            mending.verify()
        mending.close()


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_mended_for_lack_of_room_is_not_kept_open(
    spoilt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = spoilt.put(LARGE)
    healing = Healing(spoilt.store, InlineDisk(), Peers())

    def full() -> Any:
        raise NoSpace(0, 0, 0)

    monkeypatch.setattr(spoilt.store.repair, "scratch", full)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await healing.mend(digest)
    assert len(os.listdir("/proc/self/fd")) == before

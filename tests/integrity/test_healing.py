"""A damaged blob is healed from a peer, or put aside; never served as it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed

from dtfc.digest import Digest
from dtfc.disk import InlineDisk
from dtfc.errors import Absent, Corrupt, PeersUnreached
from dtfc.integrity.healing import Healing
from dtfc.integrity.reading import Checks, Reading
from dtfc.store.chunkmap import CHUNK, ChunkMap

LARGE = os.urandom(3 * CHUNK + 99)


class Peers:
    """Peers that have some blobs.

    Args:
        blobs: that they have.
    """

    def __init__(self, *blobs: bytes) -> None:
        self.blobs = {Digest.of(each): each for each in blobs}
        self.asked: list[tuple[int, int]] = []
        self.error: Exception | None = None

    async def fetch(
        self,
        digest: Digest,
        length: int,
        start: int,
        count: int,
        is_right: Callable[[bytes], bool],
    ) -> bytes:
        self.asked.append((start, count))
        if self.error is not None:
            raise self.error
        found = self.blobs.get(digest)
        if found is None or len(found) != length or not is_right(found[start : start + count]):
            raise Absent(digest.hex, everywhere=True)
        return found[start : start + count]


class Opened:
    """A blob that is being read, and what heals it."""

    def __init__(self, spoilt: Any, digest: Digest, peers: Peers) -> None:
        self.checks = Checks(spoilt.store.repair, lambda *_: True)
        self.healing = Healing(spoilt.store, InlineDisk(), peers)
        self.blob = spoilt.store.open(digest)
        self.reading = Reading(self.checks, digest, self.blob.fd, self.blob.length)

    async def read(self, start: int, count: int) -> bytes:
        """Read bytes of one chunk as a response would."""
        fd = self.reading.sendable(start, count)
        if fd < 0:
            try:
                self.reading.prepare(start, count)
            except Corrupt as corrupt:
                await self.healing.heal(self.reading, corrupt.chunk)
            fd = self.reading.sendable(start, count)
        return os.pread(fd, count, start)

    def close(self) -> None:
        self.reading.close()
        self.blob.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("data", [b"a", b"b" * 5000, LARGE])
async def test_the_response_that_found_it_gets_the_right_bytes(spoilt: Any, data: bytes) -> None:
    digest = spoilt.put(data)
    spoilt.flip(digest)
    opened = Opened(spoilt, digest, Peers(data))
    count = min(CHUNK, len(data))
    assert await opened.read(0, count) == data[:count]
    opened.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("data", [b"a", b"b" * 5000, LARGE])
async def test_afterwards_the_blob_is_whole(spoilt: Any, data: bytes) -> None:
    digest = spoilt.put(data, "name")
    spoilt.flip(digest, len(data) - 1)
    opened = Opened(spoilt, digest, Peers(data))
    await opened.read((len(data) - 1) // CHUNK * CHUNK, 1)
    opened.close()
    assert spoilt.content(digest) == data
    assert spoilt.store.stat(digest).name == "name"
    assert opened.healing.healed == 1


@pytest_twisted.ensureDeferred
async def test_only_what_is_wrong_is_fetched(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest, 5)
    spoilt.flip(digest, 3 * CHUNK + 7)
    peers = Peers(LARGE)
    opened = Opened(spoilt, digest, peers)
    await opened.read(0, 10)
    opened.close()
    assert peers.asked == [(0, CHUNK), (3 * CHUNK, 99)]
    assert spoilt.content(digest) == LARGE


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "error", [None, PeersUnreached("0" * 128, {"http://a": "no connection"}, 3)]
)
async def test_without_a_peer_that_has_it_it_is_put_aside(
    spoilt: Any, error: Exception | None
) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest, CHUNK)
    peers = Peers()
    peers.error = error
    opened = Opened(spoilt, digest, peers)
    with pytest.raises(Corrupt):
        await opened.read(CHUNK, 1)
    opened.close()
    with pytest.raises(Absent):
        spoilt.store.open(digest)
    assert spoilt.store.repair.is_quarantined(digest)
    assert opened.healing.quarantined == 1


@pytest_twisted.ensureDeferred
async def test_what_was_put_aside_by_a_response_comes_back_when_a_peer_does(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest, CHUNK)
    peers = Peers()
    opened = Opened(spoilt, digest, peers)
    with pytest.raises(Corrupt):
        await opened.read(CHUNK, 1)
    opened.close()
    peers.blobs[digest] = LARGE
    assert await opened.healing.retry(_no_load) == 1
    assert spoilt.content(digest) == LARGE


def _lie(spoilt: Any, digest: Digest) -> None:
    """Put a map beside a blob that is whole, and of other bytes."""
    other = ChunkMap(digest, len(LARGE), os.urandom(32 * 4))
    spoilt.store.repair.write_map(other)


@pytest_twisted.ensureDeferred
async def test_a_map_that_lies_puts_nothing_aside(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    _lie(spoilt, digest)
    opened = Opened(spoilt, digest, Peers(LARGE))
    with pytest.raises(Corrupt):
        opened.reading.prepare(0, 10)
    await opened.healing.heal(opened.reading, 0)
    assert await opened.read(0, 10) == LARGE[:10]
    opened.close()
    assert not spoilt.store.repair.is_quarantined(digest)


@pytest_twisted.ensureDeferred
async def test_mending_what_only_has_a_map_that_lies_makes_the_map_anew(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    right = spoilt.store.repair.read_map(digest, len(LARGE))
    _lie(spoilt, digest)
    await Healing(spoilt.store, InlineDisk(), Peers(LARGE)).mend(digest)
    assert spoilt.content(digest) == LARGE
    assert spoilt.store.repair.read_map(digest, len(LARGE)) == right


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("left", [0, 3])
async def test_what_was_cut_off_and_put_aside_is_loaded_whole(spoilt: Any, left: int) -> None:
    digest = spoilt.put(b"a blob that is small")
    data = spoilt.folder(digest) / "data"
    data.chmod(0o644)
    os.truncate(data, left)
    loaded: list[Digest] = []

    def load(which: Digest) -> Deferred[object]:
        loaded.append(which)
        return succeed(None)

    healing = Healing(spoilt.store, InlineDisk(), Peers())
    await healing.mend(digest)
    assert await healing.retry(load) == 1
    assert loaded == [digest]


@pytest_twisted.ensureDeferred
async def test_what_was_put_aside_by_a_response_is_not_kept_open(spoilt: Any) -> None:
    before = len(os.listdir("/proc/self/fd"))
    digest = spoilt.put(LARGE)
    spoilt.flip(digest, CHUNK)
    opened = Opened(spoilt, digest, Peers())
    with pytest.raises(Corrupt):
        await opened.read(CHUNK, 1)
    opened.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the catalog's


@pytest_twisted.ensureDeferred
async def test_without_a_map_it_is_put_aside_to_be_loaded_whole(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    (spoilt.folder(digest) / "chunks").unlink()
    spoilt.flip(digest, CHUNK)
    opened = Opened(spoilt, digest, Peers(LARGE))
    with pytest.raises(Corrupt):
        await opened.read(0, 1)
    opened.close()
    assert spoilt.store.repair.is_quarantined(digest)


@pytest_twisted.ensureDeferred
async def test_what_the_scrub_found_is_mended(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest, CHUNK)
    assert await Healing(spoilt.store, InlineDisk(), Peers(LARGE)).mend(digest)
    assert spoilt.content(digest) == LARGE


@pytest_twisted.ensureDeferred
async def test_what_the_scrub_found_and_nobody_has_is_put_aside(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest, CHUNK)
    assert not await Healing(spoilt.store, InlineDisk(), Peers()).mend(digest)
    assert spoilt.store.repair.is_quarantined(digest)


def never(_digest: Digest) -> Deferred[object]:
    raise AssertionError("nothing was to be loaded")


@pytest_twisted.ensureDeferred
async def test_it_comes_back_from_quarantine_when_a_peer_has_the_chunk(spoilt: Any) -> None:
    digest = spoilt.put(LARGE, "name")
    spoilt.flip(digest, CHUNK)
    spoilt.store.repair.quarantine(digest)
    peers = Peers()
    healing = Healing(spoilt.store, InlineDisk(), peers)
    assert await healing.retry(never) == 0
    peers.blobs[digest] = LARGE
    assert await healing.retry(never) == 1
    assert peers.asked[-1] == (CHUNK, CHUNK)
    assert spoilt.content(digest) == LARGE
    assert spoilt.store.stat(digest).name == "name"
    assert not spoilt.store.repair.quarantined()


@pytest_twisted.ensureDeferred
async def test_without_a_map_the_whole_is_loaded(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    (spoilt.folder(digest) / "chunks").unlink()
    spoilt.store.repair.quarantine(digest)

    def load(wanted: Digest) -> Deferred[object]:
        assert wanted == digest
        return succeed(spoilt.put(LARGE))

    healing = Healing(spoilt.store, InlineDisk(), Peers())
    assert await healing.retry(load) == 1
    assert spoilt.content(digest) == LARGE


@pytest_twisted.ensureDeferred
async def test_what_is_here_again_leaves_the_quarantine(spoilt: Any) -> None:
    digest = spoilt.put(b"blob")
    spoilt.store.repair.quarantine(digest)
    spoilt.put(b"blob")
    await Healing(spoilt.store, InlineDisk(), Peers()).retry(never)
    assert not spoilt.store.repair.quarantined()
    assert spoilt.content(digest) == b"blob"


@pytest_twisted.ensureDeferred
async def test_what_the_operator_denies_stays_in_quarantine_no_longer(spoilt: Any) -> None:
    digest = spoilt.put(b"blob")
    spoilt.store.repair.quarantine(digest)
    (spoilt.folder(digest) / "404").touch()
    await Healing(spoilt.store, InlineDisk(), Peers(b"blob")).retry(never)
    with pytest.raises(Absent):
        spoilt.store.open(digest)


@pytest_twisted.ensureDeferred
async def test_a_disk_that_cannot_write_leaves_the_damaged_blob_and_its_reader_is_cut(
    spoilt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest)
    opened = Opened(spoilt, digest, Peers(LARGE))
    real = os.pwritev

    def full(*_args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(Corrupt):
        await opened.read(0, 1)
    monkeypatch.setattr(os, "pwritev", real)
    opened.close()


@pytest_twisted.ensureDeferred
async def test_many_readers_of_one_damaged_blob_share_its_healing(spoilt: Any) -> None:
    digest = spoilt.put(LARGE)
    spoilt.flip(digest, 5)
    peers = Peers(LARGE)
    gate: Deferred[None] = Deferred()
    real = peers.fetch

    async def slow(*args: Any) -> bytes:
        # Opened by the test.
        waiting: Deferred[None] = Deferred()
        gate.addCallback(waiting.callback)
        await waiting
        return await real(*args)

    peers.fetch = slow  # type: ignore[assignment,method-assign]  # the peers of this test answer late
    opened = Opened(spoilt, digest, peers)
    second = Reading(opened.checks, digest, opened.blob.fd, opened.blob.length)
    one = Deferred.fromCoroutine(opened.healing.heal(opened.reading, 0))
    other = Deferred.fromCoroutine(opened.healing.heal(second, 0))
    gate.callback(None)
    await one
    await other
    for reading in (opened.reading, second):
        assert os.pread(reading.sendable(0, 10), 10, 0) == LARGE[:10]
        reading.close()
    assert len(peers.asked) == 1
    opened.blob.close()


def _no_load(_digest: Digest) -> Deferred[object]:
    return fail(Absent("0" * 128, everywhere=True))

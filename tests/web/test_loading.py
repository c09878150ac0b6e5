"""What has come of a load leaves; its end waits for the digest, and a lie is cut off."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.disk import InlineDisk, Lane
from dtfc.errors import Absent, Corrupt, Retracted
from dtfc.http.ranges import Span
from dtfc.integrity.reading import Checks, Reading
from dtfc.store.chunkmap import CHUNK, ChunkMap
from dtfc.web.loading import LEAST, LoadSource, Trust
from dtfc.web.source import BlobSource

LENGTH = 2 * CHUNK + 100
CONTENT = random.Random(3).randbytes(LENGTH)
DIGEST = Digest.of(CONTENT)
HASHES = [sha256(CONTENT[at : at + CHUNK]).digest() for at in range(0, LENGTH, CHUNK)]


class TheMap:
    """The chunk map of the blob once it is stored."""

    def read_map(self, digest: Digest, length: int) -> ChunkMap | None:
        return ChunkMap(digest, length, b"".join(HASHES))

    def write_map(self, _chunk_map: ChunkMap) -> None:
        raise AssertionError("there is one")


class ALoad:
    """A load that goes as the test says."""

    def __init__(self) -> None:
        self.length: int | None = LENGTH
        self.ready = 0
        self.taken_back: list[frozenset[int] | None] = []
        self.here = False
        self.fits: set[int] = set()
        self.right = False
        self.compared = False
        self.there = True
        """Whether it is in the page cache."""
        self.hashes: dict[int, bytes] = {}
        self.wanted: list[tuple[int, int]] = []
        self.map_wanted = False
        self.error: Exception | None = None
        self.waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def held_to(self, offset: int) -> int:
        return max(offset, self.ready)

    def trusted(self, start: int, end: int) -> bool:
        return self.fits.issuperset(range(start // CHUNK, -(-end // CHUNK)))

    def sha256_of(self, chunk: int) -> bytes | None:
        return self.hashes.get(chunk)

    def to_be_compared(self, _offset: int) -> bool:
        return self.compared

    def want(self, start: int, end: int) -> None:
        self.wanted.append((start, end))

    def want_map(self) -> None:
        self.map_wanted = True

    async def until(self, reached: Callable[[], bool]) -> None:
        if self.error is not None:
            raise self.error
        if not reached() and not self.here:
            waiter: Deferred[None] = Deferred()
            self.waiting.append((reached, waiter))
            await waiter

    def come(self, ready: int, *, here: bool = False) -> None:
        self.ready, self.here, self.right = ready, here, here
        self.tell()

    def tell(self) -> None:
        waiting, self.waiting = self.waiting, []
        for reached, waiter in waiting:
            if self.here or reached():
                waiter.callback(None)
            else:
                self.waiting.append((reached, waiter))


@pytest.fixture
def load() -> ALoad:
    """Begin a load."""
    return ALoad()


@pytest.fixture
def source(load: ALoad, tmp_path: Path) -> Iterator[LoadSource]:
    """Open what has come of it."""
    path = tmp_path / "partial"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        made = source_of(load, file.fileno())
    yield made
    made.close()


def source_of(load: ALoad, fd: int) -> LoadSource:
    def resident(_fd: int, _offset: int, _count: int) -> bool:
        return load.there

    async def heal(_reading: Reading, chunk: int | None) -> None:
        raise Corrupt(DIGEST.hex, chunk)

    def stored(fd: int) -> BlobSource:
        return BlobSource(Reading(Checks(TheMap(), resident), DIGEST, fd, LENGTH), heal, Clock())

    return LoadSource(load, fd, LENGTH, resident, stored)


def flip(tmp_path: Path, at: int) -> None:
    """Change a byte of the file."""
    with (tmp_path / "partial").open("r+b") as file:
        file.seek(at)
        file.write(bytes([CONTENT[at] ^ 1]))


def lane() -> Lane:
    return Lane(InlineDisk())


def test_nothing_leaves_before_it_has_come(load: ALoad, source: LoadSource) -> None:
    assert source.ready(0, 1) == -1
    load.come(5)
    assert source.ready(0, 5) >= 0
    assert source.ready(0, 6) == -1


def test_as_much_as_is_there_is_sent_at_once(load: ALoad, source: LoadSource) -> None:
    load.come(1000)
    assert source.step(10, CHUNK) == 990


def test_while_nothing_is_there_little_is_waited_for(load: ALoad, source: LoadSource) -> None:
    assert source.step(0, CHUNK) == 1
    load.come(5)
    assert source.ready(0, 5) >= 0
    assert source.step(5, CHUNK) == LEAST
    assert source.step(5, 10) == 10


@pytest_twisted.ensureDeferred
async def test_the_last_chunk_is_held_back_although_it_has_come(
    load: ALoad, source: LoadSource
) -> None:
    load.come(LENGTH)
    assert source.ready(0, 2 * CHUNK) >= 0
    assert source.ready(2 * CHUNK, 1) == -1
    load.come(LENGTH, here=True)
    await source.prepare(lane(), 2 * CHUNK, 100)
    assert source.ready(2 * CHUNK, 100) >= 0


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_the_digest_and_not_for_the_disk(
    load: ALoad, source: LoadSource
) -> None:
    load.come(LENGTH)
    waiting = Deferred.fromCoroutine(source.prepare(lane(), 2 * CHUNK, 100))
    assert not waiting.called
    load.right = True
    load.tell()
    assert await waiting >= 0
    assert not load.here


@pytest_twisted.ensureDeferred
async def test_bytes_are_waited_for(load: ALoad, source: LoadSource) -> None:
    waiting = Deferred.fromCoroutine(source.prepare(lane(), 0, 10))
    load.come(9)
    assert not waiting.called
    load.come(10)
    assert await waiting >= 0


@pytest_twisted.ensureDeferred
async def test_the_end_is_waited_for(load: ALoad, source: LoadSource) -> None:
    waiting = Deferred.fromCoroutine(source.prepare(lane(), 2 * CHUNK, 100))
    load.come(LENGTH)
    assert not waiting.called
    load.come(LENGTH, here=True)
    assert await waiting >= 0


@pytest_twisted.ensureDeferred
async def test_what_a_liar_sent_is_not_gone_on_with(load: ALoad, source: LoadSource) -> None:
    load.come(CHUNK)
    load.taken_back.append(None)
    load.come(0)
    with pytest.raises(Retracted):
        source.ready(0, 1)
    load.come(CHUNK)
    with pytest.raises(Retracted):
        await source.prepare(lane(), 0, 1)


def test_nor_is_a_length_that_another_peer_does_not_confirm(
    load: ALoad, source: LoadSource
) -> None:
    load.come(CHUNK)
    load.length = LENGTH + 1
    with pytest.raises(Retracted):
        source.ready(0, 1)


@pytest_twisted.ensureDeferred
async def test_a_load_that_fails_says_why(load: ALoad, source: LoadSource) -> None:
    load.error = Absent("0" * 128)
    with pytest.raises(Absent):
        await source.prepare(lane(), 0, 1)


def test_the_file_is_its_own(load: ALoad, tmp_path: Path) -> None:
    path = tmp_path / "partial"
    path.write_bytes(b"12345")
    fd = os.open(path, os.O_RDONLY)
    made = source_of(load, fd)
    os.close(fd)
    load.come(5)
    assert os.pread(made.ready(0, 5), 5, 0) == b"12345"
    made.close()
    made.close()


def part_of(source: LoadSource, start: int, length: int, trust: Trust) -> None:
    source.answers([Span(start, length)], trust)


def test_a_part_ends_when_its_chunk_is_as_the_maps_say(load: ALoad, source: LoadSource) -> None:
    part_of(source, 10, 100, Trust.MAP)
    load.come(CHUNK)
    assert load.map_wanted
    assert source.provisional
    assert source.ready(10, 100) == -1
    load.fits.add(0)
    assert source.ready(10, 100) >= 0


def test_all_chunks_of_a_part_must_be(load: ALoad, source: LoadSource) -> None:
    part_of(source, 10, CHUNK, Trust.MAP)
    load.come(2 * CHUNK)
    load.fits.add(1)
    assert source.ready(10, CHUNK - 10) >= 0
    assert source.ready(CHUNK, 10) == -1
    load.fits.add(0)
    assert source.ready(CHUNK, 10) >= 0


@pytest_twisted.ensureDeferred
async def test_a_part_waits_for_the_digest_if_the_operator_says_so(
    load: ALoad, source: LoadSource
) -> None:
    part_of(source, 10, 100, Trust.DIGEST)
    load.come(LENGTH)
    load.fits |= {0, 1, 2}
    assert not source.provisional
    assert source.ready(10, 100) == -1
    load.come(LENGTH, here=True)
    assert await source.prepare(lane(), 10, 100) >= 0


def test_a_range_that_is_all_of_it_is_the_whole(load: ALoad, source: LoadSource) -> None:
    part_of(source, 0, LENGTH, Trust.MAP)
    load.come(LENGTH)
    load.fits |= {0, 1, 2}
    assert not source.provisional
    assert source.ready(2 * CHUNK, 100) == -1


def test_to_a_peer_nothing_leaves_that_was_not_compared(load: ALoad, source: LoadSource) -> None:
    part_of(source, 0, LENGTH, Trust.PEER)
    load.come(LENGTH)
    assert source.ready(0, 10) == -1
    load.fits |= {0, 2}
    assert source.ready(0, 10) >= 0
    assert source.ready(CHUNK, 10) == -1
    assert source.ready(2 * CHUNK, 100) >= 0


def test_from_the_second_chunk_on_what_can_be_compared_is(load: ALoad, source: LoadSource) -> None:
    load.come(2 * CHUNK)
    load.compared = True
    assert source.ready(0, CHUNK) >= 0
    assert source.ready(CHUNK, 10) == -1
    load.fits.add(1)
    assert source.ready(CHUNK, 10) >= 0


def test_a_wrong_chunk_that_was_not_sent_spoils_nothing(load: ALoad, source: LoadSource) -> None:
    load.come(2 * CHUNK)
    assert source.ready(0, 10) >= 0
    load.taken_back.append(frozenset({1}))
    assert source.ready(10, 10) >= 0
    load.taken_back.append(frozenset({0}))
    with pytest.raises(Retracted):
        source.ready(20, 10)


@pytest_twisted.ensureDeferred
async def test_what_is_waited_for_is_wanted_first(load: ALoad, source: LoadSource) -> None:
    part_of(source, LENGTH - 50, 50, Trust.MAP)
    waiting = Deferred.fromCoroutine(source.prepare(lane(), LENGTH - 50, 50))
    assert load.wanted == [(LENGTH - 50, LENGTH)]
    load.fits.add(2)
    load.come(LENGTH)
    assert await waiting >= 0


@pytest_twisted.ensureDeferred
async def test_what_has_left_the_page_cache_is_read_beside_the_loop(
    load: ALoad, source: LoadSource
) -> None:
    load.come(2 * CHUNK)
    load.hashes[1] = HASHES[1]
    load.there = False
    assert source.ready(CHUNK, 10) == -1
    assert await source.prepare(lane(), CHUNK, 10) >= 0


@pytest_twisted.ensureDeferred
async def test_what_the_disk_has_lost_of_it_meanwhile_does_not_leave(
    load: ALoad, source: LoadSource, tmp_path: Path
) -> None:
    load.come(2 * CHUNK)
    load.hashes[1] = HASHES[1]
    load.there = False
    flip(tmp_path, CHUNK + 5000)
    with pytest.raises(Retracted):
        await source.prepare(lane(), CHUNK, 10)


@pytest_twisted.ensureDeferred
async def test_what_was_not_hashed_yet_is_read_all_the_same(
    load: ALoad, source: LoadSource
) -> None:
    load.come(CHUNK + 10)
    load.there = False
    fd = await source.prepare(lane(), CHUNK, 10)
    assert os.pread(fd, 10, CHUNK) == CONTENT[CHUNK : CHUNK + 10]


@pytest_twisted.ensureDeferred
async def test_what_is_left_when_the_blob_is_here_is_verified(
    load: ALoad, source: LoadSource, tmp_path: Path
) -> None:
    load.come(CHUNK)
    assert source.ready(0, 10) >= 0
    load.come(LENGTH, here=True)
    flip(tmp_path, CHUNK + 5000)
    assert source.ready(CHUNK, 10) == -1
    with pytest.raises(Corrupt):
        await source.prepare(lane(), CHUNK, 10)
    assert await source.prepare(lane(), 0, 10) >= 0


@pytest_twisted.ensureDeferred
async def test_a_lie_that_was_sent_is_cut_off_also_when_the_blob_is_here(
    load: ALoad, source: LoadSource
) -> None:
    load.come(CHUNK)
    assert source.ready(0, 10) >= 0
    load.taken_back.append(frozenset({0}))
    load.come(LENGTH, here=True)
    with pytest.raises(Retracted):
        await source.prepare(lane(), CHUNK, 10)

"""No byte leaves unverified, and what is verified and still in memory leaves at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.errors import Corrupt, Draining
from dtfc.integrity.reading import AHEAD, Checks, Mode, Reading, UnderWay
from dtfc.store.chunkmap import CHUNK, ChunkHashes, ChunkMap

CONTENT = os.urandom(3 * CHUNK + 1000)
DIGEST = Digest.of(CONTENT)
HASHES = ChunkHashes()
HASHES.take([CONTENT])
MAP = ChunkMap(DIGEST, len(CONTENT), HASHES.finish())


class MapsInMemory:
    """Chunk maps that are kept in memory."""

    def __init__(self, *maps: ChunkMap) -> None:
        self.known = {each.digest: each for each in maps}
        self.read = 0

    def read_map(self, digest: Digest, length: int) -> ChunkMap | None:
        self.read += 1
        found = self.known.get(digest)
        return found if found is not None and found.length == length else None

    def write_map(self, chunk_map: ChunkMap) -> None:
        self.known[chunk_map.digest] = chunk_map


class PageCache:
    """Says what the test says."""

    def __init__(self) -> None:
        self.out: set[int] = set()

    def resident(self, _fd: int, offset: int, count: int) -> bool:
        return self.out.isdisjoint(range(offset // CHUNK, (offset + count - 1) // CHUNK + 1))


class AFile:
    """A blob in a file, and what reads it."""

    def __init__(self, path: Path, *maps: ChunkMap, mode: Mode = Mode.CHUNK) -> None:
        self.path = path
        path.write_bytes(CONTENT)
        self.maps = MapsInMemory(*maps)
        self.cache = PageCache()
        self.checks = Checks(self.maps, self.cache.resident, mode)
        self.fd = os.open(path, os.O_RDONLY)

    def reading(self) -> Reading:
        return Reading(self.checks, DIGEST, self.fd, len(CONTENT))

    def flip(self, at: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))

    def rot(self, at: int) -> None:
        """Change a byte as a bad disk does: nothing tells."""
        reading = next(iter(self.checks.open))
        earlier = reading._record  # the state of the file is private to it
        self.flip(at)
        reading._current()
        reading._record.chunks[:] = earlier.chunks
        reading._record.whole = earlier.whole


@pytest.fixture
def blob(tmp_path: Path) -> Iterator[AFile]:
    """Make a blob with its map."""
    made = AFile(tmp_path / "data", MAP)
    yield made
    os.close(made.fd)


def test_nothing_may_leave_before_it_was_verified(blob: AFile) -> None:
    assert blob.reading().sendable(0, 1) == -1


def test_a_verified_chunk_may_leave(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(CHUNK, 5)
    assert reading.sendable(CHUNK, CHUNK) == blob.fd


def test_several_verified_chunks_may_leave_at_once(blob: AFile) -> None:
    reading = blob.reading()
    for index in range(3):
        reading.prepare(index * CHUNK, 1)
    assert reading.sendable(0, 3 * CHUNK) == blob.fd


def test_several_chunks_may_not_leave_while_one_of_them_is_unverified(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(0, 1)
    reading.prepare(2 * CHUNK, 1)
    assert reading.sendable(0, 3 * CHUNK) == -1


def test_only_the_chunk_that_was_verified_may_leave(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(CHUNK, 5)
    assert reading.sendable(0, 1) == -1


def test_the_last_chunk_is_shorter_and_verified_all_the_same(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(3 * CHUNK, 1000)
    assert reading.sendable(3 * CHUNK, 1000) == blob.fd


def test_another_reader_of_the_same_file_need_not_verify_again(blob: AFile) -> None:
    one = blob.reading()
    one.prepare(0, 1)
    other = blob.reading()
    one.close()
    assert other.sendable(0, CHUNK) == blob.fd


def test_when_all_have_closed_it_it_is_verified_again(blob: AFile) -> None:
    one = blob.reading()
    one.prepare(0, 1)
    one.close()
    assert blob.reading().sendable(0, 1) == -1


def test_what_was_verified_is_not_verified_again(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(0, 1)
    reading.prepare(0, 1)
    assert blob.checks.chunks == 1


@pytest.mark.parametrize("at", [0, CHUNK - 1])
def test_a_wrong_byte_is_found_before_it_leaves(blob: AFile, at: int) -> None:
    blob.flip(at)
    reading = blob.reading()
    with pytest.raises(Corrupt) as found:
        reading.prepare(5, 1)
    assert found.value.chunk == 0
    assert reading.sendable(5, 1) == -1


def test_a_file_that_changed_is_verified_again(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(0, 1)
    blob.flip(9)
    assert reading.sendable(0, 1) == -1
    with pytest.raises(Corrupt):
        reading.prepare(0, 1)


def test_what_has_left_the_page_cache_is_verified_again(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(0, 1)
    blob.rot(9)
    blob.cache.out = {0}
    assert reading.sendable(0, 1) == -1
    with pytest.raises(Corrupt):
        reading.prepare(0, 1)


def test_what_the_kernel_is_asked_to_read_ahead_is_verified_when_it_is_there(blob: AFile) -> None:
    reading = blob.reading()
    for index in range(4):
        reading.prepare(index * CHUNK, 1)
    blob.rot(2 * CHUNK)
    blob.cache.out = {1, 2, 3}
    reading.prepare(CHUNK, 1)
    blob.cache.out = set()
    assert AHEAD >= 1
    assert reading.sendable(2 * CHUNK, 1) == -1


def test_what_another_program_read_back_is_verified_once_it_was_seen_to_be_out(
    blob: AFile,
) -> None:
    reading = blob.reading()
    reading.prepare(0, 1)
    reading.prepare(CHUNK, 1)
    blob.cache.out = {1}
    blob.checks.look_again()
    blob.cache.out = set()
    assert reading.sendable(0, 1) == blob.fd
    assert reading.sendable(CHUNK, 1) == -1


def test_where_the_kernel_cannot_say_everything_is_verified_every_time(blob: AFile) -> None:
    blob.cache.out = set(range(4))
    reading = blob.reading()
    reading.prepare(0, 1)
    reading.prepare(0, 1)
    assert reading.sendable(0, 1) == -1
    assert blob.checks.chunks == 2


def test_without_a_map_the_whole_is_verified_and_the_map_made(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data")
    reading = blob.reading()
    reading.prepare(2 * CHUNK, 1)
    assert blob.maps.known[DIGEST] == MAP
    assert reading.sendable(0, CHUNK) == blob.fd
    assert blob.checks.wholes == 1
    os.close(blob.fd)


def test_without_a_map_a_wrong_byte_anywhere_stops_every_byte(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data")
    blob.flip(3 * CHUNK)
    with pytest.raises(Corrupt) as found:
        blob.reading().prepare(0, 1)
    assert found.value.chunk is None
    assert not blob.maps.known
    os.close(blob.fd)


def test_a_map_is_read_once(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(0, 1)
    reading.prepare(CHUNK, 1)
    assert blob.maps.read == 1


def test_whole_takes_the_digest_before_the_first_byte(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data", MAP, mode=Mode.WHOLE)
    blob.flip(2 * CHUNK)
    with pytest.raises(Corrupt) as found:
        blob.reading().prepare(0, 1)
    assert found.value.chunk == 2
    os.close(blob.fd)


def test_whole_takes_it_once(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data", MAP, mode=Mode.WHOLE)
    readings = [blob.reading() for _ in range(3)]
    for reading in readings:
        reading.prepare(0, 1)
        assert reading.sendable(0, 1) == blob.fd
    assert blob.checks.wholes == 1
    os.close(blob.fd)


def test_off_verifies_nothing(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data", MAP, mode=Mode.OFF)
    blob.flip(0)
    reading = blob.reading()
    assert reading.sendable(0, 1) == blob.fd
    assert blob.checks.chunks == 0
    os.close(blob.fd)


class AnOverlay:
    """Right bytes for one chunk."""

    fd = 12345

    def __init__(self) -> None:
        self.users = 0

    def has(self, index: int) -> bool:
        return index == 1

    def forget(self, index: int) -> None:
        raise AssertionError(index)

    def hold(self) -> None:
        self.users += 1

    def release(self) -> None:
        self.users -= 1


def test_what_the_file_has_wrong_leaves_from_the_overlay(blob: AFile) -> None:
    reading = blob.reading()
    reading.take_from(AnOverlay())
    assert reading.sendable(CHUNK, 1) == AnOverlay.fd
    assert reading.sendable(0, 1) == -1


def test_an_overlay_is_let_go_of_once(blob: AFile) -> None:
    reading, overlay = blob.reading(), AnOverlay()
    reading.take_from(overlay)
    reading.take_from(overlay)
    assert overlay.users == 1
    reading.close()
    reading.close()
    assert overlay.users == 0


def test_what_was_verified_can_be_asked_for_without_looking_at_the_file(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(CHUNK, 1)
    assert reading.is_verified(CHUNK + 5, 100)
    assert not reading.is_verified(2 * CHUNK - 1, 2)


def test_with_an_overlay_nothing_goes_out_unseen(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(CHUNK, 1)
    reading.take_from(AnOverlay())
    assert not reading.is_verified(CHUNK, 1)


def test_a_closed_reading_is_not_looked_at_again(blob: AFile) -> None:
    reading = blob.reading()
    reading.prepare(0, 1)
    reading.close()
    blob.checks.look_again()
    assert not blob.checks.open


def test_one_at_a_time_reads_the_whole(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data")
    one, other = blob.reading(), blob.reading()
    with blob.checks.reading_whole(one._record), pytest.raises(UnderWay):
        other.prepare(0, 1)
    other.prepare(0, 1)
    assert one.sendable(0, 1) == blob.fd
    os.close(blob.fd)


def test_so_many_wholes_are_read_at_once(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data")
    checks = Checks(blob.maps, blob.cache.resident, most_wholes=1)
    (tmp_path / "other").write_bytes(b"x")
    with (tmp_path / "other").open("rb") as file:
        elsewhere = Reading(checks, Digest.of(b"x"), file.fileno(), 1)
        reading = Reading(checks, DIGEST, blob.fd, len(CONTENT))
        with checks.reading_whole(elsewhere._record), pytest.raises(UnderWay):
            reading.prepare(0, 1)
    os.close(blob.fd)


def test_the_reading_of_a_whole_is_given_up_when_the_process_stops(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data")
    blob.checks.stopping = True
    with pytest.raises(Draining):
        blob.reading().prepare(0, 1)
    os.close(blob.fd)


def test_of_a_whole_only_what_is_still_there_is_verified(tmp_path: Path) -> None:
    blob = AFile(tmp_path / "data")
    blob.cache.out = {0}
    reading = blob.reading()
    reading.prepare(3 * CHUNK, 1)
    blob.cache.out = set()
    assert reading.sendable(3 * CHUNK, 1) == blob.fd
    assert reading.sendable(0, 1) == -1
    os.close(blob.fd)


def test_a_healed_chunk_does_not_leave_together_with_its_neighbours(blob: AFile) -> None:
    reading = blob.reading()
    for index in range(3):
        reading.prepare(index * CHUNK, 1)
    reading.take_from(AnOverlay())
    assert reading.sendable(0, 3 * CHUNK) == -1

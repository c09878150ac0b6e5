"""What is sent was verified, whatever happens between the verifying and the sending."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.disk import InlineDisk, Lane
from dtfc.errors import Corrupt
from dtfc.integrity.examining import Examined
from dtfc.integrity.healing import Healing
from dtfc.integrity.reading import Checks, Mode, Reading
from dtfc.store.blobs import Store, open_store
from dtfc.store.chunkmap import CHUNK, ChunkMap
from dtfc.web.source import TRIES, BlobSource

CONTENT = os.urandom(4 * CHUNK)


class Peers:
    """They have the blob."""

    async def fetch(
        self,
        _digest: Digest,
        _length: int,
        start: int,
        count: int,
        is_right: Callable[[bytes], bool],
    ) -> bytes:
        piece = CONTENT[start : start + count]
        if not is_right(piece):
            raise AssertionError("asked for something else")
        return piece


class Opened:
    """A blob that is sent."""

    def __init__(self, store: Store, mode: Mode) -> None:
        self.store = store
        intake = store.intake(None)
        intake.write([CONTENT])
        self.digest = intake.commit(None).info.digest
        self.checks = Checks(store.repair, lambda *_: True, mode)
        self.blob = store.open(self.digest)
        self.healing = Healing(store, InlineDisk(), Peers())
        self.reading = Reading(self.checks, self.digest, self.blob.fd, self.blob.length)
        self.source = BlobSource(self.reading, self.healing.heal, Clock())
        self.lane = Lane(InlineDisk())

    def flip(self, *places: int) -> None:
        path = Path(self.store.layout.basedir) / self.store.layout.relative(self.digest) / "data"
        path.chmod(0o644)
        with path.open("r+b") as file:
            for at in places:
                file.seek(at)
                file.write(bytes([CONTENT[at] ^ 1]))
        path.chmod(0o444)

    async def read(self, index: int) -> bytes:
        fd = await self.source.prepare(self.lane, index * CHUNK, CHUNK)
        return os.pread(fd, CHUNK, index * CHUNK)

    def close(self) -> None:
        self.reading.close()
        self.blob.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return a new store."""
    made = open_store(str(tmp_path / "store"), fan_out=2, reserve=0)
    yield made
    made.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", [Mode.CHUNK, Mode.WHOLE])
@pytest.mark.parametrize("index", [0, 1, 2, 3])
async def test_of_several_wrong_chunks_each_is_healed(store: Store, mode: Mode, index: int) -> None:
    opened = Opened(store, mode)
    opened.flip(CHUNK + 5, 2 * CHUNK + 7)
    assert await opened.read(index) == CONTENT[index * CHUNK : (index + 1) * CHUNK]
    opened.close()


@pytest_twisted.ensureDeferred
async def test_the_whole_of_what_is_known_to_be_damaged_is_not_read_again(store: Store) -> None:
    opened = Opened(store, Mode.WHOLE)
    opened.flip(CHUNK + 5)
    examined: list[None] = []
    real = opened.reading._examine

    def counted(known: ChunkMap | None) -> Examined:
        examined.append(None)
        return real(known)

    opened.reading._examine = counted  # type: ignore[method-assign]  # counts what is private
    for index in range(4):
        assert await opened.read(index) == CONTENT[index * CHUNK : (index + 1) * CHUNK]
    assert len(examined) == 1
    opened.close()


@pytest_twisted.ensureDeferred
async def test_what_changed_after_it_was_verified_is_verified_again(store: Store) -> None:
    opened = Opened(store, Mode.CHUNK)
    real = opened.reading.prepare
    changes = [5]

    def then_changed(offset: int, count: int) -> None:
        real(offset, count)
        if changes:
            opened.flip(changes.pop())

    opened.reading.prepare = then_changed  # type: ignore[method-assign]  # the disk's thread
    assert await opened.read(0) == CONTENT[:CHUNK]
    opened.close()


@pytest_twisted.ensureDeferred
async def test_what_changes_all_the_time_does_not_leave(store: Store) -> None:
    opened = Opened(store, Mode.CHUNK)
    real = opened.reading.prepare
    tries: list[None] = []

    def then_touched(offset: int, count: int) -> None:
        real(offset, count)
        tries.append(None)
        os.utime(opened.blob.fd, ns=(0, len(tries)))

    opened.reading.prepare = then_touched  # type: ignore[method-assign]  # the disk's thread
    with pytest.raises(Corrupt):
        await opened.read(0)
    assert len(tries) == TRIES
    opened.close()


@pytest_twisted.ensureDeferred
async def test_who_sends_from_a_patch_keeps_it_when_another_is_needed(store: Store) -> None:
    opened = Opened(store, Mode.CHUNK)
    opened.flip(5)
    fd = await opened.source.prepare(opened.lane, 0, CHUNK)
    # Mended by now; the old file, which is still being sent, rots on.
    again = opened.healing._open(opened.reading)
    if again is None:
        raise AssertionError("it has a map")
    opened.reading.take_from(again.patch)
    again.close()
    assert os.pread(fd, CHUNK, 0) == CONTENT[:CHUNK]
    opened.close()
    with pytest.raises(OSError):  # noqa: PT011 -- both of them are closed now
        os.fstat(fd)


@pytest_twisted.ensureDeferred
async def test_a_patch_that_rots_on_the_disk_is_fetched_again(store: Store) -> None:
    opened = Opened(store, Mode.CHUNK)
    opened.flip(5)
    fd = await opened.source.prepare(opened.lane, 0, CHUNK)
    os.pwrite(fd, b"rot", 9)
    assert await opened.read(0) == CONTENT[:CHUNK]
    opened.close()

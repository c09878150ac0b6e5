"""The next chunks are verified while one is sent, for those who read on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.disk import InlineDisk, Lane
from dtfc.errors import StoreFailure
from dtfc.integrity.reading import Checks, Reading
from dtfc.store.blobs import open_store
from dtfc.store.chunkmap import CHUNK
from dtfc.web.source import BlobSource

LARGE = os.urandom(9 * CHUNK)


@pytest.fixture
def checks_and_source(tmp_path: Path) -> Iterator[tuple[Checks, BlobSource]]:
    """Open a blob of nine chunks."""
    store = open_store(str(tmp_path / "store"), fan_out=2, reserve=0)
    intake = store.intake(None)
    intake.write([LARGE])
    intake.commit(None)
    checks = Checks(store.repair, lambda *_: True)
    with store.open(Digest.of(LARGE)) as blob:
        reading = Reading(checks, Digest.of(LARGE), blob.fd, blob.length)
        heal: Any = None
        yield checks, BlobSource(reading, heal, Clock())
        reading.close()
    store.close()


@pytest_twisted.ensureDeferred
async def test_who_reads_on_finds_the_next_ones_verified(checks_and_source: Any) -> None:
    checks, source = checks_and_source
    lane = Lane(InlineDisk())
    for index in (0, 1):
        await source.prepare(lane, index * CHUNK, CHUNK)
    assert source.ready(2 * CHUNK, CHUNK) >= 0
    assert checks.chunks > 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("indices", [[0], [5], [3, 7], [7, 2], [4, 4]])
async def test_who_reads_here_and_there_has_nothing_else_read(
    checks_and_source: Any, indices: list[int]
) -> None:
    checks, source = checks_and_source
    for index in indices:
        await source.prepare(Lane(InlineDisk()), index * CHUNK, CHUNK)
    assert checks.chunks == len(set(indices))


class OneAtATime:
    """A disk on which one step runs when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        over: Deferred[Any] = Deferred()
        self.waiting.append((over, lambda: work(*args, **kwargs)))
        return over

    def step(self) -> None:
        over, work = self.waiting.pop(0)
        maybeDeferred(work).chainDeferred(over)


def fd_of(prepared: Deferred[int]) -> int:
    assert isinstance(prepared.result, int)
    return prepared.result


def test_a_chunk_that_is_being_verified_ahead_is_not_read_again(checks_and_source: Any) -> None:
    checks, source = checks_and_source
    disk = OneAtATime()
    lane = Lane(disk)
    for index in (0, 1):
        wanted = Deferred.fromCoroutine(source.prepare(lane, index * CHUNK, CHUNK))
        disk.step()
        assert fd_of(wanted) >= 0
    wanted = Deferred.fromCoroutine(source.prepare(lane, 2 * CHUNK, CHUNK))
    assert not wanted.called
    disk.step()
    assert fd_of(wanted) >= 0
    assert checks.chunks == 3


def test_what_went_wrong_ahead_is_found_by_who_waits(checks_and_source: Any) -> None:
    _, source = checks_and_source
    disk = OneAtATime()
    lane = Lane(disk)
    for index in (0, 1):
        Deferred.fromCoroutine(source.prepare(lane, index * CHUNK, CHUNK))
        disk.step()
    # The first reading of the next one fails, the second does not.
    over, _ = disk.waiting.pop(0)
    wanted = Deferred.fromCoroutine(source.prepare(lane, 2 * CHUNK, CHUNK))
    over.errback(StoreFailure("read a blob", OSError(5, "Input/output error")))
    while not wanted.called:
        disk.step()
    assert fd_of(wanted) >= 0


def test_who_leaves_while_it_waits_takes_nothing_from_others(checks_and_source: Any) -> None:
    _, source = checks_and_source
    disk = OneAtATime()
    lane = Lane(disk)
    for index in (0, 1):
        Deferred.fromCoroutine(source.prepare(lane, index * CHUNK, CHUNK))
        disk.step()
    leaving, staying = (
        Deferred.fromCoroutine(source.prepare(lane, 2 * CHUNK, CHUNK)) for _ in range(2)
    )
    leaving.addErrback(lambda failure: failure.trap(CancelledError))
    leaving.cancel()
    disk.step()
    assert fd_of(staying) >= 0

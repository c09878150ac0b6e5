"""The next chunks are verified while one is sent, for those who read on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from dtfc.digest import Digest
from dtfc.disk import InlineDisk, Lane
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

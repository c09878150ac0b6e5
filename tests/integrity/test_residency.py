"""Whether bytes are in the page cache: every way of asking that works here."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.integrity import residency
from dtfc.integrity.residency import Resident

MIB = 1 << 20
WAYS = [residency.by_cachestat, residency.by_nowait, residency.best]


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(4 * MIB))
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    yield fd
    os.close(fd)


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def resident(request: pytest.FixtureRequest) -> Resident:
    way: Resident | None = request.param()
    if way is None:
        pytest.skip(reason=f"this kernel has no {request.param.__name__[3:]}")
    return way


def make_cold(fd: int) -> None:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def test_what_was_just_written_is_there(fd: int, resident: Resident) -> None:
    os.pread(fd, 4 * MIB, 0)

    assert resident(fd, 0, 4 * MIB)
    assert resident(fd, 5, 1)
    assert resident(fd, 4 * MIB - 1, 1)


def test_what_was_dropped_is_not(fd: int, resident: Resident) -> None:
    make_cold(fd)

    assert not resident(fd, 0, 4 * MIB)
    assert not resident(fd, 2 * MIB, 1000)


def test_after_a_miss_every_page_is_asked_for_a_while(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def way(name: str, *, there: bool) -> Resident:
        def resident(_fd: int, _offset: int, _count: int) -> bool:
            asked.append(name)
            return there

        return resident

    ways = {64 * 1024: way("step", there=False), mmap.PAGESIZE: way("page", there=True)}
    monkeypatch.setattr(residency, "by_nowait", lambda step=64 * 1024: ways[step])
    monkeypatch.setattr(residency, "by_cachestat", lambda: way("cachestat", there=True))
    now = 100.0
    resident = residency.best(lambda: now)

    resident(fd, 0, MIB)
    resident(fd, 0, 1000)  # missing
    resident(fd, 0, MIB)
    now += residency.WARY + 1
    resident(fd, 0, MIB)

    assert asked == ["cachestat", "step", "cachestat", "page", "cachestat"]


def test_a_hole_in_the_middle_is_seen(fd: int, resident: Resident) -> None:
    make_cold(fd)
    os.pread(fd, 1, 0)
    os.pread(fd, 1, 4 * MIB - 1)

    assert not resident(fd, 0, 4 * MIB)


def test_where_the_kernel_cannot_be_asked_nothing_is_there(fd: int) -> None:
    assert not residency.never(fd, 0, 1)


@pytest.mark.parametrize("missing", ["by_cachestat", "by_nowait"])
def test_one_way_does_without_the_other(
    fd: int, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(residency, missing, lambda *_step: None)
    os.pread(fd, 4 * MIB, 0)

    way = residency.best()

    assert way(fd, 0, 4 * MIB)
    make_cold(fd)
    assert not way(fd, 0, 4 * MIB)


def test_without_any_way_nothing_is_there(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "by_cachestat", lambda: None)
    monkeypatch.setattr(residency, "by_nowait", lambda *_step: None)
    os.pread(fd, 4 * MIB, 0)

    assert not residency.best()(fd, 0, 4 * MIB)

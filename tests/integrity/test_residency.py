"""Whether bytes are in the page cache: every way of asking that works here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtfc.integrity import residency
from dtfc.integrity.residency import Resident

MIB = 1 << 20
WAYS = [
    residency.calm,
    residency.by_cachestat,
    residency.by_cachestat_alone,
    residency.by_nowait,
    residency.best,
]


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

    stretch = iter([True, False, True, True])
    monkeypatch.setattr(residency, "by_nowait", lambda: way("page", there=True))

    def cachestat(_fd: int, _offset: int, _count: int) -> bool:
        asked.append("cachestat")
        return next(stretch)

    monkeypatch.setattr(residency, "by_cachestat_alone", lambda: cachestat)
    now = 100.0
    resident = residency.best(lambda: now)

    resident(fd, 0, MIB)
    resident(fd, 0, 1000)  # missing
    resident(fd, 0, MIB)
    now += residency.WARY + 1
    resident(fd, 0, MIB)

    assert asked == ["cachestat", "cachestat", "cachestat", "page", "cachestat"]


@pytest.mark.parametrize("missing", ["nothing", "by_cachestat_alone", "by_nowait"])
def test_a_page_that_is_missing_in_a_small_stretch_is_seen(
    fd: int, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing != "nothing":
        monkeypatch.setattr(residency, missing, lambda: None)
    make_cold(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(fd, 4096, 0)
    os.pread(fd, 4096, 61_440)

    assert not residency.best()(fd, 0, 65_536)
    assert not residency.plain()(fd, 0, 65_536)


def test_a_hole_in_the_middle_is_seen(fd: int, resident: Resident) -> None:
    make_cold(fd)
    os.pread(fd, 1, 0)
    os.pread(fd, 1, 4 * MIB - 1)

    assert not resident(fd, 0, 4 * MIB)


def test_where_the_kernel_cannot_be_asked_nothing_is_there(fd: int) -> None:
    assert not residency.never(fd, 0, 1)


@pytest.mark.parametrize("missing", ["by_cachestat_alone", "by_nowait"])
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
    monkeypatch.setattr(residency, "by_cachestat_alone", lambda: None)
    monkeypatch.setattr(residency, "by_nowait", lambda *_step: None)
    os.pread(fd, 4 * MIB, 0)

    assert not residency.best()(fd, 0, 4 * MIB)

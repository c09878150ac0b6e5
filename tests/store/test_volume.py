from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.errors import NoInodes, NoSpace, StoreFailure
from dtfc.store import capabilities
from dtfc.store.layout import Layout, open_layout
from dtfc.store.volume import FAILED_SYNCS_TOLERATED, Volume, write_all
from tests.store.conftest import FailingDisk, call_of


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return open_layout(str(tmp_path / "store"), 2)


@pytest.fixture
def volume(layout: Layout) -> Volume:
    return Volume(layout)


def own_temp(layout: Layout) -> list[str]:
    return os.listdir(layout.own("tmp"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_or_quota_is_no_space(volume: Volume, number: int) -> None:
    with pytest.raises(NoSpace) as raised, volume.failing("write", 7):
        raise OSError(number, "full")
    assert raised.value.needed == 7


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EROFS, errno.EACCES])
def test_every_other_error_is_a_failure_that_names_the_step(volume: Volume, number: int) -> None:
    with pytest.raises(StoreFailure, match="could not write") as raised, volume.failing("write"):
        raise OSError(number, os.strerror(number))
    assert raised.value.errno == number


def statvfs(*, free: int, inodes: int, total_inodes: int) -> SimpleNamespace:
    return SimpleNamespace(
        f_bavail=free, f_frsize=1, f_blocks=1 << 40, f_files=total_inodes, f_favail=inodes
    )


def test_full_disk_without_inodes_says_so(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: statvfs(free=9, inodes=0, total_inodes=9))
    with pytest.raises(NoInodes, match="0 inodes free"), volume.failing("write"):
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize(("needed", "fits"), [(0, True), (500, True), (501, False)])
def test_reserve_is_kept_back(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, needed: int, *, fits: bool
) -> None:
    volume = Volume(layout, reserve=500)
    monkeypatch.setattr(os, "statvfs", lambda _: statvfs(free=1000, inodes=0, total_inodes=0))
    if fits:
        volume.require_room(needed)
    else:
        with pytest.raises(NoSpace) as raised:
            volume.require_room(needed)
        assert (raised.value.needed, raised.value.free, raised.value.reserve) == (needed, 1000, 500)


def test_last_inodes_are_kept_back(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = statvfs(free=1 << 30, inodes=100, total_inodes=1_000_000)
    monkeypatch.setattr(os, "statvfs", lambda _: facts)
    with pytest.raises(NoInodes):
        volume.require_room(1)


def test_space_is_that_of_the_file_system(volume: Volume, tmp_path: Path) -> None:
    facts = os.statvfs(tmp_path)
    assert volume.space().total == facts.f_blocks * facts.f_frsize


def test_space_set_aside_does_not_change_the_size(volume: Volume) -> None:
    scratch = volume.scratch()
    volume.allocate(scratch.fd, 0, 1 << 20)
    assert os.fstat(scratch.fd).st_size == 0
    scratch.drop()


@pytest.mark.usefixtures("linux_only")
def test_more_space_than_there_is_cannot_be_set_aside(volume: Volume) -> None:
    scratch = volume.scratch()
    try:
        with pytest.raises((NoSpace, StoreFailure)):
            volume.allocate(scratch.fd, 0, 1 << 52)
    finally:
        scratch.drop()


@pytest.mark.parametrize("anonymous", [True, False])
def test_scratch_that_is_dropped_leaves_nothing(layout: Layout, *, anonymous: bool) -> None:
    volume = Volume(layout, anonymous_files=anonymous)
    volume.scratch().drop()
    assert own_temp(layout) == []


@pytest.mark.usefixtures("linux_only")
def test_without_anonymous_files_a_named_one_serves(layout: Layout, disk: FailingDisk) -> None:
    volume = Volume(layout, anonymous_files=True)
    disk.fail("open", errno.EOPNOTSUPP, 1)
    scratch = volume.scratch()
    assert disk.fired == 1
    assert own_temp(layout) == [os.path.basename(scratch.path or "")]
    scratch.drop()


def test_sweep_removes_what_nobody_holds(layout: Layout, volume: Volume) -> None:
    Path(layout.own("tmp"), "dtfc-0123456789abcdef").write_text("x")
    assert volume.sweep() == 1
    assert own_temp(layout) == []


def test_sweep_leaves_what_is_held(layout: Layout) -> None:
    volume = Volume(layout, anonymous_files=False)
    scratch = volume.scratch()
    assert Volume(layout).sweep() == 0
    assert own_temp(layout) == [os.path.basename(scratch.path or "")]
    scratch.drop()


@pytest.mark.parametrize("name", ["notes.txt", "dtfc-backup.tar", "dtfc-0123456789abcdef.bak"])
def test_sweep_leaves_what_is_not_ours(layout: Layout, volume: Volume, name: str) -> None:
    Path(layout.own("tmp"), name).write_text("x")
    assert volume.sweep() == 0


def test_file_swept_before_it_was_locked_is_made_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Volume(layout, anonymous_files=False)
    real = fcntl.flock
    swept: list[str] = []

    def flock(fd: int, operation: int) -> None:
        if not swept:
            swept.extend(own_temp(layout))
            os.unlink(f"{layout.own('tmp')}/{swept[0]}")
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    scratch = volume.scratch()
    assert own_temp(layout) == [os.path.basename(scratch.path or "")]
    scratch.drop()


def test_temp_on_the_same_file_system_is_used(layout: Layout, tmp_path: Path) -> None:
    volume = Volume(layout, temp=str(tmp_path / "temp"), anonymous_files=False)
    scratch = volume.scratch()
    assert os.path.dirname(scratch.path or "") == str(tmp_path / "temp")
    assert volume.temp_refused is None
    scratch.drop()


def test_temp_on_another_file_system_is_left_alone(
    layout: Layout, tmp_path: Path, disk: FailingDisk
) -> None:
    disk.fail("link", errno.EXDEV, 1)
    volume = Volume(layout, temp=str(tmp_path / "temp"))
    assert volume.temp == layout.own("tmp")
    assert "another file system" in (volume.temp_refused or "")
    assert os.listdir(tmp_path / "temp") == []


def test_temp_that_cannot_be_made_is_left_alone(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    volume = Volume(layout, temp=str(tmp_path / "file" / "temp"))
    assert volume.temp == layout.own("tmp")
    assert volume.temp_refused is not None


def test_replace_puts_the_new_content(volume: Volume, tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "note").write_text("old")
    folder = os.open(tmp_path, os.O_RDONLY)
    volume.replace(folder, "note", b"new")
    os.close(folder)
    assert (tmp_path / "note").read_text() == "new"
    assert own_temp(layout) == []


@pytest.mark.parametrize("call", ["pwritev", "fchmod", "fsync", "rename"])
def test_replace_that_fails_leaves_the_old_content(
    volume: Volume, tmp_path: Path, layout: Layout, disk: FailingDisk, call: str
) -> None:
    (tmp_path / "note").write_text("old")
    folder = os.open(tmp_path, os.O_RDONLY)
    disk.fail(call, errno.EIO, 1)
    with pytest.raises(StoreFailure):
        volume.replace(folder, "note", b"new")
    os.close(folder)
    assert (tmp_path / "note").read_text() == "old"
    assert own_temp(layout) == []


def test_after_some_failed_fsyncs_nothing_more_is_taken(volume: Volume, disk: FailingDisk) -> None:
    disk.fail("fsync", errno.EIO, 1, ever_after=True)
    scratch = volume.scratch()
    for _ in range(FAILED_SYNCS_TOLERATED):
        volume.require_room(0)
        with pytest.raises(StoreFailure):
            volume.sync(scratch.fd, "try")
    scratch.drop()
    with pytest.raises(StoreFailure, match="fsyncs failed"):
        volume.require_room(0)


@given(st.lists(st.binary(max_size=50), max_size=10), st.lists(st.integers(1, 20)))
def test_short_writes_are_gone_on_with(blocks: list[bytes], sizes: list[int]) -> None:
    written = bytearray()
    left = list(sizes)

    def pwritev(_fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        assert offset == len(written)
        whole = b"".join(buffers)
        taken = whole[: left.pop() if left else None]
        written.extend(taken)
        return len(taken)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwritev", pwritev)
        write_all(0, blocks, 0)
    assert bytes(written) == b"".join(blocks)


@given(st.lists(st.binary(max_size=50), max_size=10), st.lists(st.integers(1, 20)))
def test_short_writes_of_one_block_are_gone_on_with(blocks: list[bytes], sizes: list[int]) -> None:
    written = bytearray()
    left = list(sizes)

    def pwrite(_fd: int, block: memoryview, offset: int) -> int:
        assert offset == len(written)
        taken = block[: left.pop() if left else None]
        written.extend(taken)
        return len(taken)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        patch.setattr(capabilities, "_here", set())
        write_all(0, blocks, 0)
    assert bytes(written) == b"".join(blocks)


def test_more_blocks_than_one_call_takes(volume: Volume) -> None:
    scratch = volume.scratch()
    write_all(scratch.fd, [b"ab"] * 5000, 0)
    assert os.pread(scratch.fd, 20_000, 0) == b"ab" * 5000
    scratch.drop()


def test_write_of_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, call_of("pwritev"), lambda *_: 0)
    with pytest.raises(OSError, match="a write of nothing"):
        write_all(0, [b"x"], 0)

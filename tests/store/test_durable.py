"""On macOS fsync is not enough; what is, some file systems there refuse."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dtfc.digest import Digest
from dtfc.store import capabilities, durable
from dtfc.store.blobs import open_store
from dtfc.store.capabilities import Capability, has
from tests.store.conftest import take_linux_away

F_FULLFSYNC = 51  # its number on macOS


class MacOS:
    """Answers F_FULLFSYNC, and writes down what was synced, and how."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.full: list[str] = []
        self.plain: list[str] = []
        self.refuses: Callable[[str], int] = lambda _path: 0
        take_linux_away(patch)
        patch.setattr(capabilities, "FULL_SYNC", F_FULLFSYNC)
        patch.setattr(fcntl, "fcntl", self._fcntl)
        patch.setattr(os, "fsync", lambda fd: self.plain.append(_path(fd)))

    def _fcntl(self, fd: int, command: int) -> int:
        assert command == F_FULLFSYNC
        self.full.append(_path(fd))
        number = self.refuses(self.full[-1])
        if number:
            raise OSError(number, os.strerror(number))
        return 0


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch) -> MacOS:
    return MacOS(monkeypatch)


def test_whatever_is_stored_or_deleted_reaches_the_drive(macos: MacOS, tmp_path: Path) -> None:
    base = str(tmp_path / "store")
    store = open_store(base, fan_out=2, reserve=0)
    intake = store.intake(None)
    intake.write([b"bytes"])
    intake.commit("name")
    folder = store.layout.folder(Digest.of(b"bytes"))
    store.delete(Digest.of(b"bytes"))
    store.close()
    assert macos.plain == []
    above = os.path.dirname(folder)
    for path in (folder, above, os.path.dirname(above), base, f"{base}/.dtfc"):
        assert path in macos.full
    drafts = [path for path in macos.full if path.startswith(f"{base}/.dtfc/tmp/dtfc-")]
    assert len(drafts) == 3  # bytes, names, tombstone


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_without_it_gets_an_fsync(macos: MacOS, tmp_path: Path, number: int) -> None:
    macos.refuses = lambda _path: number
    durable.sync_folder(str(tmp_path))
    assert macos.plain == [str(tmp_path)]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failure_is_not_tried_again_with_fsync(macos: MacOS, tmp_path: Path, number: int) -> None:
    macos.refuses = lambda _path: number
    with pytest.raises(OSError, match=os.strerror(number)):
        durable.sync_folder(str(tmp_path))
    assert (len(macos.full), macos.plain) == (1, [])


def test_bytes_alone_are_synced_with_all_else_there(macos: MacOS, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    durable.sync_data(fd)
    os.close(fd)
    assert macos.full == [str(tmp_path / "file")]


def test_bytes_alone_are_synced_alone_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    durable.sync_data(fd)
    os.close(fd)
    assert synced == [fd]


def test_what_is_switched_off_comes_back() -> None:
    before = {each for each in Capability if has(each)}
    assert Capability.SYNC_DATA in before
    switch_on = capabilities.switch_off(Capability.SYNC_DATA)
    assert {each for each in Capability if has(each)} == before - {Capability.SYNC_DATA}
    all_on = capabilities.switch_off()
    assert not any(map(has, Capability))
    all_on()
    assert {each for each in Capability if has(each)} == before - {Capability.SYNC_DATA}
    switch_on()
    assert {each for each in Capability if has(each)} == before


def test_each_capability_says_what_is_done_without_it() -> None:
    assert all("; else " in each.value for each in Capability)

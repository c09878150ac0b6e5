"""Memory in a file that processes share."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from dtfc.errors import Busy, StoreFailure
from dtfc.store.shared import SharedMemory

SIZE = 2 * 1024 * 1024 + 17


def test_one_sees_what_the_other_wrote(tmp_path: Path) -> None:
    one, other = (SharedMemory(str(tmp_path / "m"), SIZE) for _ in range(2))
    one.buffer[SIZE - 2 : SIZE] = b"hi"

    assert other.buffer[SIZE - 2 : SIZE] == b"hi"
    one.close()
    other.close()


def test_it_outlives_its_processes(tmp_path: Path) -> None:
    one = SharedMemory(str(tmp_path / "m"), SIZE)
    one.buffer[:2] = b"hi"
    one.close()

    again = SharedMemory(str(tmp_path / "m"), SIZE)

    assert again.buffer[:4] == b"hi\0\0"
    again.close()


def test_no_page_of_it_has_to_be_found_later(tmp_path: Path) -> None:
    SharedMemory(str(tmp_path / "m"), SIZE).close()

    assert (tmp_path / "m").stat().st_blocks * 512 >= SIZE
    assert os.listdir(tmp_path) == ["m"]


def test_one_of_another_size_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"old")

    memory = SharedMemory(str(tmp_path / "m"), SIZE)

    assert memory.buffer[:] == bytes(SIZE)
    memory.close()


def test_the_lock_keeps_others_out_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    one, other = (SharedMemory(str(tmp_path / "m"), 4096) for _ in range(2))
    with one.locked(), pytest.raises(Busy), other.locked():
        pass

    with other.locked(), pytest.raises(Busy), one.locked():
        pass
    one.close()
    other.close()


def test_the_lock_is_let_go_of_when_something_goes_wrong(tmp_path: Path) -> None:
    memory = SharedMemory(str(tmp_path / "m"), 4096)
    with pytest.raises(KeyError), memory.locked():
        raise KeyError

    with open(tmp_path / "m", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    memory.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreFailure, match="map its file m"):
        SharedMemory(str(tmp_path / "no" / "m"), 4096)

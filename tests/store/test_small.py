"""Small files that are replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtfc.store import durable
from dtfc.store.small import LARGEST, read_small, write_small


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "facts")

    write_small(path, b"one")
    write_small(path, b"two")

    assert read_small(path) == b"two"
    assert os.listdir(tmp_path) == ["facts"]


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(LARGEST + 1))
    (tmp_path / "link").symlink_to("large")

    for name in ("none", "large", "link", "."):
        assert read_small(str(tmp_path / name)) == b""


def test_a_disk_that_refuses_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "facts")
    write_small(path, b"one")

    def refuse(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "sync", refuse)
    write_small(path, b"two")

    assert read_small(path) == b"one"
    assert os.listdir(tmp_path) == ["facts"]


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    write_small(str(tmp_path / "facts"), bytes(LARGEST + 1))

    assert os.listdir(tmp_path) == []

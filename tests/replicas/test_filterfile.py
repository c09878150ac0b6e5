"""The filter file, from the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtfc.errors import BadSettings
from dtfc.replicas.copyfilter import Described
from dtfc.replicas.filterfile import LARGEST, read_filter

BLOB = Described("a.tmp", "application/octet-stream", 5)


def test_without_a_file_everything_is_included() -> None:
    assert read_filter(None).wants(BLOB)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    path.write_text("exclude name=*.tmp\n")
    assert not read_filter(str(path)).wants(BLOB)


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    path.write_text("include\nfoo\nbar\n")
    with pytest.raises(BadSettings) as caught:
        read_filter(str(path))
    assert [each.where for each in caught.value.problems] == [f"{path}:2", f"{path}:3"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="No such file"):
        read_filter(str(tmp_path / "filter"))


def test_a_file_that_is_no_filter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "filter"
    path.write_bytes(b"#" * (LARGEST + 1))
    with pytest.raises(BadSettings, match="larger"):
        read_filter(str(path))

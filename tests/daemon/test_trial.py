"""The store is tried before there is any worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from dtfc.daemon.cannot_start import CannotStart
from dtfc.daemon.trial import problem_of, see_python, try_store
from dtfc.settings import Settings, load


def settings(folder: Path) -> Settings:
    return load({"basedir": str(folder), "fan-out": "2"}, {}, "/").settings


def test_a_store_that_can_be_opened_is_left_closed(tmp_path: Path) -> None:
    assert problem_of(settings(tmp_path)) == ""
    assert not (tmp_path / ".dtfc/running").exists()


def test_a_broken_store_is_told_from_the_child(tmp_path: Path) -> None:
    (tmp_path / ".dtfc").mkdir()
    (tmp_path / ".dtfc/format").write_text("nonsense")
    with pytest.raises(CannotStart) as caught:
        try_store(settings(tmp_path))
    assert str(caught.value) == f"dtfc: {problem_of(settings(tmp_path))}"
    assert f"{tmp_path}/.dtfc/format" in str(caught.value)


def test_a_store_that_was_tried_is_there(tmp_path: Path) -> None:
    try_store(settings(tmp_path))
    assert (tmp_path / ".dtfc/format").exists()


def test_a_python_that_can_be_run() -> None:
    see_python()


def test_a_python_that_cannot_be_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CannotStart, match=f"user {os.geteuid()} cannot run {tmp_path}/python"):
        see_python()

"""A slice of the n-th failures, what they have found before, and faults that must be found."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dtfc.store.volume import Volume
from prove import failures
from prove.failures import OPERATIONS, trials
from prove.scene import Form

BY_NAME = {operation.name: operation for operation in OPERATIONS}


def test_a_slice(seed: int) -> None:
    (row,) = failures.prove(seed, 0.04)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)


@pytest.mark.parametrize(
    ("operation", "call", "number"),
    [
        ("new PUT", "dup", errno.EMFILE),
        ("PUT after DELETE", "fsync", errno.EIO),
        ("DELETE", "unlink", errno.ENOSPC),
    ],
)
def test_what_was_found_before(operation: str, call: str, number: int, tmp_path: Path) -> None:
    count, wrong = trials(BY_NAME[operation], call, number, Form(), str(tmp_path))
    assert count > 0
    assert wrong == []


def test_a_sync_that_is_tried_again_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(self: Volume, fd: int, operation: str) -> None:
        with self.failing(operation):
            try:
                os.fsync(fd)
            except OSError:
                os.fsync(fd)

    monkeypatch.setattr(Volume, "sync", sync)
    _, wrong = trials(BY_NAME["new PUT"], "fsync", errno.EIO, Form(), str(tmp_path))
    assert any("tried again" in each for each in wrong)
    assert any("it was acknowledged" in each for each in wrong)


def test_a_status_that_is_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(failures.STATUS, errno.ENOSPC, 500)
    _, wrong = trials(BY_NAME["new PUT"], "pwritev", errno.ENOSPC, Form(), str(tmp_path))
    assert any("is 507, not 500" in each for each in wrong)

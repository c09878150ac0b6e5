"""A slice of what daemons and processes have to bear, and faults that must be found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prove import full, killed, load
from prove.killed import WORKS, one
from prove.scene import Form
from tests.support.programs import require_program

BY_NAME = {work.name: work for work in WORKS}


def test_a_slice_of_kills_at_system_calls(seed: int) -> None:
    require_program("strace")
    (row,) = killed.prove(seed, 0.04)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)


def test_a_promise_that_comes_too_early_is_found(tmp_path: Path) -> None:
    strace = require_program("strace")
    work = BY_NAME["new PUT"]
    killed_there, wrong = one(str(tmp_path), Form(), work, ("linkat", 1), strace=strace, early=True)
    assert killed_there
    assert any("is never, not ['here']" in each for each in wrong)


def test_a_slice_of_kills_under_load(seed: int) -> None:
    row = load.kill(10, seed)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_slice_of_a_full_disk(seed: int) -> None:
    tmpfs, ext4 = full.prove(seed, 0.06)
    if tmpfs.skipped:
        pytest.skip(reason=tmpfs.skipped)
    for row in (tmpfs, ext4):
        print(row.cases, row.skipped)
        assert row.violations == 0, "\n".join(row.examples)

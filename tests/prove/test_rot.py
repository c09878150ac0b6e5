"""A slice of rot, and a node that verifies nothing, which must be found out."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from prove import rot, silent
from prove.bodies import make_bodies, put_all
from prove.spoilt import KINDS, Trial
from prove.zygote import Zygote


def test_a_slice_of_flipped_bits(seed: int) -> None:
    for row in rot.flipped(seed, 12, largest=4 << 20):
        print(row.name, row.cases)
        assert row.violations == 0, "\n".join(row.examples)


@pytest.mark.parametrize("verify", ["chunk", "off"])
def test_wrong_bytes_are_found_where_nothing_is_verified(
    tmp_path: Path, seed: int, verify: str
) -> None:
    bodies = make_bodies(Random(seed), 4, largest=2 << 20, size=300_000)
    with Zygote() as zygote:
        trial = Trial(zygote, str(tmp_path), seed, verify)
        trial.peer.start("--scrub-rate", "0")
        put_all(bodies, trial.peer.port)
        _, wrong = trial.run(KINDS[1], bodies, peer=True)
        trial.victim.end()
        trial.peer.end()
    found = any("wrong within" in each for each in wrong)
    assert found == (verify == "off"), wrong


def test_blocks_that_cannot_be_read(seed: int) -> None:
    row = silent.unreadable(seed, 2)
    if row.skipped:
        pytest.skip(reason=row.skipped)
    assert row.violations == 0, "\n".join(row.examples)

"""A slice of following a database."""

from __future__ import annotations

from prove import following
from tests.support.programs import require_program


def test_a_slice_of_following(seed: int) -> None:
    require_program("pouchdb-server")
    (row,) = following.prove(seed, 0.02)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)

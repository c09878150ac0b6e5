"""A slice of moving attachments there and back."""

from __future__ import annotations

from prove import migration
from tests.support.programs import require_program


def test_a_slice_of_the_migration(seed: int) -> None:
    require_program("pouchdb-server")
    (row,) = migration.prove(seed, 0.01)
    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)

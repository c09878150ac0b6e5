"""A slice of the restarts that nobody notices."""

from __future__ import annotations

from prove import restarts
from tests.support.programs import require_program


def test_a_slice_of_the_restarts(seed: int) -> None:
    require_program("curl")
    require_program("aria2c")
    rows = restarts.prove(seed, 0.1)
    for row in rows:
        print(row.name, row.cases)
    broken = [example for row in rows for example in row.examples]
    assert broken == []

"""A slice of the proof of the command: 96 MiB, killed five times each way."""

from __future__ import annotations

from prove import command
from tests.support.programs import require_program


def test_a_slice_of_the_command(seed: int) -> None:
    for program in ("curl", "aria2c"):
        require_program(program)
    rows = command.prove(seed, 0.0)
    for row in rows:
        print(row.cases)
    assert sum(row.violations for row in rows) == 0, "\n".join(
        each for row in rows for each in row.examples
    )

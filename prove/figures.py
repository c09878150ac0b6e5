"""What a proof says of itself: a row of the table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Args:
        name: what was tried.
        cases: how often, in words.
        violations: how often a promise was broken.
        seconds: how long it took.
        seed: what makes it again; None where nothing is random.
        examples: some of the violations.
        skipped: why it was not tried at all; empty if it was.
    """

    name: str
    cases: str
    violations: int
    seconds: float
    seed: int | None = None
    examples: list[str] = field(default_factory=list)
    skipped: str = ""


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table."""
    lines = ["| what | cases | violations | seconds | seed |", "|---|---|---|---|---|"]
    for row in rows:
        seed = "" if row.seed is None else str(row.seed)
        if row.skipped:
            lines.append(f"| {row.name} | skipped: {row.skipped} | | | |")
        else:
            lines.append(
                f"| {row.name} | {row.cases} | {row.violations} | {row.seconds:.0f} | {seed} |"
            )
    return "\n".join(lines)

"""Pairs, medians, ratios, and whether a target is met.

Rules of this file: figures in, judgement out; nothing is started, nothing read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

Measure = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Target:
    """What a row has to reach.

    Args:
        sense: ``>=`` or ``<=``.
        value: the bound.
        of: ``ratio``, ours divided by the peer's, or ``value``, ours alone.
    """

    sense: Literal[">=", "<="]
    value: float
    of: Literal["ratio", "value"] = "ratio"

    def met(self, row: Row) -> bool | None:
        """Tell whether the row reaches it; None if there is nothing to compare."""
        figure = row.ratio if self.of == "ratio" else row.ours_median
        if figure is None:
            return None
        return figure >= self.value if self.sense == ">=" else figure <= self.value


@dataclass(slots=True)
class Row:
    """One line of the table.

    Args:
        key: ``1``, ``1b``, …: the number in the list of what must be shown.
        title: what was done.
        unit: of every figure.
        peer: who is compared with; empty for nobody.
        ours, theirs: one figure a pair, in the order they were taken.
        target: what must be reached; None where the figure is only reported.
        note: what a reader has to know.
        extra: further figures, by name.
    """

    key: str
    title: str
    unit: str
    peer: str = ""
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    target: Target | None = None
    note: str = ""
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def ours_median(self) -> float | None:
        """The middle one of ours."""
        return median(self.ours) if self.ours else None

    @property
    def theirs_median(self) -> float | None:
        """The middle one of theirs."""
        return median(self.theirs) if self.theirs else None

    @property
    def ratios(self) -> list[float]:
        """Ours divided by theirs, pair by pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=False) if b]

    @property
    def ratio(self) -> float | None:
        """The middle one of the ratios: what the machine did to both sides drops out."""
        return median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without a target or without figures."""
        return self.target.met(self) if self.target else None

    def measure_pairs(self, count: int, ours: Measure, theirs: Measure) -> None:
        """Take ``count`` pairs: A B A B …; each side is told the number of its pair."""
        for number in range(1, count + 1):
            self.ours.append(ours(number))
            self.theirs.append(theirs(number))


def missing(key: str, title: str, reason: object) -> Row:
    """Return a row that could not be measured, with the reason."""
    return Row(key, title, "", note=f"not measured: {reason}")

"""Metrics as values: what a process counts, and what several count together.

Rules of this file: pure. A counter of the node never goes back: what a process
had counted when it was last heard of is kept when it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

REQUESTS = "dtfc_http_requests"
STALL_MAX = "dtfc_loop_stall_seconds_max"
"""These two are told of the node, and of each worker too."""

Kind = Literal["counter", "gauge"]

Rule = Literal["sum", "max", "same"]
"""How the values of several processes make one: ``same`` is told by any of them."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its labels.

    Args:
        name: without ``_total``.
        text: what it is, for people.
        kind: of metric.
        rule: how several processes' values make one.
        values: by labels.
    """

    name: str
    text: str
    kind: Kind
    rule: Rule
    values: Mapping[Labels, float] = field(default_factory=dict)

    def plain(self) -> list[Any]:
        """Return it as JSON can carry it."""
        values = [[[list(pair) for pair in labels], value] for labels, value in self.values.items()]
        return [self.name, self.text, self.kind, self.rule, values]


def counter(name: str, text: str, value: float) -> Family:
    """Return a counter without labels."""
    return Family(name, text, "counter", "sum", {(): value})


def gauge(name: str, text: str, value: float, rule: Rule, **labels: str) -> Family:
    """Return a gauge, of one set of labels."""
    return Family(name, text, "gauge", rule, {tuple(labels.items()): value})


def from_plain(given: object) -> list[Family]:
    """Return the families whose :meth:`Family.plain` these are.

    Raises:
        ValueError: they are something else.
    """
    try:
        return [_family(*each) for each in given]  # type: ignore[attr-defined]  # caught below
    except TypeError as error:
        raise ValueError(f"these are no metrics: {error}") from error


def _family(name: Any, text: Any, kind: Any, rule: Any, values: Any) -> Family:
    told = {
        tuple((str(label), str(value)) for label, value in labels): float(number)
        for labels, number in values
    }
    if kind not in {"counter", "gauge"} or rule not in {"sum", "max", "same"}:
        raise ValueError(f"there is no {rule} of a {kind}")
    return Family(str(name), str(text), kind, rule, told)


class Sums:
    """What several processes have counted together, also those that are gone."""

    def __init__(self) -> None:
        self._kept: dict[str, Family] = {}

    def keep(self, families: Iterable[Family]) -> None:
        """Keep what a process said last, before it died."""
        for each in families:
            if each.kind == "counter" or each.rule == "max":
                earlier = self._kept.get(each.name)
                self._kept[each.name] = each if earlier is None else _joined(earlier, each)

    def with_living(self, living: Iterable[Iterable[Family]]) -> list[Family]:
        """Return the node's metrics.

        Args:
            living: what each living process said last.
        """
        together = dict(self._kept)
        for families in living:
            for each in families:
                earlier = together.get(each.name)
                together[each.name] = each if earlier is None else _joined(earlier, each)
        return list(together.values())


def _joined(one: Family, other: Family) -> Family:
    values = dict(one.values)
    for labels, value in other.values.items():
        if labels not in values:
            values[labels] = value
        elif one.rule == "sum":
            values[labels] += value
        elif one.rule == "max":
            values[labels] = max(values[labels], value)
    return Family(one.name, one.text, one.kind, one.rule, values)

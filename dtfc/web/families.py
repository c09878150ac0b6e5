"""Metrics as values: what a process counts, and what several count together.

Rules of this file: pure. A counter of the node never goes back: what a process
had counted when it was last heard of is kept when it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dtfc.web.metricnames import METRICS, Metric

REQUESTS = "dtfc_http_requests"
STALL_MAX = "dtfc_loop_stall_seconds_max"
"""These two are told of the node, and of each worker too."""

RELOADS = "dtfc_reloads"
"""With workers it is their parent who reads the settings again."""

SUM = "sum"
"""Of a histogram: what its label ``le`` says where the value is the sum of what was measured."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its labels.

    Args:
        metric: which.
        values: by labels. The last label of a histogram is ``le``: the value is how
            many were measured that were no more than it, or their sum (:data:`SUM`).
    """

    metric: Metric
    values: Mapping[Labels, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the metric, without ``_total``."""
        return self.metric.name

    def plain(self) -> list[Any]:
        """Return it as JSON can carry it."""
        values = [[[list(pair) for pair in labels], value] for labels, value in self.values.items()]
        return [self.name, values]


def told(name: str, value: float, **labels: str) -> Family:
    """Return a metric with one value.

    Raises:
        KeyError: there is no such metric.
    """
    return Family(METRICS[name], {tuple(labels.items()): value})


def told_by(name: str, label: str, values: Mapping[str, float]) -> Family:
    """Return a metric with one label, and a value for each value of that.

    Raises:
        KeyError: there is no such metric.
    """
    return Family(METRICS[name], {((label, each),): value for each, value in values.items()})


def from_plain(given: object) -> list[Family]:
    """Return the families whose :meth:`Family.plain` these are.

    Raises:
        ValueError: they are something else.
    """
    try:
        return [_family(*each) for each in given]  # type: ignore[attr-defined]  # caught below
    except (TypeError, KeyError) as error:
        raise ValueError(f"these are no metrics: {error}") from error


def _family(name: Any, values: Any) -> Family:
    found = {
        tuple((str(label), str(value)) for label, value in labels): float(number)
        for labels, number in values
    }
    return Family(METRICS[name], found)


class Sums:
    """What several processes have counted together, also those that are gone."""

    def __init__(self) -> None:
        self._kept: dict[str, Family] = {}

    def keep(self, families: Iterable[Family]) -> None:
        """Keep what a process said last, before it died."""
        for each in families:
            if each.metric.kind != "gauge" or each.metric.rule == "max":
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
    values, rule = dict(one.values), one.metric.rule
    for labels, value in other.values.items():
        if labels not in values:
            values[labels] = value
        elif rule == "sum":
            values[labels] += value
        elif rule == "max":
            values[labels] = max(values[labels], value)
        elif rule == "min":
            values[labels] = min(values[labels], value)
    return Family(one.metric, values)

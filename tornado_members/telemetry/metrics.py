"""Metrics primitives: counted where events happen, collected on request.

While a request is served, a metric is a plain integer or list: a label is a key of an existing
dictionary, and no lock is needed, since each process counts in one thread. A call of
prometheus_client's `labels(...).observe(...)` costs ten times as much.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

# Seconds: from an answer out of the cache to one that waited for every time-out.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[str, ...]  # the values, in the order of the label names


class Histogram:
    """Counts values by upper bound; the last count is that of values above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Self) -> None:
        """Add the counts of another histogram with the same bounds."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def to_list(self) -> list[list[float]]:
        """Return the histogram as JSON-compatible lists."""
        return [list(self.bounds), list(self.counts), [self.total]]

    @classmethod
    def from_list(cls, data: Sequence[Sequence[Any]]) -> Self:
        """Build a histogram from the result of to_list()."""
        bounds, counts, (total,) = data
        histogram = cls(bounds)
        histogram.counts = list(counts)
        histogram.total = total
        return histogram


Value = float | Histogram
Kind = Literal["counter", "gauge", "histogram"]
# How the values of several processes become one: added, the largest, or each under a label
# `worker`. Counters and histograms are added, unless they are "each".
Merge = Literal["sum", "max", "each"]


@dataclass(slots=True)
class Family:
    """A metric: its name, its help text and its values by label."""

    name: str  # without the _total of a counter
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    merge: Merge = "sum"
    values: dict[Labels, Value] = field(default_factory=dict)

    def put(self, value: Value, *labels: str) -> Self:
        """Set a value."""
        self.values[labels] = value
        return self

    def put_all(self, values: Mapping[str, Value]) -> Self:
        """Set the values of a metric with one label."""
        self.values.update(((label,), value) for label, value in values.items())
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the metric as a JSON-compatible object."""
        values = [
            [list(labels), value.to_list() if isinstance(value, Histogram) else value]
            for labels, value in self.values.items()
        ]
        return {
            "name": self.name,
            "kind": self.kind,
            "help": self.help,
            "labels": list(self.labels),
            "merge": self.merge,
            "values": values,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build a metric from the result of to_dict()."""
        values: dict[Labels, Value] = {
            tuple(labels): Histogram.from_list(value) if isinstance(value, list) else value
            for labels, value in data["values"]
        }
        labels = tuple(data["labels"])
        return cls(data["name"], data["kind"], data["help"], labels, data["merge"], values)

"""Numbers that are counted where things happen, and collected when somebody asks.

On the way of a request they are plain integers and lists: a label is a key of a dictionary that was
made before, and nothing is locked, since each process counts in one thread. What prometheus_client
does at each `labels(...).observe(...)` would cost ten times as much.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

# Seconds; from an answer out of the cache to one that waited for every time-out on its way.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[str, ...]  # the values, in the order of the names


class Histogram:
    """How many of some values fell under each bound; the last place is for those over all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Self) -> None:
        """Count what another one counted, too."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    @property
    def count(self) -> int:
        """Of how many values."""
        return sum(self.counts)

    def to_list(self) -> list[list[float]]:
        """For another process, as JSON has it."""
        return [list(self.bounds), list(self.counts), [self.total]]

    @classmethod
    def from_list(cls, data: Sequence[Sequence[Any]]) -> Self:
        """The other way."""
        bounds, counts, (total,) = data
        histogram = cls(bounds)
        histogram.counts = list(counts)
        histogram.total = total
        return histogram


Value = float | Histogram
Kind = Literal["counter", "gauge", "histogram"]
# How the processes of one service make one number: added up, the largest, or each for itself under
# a label `worker`. What counts or is a histogram is always added up, unless it is each's own.
Merge = Literal["sum", "max", "each"]


@dataclass(slots=True)
class Family:
    """A metric: its name, what it means, and its values by their labels."""

    name: str  # without the _total of a counter
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    merge: Merge = "sum"
    values: dict[Labels, Value] = field(default_factory=dict)

    def put(self, value: Value, *labels: str) -> Self:
        """Set one value."""
        self.values[labels] = value
        return self

    def put_all(self, values: Mapping[str, Value]) -> Self:
        """Set the values of a metric with one label."""
        self.values.update(((label,), value) for label, value in values.items())
        return self

    def to_dict(self) -> dict[str, Any]:
        """For another process, as JSON has it."""
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
        """The other way."""
        values: dict[Labels, Value] = {
            tuple(labels): Histogram.from_list(value) if isinstance(value, list) else value
            for labels, value in data["values"]
        }
        labels = tuple(data["labels"])
        return cls(data["name"], data["kind"], data["help"], labels, data["merge"], values)

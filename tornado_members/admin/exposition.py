"""Renders metrics for Prometheus, and merges those of several processes."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from tornado_members.telemetry.metrics import Family, Histogram, Labels, Value

if TYPE_CHECKING:
    from prometheus_client import Metric

WORKER = "worker"


def render(families: Iterable[Family], accept: str = "") -> tuple[bytes, str]:
    """Return the metrics and their media type: OpenMetrics if `accept` names it, else text."""
    # The import reads /proc, and most commands do not need it.
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415  # see above
    from prometheus_client.registry import Collector  # noqa: PLC0415  # see above

    class Collected(Collector):
        def collect(self) -> "Iterator[Metric]":
            return map(_to_metric, families)

    encode, media_type = choose_encoder(accept)
    return encode(Collected()), media_type


def _to_metric(family: Family) -> "Metric":
    from prometheus_client.metrics_core import (  # noqa: PLC0415  # see render()
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    metric: Metric
    if family.kind == "histogram":
        metric = histograms = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, value in family.values.items():
            if isinstance(value, Histogram):
                bounds = [*map(str, value.bounds), "+Inf"]
                running = list(zip(bounds, accumulate(value.counts), strict=True))
                histograms.add_metric(labels, running, value.total)
        return metric
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = numbers = make(family.name, family.help, labels=family.labels)
    for labels, value in family.values.items():
        if not isinstance(value, Histogram):
            numbers.add_metric(labels, value)
    return metric


def merge(workers: Mapping[str, Iterable[Family]]) -> list[Family]:
    """Merge the metrics of several workers, by worker name, into those of one service."""
    merged: dict[str, Family] = {}
    for worker, families in workers.items():
        for family in families:
            labels = (WORKER, *family.labels) if family.merge == "each" else family.labels
            into = merged.setdefault(
                family.name, Family(family.name, family.kind, family.help, labels, family.merge)
            )
            for key, value in family.values.items():
                _put(into, (worker, *key) if family.merge == "each" else key, value)
    return list(merged.values())


def _put(into: Family, key: Labels, value: Value) -> None:
    before = into.values.get(key)
    if isinstance(value, Histogram):
        total = Histogram(value.bounds)
        total.add(value)
        if isinstance(before, Histogram) and before.bounds == value.bounds:
            total.add(before)
        into.values[key] = total
    elif isinstance(before, Histogram) or before is None:  # workers of two versions may differ
        into.values[key] = value
    else:
        into.values[key] = max(before, value) if into.merge == "max" else before + value


def cumulative(families: Iterable[Family]) -> list[Family]:
    """Return the metrics that remain true after their worker has ended: its counts."""
    return [family for family in families if family.kind != "gauge" and family.merge != "each"]

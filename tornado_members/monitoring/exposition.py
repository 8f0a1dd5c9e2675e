"""Metrics as Prometheus reads them, and those of several processes as one."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from tornado_members.telemetry.metrics import Family, Histogram, Labels, Value

if TYPE_CHECKING:
    from prometheus_client import Metric

WORKER = "worker"


def render(families: Iterable[Family], accept: str = "") -> tuple[bytes, str]:
    """The text, and its media type: OpenMetrics for those who ask for it."""
    # Not above: importing it reads /proc, and half the commands have no need of it.
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Collected(Collector):
        def collect(self) -> "Iterator[Metric]":
            return map(_to_metric, families)

    encode, media_type = choose_encoder(accept)
    return encode(Collected()), media_type


def _to_metric(family: Family) -> "Metric":
    from prometheus_client.metrics_core import (  # noqa: PLC0415
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
    """The metrics of several workers, by their names, as those of one service."""
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
    elif isinstance(before, Histogram) or before is None:  # workers of two versions
        into.values[key] = value
    else:
        into.values[key] = max(before, value) if into.merge == "max" else before + value


def lasting(families: Iterable[Family]) -> list[Family]:
    """What of a worker's metrics is still true when it has gone: what it counted."""
    return [family for family in families if family.kind != "gauge" and family.merge != "each"]

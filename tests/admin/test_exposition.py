"""Metrics in the formats of scrapers, and the metrics of several workers."""

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tornado_members.admin.exposition import cumulative, merge, render
from tornado_members.telemetry.metrics import Family, Histogram


def worker(requests: int, age: float, memory: int, *times: float) -> list[Family]:
    """Return the samples of a worker."""
    histogram = Histogram((0.1, 1.0))
    for seconds in times:
        histogram.observe(seconds)
    return [
        Family("requests", "counter", "How many.", ("route",)).put(requests, 'a "\\\n route'),
        Family("in_flight", "gauge", "How many now.").put(requests),
        Family("age_seconds", "gauge", "How old.", merge="max").put(age),
        Family("memory_bytes", "gauge", "How much.", merge="each").put(memory),
        Family("cpu_seconds", "counter", "How long.", merge="each").put(memory),
        Family("duration_seconds", "histogram", "How long.").put(histogram),
    ]


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_exposition_is_valid_in_both_formats(accept: str) -> None:
    text, media_type = render(worker(3, 1.5, 100, 0.05, 0.1, 0.5, 7), accept)
    assert media_type.startswith("application/openmetrics-text" if accept else "text/plain")
    families = (parse_openmetrics if accept else parse_text)(text.decode())
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["requests_total", 'a "\\\n route'] == 3
    buckets = [samples["duration_seconds_bucket", bound] for bound in ("0.1", "1.0", "+Inf")]
    assert buckets == [2, 3, 4]
    assert samples["duration_seconds_count",] == 4
    assert samples["duration_seconds_sum",] == pytest.approx(7.65)


def test_metrics_of_workers_are_added_or_listed_per_worker() -> None:
    merged = {
        family.name: family
        for family in merge({"1": worker(3, 1.5, 100, 0.05), "2": worker(4, 0.5, 200, 0.5)})
    }
    assert list(merged["requests"].values.values()) == [7]
    assert list(merged["in_flight"].values.values()) == [7]
    assert list(merged["age_seconds"].values.values()) == [1.5]
    assert merged["memory_bytes"].labels == ("worker",)
    assert merged["memory_bytes"].values == {("1",): 100, ("2",): 200}
    (times,) = merged["duration_seconds"].values.values()
    assert isinstance(times, Histogram)
    assert times.counts == [1, 1, 0]


def test_merge_does_not_change_its_inputs() -> None:
    first, second = worker(1, 1, 1, 0.05), worker(1, 1, 1, 0.05)
    merge({"1": first, "2": second})
    (times,) = first[-1].values.values()
    assert isinstance(times, Histogram)
    assert times.count == 1


def test_counters_of_an_ended_worker_remain_and_gauges_do_not() -> None:
    assert [family.name for family in cumulative(worker(3, 1.5, 100, 0.05))] == [
        "requests",
        "duration_seconds",
    ]


def test_written_metrics_are_readable_by_another_process() -> None:
    for family in worker(3, 1.5, 100, 0.05):
        copy = Family.from_dict(family.to_dict())
        assert copy.to_dict() == family.to_dict()

"""Metrics as they are read by who scrapes them, and those of several workers."""

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tornado_members.admin.exposition import cumulative, merge, render
from tornado_members.telemetry.metrics import Family, Histogram


def worker(requests: int, age: float, memory: int, *times: float) -> list[Family]:
    """What a worker has to say."""
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
def test_both_formats_can_be_read(accept: str) -> None:
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


def test_workers_add_up_or_stand_side_by_side() -> None:
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


def test_merging_changes_none_of_what_is_merged() -> None:
    first, second = worker(1, 1, 1, 0.05), worker(1, 1, 1, 0.05)
    merge({"1": first, "2": second})
    (times,) = first[-1].values.values()
    assert isinstance(times, Histogram)
    assert times.count == 1


def test_of_a_worker_that_has_gone_only_what_it_counted_lasts() -> None:
    assert [family.name for family in cumulative(worker(3, 1.5, 100, 0.05))] == [
        "requests",
        "duration_seconds",
    ]


def test_another_process_reads_what_was_written() -> None:
    for family in worker(3, 1.5, 100, 0.05):
        copy = Family.from_dict(family.to_dict())
        assert copy.to_dict() == family.to_dict()

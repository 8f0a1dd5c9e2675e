"""Aggregation over workers: real processes, which are killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from tornado_members.admin.aggregation import (
    SharedSnapshot,
    WorkerAggregator,
    publish_snapshots,
)
from tornado_members.admin.health import DependencyStatus, HealthReport, State
from tornado_members.admin.status import ProcessStatus
from tornado_members.services import Services
from tornado_members.telemetry.metrics import Family, Histogram


def content(requests: int, *findings: DependencyStatus) -> dict[str, Any]:
    """Return what a worker writes."""
    times = Histogram()
    times.counts[0] = requests
    families = [
        Family("requests", "counter", "How many.").put(requests),
        Family("seconds", "histogram", "How long.").put(times),
        Family("in_flight", "gauge", "How many now.").put(1),
        Family("memory_bytes", "gauge", "How much.", merge="each").put(100),
    ]
    return {
        "at": time.monotonic(),
        "report": HealthReport(findings).to_dict(),
        "families": [family.to_dict() for family in families],
    }


def numbers(aggregator: WorkerAggregator) -> dict[str, float]:
    """Return each metric's value; of per-worker metrics, the number of values."""
    found = {}
    for family in aggregator.collect():
        (value, *others) = family.values.values() or [0]
        if not isinstance(value, Histogram):
            found[family.name] = len(others) + 1 if family.merge == "each" else float(value)
        else:
            found[family.name] = value.count
    return found


@pytest.fixture
def aggregator() -> Iterator[WorkerAggregator]:
    aggregator = WorkerAggregator()
    yield aggregator
    aggregator.close()


@pytest.fixture
def start() -> Iterator[Callable[[SharedSnapshot], int]]:
    """Starts a worker that counts as fast as it can; returns its process id."""
    started = []
    tester = os.getpid()

    def start_one(snapshot: SharedSnapshot) -> int:
        process = os.fork()
        if process == 0:
            try:
                number = 0
                while os.getppid() == tester:
                    number += 1
                    snapshot.write(content(number))
            finally:
                os._exit(1)
        started.append(process)
        return process

    yield start_one
    for process in started:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_counters_never_decrease_while_workers_are_killed(
    aggregator: WorkerAggregator, start: Callable[[SharedSnapshot], int]
) -> None:
    processes = {worker: start(aggregator.add(worker)) for worker in ("1", "2")}
    before = seen = 0.0
    for number in range(12):
        until = time.monotonic() + 0.02
        while time.monotonic() < until or seen == before:
            found = numbers(aggregator)
            seen = found.get("requests", 0)
            assert seen >= before
            assert found.get("seconds", 0) == seen
        before = seen
        worker = "12"[number % 2]
        os.kill(processes[worker], signal.SIGKILL)  # at any point of a write
        os.waitid(os.P_PID, processes[worker], os.WEXITED | os.WNOWAIT)
        aggregator.retire(worker)
        left = numbers(aggregator)
        assert left["requests"] >= before
        assert left.get("in_flight", 0) <= 1  # of the remaining worker
        processes[worker] = start(aggregator.add(worker))


def test_snapshot_file_has_no_name_and_is_closed() -> None:
    before = set(os.listdir("/proc/self/fd"))
    aggregator = WorkerAggregator()
    snapshot = aggregator.add("1")
    assert os.fstat(snapshot._file.fileno()).st_nlink == 0
    aggregator.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_torn_snapshot_is_never_read() -> None:
    snapshot = SharedSnapshot()
    assert snapshot.read() is None
    snapshot.write("first")
    snapshot.write("second")
    os.pwrite(snapshot._file.fileno(), b"broken off", (1 << 22) * (snapshot._written % 2) + 16)
    assert snapshot.read() == "first"
    snapshot.close()


def test_content_that_was_read_is_never_followed_by_an_older_one() -> None:
    """A reader waits for a processor between the two halves, while the writer writes both."""
    snapshot = SharedSnapshot()
    for content in ("first", "second"):
        snapshot.write(content)
    assert snapshot.read() == "second"
    for half in (snapshot._written % 2, 1 - snapshot._written % 2):
        os.pwrite(snapshot._file.fileno(), b"broken off", (1 << 22) * half + 16)
        assert snapshot.read() == "second"
    snapshot.write("third")
    assert snapshot.read() == "third"
    snapshot.close()


def test_silent_worker_is_reported() -> None:
    aggregator = WorkerAggregator(clock=lambda: now)
    now = time.monotonic()
    well = DependencyStatus("mongodb", State.OK)
    snapshots = [aggregator.add("1"), aggregator.add("2")]
    for snapshot in snapshots:
        snapshot.write(content(1, well))
    assert aggregator.report() == HealthReport((well,))
    now += 6
    snapshots[1].write({**content(1, well), "at": now})
    assert aggregator.report().status == "degraded"
    assert aggregator.report().is_ready
    now += 6
    assert aggregator.report().status == "unready"
    assert aggregator.is_alive()
    now += 60
    assert not aggregator.is_alive()
    aggregator.close()


def test_dependency_is_unready_only_if_it_is_for_every_worker(aggregator: WorkerAggregator) -> None:
    snapshots = [aggregator.add("1"), aggregator.add("2")]
    assert not aggregator.report().draining
    away = DependencyStatus("mongodb", State.UNREADY, "does not answer")
    snapshots[0].write(content(1, DependencyStatus("mongodb", State.OK)))
    snapshots[1].write(content(1, away))
    report = aggregator.report()
    assert report.is_ready
    assert report.dependencies == (
        DependencyStatus("mongodb", State.DEGRADED, "for 1 of 2 workers: does not answer"),
    )
    snapshots[0].write(content(1, away))
    assert aggregator.report() == HealthReport((away,))
    assert not aggregator.report().is_ready


def test_draining_service_is_not_ready(aggregator: WorkerAggregator) -> None:
    snapshot = aggregator.add("1")
    snapshot.write(content(1, DependencyStatus("mongodb", State.OK)))
    assert aggregator.report().is_ready
    aggregator.draining = True
    assert aggregator.report().status == "draining"
    assert not aggregator.report().is_ready


def test_service_without_workers_is_not_ready(aggregator: WorkerAggregator) -> None:
    assert not aggregator.report().is_ready
    aggregator.add("1")  # which has written nothing yet
    assert not aggregator.report().is_ready


def test_published_snapshot_equals_the_process_status(
    process_status: ProcessStatus,
    services: Services,
    aggregator: WorkerAggregator,
    io_loop: IOLoop,
) -> None:
    async def publish() -> None:
        async with publish_snapshots(aggregator.add("1"), process_status):
            pass

    services.requests.observe("/members", "GET", 200, 0.01)
    io_loop.run_sync(publish)
    assert aggregator.report() == process_status.report()
    assert [(f.name, f.labels, f.kind) for f in aggregator.collect()] == [
        (f.name, f.labels, f.kind) for f in process_status.collect()
    ]
    assert numbers(aggregator)["members_http_requests"] == 1
    aggregator.retire("1")
    assert numbers(aggregator)["members_http_requests"] == 1

"""The status of a service of several workers, aggregated in the process that forks them.

Each worker writes its health and its metrics to a shared snapshot about once a second; the
supervisor reads them. While a worker answers no request and its health stays the same, it collects
its metrics and writes less often. A snapshot is a file without a name: only the processes of the
service can open it, and the kernel deletes it when the last of them ends. The counts of a worker
are kept after it has ended, so that counters never decrease; up to one second of them is lost if it
was killed.
"""

import asyncio
import json
import os
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from logging import getLogger
from math import inf
from struct import Struct
from typing import Any

from tornado_members.admin.exposition import cumulative, merge
from tornado_members.admin.health import (
    DependencyStatus,
    HealthReport,
    State,
    health_metrics,
    merge_reports,
)
from tornado_members.admin.status import ProcessStatus
from tornado_members.telemetry.metrics import Family
from tornado_members.ticks import next_tick

log = getLogger(__name__)

_IDLE_SECONDS = 10.0  # between two collections of the metrics of a worker that answers no request
_SAME_SECONDS = 2.0  # between two snapshots without new metrics; below _SILENT_SECONDS
_SILENT_SECONDS = 5.0  # a worker that writes nothing for longer is stuck or suspended
_DEAD_SECONDS = 60.0
_HEADER = Struct("<QII")  # number, length and CRC-32 of the content
_HALF = 1 << 22  # bytes; the file is sparse


class SharedSnapshot:
    """JSON content that one process writes and another reads, never torn.

    The file has two halves, written in turns; a reader takes the newest valid one. Both may be
    overwritten while a reader waits for a processor. It then returns what it has read before.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._written = 0
        self._newest = (0, b"null")  # number and content, as last read

    def write(self, content: Any) -> None:
        """Replace the content. Raises ValueError if it is longer than 4 MiB as JSON."""
        self.write_encoded(_encode(content))

    def write_encoded(self, data: bytes) -> None:
        """Replace the content by this JSON. Raises ValueError if it is longer than 4 MiB."""
        if len(data) > _HALF - _HEADER.size:
            raise ValueError(f"a snapshot of {len(data)} bytes is too long")
        self._written += 1
        header = _HEADER.pack(self._written, len(data), zlib.crc32(data))
        os.pwrite(self._file.fileno(), header + data, self._written % 2 * _HALF)

    def read(self) -> Any:
        """Return the latest content, or None if there is none yet."""
        halves = [half for number in (0, 1) if (half := self._read_half(number * _HALF))]
        self._newest = max([self._newest, *halves])
        return json.loads(self._newest[1])

    def _read_half(self, offset: int) -> tuple[int, bytes] | None:
        header = os.pread(self._file.fileno(), _HEADER.size, offset)
        if len(header) < _HEADER.size:
            return None
        number, length, checksum = _HEADER.unpack(header)
        data = os.pread(self._file.fileno(), length, offset + _HEADER.size)
        return (number, data) if number and zlib.crc32(data) == checksum else None

    def close(self) -> None:
        """Close the file in this process."""
        self._file.close()


class WorkerAggregator:
    """The status of all workers, in the process that forks them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds, the same in all processes of a host."""
        self.draining = False
        self._clock = clock
        self._snapshots: dict[str, SharedSnapshot] = {}
        self._departed: list[Family] = []
        self._started_at: dict[str, float] = {}

    def add(self, worker: str) -> SharedSnapshot:
        """Return the snapshot of a worker that is about to start; worker names are unique."""
        if worker in self._snapshots:
            self.retire(worker)
        snapshot = self._snapshots[worker] = SharedSnapshot()
        self._started_at[worker] = self._clock()
        return snapshot

    def retire(self, worker: str) -> None:
        """Remove a worker that has ended, and keep its counts."""
        snapshot = self._snapshots.pop(worker)
        del self._started_at[worker]
        content = snapshot.read()
        snapshot.close()
        if content:
            families = cumulative(map(Family.from_dict, content["families"]))
            self._departed = merge({"": self._departed, worker: families})

    def collect(self) -> list[Family]:
        """Return every metric of the service."""
        contents = {worker: snapshot.read() for worker, snapshot in self._snapshots.items()}
        families = {
            worker: [Family.from_dict(data) for data in content["families"]]
            for worker, content in contents.items()
            if content
        }
        health = health_metrics(self.report(), len(self._snapshots))
        return [*health, *merge({**families, "": self._departed})]

    def report(self) -> HealthReport:
        """Return the health of the service; a worker that writes nothing is a degradation."""
        reports, silent = {}, []
        for worker, snapshot in self._snapshots.items():
            content = snapshot.read()
            seconds = self._silence(worker, content)
            if content and seconds < _SILENT_SECONDS:
                reports[worker] = HealthReport.from_dict(content["report"])
            else:
                silent.append((worker, seconds))
        state = State.DEGRADED if reports else State.UNREADY
        further = [
            DependencyStatus(f"worker {worker}", state, f"has been silent for {seconds:.0f} s")
            for worker, seconds in silent
        ]
        if not self._snapshots:
            further = [DependencyStatus("workers", State.UNREADY, "none is running")]
        merged = merge_reports(reports, further)
        return replace(merged, draining=merged.draining or self.draining)

    def is_alive(self) -> bool:
        """Return False if every worker has been silent for a minute."""
        return not self._snapshots or any(
            self._silence(worker, snapshot.read()) < _DEAD_SECONDS
            for worker, snapshot in self._snapshots.items()
        )

    def close(self) -> None:
        """Close all snapshots."""
        for snapshot in self._snapshots.values():
            snapshot.close()

    def _silence(self, worker: str, content: Any) -> float:
        since: float = content["at"] if content else self._started_at[worker]
        return self._clock() - since


@asynccontextmanager
async def publish_snapshots(snapshot: SharedSnapshot, status: ProcessStatus) -> AsyncIterator[None]:
    """Write the snapshot of a worker periodically while the block lasts, and once at the end."""
    families, report = b"", status.health.report()  # the families as JSON
    answered, collected_at, written_at = 0.0, -inf, -inf

    def write(*, last: bool = False) -> None:
        nonlocal families, report, answered, collected_at, written_at
        now, seconds, previous = time.monotonic(), status.metrics.request_seconds(), report
        report = status.health.report()
        is_changed = last or seconds != answered or report != previous
        if is_changed or now - collected_at > _IDLE_SECONDS:
            families = _encode([family.to_dict() for family in status.metrics.collect()])
            answered, collected_at = seconds, now
        elif now - written_at < _SAME_SECONDS:
            return
        snapshot.write_encoded(
            b'{"at":%b,"report":%b,"families":%b}'
            % (_encode(now), _encode(report.to_dict()), families)
        )
        written_at = now

    async def keep_writing() -> None:
        while True:
            try:
                write()
            except Exception:  # the supervisor reports a silent worker; requests are still served
                log.exception("the status snapshot of this worker could not be written")
            await next_tick()

    writing = asyncio.create_task(keep_writing())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.wait([writing])
        write(last=True)


def _encode(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()

"""One process or several, seen as one service.

Workers write what they know on a page each, once a second; whoever made the pages reads them. A
page is a file without a name: it is inherited by a fork, nobody else can open it, and it is gone
with the last process that has it, however that ends. What a worker has counted is kept when it
goes, so that counters never go back; up to a second of it is lost if it was killed.
"""

import asyncio
import json
import os
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from logging import getLogger
from struct import Struct
from typing import Any, Protocol

from tornado_members.monitoring.exposition import lasting, merge
from tornado_members.monitoring.health import (
    Finding,
    Health,
    Report,
    State,
    health_metrics,
    merge_reports,
)
from tornado_members.monitoring.metrics import Metrics
from tornado_members.telemetry.metrics import Family

log = getLogger(__name__)

_WRITE_SECONDS = 1.0
_SILENT_SECONDS = 5.0  # without a word, a worker is stuck, or was stopped
_DEAD_SECONDS = 60.0
_HEADER = Struct("<QII")  # number, length and CRC-32 of what was written
_HALF = 1 << 22  # bytes; the file has holes where nothing was written


class Overview(Protocol):
    """What the admin listener shows."""

    def report(self) -> Report:
        """How everything is."""

    def collect(self) -> list[Family]:
        """Every metric."""

    def is_alive(self) -> bool:
        """Whether there is any use in going on; if not, a restart is the cure."""


@dataclass(frozen=True, slots=True)
class OneProcess:
    """A service that is one process, which is the one that is asked."""

    health: Health
    metrics: Metrics
    name: str = "1"

    def report(self) -> Report:
        """How everything is."""
        return self.health.report()

    def collect(self) -> list[Family]:
        """Every metric."""
        return [*health_metrics(self.report(), 1), *merge({self.name: self.metrics.collect()})]

    def is_alive(self) -> bool:
        """Who answers is."""
        return True


class Page:
    """Where one process writes and another one reads, which never sees half of something.

    There are two halves, written by turns; what counts is the latest that is whole.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed by close()
        self._written = 0

    def write(self, content: Any) -> None:
        """Put something in the place of what was there. It has to be fit for JSON."""
        data = json.dumps(content, separators=(",", ":")).encode()
        if len(data) > _HALF - _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too many for a page")
        self._written += 1
        header = _HEADER.pack(self._written, len(data), zlib.crc32(data))
        os.pwrite(self._file.fileno(), header + data, self._written % 2 * _HALF)

    def read(self) -> Any:
        """What was written last; None if nothing was."""
        halves = [half for number in (0, 1) if (half := self._read_half(number * _HALF))]
        return json.loads(max(halves)[1]) if halves else None

    def _read_half(self, offset: int) -> tuple[int, bytes] | None:
        header = os.pread(self._file.fileno(), _HEADER.size, offset)
        if len(header) < _HEADER.size:
            return None
        number, length, checksum = _HEADER.unpack(header)
        data = os.pread(self._file.fileno(), length, offset + _HEADER.size)
        return (number, data) if number and zlib.crc32(data) == checksum else None

    def close(self) -> None:
        """Be done with it, in this process."""
        self._file.close()


class Board:
    """The pages of all workers of a service, in the process that starts them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds, the same in all processes of a machine."""
        self.draining = False
        self._clock = clock
        self._pages: dict[str, Page] = {}
        self._departed: list[Family] = []
        self._begun: dict[str, float] = {}

    def add(self, worker: str) -> Page:
        """A page for a worker that is about to start. No two that run have one name."""
        if worker in self._pages:
            self.retire(worker)
        page = self._pages[worker] = Page()
        self._begun[worker] = self._clock()
        return page

    def retire(self, worker: str) -> None:
        """A worker has ended. What it counted goes on to count."""
        page = self._pages.pop(worker)
        del self._begun[worker]
        said = page.read()
        page.close()
        if said:
            families = lasting(map(Family.from_dict, said["families"]))
            self._departed = merge({"": self._departed, worker: families})

    def collect(self) -> list[Family]:
        """Every metric."""
        said = {worker: page.read() for worker, page in self._pages.items()}
        families = {
            worker: [Family.from_dict(data) for data in one["families"]]
            for worker, one in said.items()
            if one
        }
        health = health_metrics(self.report(), len(self._pages))
        return [*health, *merge({**families, "": self._departed})]

    def report(self) -> Report:
        """How everything is; a worker that is stuck says nothing, and so is told of."""
        reports, silent = {}, []
        for worker, page in self._pages.items():
            said = page.read()
            seconds = self._silence(worker, said)
            if said and seconds < _SILENT_SECONDS:
                reports[worker] = Report.from_dict(said["report"])
            else:
                silent.append((worker, seconds))
        state = State.DEGRADED if reports else State.UNREADY
        findings = [
            Finding(f"worker {worker}", state, f"has said nothing for {seconds:.0f} s")
            for worker, seconds in silent
        ]
        if not self._pages:
            findings = [Finding("workers", State.UNREADY, "there are none")]
        merged = merge_reports(reports, findings)
        return replace(merged, draining=merged.draining or self.draining)

    def is_alive(self) -> bool:
        """Not if every worker has been stuck for a minute."""
        return not self._pages or any(
            self._silence(worker, page.read()) < _DEAD_SECONDS
            for worker, page in self._pages.items()
        )

    def close(self) -> None:
        """Be done with every page."""
        for page in self._pages.values():
            page.close()

    def _silence(self, worker: str, said: Any) -> float:
        since: float = said["at"] if said else self._begun[worker]
        return self._clock() - since


@asynccontextmanager
async def publishing(page: Page, health: Health, metrics: Metrics) -> AsyncIterator[None]:
    """In a worker: write its page for as long as the block lasts, and once more at its end."""

    def write() -> None:
        page.write(
            {
                "at": time.monotonic(),
                "report": health.report().to_dict(),
                "families": [family.to_dict() for family in metrics.collect()],
            }
        )

    async def keep_writing() -> None:
        while True:
            try:
                write()
            except Exception:  # what is missing is seen by its absence; the worker has other work
                log.exception("this worker's page cannot be written")
            await asyncio.sleep(_WRITE_SECONDS)

    writing = asyncio.create_task(keep_writing())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.wait([writing])
        write()

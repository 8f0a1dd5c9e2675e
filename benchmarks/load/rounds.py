"""A round: the measurement of one contestant under load."""

import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import count

from benchmarks.load.bed import Bed, Cores
from benchmarks.load.blocking_client import BlockingClient
from benchmarks.load.contestants import Running
from benchmarks.load.pages import pages_of
from benchmarks.load.sampling import Sample, Sampler
from benchmarks.load.scenarios import MEMBERS, Cell
from benchmarks.load.usage import busy_seconds, usage_of
from benchmarks.load.wrk import Load, load

WARM_UP_SECONDS = 1
_MOST_WARM_UPS = 60
_WARM = 0.02  # reads of MongoDB per request
_SETTLE_SECONDS = 20
_SAMPLE_SECONDS = 0.3
_QUIET = 0.15  # of all cores
_WRITES_PER_ROUND = 1_000_000

_serials = count(1)


@dataclass(frozen=True, slots=True)
class Round:
    """The result of one contestant in one round."""

    load: Load
    sample: Sample
    cpu_seconds: float
    worker_bytes: int
    reads: int  # documents that MongoDB returned for it
    foreign: float  # share of the server's cores that other programs used

    @property
    def rate(self) -> float:
        """The number of requests per second."""
        return self.load.requests / self.load.seconds

    @property
    def served(self) -> int:
        """The number of requests, including the sampler's; at least 1, as it is a divisor."""
        return max(1, self.load.requests + self.sample.compared)

    @property
    def cpu_us(self) -> float:
        """The processor time per request, in microseconds."""
        return self.cpu_seconds / self.served * 1e6

    @property
    def busy(self) -> float:
        """The number of busy cores."""
        return self.cpu_seconds / self.load.seconds

    @property
    def reads_per_request(self) -> float:
        """The number of documents that MongoDB returned per request."""
        return self.reads / self.served


class Track:
    """Runs the contestants, one at a time, in turns."""

    def __init__(
        self, bed: Bed, cores: Cores, contestants: Sequence[Running], patience: float = 0
    ) -> None:
        """A turn waits for at most `patience` seconds until other programs are idle."""
        self._patience = patience
        self._bed = bed
        self._lines = bed.folder / "lines"  # of the scenario, for wrk
        self._cores = cores
        self._token = bed.token()
        self._services = [contestant for contestant in contestants if contestant.contestant.is_ours]

    def run(self, cell: Cell, running: Running, seconds: float) -> Round:
        """Run one round: warm up, prepare, and measure."""
        pages = pages_of(cell.scenario)
        lines = self._etags(cell, running) if cell.scenario.kind == "unchanged" else []
        lines += [page.path(running.contestant.name) for page in pages]
        self._lines.unlink(missing_ok=True)
        if lines:
            self._lines.write_text("\n".join(lines) + "\n")
        if cell.scenario.writes and running.contestant.is_ours:
            self._await_cached_reads(running)
        self._warm_up(cell, running)
        if cell.scenario.is_cold:
            self._bed.empty_cache([service.contestant.name for service in self._services])
            for service in self._services:
                self._await_cached_reads(service)
        sampler = Sampler(
            cell.scenario,
            running.port,
            self._token,
            self._bed.members(running.contestant.name),
            lines=lines,
            pages=pages,
        )
        self._await_quiet()
        reads, busy, before = self._bed.reads(), self._busy(), usage_of(running)
        with sampler if running.contestant.is_checked else nullcontext():
            result = self._load(cell, running, seconds)
        after, busy = usage_of(running), self._busy() - busy
        spent = after.cpu_seconds - before.cpu_seconds
        return Round(
            load=result,
            sample=sampler.sample,
            cpu_seconds=spent,
            worker_bytes=after.worker_bytes,
            reads=self._bed.reads() - reads - sampler.sample.queries,
            foreign=max(0, busy - spent) / result.seconds / len(self._cores.servers),
        )

    def _await_quiet(self) -> None:
        """Wait until other programs are idle, because they would distort the measurement."""
        cores = {*self._cores.servers, *self._cores.load}
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            busy = busy_seconds(cores)
            time.sleep(_SAMPLE_SECONDS)
            if busy_seconds(cores) - busy < _SAMPLE_SECONDS * len(cores) * _QUIET:
                return

    def _warm_up(self, cell: Cell, running: Running) -> None:
        """Send the same load for a while, repeatedly until the cache has the requested members."""
        for _ in range(_MOST_WARM_UPS):
            reads = self._bed.reads()
            requests = self._load(cell, running, WARM_UP_SECONDS).requests
            is_warm = self._bed.reads() - reads < requests * _WARM
            if cell.scenario.reads != 0 or is_warm or not running.contestant.has_cache:
                return

    def _busy(self) -> float:
        return busy_seconds(self._cores.servers)

    def _load(self, cell: Cell, running: Running, seconds: float) -> Load:
        return load(
            cell.scenario,
            running.port,
            connections=cell.connections,
            seconds=seconds,
            token=self._token,
            start=random.randrange(MEMBERS),
            serial=next(_serials) * _WRITES_PER_ROUND,
            lines=self._lines,
        )

    def _etags(self, cell: Cell, running: Running) -> list[str]:
        client = BlockingClient(running.port, self._token)
        paths = [f"/members/{i + 1}" for i in range(cell.scenario.members)]
        etags = [client.get(path).headers.get("etag", '"none"') for path in paths]
        client.close()
        return etags

    def _await_cached_reads(self, running: Running) -> None:
        """Wait until the service reads the cache, which it may bypass after a restart."""
        client = BlockingClient(running.port, self._token)
        deadline = time.monotonic() + _SETTLE_SECONDS
        while "hit" not in client.get("/members/1").headers.get("cache-status", ""):
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: {running.contestant.title} does not use its cache")
            time.sleep(0.05)
        client.close()

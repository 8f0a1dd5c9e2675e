"""Metrics of a process: event-loop lag, memory, processor time, build."""

import asyncio
import gc
import os
import platform
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import cache

import psutil
import tornado

from tornado_members import __version__
from tornado_members.telemetry.logs import flush_repeats
from tornado_members.telemetry.metrics import Family, Histogram
from tornado_members.ticks import seconds_to_tick


class LoopLag:
    """Measures how late the event loop runs a timer, in seconds."""

    def __init__(self) -> None:
        self.times = Histogram()

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        """Measure periodically while the block lasts."""
        sampling = asyncio.create_task(self._sample())
        try:
            yield
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + (seconds := seconds_to_tick(loop.time()))
            await asyncio.sleep(seconds)
            self.times.observe(max(0.0, loop.time() - due))
            flush_repeats()


def process_metrics(lag: LoopLag, driver: str) -> Iterator[Family]:
    """Yield the metrics of this process; where one exists, under its conventional name."""
    yield Family(
        "members_event_loop_lag_seconds",
        "histogram",
        "Delay of a timer of the event loop.",
        merge="each",
    ).put(lag.times)
    process = _this_process(os.getpid())
    used = os.times()
    yield Family("process_cpu_seconds", "counter", "User and system CPU time.", merge="each").put(
        used.user + used.system
    )
    yield Family("process_resident_memory_bytes", "gauge", "Resident memory.", merge="each").put(
        process.memory_info().rss
    )
    with suppress(psutil.Error, OSError):
        yield Family("process_open_fds", "gauge", "Open file descriptors.", merge="each").put(
            process.num_fds()
        )
    yield from _limit_metrics()
    yield Family(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since the Unix epoch.",
        merge="each",
    ).put(process.create_time())
    collections = Family(
        "python_gc_collections",
        "counter",
        "Runs of the garbage collector.",
        ("generation",),
        "each",
    )
    yield collections.put_all(
        {str(number): stats["collections"] for number, stats in enumerate(gc.get_stats())}
    )
    yield Family(
        "members_build_info",
        "gauge",
        "Always 1; the labels hold versions.",
        ("version", "python", "tornado", "driver"),
        "max",
    ).put(1, __version__, platform.python_version(), tornado.version, driver)


@cache
def _this_process(pid: int) -> psutil.Process:
    """Return this process. A forked worker has another pid, and so another entry in the cache."""
    return psutil.Process(pid)


def _limit_metrics() -> Iterator[Family]:
    import resource  # noqa: PLC0415  # not available on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Family(
        "process_max_fds", "gauge", "Maximum number of open file descriptors.", merge="each"
    ).put(limit)

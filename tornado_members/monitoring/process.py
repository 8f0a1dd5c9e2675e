"""What a process says of itself: its loop's lag, its memory, its processor time, its build."""

import asyncio
import gc
import os
import platform
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psutil
import tornado

from tornado_members import __version__
from tornado_members.telemetry.logs import flush_repeats
from tornado_members.telemetry.metrics import Family, Histogram

_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while a process lives."""

    driver: str


class LoopLag:
    """How much later than it was due the event loop came round."""

    def __init__(self) -> None:
        self.times = Histogram()

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        """Measure, four times a second, as long as the block lasts."""
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
            self.times.observe(max(0.0, loop.time() - due))
            flush_repeats()


def process_metrics(lag: LoopLag, facts: Facts) -> Iterator[Family]:
    """Those of each process for itself, under the names that others give them, too."""
    yield Family(
        "members_event_loop_lag_seconds",
        "histogram",
        "How late the event loop came round, looked at four times a second.",
        merge="each",
    ).put(lag.times)
    process = psutil.Process()
    used = os.times()
    yield Family(
        "process_cpu_seconds", "counter", "Processor time, user and system.", merge="each"
    ).put(used.user + used.system)
    yield Family(
        "process_resident_memory_bytes", "gauge", "Memory that is in use.", merge="each"
    ).put(process.memory_info().rss)
    with suppress(psutil.Error, OSError):
        yield Family("process_open_fds", "gauge", "Open file descriptors.", merge="each").put(
            process.num_fds()
        )
    yield from _of_limits()
    yield Family(
        "process_start_time_seconds", "gauge", "When it began (Unix time).", merge="each"
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
        "1, with what the service is made of in its labels.",
        ("version", "python", "tornado", "driver"),
        "max",
    ).put(1, __version__, platform.python_version(), tornado.version, facts.driver)


def _of_limits() -> Iterator[Family]:
    import resource  # noqa: PLC0415  # there is none on Windows

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Family(
        "process_max_fds", "gauge", "How many file descriptors may be open.", merge="each"
    ).put(most)

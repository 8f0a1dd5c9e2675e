"""Processor time and memory of all processes of a server, from /proc."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from benchmarks.load.contestants import Running


@dataclass(frozen=True, slots=True)
class Usage:
    """At one moment: seconds of processor time since the start, and bytes."""

    cpu_seconds: float
    worker_bytes: int  # resident, of the largest process


def usage_of(running: Running) -> Usage:
    """Return the usage of all processes of a server."""
    seconds, largest = 0.0, 0
    for process in running.tree():
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
            largest = max(largest, process.memory_info().rss)
    return Usage(seconds, largest)


def busy_seconds(cores: Iterable[int]) -> float:
    """Return the processor time of all programs on these cores, stolen time included."""
    every = psutil.cpu_times(percpu=True)
    return sum(sum(every[core]) - every[core].idle - every[core].iowait for core in cores)

"""Suspends a process."""

import time
from contextlib import suppress
from pathlib import Path

import psutil

_SECONDS = 10.0
_STOPPED = b"T"  # in /proc/PID/task/*/stat (proc(5))


def suspend(process: psutil.Process) -> None:
    """Send SIGSTOP, and wait until every thread is stopped.

    One thread receives the signal and stops the others. On a busy machine it may not be scheduled
    for a while, and the others continue.
    """
    process.suspend()
    end = time.monotonic() + _SECONDS
    while not is_stopped(process.pid):
        assert time.monotonic() < end, f"process {process.pid} does not stop"
        time.sleep(0.001)


def is_stopped(pid: int) -> bool:
    """True if every thread of a process is stopped."""
    return all(state == _STOPPED for state in _states(pid))


def _states(pid: int) -> list[bytes]:
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            states.append(stat.read_bytes().rpartition(b")")[2].split()[0])
    return states

"""The clock of the cache."""

import time


def clock() -> float:
    """Return seconds that also pass while this process is stopped or the machine is suspended."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)

"""The clock of the cache: seconds that also pass while the machine is suspended."""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

# Linux's monotonic clock stands still while the machine is suspended; its boot-time clock does not.
_BOOT_TIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)

clock: Final[Callable[[], float]] = (
    time.monotonic if _BOOT_TIME is None else partial(time.clock_gettime, _BOOT_TIME)
)

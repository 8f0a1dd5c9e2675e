"""The tick that the periodic tasks of a process share.

Waking an idle process costs more than most of its periodic tasks. Tasks that wait for the same tick
run in the same turn of the event loop, so that they wake the process once.
"""

import asyncio
import os
from typing import Final

TICK: Final = 0.85  # seconds
_GOLDEN_RATIO: Final = 0.618034  # spreads the phases of processes with consecutive ids
_MIN_SHARE: Final = 0.1  # of the interval; a tick that is nearer counts as past


async def next_tick(ticks: int = 1) -> None:
    """Wait for the next tick, or for the next multiple of `ticks`: at most 1.1 times that time."""
    await asyncio.sleep(seconds_to_tick(asyncio.get_running_loop().time(), ticks))


def seconds_to_tick(now: float, ticks: int = 1) -> float:
    """Return the seconds until the next tick that is at least a tenth of the interval away.

    Each process has its own phase, so that processes do not use the database at the same time.
    """
    seconds = TICK * ticks
    phase = os.getpid() * _GOLDEN_RATIO % 1 * TICK
    left = seconds - (now + phase) % seconds
    return left if left >= seconds * _MIN_SHARE else left + seconds


def align(seconds: float) -> float:
    """Return a pause that ends with a tick: the longest that is not longer than `seconds`.

    A pause that is too short for a tick is returned as it is.
    """
    ticks = int(seconds / (TICK * (1 + _MIN_SHARE)))
    now = asyncio.get_running_loop().time()
    return seconds_to_tick(now, ticks) if ticks else seconds

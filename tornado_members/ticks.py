"""A common rhythm for the periodic tasks of a process.

To wake an idle process costs more than most of what its periodic tasks do. Tasks that wait for the
same tick run in the same turn of the event loop.
"""

import asyncio
import os
from typing import Final

TICK: Final = 0.8  # seconds
_GOLDEN: Final = 0.618034  # spreads the phases of processes with consecutive ids evenly
_SOONEST: Final = 0.1  # of the time between two ticks


async def next_tick(ticks: int = 1) -> None:
    """Wait for the next tick, or for the next multiple of `ticks`: at most 1.1 times that time."""
    await asyncio.sleep(seconds_to_tick(asyncio.get_running_loop().time(), ticks))


def seconds_to_tick(now: float, ticks: int = 1) -> float:
    """Return the seconds until the tick. A tick that is almost there counts as the last one.

    Each process has a phase of its own, so that they do not use the database at the same time.
    """
    seconds = TICK * ticks
    phase = os.getpid() * _GOLDEN % 1 * TICK
    left = seconds - (now + phase) % seconds
    return left if left >= seconds * _SOONEST else left + seconds

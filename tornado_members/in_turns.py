"""Work on many items that does not block the event loop."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_SECONDS: Final = 0.004  # of one turn
_AT_LEAST: Final = 4  # items between two readings of the clock


async def map_in_turns(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return the result of the function for each item.

    After some milliseconds, other callbacks of the event loop run. A thousand small members take
    less than that, and a thousand members of 16 KiB take a hundred milliseconds.
    """
    results: list[R] = []
    began = time.perf_counter()
    for count, item in enumerate(items, 1):
        results.append(function(item))
        if count % _AT_LEAST == 0 and time.perf_counter() - began > _SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()
    return results

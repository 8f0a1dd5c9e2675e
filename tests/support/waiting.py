"""Waits for states that no event announces: of servers, processes and other tasks."""

import asyncio
import time
from collections.abc import Callable


async def until(
    condition: Callable[[], object], seconds: float = 60, *, pause: float = 0.005
) -> None:
    """Wait until a condition is true. Raises TimeoutError after some seconds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(pause)


def wait_for(condition: Callable[[], object], seconds: float = 60, *, pause: float = 0.05) -> None:
    """Block until a condition is true. Raises TimeoutError after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(pause)

"""The threads in which Motor runs its operations."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from motor.frameworks import asyncio as framework

_SECONDS = 15  # after which the threads are released, so that the test ends


@asynccontextmanager
async def no_free_thread() -> AsyncIterator[None]:
    """Occupy all threads; fail if the block waited for one."""
    loop, gate = asyncio.get_running_loop(), threading.Event()
    waits = [
        loop.run_in_executor(framework._EXECUTOR, gate.wait)
        for _ in range(framework._EXECUTOR._max_workers)
    ]
    release = loop.call_later(_SECONDS, gate.set)
    try:
        yield
        assert not gate.is_set(), "the block waited for a thread of Motor"
    finally:
        release.cancel()
        gate.set()
        await asyncio.gather(*waits)

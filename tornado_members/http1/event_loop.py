"""The event loop under a server."""

import asyncio
from collections.abc import Callable


def find_fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, for asyncio.Runner(loop_factory=...); None, for asyncio's own, where it is not."""
    try:
        import uvloop  # noqa: PLC0415 (it is optional)
    except ImportError:
        return None
    return uvloop.new_event_loop

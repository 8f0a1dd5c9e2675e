"""The event loop under a server."""

import asyncio
from collections.abc import Callable


def find_fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory for asyncio.Runner; None without uvloop, for asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415  (it is optional)
    except ImportError:
        return None
    return uvloop.new_event_loop

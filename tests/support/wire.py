"""A bare connection to the service under test, for bytes that no client would send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any


@asynccontextmanager
async def bare_connection(
    http_server: Any,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a Tornado HTTPServer, for at most ten seconds."""
    (socket,) = http_server._sockets.values()
    reader, writer = await asyncio.open_connection(*socket.getsockname())
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

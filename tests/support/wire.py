"""A bare connection to the service under test, for bytes that no client would send."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import pytest
from tornado.httpserver import HTTPServer as TornadoHTTPServer

from tornado_members.http1.server import HTTPServer

AnyServer = TornadoHTTPServer | HTTPServer
# For tests that depend on the HTTP server; all others run on the one of --transport.
on_both = pytest.mark.parametrize("transport", ["tornado", "http1"])


def listener_of(http_server: AnyServer) -> socket.socket:
    """Return the socket on which a server listens."""
    if isinstance(http_server, HTTPServer):
        (listener,) = http_server.sockets
    else:
        (listener,) = http_server._sockets.values()
    return listener


def address_of(http_server: AnyServer) -> Any:
    """Return the address of a server."""
    return listener_of(http_server).getsockname()


@asynccontextmanager
async def bare_connection(
    http_server: AnyServer, *, limit: int = 65536, buffer: int | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server, for at most a minute.

    The client reads at most twice `limit` bytes ahead, and the kernel holds about `buffer` bytes
    each way.
    """
    listening = listener_of(http_server)
    with socket.socket() as client:
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
        reader, writer = await asyncio.open_connection(sock=client, limit=limit)
        try:
            async with asyncio.timeout(60):
                yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def answer_before_end(http_server: AnyServer, request: bytes) -> bytes:
    """Send a request that the server may leave partly unread; return up to 4 KiB of its response.

    A transport of asyncio stops reading as soon as it cannot write. So it loses the response of a
    server that has responded and closed the connection meanwhile. A socket keeps it.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, address_of(http_server))
        sending = asyncio.create_task(loop.sock_sendall(client, request))
        try:
            async with asyncio.timeout(60):
                return await loop.sock_recv(client, 4096)
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            if not sending.cancelled():
                sending.exception()  # else asyncio logs that it was never retrieved


def small_connection(
    http_server: AnyServer,
) -> AbstractAsyncContextManager[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect with tiny buffers, so that a client that does not read is noticed at once."""
    return bare_connection(http_server, limit=4096, buffer=8192)

"""A server of key sets, with malformed, endless and missing responses."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.support.tokens import public_jwk

Response = Callable[[asyncio.StreamWriter], Awaitable[None]]


class KeyServer:
    """Responds to every path as `paths` define, otherwise with 404; counts the requests."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.url = f"{address}/jwks"
        self.paths: dict[str, Response] = {"/jwks": keys("RS256")}
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, for one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            path = head.split(b" ")[1].decode()
            await self.paths.get(path, status(404))(writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client disconnected
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def key_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[KeyServer]:
    """Run a server on loopback until the end of the block; with `tls`, over TLS."""
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        with suppress(asyncio.CancelledError):
            await server.serve(reader, writer)
        connections.discard(task)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    host, port = listening.sockets[0].getsockname()
    server = KeyServer(f"http://{host}:{port}")
    try:
        yield server
    finally:
        listening.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def body(content: bytes, code: int = 200, **headers: str) -> Response:
    """Return a response with this body."""

    async def respond(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(content)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)

    return respond


def document(value: Any, **headers: str) -> Response:
    """Return a response with JSON."""
    return body(json.dumps(value).encode(), 200, **headers)


def keys(algorithm: str, *names: str, **headers: str) -> Response:
    """Return a response with a set of these keys."""
    jwks = [public_jwk(algorithm, name) for name in names or ("first",)]
    return document({"keys": jwks}, **headers)


def status(code: int, **headers: str) -> Response:
    """Return a response with a minimal body."""
    return body(b"<html>no</html>", code, **headers)


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Send no response."""
    await asyncio.Event().wait()


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a response that never ends, one byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{")
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.02)


def huge(framing: bytes, chunk: bytes = b" " * 65536) -> Response:
    """Return a response of 300 MB, framed as the header states or by the end of the connection."""

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        for _ in range(300_000_000 // 65536):
            if framing.startswith(b"Transfer-Encoding"):
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            else:
                writer.write(chunk)
            await writer.drain()

    return respond

"""A minimal HTTP/1.1 client for load, which uses one connection at a time."""

import asyncio
import time
from dataclasses import dataclass, field


class NoResponse(Exception):
    """The connection broke, or the request timed out: its outcome is unknown."""


@dataclass(slots=True)
class Reply:
    """A response, and the times of its request and its arrival, in seconds of time.monotonic()."""

    start: float
    end: float = 0.0
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)  # by lower-case names
    body: bytes = b""


class HttpClient:
    """One connection, opened on demand. The caller awaits each response before the next request."""

    def __init__(self, host: str, port: int, token: str, *, timeout: float = 10) -> None:
        """`timeout` is the limit of one request, in seconds."""
        self._address = (host, port)
        self._headers = f"Host: {host}:{port}\r\nAuthorization: Bearer {token}\r\n".encode()
        self._timeout = timeout
        self._connection: _Connection | None = None

    async def __call__(
        self, method: bytes, path: bytes, body: bytes = b"", headers: bytes = b""
    ) -> Reply:
        """Send one request, with further header lines. Raises NoResponse."""
        request = b"%b %b HTTP/1.1\r\n%b%b" % (method, path, self._headers, headers)
        if body:
            request += b"Content-Length: %d\r\n" % len(body)
            if b"Content-Type:" not in headers:
                request += b"Content-Type: application/json\r\n"
        try:
            async with asyncio.timeout(self._timeout):
                connection = self._connection or await self._connect()
                return await connection.send(request + b"\r\n" + body)
        except (OSError, ValueError, KeyError) as error:  # TimeoutError is an OSError
            self.close()
            raise NoResponse(f"{type(error).__name__}: {error}") from error
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection:
            self._connection.transport.abort()
            self._connection = None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(_Connection, *self._address)
        return self._connection


class _Connection(asyncio.Protocol):
    """Parses one response at a time, and reads the clock when its last byte arrives."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = b""
        self._waiting: asyncio.Future[Reply] | None = None
        self._reply = Reply(0)
        self._lost: Exception | None = None

    async def send(self, request: bytes) -> Reply:
        if self._lost:
            raise self._lost
        self._waiting = asyncio.get_running_loop().create_future()
        self._reply = Reply(time.monotonic())
        self.transport.write(request)
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._received += data
        try:
            done = self._parse()
        except (ValueError, KeyError) as error:
            self.connection_lost(error)
            self.transport.abort()
            return
        if done and self._waiting and not self._waiting.done():
            self._reply.end = now
            self._received = b""
            self._waiting.set_result(self._reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or ConnectionResetError("closed")
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(self._lost)

    def _parse(self) -> bool:
        """True if the reply is complete. Every response of the service has a length."""
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        reply = self._reply
        if not reply.status:
            first, *lines = head.split(b"\r\n")
            reply.status = int(first.split(b" ", 2)[1])
            pairs = (line.partition(b":") for line in lines)
            reply.headers = {name.lower(): value.strip() for name, _, value in pairs}
        bodiless = reply.status in (204, 304)
        reply.body = body
        return len(body) == (0 if bodiless else int(reply.headers[b"content-length"]))

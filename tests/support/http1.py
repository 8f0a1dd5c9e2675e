"""http1 and Tornado's HTTP server with the same application, and a bare client."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from tornado.httpserver import HTTPServer as TornadoHTTPServer
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, stream_request_body

from tests.support.waiting import until
from tornado_members.http1 import HTTPServer, Limits

Address = tuple[str, int]
NewLoop = Callable[[], asyncio.AbstractEventLoop]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Echo(RequestHandler):
    """Responds to every request with the server's interpretation of it."""

    SUPPORTED_METHODS = (*RequestHandler.SUPPORTED_METHODS, "FOO", "CONNECT", "PROPFIND")

    def understood(self, body: bytes) -> dict[str, Any]:
        request = self.request
        return {
            "method": request.method,
            "uri": request.uri,
            "version": request.version,
            "headers": sorted(request.headers.get_all()),
            "host": request.host,
            "body": body.decode("latin-1"),
        }

    async def respond(self) -> None:
        self.finish(self.understood(self.request.body))

    get = post = put = patch = delete = head = options = respond
    foo = connect = propfind = respond

    def prepare(self) -> None:
        self.request._parse_body = lambda: None  # type: ignore[method-assign]


@stream_request_body
class StreamedEcho(Echo):
    """Does the same for a body that arrives in pieces."""

    def prepare(self) -> None:
        self.pieces: list[bytes] = []

    async def data_received(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        self.pieces.append(chunk)

    async def respond(self) -> None:
        self.finish(self.understood(b"".join(self.pieces)))

    get = post = put = patch = delete = head = options = respond
    foo = connect = propfind = respond


def echo() -> Application:
    """Return an application of both handlers."""
    return Application(
        [("/stream.*", StreamedEcho)], default_handler_class=Echo, log_function=lambda _: None
    )


def application(handler: type[RequestHandler], **arguments: Any) -> Application:
    """Return an application with one handler for every path."""
    return Application([(".*", handler, arguments)], log_function=lambda _: None)


@asynccontextmanager
async def serving(
    delegate: HTTPServerConnectionDelegate, limits: Limits | None = None, **options: Any
) -> AsyncIterator[tuple[HTTPServer, Address]]:
    """Serve on a free port; yield the server and its address."""
    server = HTTPServer(delegate, limits=limits, **options)
    listeners = bind_sockets(0, "127.0.0.1")
    address = listeners[0].getsockname()
    server.add_sockets(listeners)
    try:
        yield server, address
    finally:
        server.stop()
        await server.close_all_connections()


@asynccontextmanager
async def serving_tornado(delegate: HTTPServerConnectionDelegate) -> AsyncIterator[Address]:
    """Serve by Tornado's HTTPServer on a free port; yield its address."""
    server = TornadoHTTPServer(delegate)
    listeners = bind_sockets(0, "127.0.0.1")
    address = listeners[0].getsockname()
    server.add_sockets(listeners)
    try:
        yield address
    finally:
        server.stop()
        await server.close_all_connections()


class Client(asyncio.Protocol):
    """Sends bytes and collects the received ones."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = asyncio.Event()  # the other side sends no more
        self.lost = asyncio.Event()
        self.reset = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool:
        self.ended.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.reset = isinstance(exc, ConnectionResetError)
        self.ended.set()
        self.lost.set()

    async def until(self, text: bytes, count: int = 1, seconds: float = 60) -> None:
        """Wait until some bytes have arrived `count` times."""
        await until(lambda: self.received.count(text) >= count or self.ended.is_set(), seconds)
        assert self.received.count(text) >= count, bytes(self.received)

    async def until_closed(self, seconds: float = 60) -> bytes:
        """Wait for the end of the connection; return everything."""
        async with asyncio.timeout(seconds):
            await self.ended.wait()
        return bytes(self.received)


@asynccontextmanager
async def connected(address: Any, **options: Any) -> AsyncIterator[Client]:
    """Connect to a server for the block."""
    loop = asyncio.get_running_loop()
    if isinstance(address, str):
        _, client = await loop.create_unix_connection(Client, address, **options)
    else:
        _, client = await loop.create_connection(Client, *address[:2], **options)
    try:
        yield client
    finally:
        client.transport.abort()
        await client.lost.wait()


async def exchange(address: Any, *pieces: bytes, seconds: float = 60) -> bytes:
    """Send bytes on a new connection; return everything received until the server closes it."""
    async with connected(address) as client:
        for piece in pieces:
            client.transport.write(piece)
            if len(pieces) > 1:
                await turns(4)
        return await client.until_closed(seconds)


async def turns(number: int) -> None:
    """Let the event loop run a number of turns."""
    for _ in range(number):
        await asyncio.sleep(0)


class Response(NamedTuple):
    """One of several responses on a connection."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes
    whole: bool  # False if the body was cut off

    def json(self) -> Any:
        return json.loads(self.body)


def parse_responses(data: bytes, *, head: bool = False) -> list[Response]:
    """Return all responses except 100 Continue; with `head`, they have no bodies."""
    found = []
    while data:
        top, end, data = data.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        assert end, top
        assert first.startswith("HTTP/1.1 "), first
        status = int(first.split(" ")[1])
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        if status == 100:
            continue
        body, data, whole = _body(status, headers, data, head)
        found.append(Response(status, headers, body, whole))
    return found


def _body(
    status: int, headers: dict[str, str], data: bytes, head: bool
) -> tuple[bytes, bytes, bool]:
    if head or status in (204, 304):
        return b"", data, True
    if headers.get("transfer-encoding") == "chunked":
        body, start = bytearray(), 0
        while (end := data.find(b"\r\n", start)) >= 0:
            size = int(data[start:end], 16)
            body += data[end + 2 : end + 2 + size]
            start = end + 2 + size + 2
            if not size:
                return bytes(body), data[start:], True
        return bytes(body), b"", False
    if "content-length" in headers:
        length = int(headers["content-length"])
        return data[:length], data[length:], len(data) >= length
    return data, b"", True

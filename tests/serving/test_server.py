"""The limit on connections, and how Tornado's HTTP server stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.support.waiting import until
from tests.support.wire import bare_connection
from tornado_members.serving.server import DrainingHTTPServer, most_connections

GET = b"GET /members/1 HTTP/1.1\r\nHost: x\r\n\r\n"

Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def transport() -> str:
    """Use Tornado's HTTP server. tests/http1 has the same tests for the service's own server."""
    return "tornado"


async def read_response(reader: asyncio.StreamReader) -> bytes:
    """Read a whole response; return its header section."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.split(b"Content-Length: ")[1].split(b"\r\n")[0]
    await reader.readexactly(int(length))
    return head


@asynccontextmanager
async def connections(server: DrainingHTTPServer, count: int) -> AsyncIterator[list[Connected]]:
    """Open idle connections."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(bare_connection(server)) for _ in range(count)]


@pytest.mark.parametrize(
    ("wanted", "allowed", "most"), [(4096, 120, 60), (4096, 1024, 768), (100, 1024, 100)]
)
def test_most_connections_is_below_the_limit_on_files(wanted: int, allowed: int, most: int) -> None:
    assert most_connections(wanted, lambda _: (allowed, allowed)) == most


async def test_announce_close_applies_to_open_and_to_later_connections(
    http_server: DrainingHTTPServer,
) -> None:
    async with connections(http_server, 1) as [(reader, writer)]:
        http_server.announce_close()
        async with connections(http_server, 1) as [(late_reader, late_writer)]:
            for one, other in ((reader, writer), (late_reader, late_writer)):
                other.write(GET)
                assert b"Connection: close\r\n" in await read_response(one)
                assert await one.read() == b""


async def test_drain_waits_for_requests_and_closes_idle_connections(
    http_server: DrainingHTTPServer,
) -> None:
    async with connections(http_server, 2) as [(reader, writer), (idle, _)]:
        writer.write(GET[:20])
        await until(http_server._busy)
        http_server.announce_close()
        http_server.stop()
        force = asyncio.Event()
        draining = asyncio.create_task(http_server.drain(10, idle_seconds=0.1, force=force))
        await asyncio.sleep(0.3)
        writer.write(GET[20:])
        assert b"Connection: close\r\n" in await read_response(reader)
        assert await draining == 0
        assert await idle.read() == b""


async def test_drain_closes_everything_when_it_is_forced(http_server: DrainingHTTPServer) -> None:
    async with connections(http_server, 2) as [(_, writer), _]:
        writer.write(GET[:20])
        await until(http_server._busy)
        force = asyncio.Event()
        force.set()
        assert await http_server.drain(10, idle_seconds=10, force=force) == 1

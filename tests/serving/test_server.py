"""A worker's HTTP server: how many it takes, and for how long."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from tests.support.api import Api, token_of
from tests.support.wire import bare_connection
from tornado_members.services import Services
from tornado_members.serving.server import MembersServer, most_connections
from tornado_members.settings import Settings

PATIENCE = {
    "header_seconds": 0.4,
    "body_seconds": 0.4,
    "idle_seconds": 0.8,
    "write_seconds": 0.4,
    "connections": 8,
    "header_bytes": 1024,
}
GET = b"GET /members/1 HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT /members HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"

Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def transport() -> str:
    """Tornado's, whatever the others run on: this is about what was added to it."""
    return "tornado"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    limits = settings.server.limits.model_copy(update=PATIENCE)
    server = settings.server.model_copy(update={"limits": limits})
    return settings.model_copy(update={"server": server})


async def answer(reader: asyncio.StreamReader) -> bytes:
    """A whole one, whose length its header tells."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.split(b"Content-Length: ")[1].split(b"\r\n")[0]
    await reader.readexactly(int(length))
    return head


@asynccontextmanager
async def connections(server: MembersServer, count: int) -> AsyncIterator[list[Connected]]:
    """So many, on which nothing is said."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(bare_connection(server)) for _ in range(count)]


async def test_a_connection_on_which_nothing_is_said_is_closed(http_server: MembersServer) -> None:
    async with bare_connection(http_server) as (reader, _):
        assert await reader.read() == b""
    async with bare_connection(http_server) as (reader, writer):
        writer.write(GET)
        assert (await answer(reader)).startswith(b"HTTP/1.1 401 ")
        assert await reader.read() == b""


async def test_a_header_that_dribbles_in_is_not_waited_for(http_server: MembersServer) -> None:
    async with bare_connection(http_server) as (reader, writer):
        writer.write(GET[:-2])
        dribbling = asyncio.create_task(dribble(writer, b"X: y\r\n"))
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        await dribbling


async def dribble(writer: asyncio.StreamWriter, text: bytes) -> None:
    """A byte now and then, for as long as anybody listens."""
    with suppress(OSError):
        while not writer.is_closing():
            for byte in text:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)


async def test_a_body_that_dribbles_in_is_not_waited_for(http_server: MembersServer) -> None:
    async with bare_connection(http_server) as (reader, writer):
        writer.write(PUT)
        dribbling = asyncio.create_task(dribble(writer, b"."))
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        await dribbling


async def test_a_body_that_comes_steadily_may_take_its_time(http_server: MembersServer) -> None:
    async with bare_connection(http_server) as (reader, writer):
        writer.write(b"PUT /members HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n")
        for _ in range(10):  # twice as long as body_seconds, and faster than 1 KiB a second
            writer.write(b"." * 400)
            await asyncio.sleep(0.1)
        assert (await answer(reader)).startswith(b"HTTP/1.1 401 ")


async def test_a_reader_that_does_not_read_is_let_go(
    http_server: MembersServer, api: Api, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "tornado_members")
    for number in range(100):
        await api.create(f"{number:0255}")
    (listener,) = http_server._sockets.values()
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, listener.getsockname())
    # More of them than the kernel's buffers hold.
    request = b"GET /members?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
    _, writer = await asyncio.open_connection(sock=small, limit=1024)
    writer.write(request % token_of(1).encode() * 200)
    async with asyncio.timeout(20):
        while "a client did not read its answer" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await services.requests.idle.wait()
    writer.close()


async def test_a_header_over_the_limit_is_refused(http_server: MembersServer) -> None:
    async with bare_connection(http_server) as (reader, writer):
        writer.write(GET[:-2] + b"X: " + b"y" * 2000 + b"\r\n\r\n")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


async def test_beyond_the_bound_those_who_are_silent_make_room(http_server: MembersServer) -> None:
    http_server._limits = http_server._limits.model_copy(update={"idle_seconds": 60})
    async with connections(http_server, 8) as silent:
        await asyncio.sleep(0.1)
        assert len(http_server._connections) == 8
        async with bare_connection(http_server) as (reader, writer):
            writer.write(GET)
            assert (await answer(reader)).startswith(b"HTTP/1.1 401 ")
        assert all([await one.read() == b"" for one, _ in silent])


async def test_without_descriptors_it_rests_and_then_goes_on(
    http_server: MembersServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (listener,) = http_server._sockets.values()
    tried = 0

    class Exhausted:
        def accept(self) -> Any:
            nonlocal tried
            tried += 1
            raise OSError(24, "Too many open files")

    accept = http_server._accept_one
    monkeypatch.setattr(http_server, "_accept_one", lambda _: accept(Exhausted()))  # type: ignore[arg-type]
    async with bare_connection(http_server) as (reader, writer):
        writer.write(GET)
        await asyncio.sleep(0.5)
        assert tried == 1, "it must not spin"
        monkeypatch.undo()
        assert (await answer(reader)).startswith(b"HTTP/1.1 401 ")
    assert listener.fileno() > 0


@pytest.mark.parametrize(
    ("wanted", "allowed", "most"), [(4096, 120, 60), (4096, 1024, 768), (100, 1024, 100)]
)
def test_the_bound_is_below_the_limit_on_files(wanted: int, allowed: int, most: int) -> None:
    assert most_connections(wanted, lambda _: (allowed, allowed)) == most


async def test_goodbye_is_said_on_what_is_open_and_nobody_is_cut_off(
    http_server: MembersServer,
) -> None:
    async with connections(http_server, 2) as [(reader, writer), (late_reader, late_writer)]:
        late_writer.write(PUT)
        await asyncio.sleep(0.1)
        http_server.say_goodbye()
        http_server.stop()
        hurry = asyncio.Event()
        draining = asyncio.create_task(http_server.drain(10, silent_seconds=10, hurry=hurry))
        await asyncio.sleep(0.1)
        for one, other, text in ((reader, writer, GET), (late_reader, late_writer, b"." * 100)):
            other.write(text)
            assert b"Connection: close\r\n" in await answer(one)
            assert await one.read() == b""
        assert await draining == 0


async def test_goodbye_is_said_on_connections_that_come_later_too(
    http_server: MembersServer,
) -> None:
    http_server.say_goodbye()
    async with connections(http_server, 1) as [(reader, writer)]:
        writer.write(GET)
        assert b"Connection: close\r\n" in await answer(reader)
        assert await reader.read() == b""


async def test_whoever_is_in_a_hurry_cuts_off(http_server: MembersServer) -> None:
    async with connections(http_server, 2) as [(_, writer), _]:
        writer.write(PUT)
        await asyncio.sleep(0.1)
        hurry = asyncio.Event()
        hurry.set()
        assert await http_server.drain(10, silent_seconds=10, hurry=hurry) == 1

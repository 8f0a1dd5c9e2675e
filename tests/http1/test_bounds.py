"""Limits: clients that are slow, greedy or many cost little, and others are served."""

import asyncio
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, closing, suppress
from typing import Any

import pytest
from tornado.web import RequestHandler, stream_request_body

from tests.http1.conftest import Run
from tests.support.http1 import (
    GET,
    LAST,
    Client,
    application,
    connected,
    echo,
    exchange,
    parse_responses,
    serving,
)
from tests.support.service import ROOT
from tests.support.waiting import until
from tornado_members.http1 import acceptor
from tornado_members.http1.acceptor import Acceptor
from tornado_members.http1.limits import Limits

QUICK = Limits(
    idle_seconds=0.1, head_seconds=0.1, body_seconds=0.1, write_seconds=0.1, linger_seconds=0.1
)
PUT = b"PUT /stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: ", 408),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r", 408),
        (PUT + b"some", 408),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", 408),
    ],
    ids=["idle", "an empty line", "head", "last byte", "body", "chunk"],
)
def test_client_that_stops_within_a_request_is_timed_out(
    run: Run, sent: bytes, status: int | None
) -> None:
    async def main() -> None:
        async with serving(echo(), QUICK) as (server, address), connected(address) as client:
            client.transport.write(sent)
            found = [response.status for response in parse_responses(await client.until_closed())]
            assert found == ([status] if status else [])
            client.transport.close()
            await until(lambda: not server.connections)

    run(main())


async def dribble(client: Client, data: bytes, pause: float) -> None:
    for byte in data:
        if client.ended.is_set():
            return
        client.transport.write(bytes([byte]))
        await asyncio.sleep(pause)


def test_head_that_dribbles_is_timed_out(run: Run) -> None:
    """A head has one deadline, however many bytes arrive."""

    async def main() -> None:
        async with serving(echo(), QUICK) as (_, address), connected(address) as client:
            endless = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100
            dribbling = asyncio.create_task(dribble(client, endless, 0.01))
            assert (await client.until_closed()).startswith(b"HTTP/1.1 408 ")
            await dribbling

    run(main())


def test_body_that_keeps_arriving_is_not_timed_out(run: Run) -> None:
    async def main() -> None:
        limits = Limits(body_seconds=0.5)
        async with serving(echo(), limits) as (_, address), connected(address) as client:
            client.transport.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\n\r\n")
            for _ in range(8):
                client.transport.write(b"x" * 1000)
                await asyncio.sleep(0.1)
            await client.until(b"HTTP/1.1 200 ")

    run(main())


def test_body_that_dribbles_is_timed_out(run: Run) -> None:
    async def main() -> None:
        async with serving(echo(), QUICK) as (_, address), connected(address) as client:
            client.transport.write(PUT)
            dribbling = asyncio.create_task(dribble(client, b"x" * 900, 0.01))
            assert (await client.until_closed()).startswith(b"HTTP/1.1 408 ")
            await dribbling

    run(main())


def test_body_timeout_of_a_handler_is_for_the_whole_body(run: Run) -> None:
    @stream_request_body
    class Hurried(RequestHandler):
        def initialize(self) -> None:
            connection: Any = self.request.connection
            connection.set_body_timeout(0.2)

        def data_received(self, chunk: bytes) -> None:
            """Discard it."""

    async def main() -> None:
        limits = Limits(body_seconds=5, linger_seconds=0.2)
        app = application(Hurried)
        async with serving(app, limits) as (_, address), connected(address) as client:
            client.transport.write(PUT)
            dribbling = asyncio.create_task(dribble(client, b"x" * 1000, 0.02))
            assert (await client.until_closed()).startswith(b"HTTP/1.1 408 ")
            await dribbling

    run(main())


class Large(RequestHandler):
    """Responds with more than the kernel buffers hold."""

    async def get(self) -> None:
        self.finish(b"x" * 20_000_000)


def test_client_that_does_not_read_is_disconnected(run: Run) -> None:
    async def main() -> None:
        app = application(Large)
        async with serving(app, QUICK) as (server, address), connected(address) as client:
            client.transport.pause_reading()
            client.transport.write(GET)
            await until(lambda: server.connections)
            await until(lambda: not server.connections)

    run(main())


def test_client_that_reads_slowly_receives_its_response(run: Run) -> None:
    async def main() -> None:
        limits = Limits(write_seconds=0.5)
        app = application(Large)
        async with serving(app, limits) as (_, address), connected(address) as client:
            client.transport.write(LAST)
            while not client.ended.is_set():
                client.transport.pause_reading()
                await asyncio.sleep(0.02)
                client.transport.resume_reading()
                await asyncio.sleep(0.005)
            (response,) = parse_responses(bytes(client.received))
            assert response.whole

    run(main())


def small_receiver(address: Any) -> socket.socket:
    """Return a socket whose kernel buffer holds very little."""
    receiver = socket.socket()
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    receiver.connect(address)
    receiver.setblocking(False)
    return receiver


@pytest.mark.parametrize(("rate", "stays"), [(30_000_000, False), (1000, True)])
def test_client_must_read_at_the_least_rate(run: Run, rate: int, stays: bool) -> None:
    """Once, each byte counted as progress, and four requests took hours."""

    async def main() -> bool:
        limits = Limits(write_seconds=0.5, write_bytes_per_second=rate)
        async with serving(application(Large), limits) as (server, address):
            with small_receiver(address) as slow:
                slow.send(GET)
                await until(lambda: server.connections)
                for _ in range(200):
                    await asyncio.sleep(0.01)
                    for _ in range(20):
                        with suppress(BlockingIOError):
                            slow.recv(4096)
                return server.connections == 1

    assert run(main()) is stays


def test_client_that_keeps_sending_must_also_read(run: Run) -> None:
    """Pipelined requests do not count as reading."""

    async def main() -> None:
        async with serving(application(Large), QUICK) as (server, address):
            with small_receiver(address) as greedy:
                greedy.send(GET)
                await until(lambda: server.connections)
                for _ in range(500):
                    await asyncio.sleep(0.01)
                    if not server.connections:
                        return
                    greedy.send(b"G")
            raise AssertionError("it is still connected")

    run(main())


def test_response_unread_by_many_clients_is_held_once(run: Run) -> None:
    shared = bytes(20_000_000)

    class Shared(RequestHandler):
        async def get(self) -> None:
            self.finish(shared)

    async def main() -> None:
        async with serving(application(Shared)) as (server, address), AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(address)) for _ in range(20)]
            for client in clients:
                client.transport.pause_reading()
                client.transport.write(GET)
            await until(lambda: sum(c.writer.paused for c in server._connections) == 20)
            assert server.response_budget.used == len(shared)
            waiting = sum(c.transport.get_write_buffer_size() for c in server._connections)
            assert waiting <= 20 * 32 * 1024
            clients[0].transport.resume_reading()
            await clients[0].until(b"\r\n\r\n")
            await until(lambda: parse_responses(bytes(clients[0].received))[0].whole)
            assert parse_responses(bytes(clients[0].received))[0].body == shared
        await until(lambda: not server.connections)
        assert server.response_budget.used == 0

    run(main())


def test_slow_readers_make_room_for_others_when_memory_is_short(run: Run) -> None:
    async def main() -> None:
        limits = Limits(response_buffer_bytes=50_000_000)
        async with serving(application(Large), limits) as (server, address):
            async with AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(connected(address)) for _ in range(4)]
                for client in clients:
                    client.transport.pause_reading()
                    client.transport.write(GET)
                await until(lambda: server.response_budget.is_exceeded)
                (response,) = parse_responses(await exchange(address, LAST))
                assert response.whole
                await until(lambda: server.connections == 2)
                assert not server.response_budget.is_exceeded
            await until(lambda: not server.connections)
            assert server.response_budget.used == 0

    run(main())


def test_response_is_sent_whole_before_the_connection_closes(run: Run) -> None:
    """Even if it is larger than the transport's buffer, and its request was not read."""

    class Refusing(RequestHandler):
        def put(self) -> None:
            raise AssertionError("it is refused")

        def prepare(self) -> None:
            self.finish(b"x" * 20_000_000)

    async def main() -> None:
        app = application(stream_request_body(Refusing))
        async with serving(app) as (_, address), connected(address) as client:
            client.transport.pause_reading()
            client.transport.write(PUT.replace(b"1000", b"9000000"))
            await asyncio.sleep(0.05)
            client.transport.resume_reading()
            (response,) = parse_responses(await client.until_closed())
            assert response.whole
            assert response.headers["connection"] == "close"

    run(main())


def test_closing_connection_reads_no_more_of_a_body(run: Run) -> None:
    """The server also closes it if the client does not read the pending response."""

    @stream_request_body
    class Interrupted(RequestHandler):
        async def data_received(self, chunk: bytes) -> None:
            connection: Any = self.request.connection
            self.write(chunk + bytes(20_000_000))
            self.flush()
            connection.close()

    async def main() -> None:
        app = application(Interrupted)
        limits = Limits(write_seconds=0.1)
        async with serving(app, limits) as (server, address), connected(address) as client:
            client.transport.pause_reading()
            client.transport.write(PUT.replace(b"1000", b"9000000"))
            await until(lambda: server.connections)
            for _ in range(500):
                client.transport.write(b"x" * 100)
                await asyncio.sleep(0.01)
                if not server.connections:
                    return
            raise AssertionError("it is still connected")

    run(main())


def test_next_response_waits_until_the_last_was_read(run: Run) -> None:
    """Otherwise the responses to a client that never reads would pile up."""
    served = []

    class Counted(RequestHandler):
        async def get(self) -> None:
            served.append(1)
            self.finish(b"x" * 20_000_000)

    async def main() -> None:
        async with serving(application(Counted)) as (_, address), connected(address) as client:
            client.transport.pause_reading()
            client.transport.write(GET * 100)
            await until(lambda: served)
            await asyncio.sleep(0.1)
            assert len(served) == 1

    run(main())


def test_connections_are_limited_and_further_ones_wait(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Further ones wait in the kernel, without busy polling; then they are served."""
    attempts: list[socket.socket] = []
    accept = Acceptor._accept

    def counted(acceptor: Acceptor, listener: socket.socket) -> None:
        attempts.append(listener)
        accept(acceptor, listener)

    monkeypatch.setattr(Acceptor, "_accept", counted)

    async def main() -> None:
        async with serving(echo(), Limits(connections=5)) as (server, address):
            async with AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(connected(address)) for _ in range(20)]
                for client in clients:
                    client.transport.write(LAST)
                while not all(client.ended.is_set() for client in clients):
                    assert server.connections <= 5
                    await asyncio.sleep(0)
            async with AsyncExitStack() as stack:
                idle = [await stack.enter_async_context(connected(address)) for _ in range(5)]
                await until(lambda: server.connections == 5)
                waiting = await stack.enter_async_context(connected(address))
                waiting.transport.write(LAST)
                clock = asyncio.get_running_loop().time
                began, before = clock(), len(attempts)
                await asyncio.sleep(0.3)
                pauses = (clock() - began) / acceptor._PAUSE_SECONDS
                # Busy polling would have tried thousands of times.
                assert 1 <= len(attempts) - before <= pauses + 2
                assert server.connections == 5
                assert not waiting.received
                idle[0].transport.close()
                assert (await waiting.until_closed()).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_idle_connections_make_room(run: Run) -> None:
    """The longest idle first; a connection with a request in progress stays."""

    async def main() -> None:
        released = asyncio.Event()

        class Slow(RequestHandler):
            async def get(self) -> None:
                await released.wait()
                self.finish(b"slow")

        async with (
            serving(application(Slow), Limits(connections=30)) as (server, address),
            AsyncExitStack() as stack,
        ):

            async def open_one() -> Client:
                before = server.connections
                client = await stack.enter_async_context(connected(address))
                await until(lambda: server.connections > before)
                await asyncio.sleep(0.002)  # the clock of uvloop counts milliseconds
                return client

            busy, begun = await open_one(), await open_one()
            busy.transport.write(GET)
            begun.transport.write(GET[:5])
            silent = [await open_one() for _ in range(27)]
            await asyncio.sleep(1.2)
            fresh = await open_one()
            released.set()
            newcomer = await stack.enter_async_context(connected(address))
            newcomer.transport.write(LAST)
            assert (await newcomer.until_closed()).endswith(b"slow")
            await until(lambda: all(client.ended.is_set() for client in silent[:16]))
            assert not any(client.ended.is_set() for client in [begun, fresh, *silent[16:]])
            await busy.until(b"slow")
            begun.transport.write(GET[5:])
            await begun.until(b"slow")

    run(main())


CHUNKED = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe"


@pytest.mark.parametrize(
    "sent", [GET[:20], PUT + b"some", CHUNKED, GET.replace(b"/", b"/large", 1), b"nonsense\r\n\r\n"]
)
def test_slow_clients_make_room_where_no_connection_is_idle(run: Run, sent: bytes) -> None:
    class Some(Large):
        async def put(self) -> None:
            self.finish("put")

        async def get(self) -> None:
            self.finish(b"x" * (20_000_000 if "large" in str(self.request.uri) else 5))

    async def main() -> None:
        limits = Limits(connections=5, linger_seconds=60)
        async with (
            serving(application(Some), limits) as (server, address),
            AsyncExitStack() as stack,
        ):
            for _ in range(5):
                client = await stack.enter_async_context(connected(address))
                client.transport.pause_reading()
                client.transport.write(sent)
            await until(lambda: server.connections == 5)
            assert (await exchange(address, LAST)).endswith(b"xxxxx")

    run(main())


def test_body_that_arrives_fast_enough_keeps_its_connection(run: Run) -> None:
    async def main() -> None:
        async with (
            serving(echo(), Limits(connections=1)) as (_, address),
            connected(address) as uploading,
            connected(address) as waiting,
        ):
            uploading.transport.write(PUT.replace(b"1000", b"300000").replace(b"/stream", b"/"))
            waiting.transport.write(LAST)
            for _ in range(15):
                uploading.transport.write(b"x" * 20_000)
                await asyncio.sleep(0.1)
            await uploading.until(b"HTTP/1.1 200 ")

    run(main())


def test_connections_of_one_address_are_limited(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limits = Limits(connections_per_address=3)
        async with (
            serving(echo(), limits, is_exempt=lambda address: address == "127.0.0.9") as (
                server,
                address,
            ),
            AsyncExitStack() as stack,
        ):

            async def connect(source: str = "127.0.0.1") -> Client:
                local = (source, 0)
                return await stack.enter_async_context(connected(address, local_addr=local))

            first = [await connect() for _ in range(3)]
            await until(lambda: server.connections == 3)
            for method in (b"GET", b"HEAD"):
                surplus = await connect()
                surplus.transport.write(GET.replace(b"GET", method))
                await surplus.until_closed()
                assert surplus.received.startswith(b"HTTP/1.1 503 ")
                assert b"Connection: close" in surplus.received
                surplus.transport.close()
                await until(surplus.lost.is_set)
                assert not surplus.reset
            other = await connect("127.0.0.2")
            other.transport.write(GET)
            await other.until(b"HTTP/1.1 200 ")
            exempt = [await connect("127.0.0.9") for _ in range(5)]
            await until(lambda: server.connections == 9)
            await asyncio.sleep(1.1)
            fresh = await connect()  # now the longest idle connection is closed
            fresh.transport.write(GET)
            await fresh.until(b"HTTP/1.1 200 ")
            assert sum(client.ended.is_set() for client in first) == 1
            assert not any(client.ended.is_set() for client in [other, *exempt])

    run(main())
    assert "127.0.0.1 has 3 connections" in caplog.text


OUT_OF_DESCRIPTORS = """
import asyncio, os, resource, sys
from tests.support.http1 import GET, LAST, connected, echo, serving, exchange
from tests.support.waiting import until
from contextlib import AsyncExitStack

async def main():
    async with serving(echo()) as (server, address):
        assert (await exchange(address, LAST)).startswith(b"HTTP/1.1 200 ")
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
        async with AsyncExitStack() as stack:
            clients = []
            try:
                while True:
                    clients.append(await stack.enter_async_context(connected(address)))
            except OSError:
                pass
            assert 9 <= len(clients) <= 20, len(clients)
            await asyncio.sleep(0.3)
            assert server.connections < len(clients)
            clients[0].transport.write(GET)
            await clients[0].until(b"HTTP/1.1 200 ")
            await asyncio.sleep(1.3)  # by now some have made room
            await until(lambda: sum(client.ended.is_set() for client in clients) > 1)
        await until(lambda: server.connections == 0)
        assert (await exchange(address, LAST)).startswith(b"HTTP/1.1 200 ")

new_loop = None
if sys.argv[1] == "uvloop":
    import uvloop
    new_loop = uvloop.new_event_loop
with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
print("served")
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_server_waits_without_descriptors_and_continues(loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS, loop],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "served\n", done.stderr
    # Once a second: a busy loop would have tried thousands of times.
    assert 1 <= done.stderr.count("cannot accept a connection") < 10


def test_slow_clients_do_not_delay_others(run: Run) -> None:
    async def main() -> None:
        async with serving(echo()) as (_, address), AsyncExitStack() as stack:
            for data in (b"GET / HTT", PUT, PUT + b"x", b"", b"nonsense\r\n\r\n"):
                for _ in range(20):
                    client = await stack.enter_async_context(connected(address))
                    client.transport.write(data)
            assert (await exchange(address, LAST)).startswith(b"HTTP/1.1 200 ")

    run(main())


def test_client_that_resets_leaves_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(echo()) as (server, address):
            for data in (b"", b"GET /", GET, PUT + b"x" * 100, GET * 1000):
                with closing(socket.create_connection(address)) as client:
                    client.sendall(data)
                    option = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # close with a reset
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            await asyncio.sleep(0.05)
            await until(lambda: not server.connections)

    run(main())
    assert "rror" not in caplog.text


def test_slow_bodies_make_room_for_others_when_memory_is_short(run: Run) -> None:
    """All bodies share a budget; the slowest are refused first."""

    async def main() -> None:
        limits = Limits(body_buffer_bytes=1_000_000, linger_seconds=0.2)
        async with serving(echo(), limits) as (server, address), AsyncExitStack() as stack:
            put = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
            slow = [await stack.enter_async_context(connected(address)) for _ in range(9)]
            for client in slow:
                client.transport.write(put + b"x" * 99_999)
            await until(lambda: server.body_budget.used == 9 * 99_999)
            first, last = parse_responses(await exchange(address, put + b"x" * 100_000 + LAST))
            assert (first.status, last.status) == (200, 200)
            excess = put.replace(b"100000", b"200000") + b"x" * 200_000
            (refused,) = parse_responses(
                await exchange(address, excess)
            )  # none of the others counts as slow yet
            assert (refused.status, refused.headers["connection"]) == (503, "close")
            await asyncio.sleep(1.1)
            first, last = parse_responses(await exchange(address, excess + LAST))
            assert (first.status, last.status) == (200, 200)
            disconnected = [client for client in slow if client.ended.is_set()]
            assert 2 <= len(disconnected) <= 4
            assert all(
                parse_responses(bytes(client.received))[0].status == 503 for client in disconnected
            )
        assert server.body_budget.used == 0

    run(main())


def test_streamed_body_takes_no_memory_budget(run: Run) -> None:
    @stream_request_body
    class Consuming(RequestHandler):
        async def data_received(self, chunk: bytes) -> None:
            """Discard it."""

        def put(self) -> None:
            self.finish()

    async def main() -> None:
        limits = Limits(body_buffer_bytes=200_000)
        async with serving(application(Consuming), limits) as (_, address):
            put = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
            first, last = parse_responses(await exchange(address, put + b"x" * 900_000 + LAST))
            assert (first.status, last.status) == (200, 405)

    run(main())

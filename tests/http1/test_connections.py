"""One connection: order, flow control, bodies, and clients that disconnect."""

import asyncio
import json
import socket
from typing import Any

import pytest
from tornado.iostream import StreamClosedError
from tornado.web import RequestHandler, stream_request_body

from tests.http1.conftest import Run
from tests.support.http1 import (
    GET,
    LAST,
    Echo,
    application,
    connected,
    echo,
    exchange,
    parse_responses,
    serving,
    turns,
)
from tests.support.waiting import until
from tornado_members.http1.limits import Limits


class Held(RequestHandler):
    """Responds when `let_go` is set; `begun` contains the requests that have begun."""

    def initialize(self, begun: list[str], let_go: asyncio.Event) -> None:
        self.begun = begun
        self.let_go = let_go

    async def get(self) -> None:
        self.begun.append(str(self.request.uri))
        await self.let_go.wait()
        self.finish(str(self.request.uri))

    def on_connection_close(self) -> None:
        self.begun.append(f"{self.request.uri} lost")


def numbered(numbers: range) -> bytes:
    return b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in numbers)


def test_pipelined_requests_are_served_in_order_one_at_a_time(run: Run) -> None:
    async def main() -> None:
        begun: list[str] = []
        let_go = asyncio.Event()
        app = application(Held, begun=begun, let_go=let_go)
        async with serving(app) as (_, address), connected(address) as client:
            client.transport.write(numbered(range(50)) + LAST)
            await until(lambda: begun)
            await turns(20)
            assert begun == ["/0"]
            let_go.set()
            received = parse_responses(await client.until_closed())
            assert [a.body.decode() for a in received] == [*(f"/{n}" for n in range(50)), "/last"]

    run(main())


def test_pipelined_bytes_beyond_the_limit_stay_in_the_clients_kernel(run: Run) -> None:
    """A flood of pipelined requests takes no more memory than the limit and one further read."""

    async def main() -> None:
        begun: list[str] = []
        let_go = asyncio.Event()
        app = application(Held, begun=begun, let_go=let_go)
        limits = Limits(read_ahead_bytes=1000)
        async with serving(app, limits) as (server, address), connected(address) as client:
            client.transport.write(numbered(range(1)))
            await until(lambda: begun)
            (connection,) = server._connections
            for _ in range(100):
                if not client.transport.get_write_buffer_size():
                    client.transport.write(GET * 10_000)
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            assert client.transport.get_write_buffer_size() > 0
            assert 1000 < connection.buffered <= 1000 + 256 * 1024
            let_go.set()
            await client.until(b"HTTP/1.1 200", 50)

    run(main())


def test_half_closed_client_still_receives_its_response(run: Run) -> None:
    async def main() -> None:
        begun: list[str] = []
        let_go = asyncio.Event()
        app = application(Held, begun=begun, let_go=let_go)
        async with serving(app) as (server, address), connected(address) as client:
            client.transport.write(numbered(range(3)))
            client.transport.write_eof()
            await until(lambda: "/0 lost" in begun)  # the client may have disconnected completely
            let_go.set()
            received = parse_responses(await client.until_closed())
            assert [response.body for response in received] == [b"/0", b"/1", b"/2"]
            await until(lambda: not server.connections)

    run(main())


def test_half_closed_client_may_read_slowly(run: Run) -> None:
    class Large(RequestHandler):
        async def get(self) -> None:
            self.finish(b"x" * 20_000_000)

    async def main() -> None:
        limits = Limits(orphan_seconds=0.1)
        async with (
            serving(application(Large), limits) as (_, address),
            connected(address) as client,
        ):
            client.transport.pause_reading()
            client.transport.write(GET)
            client.transport.write_eof()
            await asyncio.sleep(0.4)
            client.transport.resume_reading()
            (response,) = parse_responses(await client.until_closed())
            assert response.whole

    run(main())


@pytest.mark.parametrize("behind", [0, 2])
def test_handler_is_notified_of_a_disconnected_client(run: Run, behind: int) -> None:
    """The server soon abandons the handler, and the requests pipelined behind it."""

    async def main() -> None:
        begun: list[str] = []
        app = application(Held, begun=begun, let_go=asyncio.Event())
        async with serving(app, Limits(orphan_seconds=0.1)) as (server, address):
            async with connected(address) as client:
                client.transport.write(numbered(range(1 + behind)))
                await until(lambda: begun)
            await until(lambda: begun == ["/0", "/0 lost"])
            await until(lambda: not server.connections)

    run(main())


@pytest.mark.parametrize(
    "cut", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab"]
)
def test_incomplete_request_is_not_served(run: Run, cut: bytes) -> None:
    async def main() -> None:
        async with serving(echo()) as (_, address), connected(address) as client:
            client.transport.write(GET + cut)
            await client.until(b"HTTP/1.1 200")
            client.transport.write_eof()
            assert len(parse_responses(await client.until_closed())) == 1

    run(main())


def test_idle_connection_is_closed_with_its_client(run: Run) -> None:
    async def main() -> None:
        async with serving(echo()) as (server, address):
            async with connected(address) as client:
                await until(lambda: server.connections)
                client.transport.write_eof()
                assert await client.until_closed() == b""
            await until(lambda: not server.connections)

    run(main())


SIZES = [0, 1, 100, 65536, 300_000]


@pytest.mark.parametrize("path", ["/", "/stream"])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_arrive_as_they_were_sent(run: Run, path: str, chunked: bool) -> None:
    async def main() -> None:
        async with serving(echo()) as (_, address):
            for size in SIZES:
                body = bytes(i * 7 % 251 for i in range(size))
                head = f"PUT {path} HTTP/1.1\r\nHost: x\r\n"
                if chunked:
                    pieces = [body[i : i + 5000] for i in range(0, size, 5000)]
                    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
                    request = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
                    request += sent + b"0\r\n\r\n"
                else:
                    request = f"{head}Content-Length: {size}\r\n\r\n".encode() + body
                first, last = parse_responses(await exchange(address, request + LAST))
                assert first.json()["body"].encode("latin-1") == body
                assert last.json()["uri"] == "/last"

    run(main())


def test_chunked_body_may_be_cut_anywhere() -> None:
    body = b"5\r\nhel\r\n\r\n8;a=b\r\n\r\n\r\n0\r\n\r\r\n0\r\nA: b\r\n\r\n"
    request = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body + LAST

    async def main() -> None:
        async with serving(echo()) as (_, address):
            for cut in range(60, len(request)):
                pieces = (request[:cut], request[cut : cut + 1], request[cut + 1 :])
                first, last = parse_responses(await exchange(address, *pieces))
                assert first.json()["body"] == "hel\r\n\r\n\r\n0\r\n\r"
                assert last.json()["uri"] == "/last"

    Run.on_asyncio(main())


@stream_request_body
class Slow(RequestHandler):
    """Consumes a piece of its body for each permit."""

    def initialize(self, sizes: list[int], permits: asyncio.Semaphore) -> None:
        self.sizes = sizes
        self.permits = permits

    async def prepare(self) -> None:
        await self.permits.acquire()

    async def data_received(self, chunk: bytes) -> None:
        self.sizes.append(len(chunk))
        await self.permits.acquire()

    def put(self) -> None:
        self.finish(str(sum(self.sizes)))

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.sizes.append(-1)


def test_reading_waits_for_a_slow_handler(run: Run) -> None:
    async def main() -> None:
        sizes: list[int] = []
        permits = asyncio.Semaphore(0)
        size = 64 * 1024 * 1024
        app = application(Slow, sizes=sizes, permits=permits)
        async with serving(app) as (server, address), connected(address) as client:
            client.transport.write(
                b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
            )
            client.transport.write(b"x" * size)
            await asyncio.sleep(0.05)
            assert sizes == []
            permits.release()
            await until(lambda: sizes)
            await asyncio.sleep(0.05)
            assert len(sizes) == 1
            (connection,) = server._connections
            assert connection.buffered < 1024 * 1024
            assert client.transport.get_write_buffer_size() > size / 2
            for _ in range(10_000):
                permits.release()
            await client.until(b"\r\n\r\n%d" % size)
            assert max(sizes) <= 65536

    run(main())


def test_each_piece_of_a_body_has_its_own_turn_of_the_loop(run: Run) -> None:
    """Otherwise, a client that sends much at once would delay all others."""
    order: list[str] = []

    @stream_request_body
    class Ordered(RequestHandler):
        def data_received(self, chunk: bytes) -> None:
            order.append(chunk.decode())
            asyncio.get_running_loop().call_soon(order.append, "others")

        def put(self) -> None:
            self.finish()

    async def main() -> None:
        async with serving(application(Ordered), Limits(piece_bytes=1)) as (_, address):
            chunks = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            for framing in (b"Content-Length: 3\r\n\r\nabc", chunks):
                order.clear()
                await exchange(address, b"PUT / HTTP/1.1\r\nHost: x\r\n" + framing + LAST)
                assert order[:5] == ["a", "others", "b", "others", "c"]

    run(main())


def test_streaming_handler_is_notified_of_a_disconnected_client(run: Run) -> None:
    async def main() -> None:
        sizes: list[int] = []
        app = application(Slow, sizes=sizes, permits=asyncio.Semaphore(9))
        async with serving(app) as (server, address):
            async with connected(address) as client:
                client.transport.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
                await until(lambda: sizes)
            await until(lambda: sizes == [3, -1])
            await until(lambda: not server.connections)

    run(main())


@stream_request_body
class Choosy(RequestHandler):
    """Refuses in prepare(), sets limits, or reads the body."""

    def prepare(self) -> None:
        connection: Any = self.request.connection
        if limit := self.get_query_argument("limit", ""):
            connection.set_max_body_size(int(limit))
        if seconds := self.get_query_argument("seconds", ""):
            connection.set_body_timeout(float(seconds))
        if self.get_query_argument("refuse", ""):
            self.set_status(403)
            self.finish("no")

    def data_received(self, chunk: bytes) -> None:
        """Discard it."""

    def put(self) -> None:
        self.finish("yes")


EXPECT = "PUT /?{} HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: {}\r\n\r\n"


@pytest.mark.parametrize(
    ("query", "length", "continues", "status"),
    [
        ("", 5, True, 200),
        ("", 0, False, 200),
        ("refuse=1", 5, False, 403),
        ("limit=4", 5, False, 413),
        ("", 2000, False, 413),
        ("limit=3000", 2000, True, 200),
    ],
)
def test_100_continue_is_sent_only_for_bodies_that_are_read(
    run: Run, query: str, length: int, continues: bool, status: int
) -> None:
    async def main() -> None:
        limits = Limits(body_bytes=1000)
        async with (
            serving(application(Choosy), limits) as (_, address),
            connected(address) as client,
        ):
            client.transport.write(EXPECT.format(query, length).encode())
            await client.until(b"\r\n\r\n")
            assert client.received.startswith(b"HTTP/1.1 100 ") == continues
            client.transport.write(b"x" * length)
            await client.until(b"HTTP/1.1 %d " % status)
            assert client.received.count(b"HTTP/1.1 ") == 1 + continues
            is_last = bool(length) and not continues  # the body was not read
            assert client.received.count(b"\r\nConnection: close\r\n") == is_last

    run(main())


def test_body_limit_of_a_handler_is_for_one_request(run: Run) -> None:
    def put(query: str, body: bytes) -> bytes:
        return b"PUT /?%b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
            query.encode(),
            len(body),
            body,
        )

    async def main() -> None:
        async with serving(application(Choosy), Limits(body_bytes=10)) as (_, address):
            requests = put("limit=20", b"x" * 20) + put("", b"x" * 20) + LAST
            statuses = [
                response.status for response in parse_responses(await exchange(address, requests))
            ]
            assert statuses == [200, 413]

    run(main())


@pytest.mark.parametrize("at_once", [True, False])
def test_short_unread_body_keeps_the_connection_open(run: Run, at_once: bool) -> None:
    async def main() -> None:
        async with serving(application(Choosy)) as (server, address):
            refused = b"PUT /?refuse=1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(GET)
            last = refused.replace(b"?refuse=1", b"").replace(b"Host", b"Connection: close\r\nHost")
            pieces = [refused, GET, refused + GET[:5], GET[5:], last, GET]
            received = await exchange(address, *([b"".join(pieces)] if at_once else pieces))
            assert [response.status for response in parse_responses(received)] == [403, 403, 200]
            await until(lambda: not server.connections)
            async with connected(address) as client:
                client.transport.write(refused + GET[:5])
                await client.until(b"\r\n\r\n")
                client.transport.write_eof()
                await client.until_closed()

    run(main())


def test_response_before_the_body_closes_the_connection_gently(run: Run) -> None:
    """The body is discarded, so that the response is not lost in a reset."""

    async def main() -> None:
        async with serving(application(Choosy)) as (_, address), connected(address) as client:
            size = 5_000_000
            head = b"PUT /?refuse=1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
            client.transport.write(head)
            client.transport.write(b"x" * size)
            received = parse_responses(await client.until_closed())
            assert [response.status for response in received] == [403]
            assert not client.reset

    run(main())


def test_request_has_the_attributes_of_its_client() -> None:
    class Peer(Echo):
        async def respond(self) -> None:
            request = self.request
            connection: Any = request.connection
            self.finish(
                {
                    "remote_ip": request.remote_ip,
                    "protocol": request.protocol,
                    "url": request.full_url(),
                    "took": request.request_time() >= 0,
                    "family": connection.context.address_family,
                    "context": str(connection.context),
                    "closed": connection.stream.closed(),
                }
            )

        get = respond

    async def main() -> None:
        async with serving(application(Peer)) as (_, address):
            (response,) = parse_responses(await exchange(address, LAST))
            assert response.json() == {
                "remote_ip": "127.0.0.1",
                "protocol": "http",
                "url": "http://x/last",
                "took": True,
                "family": 2,
                "context": "127.0.0.1",
                "closed": False,
            }

    Run.on_asyncio(main())


def test_flush_waits_until_the_client_has_read(run: Run) -> None:
    sizes = {"flushed": 0}

    class Download(RequestHandler):
        async def get(self) -> None:
            for _ in range(24 * 16):
                self.write(b"x" * 65536)
                await self.flush()
                sizes["flushed"] += 1

    async def main() -> None:
        async with serving(application(Download)) as (_, address), connected(address) as client:
            client.transport.pause_reading()
            client.transport.write(LAST)
            await until(lambda: sizes["flushed"])
            await asyncio.sleep(0.1)
            assert sizes["flushed"] < 20 * 16
            client.transport.resume_reading()
            (response,) = parse_responses(await client.until_closed())
            assert len(response.body) == 24 * 1024 * 1024

    run(main())


@pytest.mark.parametrize("where", ["headers_received", "data_received", "finish"])
def test_failing_delegate_closes_its_connection_only(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a deliberate error")

    async def main() -> None:
        async with serving(app) as (server, address):
            post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
            assert await exchange(address, post + GET) == b""
            await until(lambda: not server.connections)

    app = echo()
    start_request = app.start_request

    def start_failing(server_conn: object, request_conn: Any) -> Any:
        delegate = start_request(server_conn, request_conn)
        setattr(delegate, where, fail)
        return delegate

    app.start_request = start_failing  # type: ignore[method-assign]
    Run.on_asyncio(main())
    assert "a deliberate error" in caplog.text


def test_detached_connection_belongs_to_the_handler(run: Run) -> None:
    class Detached(RequestHandler):
        async def get(self) -> None:
            stream = self.detach()
            await stream.write(b"another protocol")
            try:
                await stream.read_until(b"\n")
            except StreamClosedError:
                ended.append(True)
            stream.close()

    ended: list[bool] = []

    async def main() -> None:
        async with serving(application(Detached)) as (server, address):
            async with connected(address) as client:
                client.transport.write(GET)
                await client.until(b"another protocol")
                await until(lambda: not server.connections)
            await until(lambda: ended)

    run(main())


def test_requests_on_one_connection_are_independent(run: Run) -> None:
    """Send hundreds on one connection: no state carries over."""

    async def main() -> None:
        async with serving(echo()) as (_, address), connected(address) as client:
            for number in range(0, 200, 100):
                client.received.clear()
                client.transport.write(numbered(range(number, number + 100)))
                await client.until(b"HTTP/1.1 200", 100)
                await until(lambda: client.received.endswith(b"}"))
                found = [
                    json.loads(response.body)["uri"]
                    for response in parse_responses(bytes(client.received))
                ]
                assert found == [f"/{n}" for n in range(number, number + 100)]

    run(main())


def test_client_that_disconnects_at_the_last_response(run: Run) -> None:
    """The kernel resets the connection at once, before the client reads anything."""

    async def main() -> None:
        handlers: list[RequestHandler] = []

        class Kept(RequestHandler):
            async def get(self) -> None:
                handlers.append(self)
                await asyncio.Event().wait()

        async with serving(application(Kept)) as (server, address):
            with socket.create_connection(address) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET)
                await until(lambda: handlers)
            handlers[0].finish("too late")
            await until(lambda: not server.connections)

    run(main())

"""The acceptor, TLS, Unix sockets, and the drain."""

import asyncio
import socket
import ssl
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from tornado.netutil import bind_unix_socket
from tornado.test.util import abstract_base_test
from tornado.web import RequestHandler

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
    turns,
)
from tests.support.waiting import until
from tornado_members.http1 import surplus
from tornado_members.http1.limits import Limits
from tornado_members.http1.server import HTTPServer


class Waiting(RequestHandler):
    """Responds when `let_go` is set; /begin sends its headers at once."""

    def initialize(self, begun: list[str], let_go: asyncio.Event) -> None:
        self.begun = begun
        self.let_go = let_go

    async def get(self) -> None:
        self.begun.append(str(self.request.uri))
        if self.request.uri == "/begin":
            self.write("begun, ")
            await self.flush()
        await self.let_go.wait()
        self.finish("done")


def test_drain_completes_requests_and_closes_idle_connections(run: Run) -> None:
    async def main() -> None:
        begun: list[str] = []
        let_go = asyncio.Event()
        app = application(Waiting, begun=begun, let_go=let_go)
        async with (
            serving(app) as (server, address),
            connected(address) as fresh,
            connected(address) as asking,
            connected(address) as responded,
            connected(address) as sending,
        ):
            asking.transport.write(GET)
            responded.transport.write(b"GET /begin HTTP/1.1\r\nHost: x\r\n\r\n")
            await responded.until(b"begun, ")
            sending.transport.write(b"GET / HTTP/1.1\r\nHost:")
            await until(lambda: len(begun) == 2 and server.connections == 4)
            await turns(20)
            draining = asyncio.create_task(server.drain(10))
            assert await fresh.until_closed() == b""
            with pytest.raises(ConnectionRefusedError):
                await exchange(address, GET)
            sending.transport.write(b" x\r\n\r\n")
            await until(lambda: len(begun) == 3)
            assert not draining.done()
            let_go.set()
            for client in (asking, sending):
                (response,) = parse_responses(await client.until_closed())
                assert response.body == b"done"
                assert response.headers["connection"] == "close"
            (response,) = parse_responses(await responded.until_closed())
            assert response.body == b"begun, done"
            assert await draining == 0

    run(main())


def test_announce_close_applies_to_later_connections(run: Run) -> None:
    """During server.unready_seconds the server accepts connections, and announces each close."""

    async def main() -> None:
        let_go = asyncio.Event()
        let_go.set()
        app = application(Waiting, begun=[], let_go=let_go)
        async with serving(app) as (server, address), connected(address) as before:
            await until(lambda: server.connections == 1)
            server.announce_close()
            async with connected(address) as late:
                for client in (before, late):
                    client.transport.write(GET)
                    (response,) = parse_responses(await client.until_closed())
                    assert response.headers["connection"] == "close"

    run(main())


def test_drain_has_a_deadline(run: Run) -> None:
    async def main() -> None:
        begun: list[str] = []
        app = application(Waiting, begun=begun, let_go=asyncio.Event())
        async with serving(app) as (server, address), connected(address) as client:
            client.transport.write(GET)
            await until(lambda: begun)
            assert await server.drain(0.05) == 1
            assert await client.until_closed() == b""
            assert server.connections == 0

    run(main())


def test_drain_waits_until_responses_have_been_read(run: Run) -> None:
    class Large(RequestHandler):
        async def get(self) -> None:
            self.finish(b"x" * 20_000_000)

    async def main() -> None:
        async with serving(application(Large)) as (server, address), connected(address) as client:
            client.transport.pause_reading()
            client.transport.write(GET)
            await until(lambda: any(c.writer.paused for c in server._connections))
            draining = asyncio.create_task(server.drain(10))
            await turns(20)
            assert not draining.done()
            client.transport.resume_reading()
            (response,) = parse_responses(await client.until_closed())
            assert response.whole
            client.transport.close()
            assert await draining == 0

    run(main())


def test_requests_behind_the_last_response_are_not_served(run: Run) -> None:
    """The last response announced the close, so the client repeats the others elsewhere."""

    async def main() -> None:
        begun: list[str] = []
        let_go = asyncio.Event()
        app = application(Waiting, begun=begun, let_go=let_go)
        async with serving(app) as (server, address), connected(address) as client:
            client.transport.write(GET * 3)
            await until(lambda: begun)
            draining = asyncio.create_task(server.drain(10))
            await turns(3)
            let_go.set()
            (response,) = parse_responses(await client.until_closed())
            assert response.headers["connection"] == "close"
            client.transport.close()
            await draining
            assert len(begun) == 1

    run(main())


def test_unix_socket_is_served(run: Run, folder: Path) -> None:
    async def main() -> Any:
        server = HTTPServer(echo())
        path = str(folder / "socket")
        server.add_socket(bind_unix_socket(path))
        try:
            return parse_responses(await exchange(path, LAST))
        finally:
            assert await server.drain(5) == 0

    (response,) = run(main())
    assert response.json()["uri"] == "/last"


CERTIFICATES = Path(abstract_base_test.__code__.co_filename).parent


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of server and client, with the certificate of Tornado's own tests."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATES / "test.crt", CERTIFICATES / "test.key")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


def test_tls_is_served(run: Run) -> None:
    """Bodies in both directions, refusals, and a client that disconnects."""
    context, client_context = contexts()

    class Certified(RequestHandler):
        async def put(self) -> None:
            assert self.request.get_ssl_certificate() in ({}, None)
            self.finish(
                f"{self.request.protocol} {len(self.request.body)} ".encode() + b"x" * 10**6
            )

    async def main() -> None:
        limits = Limits(linger_seconds=0.2)
        async with serving(application(Certified), limits, ssl_context=context) as (
            server,
            address,
        ):
            async with connected(address, ssl=client_context) as client:
                put = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
                client.transport.write((put + b"x" * 200_000) * 3)
                client.transport.write(b"nonsense\r\n\r\n")
                *good, bad = parse_responses(await client.until_closed())
                assert [len(response.body) for response in good] == [
                    len("https 200000 ") + 10**6
                ] * 3
                assert bad.status == 400
            async with connected(address) as plain:
                plain.transport.write(GET)
                await plain.until_closed()
            async with connected(address) as silent:
                await until(lambda: server.connections)
                silent.transport.close()
            await until(lambda: not server.connections)

    run(main())


def test_tls_handshake_that_does_not_arrive_is_timed_out(run: Run) -> None:
    context, _ = contexts()

    async def main() -> None:
        limits = Limits(handshake_seconds=0.1)
        async with serving(echo(), limits, ssl_context=context) as (server, address):
            async with connected(address) as silent:
                await silent.until_closed()
            await until(lambda: not server.connections)

    run(main())


def test_tls_handshakes_make_room_for_others(run: Run) -> None:
    context, client_context = contexts()

    async def main() -> None:
        limits = Limits(connections=2, handshake_seconds=60)
        async with (
            serving(echo(), limits, ssl_context=context) as (server, address),
            connected(address),
            connected(address),
        ):
            await until(lambda: server.connections == 2)
            async with connected(address, ssl=client_context) as client:
                client.transport.write(GET)
                await client.until(b"HTTP/1.1 200 ")

    run(main())


def handshakes(server: HTTPServer) -> int:
    """Return the number of surplus connections to which the server responds."""
    assert server._surplus
    return len(server._surplus._secured)


def test_surplus_connections_with_tls_are_answered(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 32 at a time; the handshake of a further one is reset. None is waited for long."""
    monkeypatch.setattr(surplus, "_SECONDS", 60)
    context, client_context = contexts()

    async def main() -> None:
        limits = Limits(connections_per_address=1)
        async with (
            serving(echo(), limits, ssl_context=context) as (server, address),
            connected(address),
            AsyncExitStack() as stack,
        ):
            await until(lambda: server.connections == 1)
            silent = [await stack.enter_async_context(connected(address)) for _ in range(31)]
            await until(lambda: handshakes(server) == 31)
            monkeypatch.setattr(surplus, "_SECONDS", 0.2)
            late = await stack.enter_async_context(connected(address))
            await late.until_closed()
            monkeypatch.setattr(surplus, "_SECONDS", 60)
            silent.append(await stack.enter_async_context(connected(address)))
            await until(lambda: handshakes(server) == 32)
            with pytest.raises(ConnectionError):
                await asyncio.get_running_loop().create_connection(
                    Client, *address[:2], ssl=client_context
                )
            for client in silent:
                client.transport.abort()
            await until(lambda: not handshakes(server))
            for method in (b"GET", b"HEAD"):
                async with connected(address, ssl=client_context) as client:
                    client.transport.write(GET.replace(b"GET", method))
                    await client.until(b"\r\n\r\n")
                    (refused,) = parse_responses(bytes(client.received), head=method == b"HEAD")
                    assert (refused.status, refused.headers["connection"]) == (503, "close")
                    client.transport.close()
                    await client.lost.wait()
                    assert not client.reset
            assert server.connections == 1

    run(main())


def test_application_is_notified_of_the_end_of_its_connections(run: Run) -> None:
    class Recording(type(echo())):  # type: ignore[misc]
        def on_close(self, server_conn: object) -> None:
            closed.append(server_conn)

    closed: list[object] = []
    app = Recording([], default_handler_class=echo().settings["default_handler_class"])
    app.settings["log_function"] = lambda _: None

    async def main() -> None:
        async with serving(app) as (server, address):
            async with connected(address):
                await until(lambda: server.connections)
            await exchange(address, GET + LAST)
            await until(lambda: not server.connections)
            assert len(closed) == 1

    run(main())


@pytest.mark.slow_callbacks
def test_busy_loop_accepts_several_connections_per_turn(run: Run) -> None:
    async def main() -> None:
        async with serving(echo()) as (server, address):
            clients = [socket.create_connection(address) for _ in range(40)]
            turns_taken = 0
            while server.connections < len(clients):
                time.sleep(0.02)  # noqa: ASYNC251  # other work of the loop
                turns_taken += 1
                await asyncio.sleep(0)
            for client in clients:
                client.close()
            assert turns_taken < 20

    run(main())

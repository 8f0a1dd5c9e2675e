"""The proxy injects exactly the requested faults."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.connections import has_socket, socket_inode
from tests.support.fault_proxy import (
    CUT,
    FROZEN,
    GARBAGE,
    NO_FAULT,
    REPEATED,
    FaultProxy,
    LinkFault,
)
from tests.support.memcached import send_to_memcached
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import free_port

PORTS: dict[int, str] = {}


def name_at(port: int, _proxy_port: int) -> str | None:
    return PORTS.get(port)


class Client:
    """A connection that requests the version of Memcached."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, request: bytes = b"version\r\n") -> bytes:
        self.writer.write(request)
        return await self.reply()

    async def reply(self) -> bytes:
        async with asyncio.timeout(60):
            with suppress(ConnectionError):
                return await self.reader.readline()
            return b""


@asynccontextmanager
async def connected(proxy: FaultProxy, name: str = "somebody") -> AsyncIterator[Client]:
    host, _, port = proxy.address.rpartition(":")
    own = free_port()
    PORTS[own] = name
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.1", own))
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
def target(servers: PrivateServers) -> str:
    return servers.cache_servers[0]


async def test_proxy_forwards_bytes(target: str) -> None:
    async with FaultProxy(target) as proxy, connected(proxy) as client:
        big = b"x" * 500_000
        assert await client.send(b"set big 0 10 %d\r\n%b\r\n" % (len(big), big)) == b"STORED\r\n"
        await client.send(b"get big\r\n")
        assert await client.reader.readexactly(len(big)) == big


async def test_proxy_cuts_off_one_client_only(target: str) -> None:
    async with FaultProxy(target, name_at) as proxy, connected(proxy, "b") as other:
        async with connected(proxy, "a") as client:
            assert await client.send()
            await proxy.set(CUT, "a")
            assert await client.reply() == b""
        async with connected(proxy, "a") as client:
            assert await client.send() == b""
        assert await other.send()
        await proxy.set(NO_FAULT, "a")
        async with connected(proxy, "a") as client:
            assert await client.send()


async def test_proxy_delivers_held_bytes_of_a_disconnected_sender(target: str) -> None:
    async with FaultProxy(target, name_at) as proxy:
        async with connected(proxy, "a") as client:
            assert await client.send()
            await proxy.set(FROZEN, "a")
            client.writer.write(b"set held 0 10 1\r\n1\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.readline(), 0.1)
        assert send_to_memcached(target, b"get held\r\n") == b"END\r\n"
        await proxy.set(NO_FAULT, "a")
        async with asyncio.timeout(60):
            while send_to_memcached(target, b"get held\r\n") == b"END\r\n":
                await asyncio.sleep(0.01)


async def test_proxy_delays_bytes(target: str) -> None:
    async with FaultProxy(target) as proxy, connected(proxy) as client:
        await proxy.set(LinkFault(delay=0.05))
        began = asyncio.get_running_loop().time()
        assert await client.send()
        assert asyncio.get_running_loop().time() - began >= 0.1


async def test_proxy_sends_garbage_that_is_not_a_valid_reply(target: str) -> None:
    async with FaultProxy(target) as proxy, connected(proxy) as client:
        assert await client.send()
        await proxy.set(GARBAGE)
        assert await client.reply() == b""
        async with connected(proxy) as other:
            assert not (await other.send()).startswith(b"VERSION")
            await proxy.set(NO_FAULT)
            while await other.reply():
                pass
        async with connected(proxy) as other:
            assert await other.send()


async def test_proxy_sends_some_replies_twice(target: str) -> None:
    async with FaultProxy(target) as proxy, connected(proxy) as client:
        await proxy.set(REPEATED)
        sent = received = 40
        for _ in range(sent):
            assert await client.send(b"verbosity 0\r\n") == b"OK\r\n"
        await proxy.set(NO_FAULT)
        client.writer.write(b"version\r\n")
        while await client.reply() == b"OK\r\n":
            received += 1
        assert sent < received < 2 * sent


async def test_proxy_closes_connections_in_use(target: str) -> None:
    async with FaultProxy(target) as proxy, connected(proxy) as client, connected(proxy) as other:
        assert await client.send()
        assert await other.send()
        await proxy.set(FROZEN)
        client.writer.write(b"version\r\n")
        await asyncio.sleep(0.05)
        assert proxy.connections == 2
    assert proxy.connections == 0


async def test_proxy_without_a_server_closes_the_connection() -> None:
    async with FaultProxy(f"127.0.0.1:{free_port()}") as proxy, connected(proxy) as client:
        assert await client.send() == b""


async def test_socket_inode_identifies_the_process_of_a_connection(target: str) -> None:
    ports: list[tuple[int, int]] = []
    proxy = FaultProxy(target, lambda *pair: ports.append(pair))
    async with proxy, connected(proxy) as client:
        assert await client.send()
        inode = socket_inode(*ports[0])
        assert inode
        assert has_socket(os.getpid(), inode)
        assert not has_socket(os.getppid(), inode)
    assert socket_inode(free_port(), ports[0][1]) is None


async def test_proxy_drops_one_reply(target: str) -> None:
    async with FaultProxy(target) as proxy, connected(proxy) as client:
        proxy.drop_response_to(b"verbosity")
        assert (await client.send()).startswith(b"VERSION ")
        assert await client.send(b"verbosity 0\r\n") == b""
        assert proxy.dropped == 1
        async with connected(proxy) as another:
            assert await another.send(b"verbosity 0\r\n") == b"OK\r\n"

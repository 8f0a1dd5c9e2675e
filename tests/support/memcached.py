"""Memcached without the client under test."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from tornado_members.embedded.programs import find_memcached, free_port
from tornado_members.lease_cache.placement import namespace_prefix
from tornado_members.lease_cache.registry import first_list


def send_to_memcached(address: str, request: bytes) -> bytes:
    """Send a request; return the reply, up to its last line."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request)
        reply = b""
        while not reply.endswith(
            (b"OK\r\n", b"END\r\n", b"STORED\r\n", b"ERROR\r\n", b"request\r\n")
        ):
            received = connection.recv(65536)
            if not received:
                break
            reply += received
        return reply


def flush_memcached(address: str) -> None:
    """Empty the server."""
    assert send_to_memcached(address, b"flush_all\r\n") == b"OK\r\n"


def flush_cache(address: str, *namespaces: str, servers: Sequence[str] | None = None) -> None:
    """Remove all entries but the epochs, as on a server that has been in use for a while.

    `servers` is the first list of servers of these caches; by default this one alone.
    """
    flush_memcached(address)
    epoch = b"0123456789abcdef-" + first_list(servers or [address]).id.encode()
    for namespace in namespaces:
        key = namespace_prefix(namespace) + b"epoch"
        command = b"add %b 0 0 %d\r\n%b\r\nget %b\r\n" % (key, len(epoch), epoch, key)
        assert epoch in send_to_memcached(address, command)


def stored_keys(address: str, expected: int) -> list[bytes]:
    """Return the keys of all entries; repeat the dump while there are fewer than expected.

    A dump omits entries that are in use at the moment.
    """
    for _ in range(200):
        dump = send_to_memcached(address, b"lru_crawler metadump all\r\n")
        keys = [line.split(b" ")[0][4:] for line in dump.splitlines() if line.startswith(b"key=")]
        if len(keys) >= expected:
            return keys
        time.sleep(0.01)
    return keys


async def start_memcached(
    port: int | None = None, *options: str
) -> tuple[subprocess.Popen[bytes], str]:
    """Start a Memcached that the test ends; return it with its address."""
    program, port = find_memcached(), port or free_port()
    assert program, "the tests need Memcached"
    command = [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "root", *options]
    process = subprocess.Popen(command)
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return process, f"127.0.0.1:{port}"
            await asyncio.sleep(0.01)

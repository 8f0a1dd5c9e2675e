"""Exports and imports of a service process, with a limit on its memory."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pymongo

from tests.support.service import Command, Service
from tornado_members.embedded.private_servers import PrivateServers

Admin = pymongo.MongoClient[dict[str, Any]]

_LITTLE = 8 * 2**20  # bytes
COUNT = 9_500  # members of a kilobyte
ROWS = 36_000  # invalid ones, each with a result that is several times as long


@contextmanager
def connection(service: Service, request: str, *, buffer: int = 16384) -> Iterator[socket.socket]:
    """Open a connection with tiny buffers, and send its request."""
    host, port = service.url.removeprefix("http://").split(":")
    with closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(30)
        client.connect((host, int(port)))
        token = f"Authorization: Bearer {service._token}"
        client.sendall("\r\n".join([request, "Host: x", token, "Connection: close", ""]).encode())
        yield client


def read_to_end(client: socket.socket) -> bytes:
    received = bytearray()
    while piece := client.recv(65536):
        received += piece
    return bytes(received)


def content(response: bytes) -> bytes:
    """Return the content of a response in chunks (RFC 9112 §7.1)."""
    start = response.index(b"\r\n\r\n") + 4
    pieces = []
    while size := int(response[start : (end := response.index(b"\r\n", start))], 16):
        pieces.append(response[end + 2 : end + 2 + size])
        start = end + 2 + size + 2
    return b"".join(pieces)


def deleted_files(process: psutil.Process) -> int:
    """Return the temporary files that a process has open."""
    links = [os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
    return sum("(deleted)" in link for link in links)


def test_slow_readers_and_early_senders_do_not_fill_the_memory(
    folder: Path, servers: PrivateServers, database_name: str, admin: Admin
) -> None:
    names = (f"{i:06}" + "👩" * 249 for i in range(1, COUNT + 1))
    people = (
        {"_id": i, "name": name, "nameFold": str(i), "email": None, "phone": None, "version": 1}
        for i, name in enumerate(names, 1)
    )
    admin[database_name]["members"].insert_many(people)
    mongodb = {"uri": servers.mongodb_uri, "database": database_name, "timeout_ms": 20_000}
    command = Command(folder, {"mongodb": mongodb, "cache": {"servers": []}})
    with command.serving() as service:
        (process,) = psutil.Process(service.process.pid).children()  # the worker
        files = deleted_files(process)
        with connection(service, "GET /members?limit=1500 HTTP/1.1") as client:
            client.sendall(b"Accept: text/csv\r\n\r\n")
            read_to_end(client)
        before = process.memory_info().rss
        with connection(service, "GET /members HTTP/1.1") as client:
            client.sendall(b"Accept: text/csv\r\n\r\n")
            time.sleep(1.5)  # long enough to read everything from MongoDB
            assert process.memory_info().rss - before < _LITTLE
            received = read_to_end(client)
            assert received.endswith(b"0\r\n\r\n")
            assert received.count(b"\r\n") > COUNT
        # The results are as large as the body again, since all rows are invalid.
        body = b'{"name": 1, "email": 1, "phone": 1, "memberId": 0}\n' * ROWS
        with connection(service, "POST /members/import HTTP/1.1") as client:
            client.sendall(
                b"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            client.sendall(body)
            time.sleep(0.5)
            assert process.memory_info().rss - before < _LITTLE
            received = read_to_end(client)
            assert content(received).count(b'"code": "invalid-member"') == ROWS
            assert received.endswith(b"0\r\n\r\n")
        assert process.memory_info().rss - before < _LITTLE
        assert len(received) > _LITTLE
        assert deleted_files(process) == files

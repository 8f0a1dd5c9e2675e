"""Anonymous attackers delay no other client, and memory stays bounded."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.support.http1 import GET
from tests.support.target_server import BUDGET_BYTES, TargetServer, target_server

pytestmark = pytest.mark.exhaustive

KIB, MIB = 1024, 1024 * 1024
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(content: bytes, size: int) -> bytes:
    chunks = [content[i : i + size] for i in range(0, len(content), size)]
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


HOSTILE = {
    "empty lines": b"\r\n" * 500_000 + GET,
    "line ends in one chunk": chunked(b"\r\n" * 500_000, 1_000_000),
    "line ends in many chunks": chunked(b"\r\n\r\n" * 250_000, 1000),
    "tiny chunks": chunked(b"x" * 200_000, 1),
    "a long chunk extension": CHUNKED + b"5;" + b"a;" * 8000 + b"\r\nhello\r\n0\r\n\r\n",
    "a quoted chunk extension": CHUNKED + b"5" + b';a="\\\\' * 3000 + b"\r\nhello\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"0\r\n" + b"A:\r\n" * 4000 + b"\r\n",
    "thousands of headers": (HEAD + b"A:\r\n" * 4000 + b"\r\n") * 10,
    "a header without end": HEAD + b"A: " + b"b" * 5 * MIB,
    "a long Host": b"GET / HTTP/1.1\r\nHost: " + b"%41" * 5000 + b"!\x7f\r\n\r\n",
    "a long absolute target": b"GET http://" + b"a" * 8000 + b"# HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long method": b"G" * 8000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    "many Connection options": HEAD + b"Connection: " + b"a," * 7000 + b"\r\n\r\n",
    "a long Content-Length": HEAD + b"Content-Length: " + b"0" * 15_000 + b"\r\n\r\n",
    "pipelined requests": GET * 5000,
    "pipelined bodies": (PUT.replace(b"1000000", b"10") + b"x" * 10) * 3000,
    "one sized body": PUT + b"x" * 1_000_000,
}


class Bystander:
    """Sends small requests from a thread, and records the longest duration."""

    def __init__(self, target: TargetServer) -> None:
        self._socket = socket.create_connection(target.address)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.worst = 0.0

    def _run(self) -> None:
        while not self._ended.is_set():
            began = time.perf_counter()
            self._socket.sendall(GET)
            self._socket.recv(4096)
            self.worst = max(self.worst, time.perf_counter() - began)
            time.sleep(0.001)

    @contextmanager
    def watching(self) -> Iterator["Bystander"]:
        """Measure during the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._thread.join()
            self._socket.close()


def worst_seconds(target: TargetServer, data: bytes) -> float:
    """Return the longest duration of a bystander's request while `data` arrives five times."""
    with Bystander(target).watching() as bystander:
        for _ in range(5):
            client = socket.create_connection(target.address, timeout=10)
            with client, suppress(OSError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
        time.sleep(0.1)
    return bystander.worst


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_delay_no_other_client(name: str) -> None:
    """The control in the same run is a client that sends small requests."""
    with target_server() as target:
        best = float("inf")
        for _ in range(3):  # a busy machine delays either one at times
            control = worst_seconds(target, GET * 200)
            best = min(best, worst_seconds(target, HOSTILE[name]) - 3 * control)
            if best < 0.02:
                return
    raise AssertionError(f"{best:.3f} seconds more than three times the control")


# Growth of the process per connection, from docs/operations.md, and the growth shared by all.
GREEDY = {
    "idle": (b"", 10 * KIB, 0),
    "a slow head": (HEAD + b"A: " + b"b" * 15_000, 26 * KIB, 0),
    "a slow body": (PUT + b"x" * 900_000, 10 * KIB, BUDGET_BYTES),
    "unread responses": (b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 4, 42 * KIB, 2 * MIB),
    "pipelined requests": (b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 12_000, 330 * KIB, 2 * MIB),
}


@pytest.mark.parametrize("name", GREEDY)
def test_greedy_connections_take_the_documented_memory(name: str) -> None:
    data, per_connection, shared = GREEDY[name]
    count = 300
    with target_server() as target, ExitStack() as stack:
        for _ in range(3):  # the first ones load modules and fill caches
            worst_seconds(target, GET)
        before = target.memory()
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(target.address, timeout=10))
            client.settimeout(0.2)
            with suppress(TimeoutError, ConnectionError):
                client.sendall(data)
        deadline = time.monotonic() + 2
        most = before
        while time.monotonic() < deadline:
            most = max(most, target.memory())
            time.sleep(0.02)
        assert most - before <= per_connection * count + shared + 4 * MIB

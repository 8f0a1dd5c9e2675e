"""Subscribers of the change feed: memory and processor while idle, and the time to reach all."""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from tests.support.http_client import HttpClient
from tests.support.service import Command, Service
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.serving.server import raise_file_limit

_AT_ONCE = 50  # subscribers that connect together
_LIMIT = 0.25  # seconds in which a change should reach all subscribers


class Subscriber(asyncio.Protocol):
    """Reads the feed, and counts the events of members. It stores none."""

    def __init__(self, request: bytes, crowd: "Crowd") -> None:
        self._request = request
        self._crowd = crowd
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count complete events."""
        if data.startswith(b"HTTP/") and not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(data.decode())
        data = self._tail + data
        self._tail = data[-20:]
        self._crowd.count(ready=data.count(b"event: ready\n"), changed=data.count(b'\ndata: {"mem'))
        if b'\ndata: {"mem' in self._tail or b"event: ready\n" in self._tail:
            self._tail = b""


class Crowd:
    """All subscribers."""

    def __init__(self) -> None:
        self.members: list[Subscriber] = []
        self._ready = self._changed = 0
        self._expected: tuple[int, int] = (0, 0)
        self._reached = asyncio.Event()
        self.reached_at = 0.0

    def count(self, *, ready: int, changed: int) -> None:
        """Count events, and record when all have arrived."""
        self._ready += ready
        self._changed += changed
        if (self._ready, self._changed) >= self._expected and not self._reached.is_set():
            self.reached_at = time.perf_counter()
            self._reached.set()

    async def grow(self, service: Service, token: str, count: int) -> None:
        """Connect further subscribers, and wait until all are ready."""
        host, _, port = service.url.removeprefix("http://").rpartition(":")
        request = (
            f"GET /members/changes HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
            "Accept: text/event-stream\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        for start in range(0, count, _AT_ONCE):  # more at once would be refused as overload
            connecting = min(_AT_ONCE, count - start)
            self.expect(changes=0, ready=connecting)
            for _ in range(connecting):
                _, subscriber = await loop.create_connection(
                    lambda: Subscriber(request, self), host, int(port)
                )
                self.members.append(subscriber)
            await self.reached()

    def expect(self, changes: int, *, ready: int = 0) -> None:
        """Set what `reached` waits for: `changes` events per subscriber, and `ready` in total."""
        self._reached.clear()
        self._expected = self._ready + ready, self._changed + changes * len(self.members)

    async def reached(self) -> None:
        """Wait until all expected events have arrived."""
        async with asyncio.timeout(120):
            await self._reached.wait()


async def measure(service: Service, token: str, options: argparse.Namespace) -> None:
    """Print the figures."""
    worker = next(
        child
        for child in psutil.Process(service.process.pid).children()
        if child.name() == psutil.Process(service.process.pid).name()
    )
    print(f"processor of the worker, alone    {await _used(worker, options.seconds):8.2f} %")
    crowd = Crowd()
    host, _, port = service.url.removeprefix("http://").rpartition(":")
    writer = HttpClient(host, int(port), token)
    await crowd.grow(service, token, 100)  # the first ones load modules and fill buffers
    before = worker.memory_info().rss
    await crowd.grow(service, token, options.subscribers - 100)
    await asyncio.sleep(1)
    grown = (worker.memory_info().rss - before) / (options.subscribers - 100) / 1024
    print(f"{options.subscribers} subscribers of one worker")
    print(f"memory of one                     {grown:8.1f} KiB")
    print(f"processor of the worker, with all {await _used(worker, options.seconds):8.2f} %")
    times = []
    for number in range(options.changes):
        crowd.expect(1)
        start = time.perf_counter()
        reply = await writer(b"PUT", b"/members", json.dumps({"name": f"M{number}"}).encode())
        assert reply.status == 201, reply.body
        await crowd.reached()
        times.append(crowd.reached_at - start)
        await asyncio.sleep(0.2)
    late = sum(seconds > _LIMIT for seconds in times)
    print(f"from the write to the last one    {median(times) * 1000:8.0f} ms (median)")
    print(
        f"                                  {max(times) * 1000:8.0f} ms (longest of {len(times)})"
    )
    print(f"later than {_LIMIT * 1000:.0f} ms                 {late:8d}")
    writer.close()
    for subscriber in crowd.members:
        subscriber.transport.abort()


async def _used(worker: psutil.Process, seconds: float) -> float:
    """Return the processor use of a worker over some seconds, in percent of a core."""
    began = sum(worker.cpu_times()[:2])
    await asyncio.sleep(seconds)
    return float(sum(worker.cpu_times()[:2]) - began) / seconds * 100


def main() -> None:
    """Measure a service with one worker."""
    parser = argparse.ArgumentParser(prog="scripts/bench feed", description=__doc__)
    parser.add_argument("--subscribers", type=int, default=2000)
    parser.add_argument("--changes", type=int, default=20, help="number of measured changes (20)")
    parser.add_argument("--seconds", type=float, default=30, help="per measurement at rest (30)")
    options = parser.parse_args()
    raise_file_limit(options.subscribers + 200)
    with tempfile.TemporaryDirectory(prefix="tornado-members-bench-") as name:
        folder = Path(name)
        settings = {
            "server": {"port": 0, "limits": {"connections_per_address": 0}},
            "admin": {"port": 0},
            "feed": {"subscribers": options.subscribers},
        }
        command = Command(folder, settings)
        with PrivateServers(folder / "data", die_with_parent=True), command.serving() as service:
            token = command.token("--rights", "3")
            asyncio.run(measure(service, token, options))


if __name__ == "__main__":
    main()

"""The cost of a request among 1,000 members and among 1,000,000."""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import psutil

from benchmarks.load import page_tables, saved
from benchmarks.load.bed import Client, Document, enlarge_cache
from benchmarks.load.growth_requests import KINDS, Kind, MemberSample, store_members
from tests.support.http_client import HttpClient, Reply
from tests.support.memcached import flush_memcached
from tests.support.service import Command, Service
from tornado_members.bulk.fake_members import fake_members
from tornado_members.embedded.private_servers import PrivateServers

_PROFILED = 20  # requests
_QUIET = 0.04  # processor time of MongoDB per second, at rest
_DATABASE = "members"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one request, while no other is in progress."""

    latency: float  # median, in seconds
    processor: float  # of the service, MongoDB and Memcached together, in seconds
    keys: float  # of indexes that MongoDB examined
    documents: float  # that MongoDB examined


def main() -> None:
    """Print a table of each kind of request over the numbers of members."""
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--save", action="store_true", help="update docs/performance.md")
    options = parser.parse_args()
    sizes = sorted(options.members)
    drafts = fake_members()
    columns: list[dict[str, Cost]] = []
    with tempfile.TemporaryDirectory(prefix="tornado-members-bench-") as name:
        command = Command(Path(name), {"log": {"level": "warning", "format": "text"}})
        with (
            PrivateServers(command.data, die_with_parent=True) as private,
            Client(private.mongodb_uri) as client,
        ):
            enlarge_cache(client)
            for smaller, size in itertools.pairwise([0, *sizes]):
                began = time.monotonic()
                grown = itertools.islice(drafts, size - smaller)
                store_members(client[_DATABASE]["members"], grown, first=smaller + 1)
                print(f"{size:>9,} members after {time.monotonic() - began:.0f} s", flush=True)
                flush_memcached(private.cache_servers[0])
                with command.serving() as service:
                    columns.append(_measure(command, service, client, size))
    figures = {
        str(size): {title: asdict(cost) for title, cost in column.items()}
        for size, column in zip(sizes, columns, strict=True)
    }
    print(page_tables.growth({"growth": figures}))
    if options.save:
        saved.save("growth", figures)


def _measure(command: Command, service: Service, client: Client, size: int) -> dict[str, Cost]:
    supervisor = psutil.Process(service.process.pid)
    servers = [*supervisor.children(), *command.servers()]
    address = urlsplit(service.url)
    assert address.hostname
    assert address.port
    token = command.token("--rights", "3")
    sample = MemberSample(client[_DATABASE]["members"], size)
    http = HttpClient(address.hostname, address.port, token, timeout=60)
    return asyncio.run(_Measurement(http, sample, servers, client).run())


class _Measurement:
    """Sends all requests, one at a time."""

    def __init__(
        self,
        http: HttpClient,
        sample: MemberSample,
        servers: Sequence[psutil.Process],
        client: Client,
    ) -> None:
        self._http = http
        self._sample = sample
        self._servers = servers
        self._client = client

    async def run(self) -> dict[str, Cost]:
        """Return the cost of each kind of request."""
        try:
            return await self._run()
        finally:
            self._http.close()

    async def _run(self) -> dict[str, Cost]:
        await self._until_ready()
        await self._until_at_rest()
        paths = {kind.title: kind.paths(self._sample) for kind in KINDS}
        for kind in KINDS:  # warms up all of them
            await self._send(kind, paths[kind.title], max(10, kind.count // 5), warming_up=True)
        return {kind.title: await self._cost(kind, paths[kind.title]) for kind in KINDS}

    async def _until_ready(self) -> None:
        """Wait until the service uses the cache, and has prepared its lists."""
        async with asyncio.timeout(300):
            is_ready = False
            while not is_ready:
                await asyncio.sleep(0.2)
                read = await self._http(b"GET", b"/members/1")
                search = await self._http(b"GET", b"/members?limit=1&q=a")
                is_ready = b"hit" in read.headers[b"cache-status"] and search.status == 200

    async def _until_at_rest(self) -> None:
        """Flush the inserted documents to disk, and wait until MongoDB is idle."""
        self._client.admin.command("fsync")
        (mongod,) = (process for process in self._servers if process.name() == "mongod")
        async with asyncio.timeout(300):
            busy = 1.0
            while busy > _QUIET:
                before = _processor_time([mongod])
                await asyncio.sleep(2)
                busy = (_processor_time([mongod]) - before) / 2

    async def _cost(self, kind: Kind, paths: Iterator[str]) -> Cost:
        before = _processor_time(self._servers)
        replies = await self._send(kind, paths, kind.count)
        used = _processor_time(self._servers) - before
        latency = median(reply.end - reply.start for reply in replies)
        keys, documents = await self._examined(kind, paths)
        cost = Cost(latency, used / kind.count, keys, documents)
        print(f"{self._sample.size:>9,} {kind.title:<32} {latency * 1e3:8.2f} ms", flush=True)
        return cost

    async def _examined(self, kind: Kind, paths: Iterator[str]) -> tuple[float, float]:
        """Return how many keys and documents MongoDB examines for a request, by its profiler."""
        database = self._client[_DATABASE]
        database.command("profile", 2)
        try:
            await self._send(kind, paths, min(_PROFILED, kind.count))
        finally:
            database.command("profile", 0)
        matching: Document = {"ns": f"{_DATABASE}.members"}
        operations = [*database["system.profile"].find(matching)]
        database["system.profile"].drop()
        count = min(_PROFILED, kind.count)
        keys, documents = (
            sum(operation.get(counter, 0) for operation in operations) / count
            for counter in ("keysExamined", "docsExamined")
        )
        return keys, documents

    async def _send(
        self, kind: Kind, paths: Iterator[str], count: int, *, warming_up: bool = False
    ) -> list[Reply]:
        replies = []
        for path in itertools.islice(paths, count):
            reply = await self._http(b"GET", path.encode(), headers=kind.headers)
            status = reply.headers.get(b"cache-status", b"")
            is_expected = warming_up or kind.cache_status in status
            if reply.status != 200 or not is_expected:
                raise SystemExit(f"growth: GET {path}: {reply.status} {status.decode()}")
            replies.append(reply)
        return replies


def _processor_time(servers: Sequence[psutil.Process]) -> float:
    return sum(sum(server.cpu_times()[:2]) for server in servers)


if __name__ == "__main__":
    began_at = time.monotonic()
    main()
    print(f"\n{time.monotonic() - began_at:.0f} s")

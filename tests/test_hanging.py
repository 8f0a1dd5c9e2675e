"""MongoDB hangs under hundreds of requests: cached reads continue, and nothing piles up."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.http_client import HttpClient, Reply
from tests.support.memcached import flush_cache
from tests.support.mongodb import Admin
from tests.support.namespace import namespace_of
from tests.support.service import Command, Service
from tests.support.suspension import suspend
from tornado_members.embedded.private_servers import PrivateServers

AT_ONCE = 200
SLACK = 20  # threads and descriptors that come and go


@dataclass(frozen=True)
class Held:
    """The resources that a process holds."""

    threads: int
    descriptors: int
    megabytes: float


def held_by(worker: psutil.Process) -> Held:
    return Held(worker.num_threads(), worker.num_fds(), worker.memory_info().rss / 2**20)


@pytest.fixture(params=["motor", "pymongo"])
def service(
    request: pytest.FixtureRequest,
    folder: Path,
    servers: PrivateServers,
    admin: Admin,
    database_name: str,
) -> Iterator[Service]:
    mongodb = {
        "uri": servers.mongodb_uri,
        "database": database_name,
        "driver": request.param,
        "timeout_ms": 500,
    }
    # As if it had been in use: a new node is in quarantine.
    flush_cache(servers.cache_servers[0], namespace_of(admin[database_name]))
    # A process that is not scheduled for a while would bypass the cache.
    cache = {"servers": servers.cache_servers, "heartbeat_ms": 3000, "return_ms": 1800}
    with Command(folder, {"mongodb": mongodb, "cache": cache}).serving() as service:
        yield service


@asynccontextmanager
async def clients(service: Service, count: int) -> AsyncIterator[list[HttpClient]]:
    host, port = service.url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        opened = [HttpClient(host, int(port), service._token) for _ in range(count)]
        for client in opened:
            stack.callback(client.close)
        yield opened


async def until_cached(client: HttpClient, path: bytes) -> None:
    """Wait for the first hit: a new service bypasses the cache for some seconds."""
    async with asyncio.timeout(60):
        while b"; hit" not in (await client(b"GET", path)).headers[b"cache-status"]:
            await asyncio.sleep(0.05)


def send_read(client: HttpClient, number: int) -> asyncio.Task[Reply]:
    """Send one of several requests that need MongoDB."""
    requests = [
        (b"GET", b"/members/%d" % (1000 + number), b""),
        (b"PUT", b"/members/2", b'{"name": "Grace %d"}' % number),
        (b"POST", b"/members", b'{"name": "New %d"}' % number),
        (b"GET", b"/members", b""),
        (b"GET", b"/members/by-name/Nobody%d" % number, b""),
    ]
    return asyncio.create_task(client(*requests[number % len(requests)]))


async def until_written(client: HttpClient) -> None:
    """Wait until writes succeed again, without a restart, for at most the promised five seconds."""
    async with asyncio.timeout(60):
        while (await client(b"PUT", b"/members/by-name/Grace", b"{}")).status >= 500:
            await asyncio.sleep(0.05)


async def test_requests_do_not_pile_up_while_mongodb_hangs(
    service: Service, servers: PrivateServers
) -> None:
    for name in ("Ada", "Grace"):
        assert service("PUT", "/members", {"name": name})[0] == 201
    (worker,) = psutil.Process(service.process.pid).children()
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    held: list[Held] = []
    async with clients(service, AT_ONCE) as many, clients(service, 1) as (another,):
        await until_cached(another, b"/members/1")
        await asyncio.gather(*(client(b"GET", b"/members/1") for client in many))
        suspend(mongod)
        await asyncio.sleep(0.1)  # its threads do not all stop at once
        try:
            for _ in range(2):
                tasks = [send_read(client, number) for number, client in enumerate(many)]
                cached = [await another(b"GET", b"/members/1") for _ in range(20)]
                assert {reply.status for reply in cached} == {200}
                assert sum(task.done() for task in tasks) < AT_ONCE  # reads did not wait for them
                answers = await asyncio.gather(*tasks)
                assert {reply.status for reply in answers} == {503}
                assert all(reply.headers[b"retry-after"] for reply in answers)
                held.append(held_by(worker))
        finally:
            mongod.resume()
        await until_written(another)
    assert held[-1].threads <= held[0].threads + SLACK
    assert held[-1].descriptors <= held[0].descriptors + SLACK
    assert held[-1].megabytes <= held[0].megabytes + SLACK
    assert max(found.threads for found in held) < AT_ONCE / 2

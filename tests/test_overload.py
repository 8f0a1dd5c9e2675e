"""A service beside other programs that take the processor, and above its capacity."""

import asyncio
import http.client
import itertools
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pymongo
import pytest
from bson import Int64

from benchmarks.load.open_loop import OpenLoop, Outcome
from tests.support.service import Command, Service
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import with_parent_death_signal
from tornado_members.http1.event_loop import find_fast_loop

MEMBERS = 2_000
CONTROL_SECONDS = 0.2
HOGS = 6
HIT = "memcached; hit"
HEARTBEAT = 0.2  # seconds: cache.heartbeat_ms


@pytest.fixture
def service(
    folder: Path,
    servers: PrivateServers,
    database_name: str,
    admin: pymongo.MongoClient[dict[str, object]],
) -> Iterator[Service]:
    admin[database_name]["members"].insert_many(
        {"_id": Int64(i), "name": f"Member {i}", "version": Int64(1)} for i in range(1, MEMBERS + 1)
    )
    settings = {
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
        "server": {"port": 0, "limits": {"connections_per_address": 0}},
    }
    with Command(folder, settings).serving() as started:
        yield started


def port_of(service: Service) -> int:
    return int(service.url.rpartition(":")[2])


async def all_answered(client: OpenLoop) -> Outcome:
    """Send as much as few connections can, until all of it is served and nothing is refused.

    A service that is not scheduled for a while refuses some of it.
    """
    async with asyncio.timeout(60):
        while True:
            sent = await client.send_closed(16, CONTROL_SECONDS)
            if {*sent.statuses} == {200}:
                return sent


async def refused(client: OpenLoop, rate: int) -> Outcome:
    """Send requests at a rate, and then at twice the rate, until some are refused.

    The capacity was measured too low if the service was not scheduled for a while.
    """
    async with asyncio.timeout(60):
        while True:
            sent = await client.send_at(rate, 0.4)
            if sent.statuses[503]:
                return sent
            rate *= 2


def test_load_above_the_capacity_is_answered_or_refused_and_then_answered(
    service: Service,
) -> None:
    head = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service._token}\r\n\r\n"

    def requests() -> Iterator[bytes]:
        for number in itertools.count():
            page = f"/members?limit=50&name_prefix=Member%20{number % 1000}"  # of another list each
            path = page if number % 5 == 0 else f"/members/{number % MEMBERS + 1}"
            yield f"GET {path} {head}".encode()

    async def measure() -> None:
        client = OpenLoop(port_of(service), requests())
        control = await all_answered(client)
        overload = await refused(client, 3 * round(control.successes / CONTROL_SECONDS))
        await all_answered(client)
        client.close()
        assert {*overload.statuses} == {200, 503}
        assert overload.without_retry_after == overload.resets == 0
        assert overload.successes > 0
        assert service.admin("/livez")[0] == 200

    with asyncio.Runner(loop_factory=find_fast_loop()) as runner:
        runner.run(measure())


@contextmanager
def busy_processor() -> Iterator[None]:
    """Keep several processes busy while the block lasts."""
    with ExitStack() as stack:
        for _ in range(HOGS):
            command = with_parent_death_signal([sys.executable, "-S", "-c", "while True: pass"])
            hog = stack.enter_context(subprocess.Popen(command))
            stack.callback(hog.kill)
        yield


def waited(processes: Iterable[psutil.Process]) -> float:
    """Return the seconds that the threads of processes have waited for a processor."""
    threads = [
        path for process in processes for path in Path(f"/proc/{process.pid}/task").iterdir()
    ]
    return sum(int((path / "schedstat").read_text().split()[1]) for path in threads) / 1e9


@pytest.mark.exhaustive  # it takes both cores for some seconds
def test_reads_of_a_warm_member_stay_hits_on_a_busy_processor(
    service: Service,
    servers: PrivateServers,
    admin: pymongo.MongoClient[dict[str, object]],
    database_name: str,
) -> None:
    """A worker that gets no processor within the heartbeat cannot know what it missed meanwhile.

    So a read may bypass the cache if the kernel let the worker and Memcached wait for a processor
    for long since the last hit. Other programs of the machine may cause that. No other read may.
    """
    memcached = [process for process in servers.processes() if "memcached" in process.name()]
    processes = [*psutil.Process(service.process.pid).children(), *memcached]
    headers = {"Authorization": f"Bearer {service._token}"}
    locks = admin[database_name]["leader_locks"]
    while not (locks.find_one({"_id": "invalidator"}) or {}).get("progress"):
        time.sleep(0.05)  # the first follower of the change stream empties the cache
    with closing(http.client.HTTPConnection("127.0.0.1", port_of(service), timeout=60)) as client:

        def read() -> str | None:
            client.request("GET", "/members/7", headers=headers)
            response = client.getresponse()
            response.read()
            return response.getheader("Cache-Status")

        hits = 0
        while read() != HIT:
            pass
        with busy_processor():
            while hits < 300:
                before = waited(processes)
                if (status := read()) == HIT:
                    hits += 1
                    continue
                assert waited(processes) - before > HEARTBEAT / 2, status
                while read() != HIT:
                    pass

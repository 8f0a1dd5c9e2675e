"""The memory of a worker after load, and the processor time of an idle one."""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.load import page_tables, saved
from tests.support.http_client import HttpClient
from tests.support.service import Command, Service
from tornado_members.embedded.private_servers import PrivateServers

_MEMBERS = 1000
_CLIENTS = 32
_MIB = 2**20


def main() -> None:
    """Print a table of services with one and with four workers."""
    parser = argparse.ArgumentParser(prog="scripts/bench worker", description=__doc__)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 4], help="numbers of workers (1 4)"
    )
    parser.add_argument("--seconds", type=float, default=20, help="of load, and of idle time (20)")
    parser.add_argument("--save", action="store_true", help="update docs/performance.md")
    options = parser.parse_args()
    figures = {}
    for workers in options.workers:
        with tempfile.TemporaryDirectory(prefix="tornado-members-bench-") as name:
            server = {"port": 0, "processes": workers}
            command = Command(
                Path(name), {"server": server, "log": {"level": "warning", "format": "text"}}
            )
            with (
                PrivateServers(command.data, die_with_parent=True),
                command.serving() as service,
            ):
                token = command.token("--rights", "3")
                asyncio.run(_load(service, token, options.seconds))
                figures[str(workers)] = _rest(service, options.seconds)
    print(page_tables.worker({"worker": figures}))
    if options.save:
        saved.save("worker", figures)


async def _load(service: Service, token: str, seconds: float) -> None:
    """Create members, then read members and lists."""
    address = urlsplit(service.url)
    assert address.hostname
    assert address.port
    clients = [HttpClient(address.hostname, address.port, token) for _ in range(_CLIENTS)]
    end = time.monotonic() + seconds

    async def work(client: HttpClient, number: int) -> None:
        for one in range(number, _MEMBERS, _CLIENTS):
            await client(b"PUT", b"/members", b'{"name": "Member %d"}' % one)
        while time.monotonic() < end:
            for one in range(1, _MEMBERS, 37):
                await client(b"GET", b"/members/%d" % one)
            await client(b"GET", b"/members?limit=50")

    await asyncio.gather(*(work(client, number) for number, client in enumerate(clients)))
    for client in clients:
        client.close()


def _rest(service: Service, seconds: float) -> dict[str, float]:
    """Return the memory of the average worker, and the processor time of one at rest."""
    supervisor = psutil.Process(service.process.pid)
    workers = [one for one in supervisor.children() if one.name() == supervisor.name()]
    time.sleep(2)
    before = sum(sum(worker.cpu_times()[:2]) for worker in workers)
    time.sleep(seconds)
    used = sum(sum(worker.cpu_times()[:2]) for worker in workers) - before
    memory = [worker.memory_full_info() for worker in workers]
    return {
        "rss_mib": sum(one.rss for one in memory) / _MIB / len(workers),
        "pss_mib": sum(one.pss for one in memory) / _MIB / len(workers),
        "idle": used / seconds / len(workers),
    }


if __name__ == "__main__":
    main()

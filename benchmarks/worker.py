"""The memory of a worker at rest and after load, and the processor time of an idle one."""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.load import page_tables, saved
from tests.support.http_client import HttpClient
from tests.support.service import ROOT, Command, Service
from tornado_members.embedded.private_servers import PrivateServers

_MEMBERS = 1000
_CLIENTS = 32
_MIB = 2**20
_SETTLE_SECONDS = 5.0  # until nothing is left to do after the start, or after the load


class _Program(Command):
    """Starts the service as an operator does: a fork of the tests has their modules in memory."""

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Start a command in a new interpreter."""
        command, *rest = arguments
        return subprocess.Popen(
            [sys.executable, "-m", "tornado_members", command, "--config", self.config, *rest],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
            **options,
        )


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
            command = _Program(
                Path(name), {"server": server, "log": {"level": "warning", "format": "text"}}
            )
            with (
                PrivateServers(command.data, die_with_parent=True),
                command.serving() as service,
            ):
                token = command.token("--rights", "3")
                time.sleep(_SETTLE_SECONDS)
                at_rest = _memory(service)
                asyncio.run(_load(service, token, options.seconds))
                time.sleep(_SETTLE_SECONDS)
                figures[str(workers)] = {
                    "at_rest": at_rest,
                    "after_load": _memory(service),
                    "idle": _idle(service, options.seconds),
                }
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
        for member_id in range(number, _MEMBERS, _CLIENTS):
            await client(b"PUT", b"/members", b'{"name": "Member %d"}' % member_id)
        while time.monotonic() < end:
            for member_id in range(1, _MEMBERS, 37):
                await client(b"GET", b"/members/%d" % member_id)
            await client(b"GET", b"/members?limit=50")

    await asyncio.gather(*(work(client, number) for number, client in enumerate(clients)))
    for client in clients:
        client.close()


def _workers(service: Service) -> list[psutil.Process]:
    supervisor = psutil.Process(service.process.pid)
    return [process for process in supervisor.children() if process.name() == supervisor.name()]


def _memory(service: Service) -> dict[str, float]:
    """Return the memory of the average worker."""
    memory = [worker.memory_full_info() for worker in _workers(service)]
    return {
        "rss_mib": sum(process.rss for process in memory) / _MIB / len(memory),
        "pss_mib": sum(process.pss for process in memory) / _MIB / len(memory),
    }


def _idle(service: Service, seconds: float) -> float:
    """Return the processor time of the average worker, as a share of a core."""
    workers = _workers(service)
    before = _processor_seconds(workers)
    time.sleep(seconds)
    return (_processor_seconds(workers) - before) / seconds / len(workers)


def _processor_seconds(workers: Sequence[psutil.Process]) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in workers)


if __name__ == "__main__":
    main()

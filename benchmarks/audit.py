"""The cost of the audit: PUTs of a service with it and of one without it, in turns."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.http_client import HttpClient
from tests.support.service import Command, Service
from tornado_members.embedded.private_servers import PrivateServers

DRIVERS = ("motor", "pymongo")
WRITERS = 16
WITHOUT, WITH = False, True


class Writer:
    """Changes one member repeatedly, and waits for each response."""

    def __init__(self, service: Service, token: str) -> None:
        host, _, port = service.url.removeprefix("http://").rpartition(":")
        self._client = HttpClient(host, int(port), token)
        self._path = b""
        self._number = 0

    async def write(self) -> float:
        """Send one PUT that changes the member; return its duration in seconds."""
        self._number += 1
        body = b'{"name": "Member %d", "phone": "555-%06d"}' % (id(self), self._number)
        if not self._path:
            created = await self._client(b"PUT", b"/members", body)
            self._path = created.headers[b"location"]
            return 0.0
        reply = await self._client(b"PUT", self._path, body)
        assert reply.status == 200, reply.body
        return reply.end - reply.start

    def close(self) -> None:
        """Close its connection."""
        self._client.close()


async def alone(writer: Writer, seconds: float) -> float:
    """Return the median duration of single PUTs, in milliseconds."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        times.append(await writer.write())
    return median(times) * 1000


async def together(writers: list[Writer], seconds: float) -> float:
    """Return the PUTs per second of all writers together."""
    begun = time.perf_counter()
    end, done = begun + seconds, 0

    async def work(writer: Writer) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await writer.write()
            done += 1

    await asyncio.gather(*map(work, writers))
    return done / (time.perf_counter() - begun)


async def measure(services: Mapping[bool, Service], token: str, options: Any) -> None:
    """Print a line for each number: without, with, and the median of the rounds' ratios."""
    writers = {
        kind: [Writer(service, token) for _ in range(WRITERS)] for kind, service in services.items()
    }
    for writer in [*writers[WITHOUT], *writers[WITH]]:
        await writer.write()
    rows: list[dict[str, float]] = []
    for number in range(options.rounds):
        row = {}
        # The order alternates, because the load of the machine may change in between.
        for kind in (WITHOUT, WITH) if number % 2 else (WITH, WITHOUT):
            row[f"ms {kind}"] = await alone(writers[kind][0], options.seconds)
            row[f"rate {kind}"] = await together(writers[kind], options.seconds)
        rows.append(row)
    for writer in [*writers[WITHOUT], *writers[WITH]]:
        writer.close()
    for unit, what in (("ms", "ms, one by one"), ("rate", f"per second, {WRITERS} together")):
        off, on = (median(row[f"{unit} {kind}"] for row in rows) for kind in (WITHOUT, WITH))
        ratio = median(row[f"{unit} {WITH}"] / row[f"{unit} {WITHOUT}"] for row in rows)
        print(f"{what:>24}  {off:10,.1f}  {on:10,.1f}  {ratio:8.2f}", flush=True)


def compare(driver: str, servers: PrivateServers, folder: Path, options: Any) -> None:
    """Run both services, each in its own process, on the same servers."""
    print(f"{driver + ', PUTs':>24}  {'without':>10}  {'with':>10}  {'ratio':>8}", flush=True)
    with ExitStack() as stack:
        services, token = {}, ""
        for kind in (WITHOUT, WITH):
            data = folder / f"{driver}-{kind}"
            data.mkdir()
            settings = {
                "data_dir": str(folder / "keys"),
                "mongodb": {
                    "uri": servers.mongodb_uri,
                    "database": f"{driver}-{kind}",
                    "driver": driver,
                },
                "cache": {"servers": servers.cache_servers},
                "audit": {"enabled": kind},
            }
            command = Command(data, settings)
            services[kind] = stack.enter_context(command.serving())
            token = command.token("--rights", "3")
        asyncio.run(measure(services, token, options))


def main() -> None:
    """Print the comparison for each driver."""
    parser = argparse.ArgumentParser(prog="scripts/bench audit", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1, help="per measurement (1)")
    parser.add_argument(
        "--rounds", type=int, default=7, help="number of rounds; prints medians (7)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tornado-members-bench-") as name:
        folder = Path(name)
        with PrivateServers(folder / "servers", die_with_parent=True) as servers:
            for driver in DRIVERS:
                compare(driver, servers, folder, options)


if __name__ == "__main__":
    main()

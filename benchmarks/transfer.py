"""Imports and exports members over HTTP, and measures time and memory."""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.load import saved
from benchmarks.load.bed import Client as MongoClient
from benchmarks.load.bed import enlarge_cache
from benchmarks.load.growth_requests import store_members
from tests.support.service import Command, Service
from tornado_members.bulk.fake_members import fake_members
from tornado_members.bulk.loader import BATCH
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.settings import Settings
from tornado_members.storage.mongo import open_mongo

_LINE = "Person {0:07},person.{0}@example.org,+1-555-{0:07}\r\n"
_SLOW = 200_000  # bytes per second
_TIMEOUT = 30.0  # seconds, of an insertion


@dataclass
class Memory:
    """The memory of a process in bytes, sampled ten times per second."""

    process: psutil.Process
    peak: int = 0

    async def watch(self) -> None:
        """Sample until cancelled."""
        while True:
            self.peak = max(self.peak, self.process.memory_info().rss)
            await asyncio.sleep(0.1)


def rows(count: int) -> Iterator[bytes]:
    """Yield a CSV file in pieces."""
    yield b"name,email,phone\r\n"
    numbers = iter(range(1, count + 1))
    while lines := "".join(_LINE.format(i) for i in itertools.islice(numbers, 4000)):
        yield lines.encode()


class Client:
    """Requests with full rights, one connection each."""

    def __init__(self, service: Service, token: str) -> None:
        host, port = service.url.removeprefix("http://").split(":")
        self._address = (host, int(port))
        self._token = token

    async def _open(
        self, first: str, *headers: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._address, limit=2**20)
        lines = [first, "Host: bench", f"Authorization: Bearer {self._token}", *headers]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return reader, writer

    async def import_members(self, count: int) -> int:
        """Import members, and read the results. Return the number of created ones."""
        size = sum(map(len, rows(count)))
        reader, writer = await self._open(
            "POST /members/import HTTP/1.1", "Content-Type: text/csv", f"Content-Length: {size}"
        )

        async def write() -> None:
            for piece in rows(count):
                writer.write(piece)
                await writer.drain()

        sending = asyncio.create_task(write())
        created = 0
        async for piece in _pieces(reader):
            created += piece.count(b'"code": "created"')
        await sending
        writer.close()
        return created

    async def export(self, *headers: str, bytes_per_second: int | None = None) -> int:
        """Read an export, at a given rate for 20 seconds at most. Return the number of bytes."""
        reader, writer = await self._open("GET /members HTTP/1.1", *headers)
        started, size = time.perf_counter(), 0
        last = b""
        async for piece in _pieces(reader):
            size += len(piece)
            last = (last + piece)[-5:]
            if bytes_per_second:
                ahead = size / bytes_per_second - (time.perf_counter() - started)
                if started + 20 < time.perf_counter():
                    break
                await asyncio.sleep(max(0, ahead))
        else:
            assert last == b"0\r\n\r\n", "the response is incomplete"
        writer.transport.abort()
        return size


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    tail = b""
    while piece := await reader.read(65536):
        # A line that is split between pieces is counted with its second part.
        cut = piece.rfind(b"\n") + 1
        yield tail + piece[:cut]
        tail = piece[cut:]
    yield tail


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of an operation, and the memory of the worker that did it."""

    rows: int
    seconds: float
    cpu: float  # seconds of processor time
    before_mib: float | None = None
    peak_mib: float | None = None


async def measure(
    what: str, count: int, process: psutil.Process, work: "asyncio.Task[int]"
) -> tuple[int, Usage]:
    """Await the work, and print a line. Return its result and its cost."""
    before = process.memory_info().rss
    memory = Memory(process, before)
    watching = asyncio.create_task(memory.watch())
    started, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
    result = await work
    seconds = time.perf_counter() - started
    watching.cancel()
    cpu = sum(process.cpu_times()[:2]) - cpu
    megabytes = [size / 2**20 for size in (before, memory.peak, process.memory_info().rss)]
    print(
        f"{what:<22} {seconds:7.1f} s {count / seconds:9,.0f}/s {cpu:7.1f} s of CPU"
        f"   RSS {megabytes[0]:4.0f} -> {megabytes[2]:4.0f} MiB, peak {megabytes[1]:4.0f}",
        flush=True,
    )
    return result, Usage(count, seconds, cpu, *megabytes[:2])


async def insert_plainly(uri: str, count: int) -> Usage:
    """Insert copies of all members with the service's driver, and print a line.

    The collection has the same indexes. Reading the members is not measured.
    """
    mongo = open_mongo(uri, "members", Settings().mongodb.driver, _TIMEOUT)
    members, copies = mongo.database["members"], mongo.database["copies"]
    for index in (await members.index_information()).values():
        if index["key"] != [("_id", 1)]:
            await copies.create_index(index["key"], unique=index.get("unique", False))
    copied, seconds, cpu = 0, 0.0, 0.0
    cursor = members.find()
    while batch := await cursor.to_list(BATCH):
        began, cpu_before = time.perf_counter(), time.process_time()
        await copies.insert_many(batch, ordered=False)
        seconds += time.perf_counter() - began
        cpu += time.process_time() - cpu_before
        copied += len(batch)
    await copies.drop()
    await mongo.close()
    assert copied == count, f"{copied} of {count} were copied"
    usage = Usage(count, seconds, cpu)
    _print_plain("insert_many alone", count, usage)
    return usage


async def read_plainly(uri: str, count: int) -> Usage:
    """Read the fields that an export contains with the service's driver, and print a line."""
    mongo = open_mongo(uri, "members", Settings().mongodb.driver, _TIMEOUT)
    shown = dict.fromkeys(("_id", *MEMBER_FIELDS.keys), 1)
    began, cpu, found = time.perf_counter(), time.process_time(), 0
    cursor = mongo.database["members"].find({}, shown, hint=[("_id", 1)], batch_size=BATCH)
    while batch := await cursor.to_list(BATCH):
        found += len(batch)
    usage = Usage(count, time.perf_counter() - began, time.process_time() - cpu)
    await mongo.close()
    assert found == count, f"{found} of {count} were read"
    _print_plain("find alone", count, usage)
    return usage


def _print_plain(what: str, count: int, usage: Usage) -> None:
    rate = count / usage.seconds
    print(f"{what:<22} {usage.seconds:7.1f} s {rate:9,.0f}/s {usage.cpu:7.1f} s of CPU", flush=True)


async def run_imports(
    client: Client, process: psutil.Process, count: int, mongodb_uri: str
) -> dict[str, Usage]:
    """Import members, then the same ones again."""
    task = asyncio.create_task
    created, ours = await measure("import", count, process, task(client.import_members(count)))
    assert created == count, f"{created} of {count} were created"
    plain = await insert_plainly(mongodb_uri, count)
    cpu, seconds = (ours.cpu - plain.cpu) / count, (ours.seconds - plain.seconds) / count
    name = "difference per row"
    print(f"{name:<22} {seconds * 1e6:7.0f} us {'':10} {cpu * 1e6:8.0f} us of CPU", flush=True)
    again, unchanged = await measure(
        "import again", count, process, task(client.import_members(count))
    )
    assert again == 0
    return {
        "import of CSV": ours,
        "`insert_many` of the same documents by the driver alone": plain,
        "import of members that exist": unchanged,
    }


async def run_exports(
    client: Client, process: psutil.Process, count: int, mongodb_uri: str
) -> dict[str, Usage]:
    """Export members in each format, and to a slow reader."""
    task, found = asyncio.create_task, {}
    for format_, headers in {
        "NDJSON": ["Accept: application/x-ndjson"],
        "CSV": ["Accept: text/csv"],
        "CSV, gzip": ["Accept: text/csv", "Accept-Encoding: gzip"],
    }.items():
        what = f"export as {format_}"
        size, found[what] = await measure(what, count, process, task(client.export(*headers)))
        print(f"{'':<22} {size / 2**20:7.1f} MiB")
    found["`find` of the same fields by the driver alone"] = await read_plainly(mongodb_uri, count)
    slow = client.export("Accept: text/csv", bytes_per_second=_SLOW)
    size, _ = await measure("20 s of a slow reader", count, process, task(slow))
    print(f"{'':<22} {size / 2**20:7.1f} MiB read; the rate is that of all members")
    return found


async def main() -> None:
    """Start a service in a temporary folder, and measure it."""
    parser = argparse.ArgumentParser(prog="scripts/bench transfer", description=__doc__)
    parser.add_argument(
        "--members", type=int, default=1_000_000, help="number of members (1,000,000)"
    )
    parser.add_argument("--only", choices=("import", "export"), help="(both)")
    parser.add_argument("--save", action="store_true", help="update docs/performance.md")
    options = parser.parse_args()
    count, figures = options.members, dict[str, Usage]()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        command = Command(folder)
        private = stack.enter_context(PrivateServers(command.data, die_with_parent=True))
        mongodb = stack.enter_context(MongoClient(private.mongodb_uri))
        enlarge_cache(mongodb)
        if options.only == "export":
            drafts = itertools.islice(fake_members(), count)
            store_members(mongodb["members"]["members"], drafts, first=1)
            mongodb.admin.command("fsync")
        service = stack.enter_context(command.serving())
        (process,) = psutil.Process(service.process.pid).children()  # the worker
        client = Client(service, command.token("--rights", "3", "--expires", "12h"))
        print(f"{count:,} members")
        if options.only != "export":
            figures |= await run_imports(client, process, count, private.mongodb_uri)
        if options.only != "import":
            figures |= await run_exports(client, process, count, private.mongodb_uri)
    if options.save:
        saved.save("transfer", {title: asdict(usage) for title, usage in figures.items()})


if __name__ == "__main__":
    asyncio.run(main())

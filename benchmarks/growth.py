"""The cost of a request among 1,000 members and among 1,000,000."""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import quote, urlsplit

import psutil
import pymongo

from tests.support.http_client import HttpClient, Reply
from tests.support.service import Command
from tornado_members.bulk.fake_members import fake_members
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.model.member import Member, MemberDraft
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.mongo import Document

_BATCH = 10_000
_LIST = "/members?limit=50"

Paths = Iterator[str]


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one request, while no other is in progress."""

    latency: float  # median, in seconds
    processor: float  # of the service, MongoDB and Memcached together, in seconds


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests of one kind."""

    title: str
    count: int
    paths: Callable[["Crowd"], Paths]


class Crowd:
    """The members of one size, and random ones among them."""

    def __init__(self, members: Sequence[MemberDraft]) -> None:
        self.members = members
        self.half_way: dict[str, str] = {}  # by sort, the page in the middle of the list
        self._random = random.Random(7)  # noqa: S311 (the same requests in each run)

    def ids(self) -> Iterator[int]:
        """Yield ids without end, at random."""
        while True:
            yield self._random.randint(1, len(self.members))

    def once(self) -> Iterator[int]:
        """Yield ids at random, each once."""
        return iter(self._random.sample(range(1, len(self.members) + 1), len(self.members)))

    def values(self, field: str) -> Iterator[str]:
        """Yield values of members at random, without end."""
        for member_id in self.ids():
            if value := self.members[member_id - 1].values[field]:
                yield str(value)


def _hot(crowd: Crowd) -> Paths:
    hot = [*itertools.islice(crowd.once(), 100)]
    return (f"/members/{member_id}" for member_id in itertools.cycle(hot))


def _page(sort: str, *, half_way: bool) -> Callable[[Crowd], Paths]:
    def paths(crowd: Crowd) -> Paths:
        page = crowd.half_way[sort] if half_way else f"{_LIST}&sort={sort}"
        return itertools.repeat(page)

    return paths


def _by(parameter: str, field: str, cut: slice = slice(None)) -> Callable[[Crowd], Paths]:
    return lambda crowd: (
        f"{_LIST}&{parameter}={quote(value[cut])}" for value in crowd.values(field)
    )


KINDS = (
    Kind("GET that misses", 400, lambda crowd: (f"/members/{one}" for one in crowd.once())),
    Kind("cached GET", 4000, _hot),
    Kind("page of 50, the first", 400, _page("memberId", half_way=False)),
    Kind("page of 50, half way", 400, _page("memberId", half_way=True)),
    Kind("page of 50 by name, the first", 400, _page("name", half_way=False)),
    Kind("page of 50 by name, half way", 400, _page("name", half_way=True)),
    Kind("`email`", 400, _by("email", "email")),
    Kind("`name_prefix` of eight letters", 400, _by("name_prefix", "name", slice(8))),
    Kind("`q` of a whole name", 400, _by("q", "name")),
)


def main() -> None:
    """Print a table of each kind of request over the numbers of members."""
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument(
        "--members", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000]
    )
    sizes = sorted(parser.parse_args().members)
    drafts = fake_members()
    members: list[MemberDraft] = []
    columns: list[dict[str, Cost]] = []
    with tempfile.TemporaryDirectory(prefix="tornado-members-bench-") as name:
        settings = {"log": {"level": "warning", "format": "text"}}
        command = Command(Path(name), settings)
        with PrivateServers(command.data, die_with_parent=True) as private:
            for size in sizes:
                grown = [*itertools.islice(drafts, size - len(members))]
                _insert(private.mongodb_uri, grown, first=len(members) + 1)
                members += grown
                columns.append(_measure(command, Crowd(members)))
    print(table(sizes, columns))


def table(sizes: Sequence[int], columns: Sequence[dict[str, Cost]]) -> str:
    """Return the costs as a table in Markdown."""
    heads = " | ".join(f"{size:,}" for size in sizes)
    lines = [f"| one at a time | {heads} |", f"|---|{'--:|' * len(sizes)}"]
    for kind in KINDS:
        costs = [column[kind.title] for column in columns]
        cells = [f"{one.latency * 1e3:.2f} ms, {one.processor * 1e6:,.0f} µs" for one in costs]
        lines.append(f"| {kind.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _insert(uri: str, drafts: Sequence[MemberDraft], *, first: int) -> None:
    """Store members as the service would, without its help."""
    codec = MemberCodec()
    numbered = enumerate(drafts, start=first)
    documents = (codec.encode(Member.from_draft(number, draft)) for number, draft in numbered)
    with pymongo.MongoClient[Document](uri) as client:
        while batch := [*itertools.islice(documents, _BATCH)]:
            client["members"]["members"].insert_many(batch, ordered=False)


def _measure(command: Command, crowd: Crowd) -> dict[str, Cost]:
    with command.serving() as service:
        supervisor = psutil.Process(service.process.pid)
        servers = [*supervisor.children(), *command.servers()]
        address = urlsplit(service.url)
        assert address.hostname
        assert address.port
        client = HttpClient(address.hostname, address.port, command.token("--rights", "3"))
        return asyncio.run(_ask_all(client, crowd, servers))


async def _ask_all(
    client: HttpClient, crowd: Crowd, servers: Sequence[psutil.Process]
) -> dict[str, Cost]:
    try:
        await _until_ready(client)
        for sort in ("memberId", "name"):
            crowd.half_way[sort] = await _half_way(client, sort, len(crowd.members) // 2)
        return {kind.title: await _ask(client, kind, crowd, servers) for kind in KINDS}
    finally:
        client.close()


async def _until_ready(client: HttpClient) -> None:
    """Wait until the service uses the cache, and has built the indexes of searches."""
    async with asyncio.timeout(300):
        reply = await _get(client, "/members/1")
        while b"hit" not in reply.headers[b"cache-status"]:
            await asyncio.sleep(0.2)
            reply = await _get(client, "/members/1")
        search = await client(b"GET", b"/members?limit=1&q=a")
        while search.status == 503:
            await asyncio.sleep(0.2)
            search = await client(b"GET", b"/members?limit=1&q=a")


async def _half_way(client: HttpClient, sort: str, passed: int) -> str:
    """Walk to the page after so many members."""
    page = f"/members?sort={sort}&limit={min(passed, 1000)}"
    for _ in range(max(1, passed // 1000)):
        page = json.loads((await _get(client, page)).body)["next"]
    return page.replace(f"limit={min(passed, 1000)}", "limit=50")


async def _ask(
    client: HttpClient, kind: Kind, crowd: Crowd, servers: Sequence[psutil.Process]
) -> Cost:
    paths = kind.paths(crowd)
    for path in itertools.islice(paths, kind.count // 4):  # warms up, and fills the cache
        await _get(client, path)
    began = _processor_time(servers)
    replies = [await _get(client, path) for path in itertools.islice(paths, kind.count)]
    used = _processor_time(servers) - began
    latency = median(reply.end - reply.start for reply in replies)
    print(f"{len(crowd.members):>9,} {kind.title:<32} {latency * 1e3:6.2f} ms", flush=True)
    return Cost(latency, used / kind.count)


async def _get(client: HttpClient, path: str) -> Reply:
    reply = await client(b"GET", path.encode())
    if reply.status != 200:
        raise SystemExit(f"growth: GET {path}: {reply.status} {reply.body.decode()}")
    return reply


def _processor_time(servers: Sequence[psutil.Process]) -> float:
    return sum(sum(server.cpu_times()[:2]) for server in servers)


if __name__ == "__main__":
    began_at = time.monotonic()
    main()
    print(f"\n{time.monotonic() - began_at:.0f} s")

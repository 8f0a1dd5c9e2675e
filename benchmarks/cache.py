"""Hits per second of the cache, of plain cache-aside and of aiomcache alone, on one Memcached."""

import argparse
import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import aiomcache

from tests.support import naive_cache as naive
from tests.support.flush_store import MemoryFlushStore
from tests.support.registry import MemoryRegistry
from tornado_members.embedded.programs import find_memcached, free_port
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.node_health import Timing

BODY = b'{"memberId":42,"name":"Ada Lovelace","email":"ada@example.org","phone":null}'
KEYS = [b"member:%d" % i for i in range(1000)]
TIMING = Timing(heartbeat=1, timeout=1, return_after=0.01)

Read = Callable[[bytes], Awaitable[object]]


async def load() -> Entry:
    """Return the entry with which the cache is filled."""
    return Entry(1, b"mark", BODY)


async def load_naive() -> naive.Entry:
    """Return the same entry for plain cache-aside."""
    return naive.Entry(1, BODY)


async def hits_per_second(read: Read, readers: int, seconds: float) -> float:
    """Return the reads per second of all readers together."""
    done = 0
    end = time.perf_counter() + seconds

    async def run(first: int) -> None:
        nonlocal done
        i = first
        while time.perf_counter() < end:
            await read(KEYS[i % len(KEYS)])
            done += 1
            i += 37

    begun = time.perf_counter()
    await asyncio.gather(*(run(reader * 31) for reader in range(readers)))
    return done / (time.perf_counter() - begun)


@asynccontextmanager
async def memcached() -> AsyncIterator[str]:
    """Run a private server, and yield its address."""
    program, port = find_memcached(), free_port()
    if program is None:
        raise SystemExit("bench: memcached is not installed")
    server = subprocess.Popen(
        [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "root"]
    )
    try:
        for _ in range(500):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@asynccontextmanager
async def contestants(address: str) -> AsyncIterator[dict[str, Read]]:
    """Yield each way to read, with all entries stored."""
    host, _, port = address.rpartition(":")
    bare = aiomcache.Client(host, int(port), pool_size=32)
    unleased = naive.NaiveCache([MemcachedNode(address, timeout=1)], ttl=600, namespace="naive")
    cache = LeaseCache(
        [address],
        connect=partial(MemcachedNode, timeout=1),
        namespace="leases",
        ttl=600,
        timing=TIMING,
        write_deadline=0,
        flush_store=MemoryFlushStore(),
        registry=MemoryRegistry(),
    )
    await cache.open()
    while (await cache.read(b"warm", load)).status != "hit":
        await asyncio.sleep(0.05)

    async def read_leased(key: bytes) -> object:
        return await cache.read(key, load)

    async def read_naive(key: bytes) -> object:
        return await unleased.read(key, load_naive)

    for key in KEYS:
        await bare.set(key, BODY, 600)
        await read_leased(key)
        await read_naive(key)
    cache.counts.misses = 0
    yield {"leases": read_leased, "naive": read_naive, "aiomcache alone": bare.get}
    assert cache.counts.misses == 0, "some reads were not hits"
    await bare.close()
    await unleased.close()
    await cache.close()


async def main() -> None:
    """Measure each in turn, several times, and print the best of each."""
    parser = argparse.ArgumentParser(prog="scripts/bench cache", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="per round (0.5)")
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of rounds; prints the best (5)"
    )
    options = parser.parse_args()
    async with memcached() as address, contestants(address) as reads:
        print(f"{'hits per second':>18}  {'one by one':>11}  {'32 together':>11}")
        best: dict[tuple[str, int], float] = {}
        for _ in range(options.rounds):
            for name, read in reads.items():
                for readers in (1, 32):
                    rate = await hits_per_second(read, readers, options.seconds)
                    best[name, readers] = max(best.get((name, readers), 0), rate)
        for name in reads:
            print(f"{name:>18}  {best[name, 1]:11,.0f}  {best[name, 32]:11,.0f}")


if __name__ == "__main__":
    asyncio.run(main())

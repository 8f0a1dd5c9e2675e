"""Numbers that several processes count together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.memcached import flush_memcached, start_memcached
from tornado_members.auth import shared_counts
from tornado_members.auth.shared_counts import SharedCounts
from tornado_members.lease_cache.memcached import MemcachedNode


@asynccontextmanager
async def processes(*addresses: str, namespace: str = "test") -> AsyncIterator[list[SharedCounts]]:
    """Two that count on the same servers."""
    each = []
    for _ in range(2):
        nodes = [MemcachedNode(a, timeout=1, probe_interval=0.01) for a in addresses]
        each.append(SharedCounts(nodes, namespace=namespace))
    try:
        yield each
    finally:
        for one in each:
            await one.close()


@pytest.fixture
def cache_servers(cache_servers: tuple[str, ...]) -> tuple[str, ...]:
    """An empty one."""
    flush_memcached(cache_servers[0])
    return cache_servers


async def test_what_one_counts_the_other_sees(cache_servers: tuple[str, ...]) -> None:
    async with processes(*cache_servers) as (one, other):
        assert [await one.add(b"k", 1, 60) for _ in range(3)] == [1, 2, 3]
        assert await other.add(b"k", 1, 60) == 4
        assert await other.add(b"another", 1, 60) == 1
    async with processes(*cache_servers, namespace="other") as (stranger, _):
        assert await stranger.add(b"k", 1, 60) == 1


async def test_without_memcached_each_counts_for_itself() -> None:
    process, address = await start_memcached()
    async with processes(address) as (one, other):
        assert await one.add(b"k", 1, 60) == 1
        assert await other.add(b"k", 1, 60) == 2
        process.kill()
        process.wait()
        assert [await one.add(b"k", 1, 60) for _ in range(5)] == [2, 3, 4, 5, 6]
        assert await other.add(b"k", 1, 60) == 2
    async with processes() as (alone, _):
        assert [await alone.add(b"k", 1, 60) for _ in range(2)] == [1, 2]


async def test_a_memcached_that_forgets_makes_nobody_forget(cache_servers: tuple[str, ...]) -> None:
    async with processes(*cache_servers) as (one, _):
        for _ in range(5):
            await one.add(b"k", 1, 60)
        flush_memcached(cache_servers[0])
        assert await one.add(b"k", 1, 60) == 6


async def test_what_was_counted_alone_is_told_to_the_others(cache_servers: tuple[str, ...]) -> None:
    async with processes(*cache_servers) as (one, other):
        for _ in range(5):
            await one.add(b"k", 1, 60)
        flush_memcached(cache_servers[0])
        await one.add(b"k", 1, 60)
        assert await other.get(b"k", enough=9) == 6


async def test_whoever_has_counted_enough_asks_nobody(cache_servers: tuple[str, ...]) -> None:
    async with processes(*cache_servers) as (one, other):
        for _ in range(3):
            await one.add(b"k", 1, 60)
            await other.add(b"k", 1, 60)
        assert await one.get(b"k", enough=3) == 3
        assert await one.get(b"k", enough=4) == 6


async def test_many_at_once_do_not_make_the_server_look_away(
    cache_servers: tuple[str, ...],
) -> None:
    """They wait for their turn where no time-out counts."""
    nodes = [MemcachedNode(address, timeout=0.5, connections=1) for address in cache_servers]
    counts = SharedCounts(nodes, namespace="test")
    found = await asyncio.gather(*(counts.add(b"k", 1, 60) for _ in range(500)))
    assert sorted(found) == list(range(1, 501))
    assert not nodes[0].is_away
    async with processes(*cache_servers) as (other, _):
        assert await other.get(b"k", enough=999) == 500
    await counts.close()


async def test_numbers_are_forgotten_in_time() -> None:
    now = 0.0
    own = SharedCounts([], namespace="test", clock=lambda: now)
    assert [await own.add(b"k", 1, 60) for _ in range(2)] == [1, 2]
    now = 60.0
    assert await own.get(b"k", enough=9) == 0
    assert await own.add(b"k", 1, 60) == 1


async def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "MAX_OWN", 10)
    own = SharedCounts([], namespace="test")
    for n in range(50):
        await own.add(b"k%d" % n, 1, 60)
    assert len(own._own) == 10

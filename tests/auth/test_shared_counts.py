"""Counts that several processes share."""

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
    """Two sets of counts on the same servers."""
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
    """An empty server."""
    flush_memcached(cache_servers[0])
    return cache_servers


async def test_counts_are_shared_by_processes(cache_servers: tuple[str, ...]) -> None:
    async with processes(*cache_servers) as (one, other):
        assert [await one.add(b"k", 1, 60) for _ in range(3)] == [1, 2, 3]
        assert await other.add(b"k", 1, 60) == 4
        assert await other.add(b"another", 1, 60) == 1
    async with processes(*cache_servers, namespace="other") as (stranger, _):
        assert await stranger.add(b"k", 1, 60) == 1


async def test_counts_of_several_nodes_are_shared_in_their_order(
    cache_servers: tuple[str, ...],
) -> None:
    """A later count must not overtake an earlier one that is shared on another node first."""
    process, second = await start_memcached()
    try:
        async with processes(*cache_servers, second) as (one, _):
            keys = [b"key%d" % number for number in range(20)]
            node = one._nodes[0]
            of_first = [key for key in keys if one._node_of(key) is node]
            of_second = [key for key in keys if one._node_of(key) is not node]
            both = {of_first[0]: 1, of_second[0]: 1}
            found, later = await asyncio.gather(
                one.add_many(both, 60), one.add_many({of_second[0]: 1}, 60)
            )
            assert {**found, **later} == {of_first[0]: 1, of_second[0]: 2}
            assert found[of_second[0]] == 1
    finally:
        process.kill()
        process.wait()


async def test_counts_are_local_without_memcached() -> None:
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


async def test_value_that_is_not_a_number_affects_no_other_count(
    cache_servers: tuple[str, ...],
) -> None:
    """Another program may have stored it, or Memcached is full and evicts nothing."""
    async with processes(*cache_servers) as (one, other):
        (node,) = one._nodes
        for value in (b"text", b"9" * 5000):
            await node.set(one._prefix + b"spoiled", value, 60)
            for count in (1, 2, 3, 4):
                assert await one.add_many({b"spoiled": 1, b"k": 1}, 60) == {
                    b"spoiled": one.get_own(b"spoiled"),
                    b"k": one.get_own(b"k"),
                }
                assert await other.get_many([b"spoiled", b"k"]) == [0, one.get_own(b"k")], count


async def test_counts_survive_a_flush_of_memcached(cache_servers: tuple[str, ...]) -> None:
    async with processes(*cache_servers) as (one, _):
        for _ in range(5):
            await one.add(b"k", 1, 60)
        flush_memcached(cache_servers[0])
        assert await one.add(b"k", 1, 60) == 6


async def test_local_counts_are_shared_after_a_flush(cache_servers: tuple[str, ...]) -> None:
    async with processes(*cache_servers) as (one, other):
        for _ in range(5):
            await one.add(b"k", 1, 60)
        flush_memcached(cache_servers[0])
        await one.add(b"k", 1, 60)
        assert await other.get(b"k", enough=9) == 6


async def test_get_sends_no_command_if_the_local_count_suffices(
    cache_servers: tuple[str, ...],
) -> None:
    async with processes(*cache_servers) as (one, other):
        for _ in range(3):
            await one.add(b"k", 1, 60)
            await other.add(b"k", 1, 60)
        assert await one.get(b"k", enough=3) == 3
        assert await one.get(b"k", enough=4) == 6


async def test_concurrent_counts_do_not_mark_the_server_as_unavailable(
    cache_servers: tuple[str, ...],
) -> None:
    """They wait for a connection where no time-out counts."""
    nodes = [MemcachedNode(address, timeout=0.5) for address in cache_servers]
    counts = SharedCounts(nodes, namespace="test")
    found = await asyncio.gather(*(counts.add(b"k", 1, 60) for _ in range(500)))
    assert sorted(found) == list(range(1, 501))
    assert not nodes[0].is_unavailable
    async with processes(*cache_servers) as (other, _):
        assert await other.get(b"k", enough=999) == 500
    await counts.close()


async def test_concurrent_counts_are_exact(cache_servers: tuple[str, ...]) -> None:
    """A reply that overtakes another one is not taken for a loss of Memcached."""
    async with processes(*cache_servers) as (one, other):
        for _ in range(20):
            await asyncio.gather(*(one.add(b"k", 1, 60) for _ in range(10)))
        assert await other.get(b"k", enough=999) == 200


async def test_counts_expire() -> None:
    now = 0.0
    own = SharedCounts([], namespace="test", clock=lambda: now)
    assert [await own.add(b"k", 1, 60) for _ in range(2)] == [1, 2]
    now = 60.0
    assert await own.get(b"k", enough=9) == 0
    assert await own.add(b"k", 1, 60) == 1


async def test_local_counts_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "MAX_OWN", 10)
    own = SharedCounts([], namespace="test")
    for n in range(50):
        await own.add(b"k%d" % n, 1, 60)
    assert len(own._own) == 10

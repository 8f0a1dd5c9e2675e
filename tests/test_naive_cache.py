"""Read-through caching on real servers."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.memcached import start_memcached, stored_keys
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import MemberNotFound
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.naive_cache import Entry, NaiveCache


class Source:
    """What is behind the cache, and how often it was asked."""

    def __init__(self, version: int = 1) -> None:
        self.asked = 0
        self.version = version

    async def load(self) -> Entry:
        self.asked += 1
        return Entry(self.version, b'{"a": 1}\n{"b": 2}')


@asynccontextmanager
async def cache_on(
    *addresses: str, namespace: str = "test", patience: float = 1.0
) -> AsyncIterator[NaiveCache]:
    nodes = [MemcachedNode(address, timeout=patience) for address in addresses]
    cache = NaiveCache(nodes, ttl=60, namespace=namespace)
    try:
        yield cache
    finally:
        await cache.close()


@pytest.fixture
def address(servers: PrivateServers, database_name: str) -> str:  # noqa: ARG001
    return servers.cache_servers[0]


async def test_the_second_read_asks_nobody(address: str) -> None:
    source = Source()
    async with cache_on(address) as cache:
        for _ in range(3):
            assert await cache.read(b"a", source.load) == Entry(1, b'{"a": 1}\n{"b": 2}')
    assert source.asked == 1


async def test_what_is_forgotten_is_loaded_again(address: str) -> None:
    source = Source()
    async with cache_on(address) as cache:
        await cache.read(b"a", source.load)
        source.version = 2
        await cache.forget(b"a")
        assert (await cache.read(b"a", source.load)).version == 2


async def test_what_was_loaded_before_a_change_is_not_stored_behind_it(address: str) -> None:
    loaded, changed = asyncio.Event(), asyncio.Event()

    async def load_slowly() -> Entry:
        loaded.set()
        await changed.wait()
        return Entry(1, b"old")

    async with cache_on(address) as cache:
        reading = asyncio.create_task(cache.read(b"a", load_slowly))
        await loaded.wait()
        await cache.forget(b"a")  # the write was answered here
        changed.set()
        assert (await reading).body == b"old"  # it began before
        assert (await cache.read(b"a", Source(2).load)).version == 2


async def test_a_change_waits_for_what_is_being_stored(address: str) -> None:
    class SlowNode(MemcachedNode):
        """Its set arrives when it is let go."""

        async def set(self, key: bytes, value: bytes, ttl: int) -> None:
            storing.set()
            await let_go.wait()
            await super().set(key, value, ttl)

    storing, let_go = asyncio.Event(), asyncio.Event()
    cache = NaiveCache([SlowNode(address, timeout=1)], ttl=60, namespace="test")
    reading = asyncio.create_task(cache.read(b"a", Source(1).load))
    await storing.wait()
    changing = asyncio.create_task(cache.forget(b"a"))
    await asyncio.sleep(0.05)
    let_go.set()
    await changing
    assert (await cache.read(b"a", Source(2).load)).version == 2
    await reading
    await cache.close()


async def test_namespaces_do_not_see_each_other(address: str) -> None:
    async with cache_on(address) as one, cache_on(address, namespace="other") as other:
        await one.read(b"a", Source(1).load)
        assert (await other.read(b"a", Source(2).load)).version == 2


async def test_what_is_not_there_is_not_kept(address: str) -> None:
    async def load() -> Entry:
        raise MemberNotFound("1")

    async with cache_on(address) as cache:
        with pytest.raises(MemberNotFound):
            await cache.read(b"a", load)
    assert stored_keys(address, 0) == []


@pytest.mark.parametrize(
    "stored", [b"", b"\n", b"1 a 1\n", b"9 KEY 1\nx", b"1 other 1\nx", b"1 KEY x\nx", b"1 KEY 1"]
)
async def test_an_entry_that_is_none_is_a_miss(address: str, stored: bytes) -> None:
    source = Source(7)
    async with cache_on(address) as cache:
        await cache.read(b"a", source.load)
        (key,) = stored_keys(address, 1)
        node = MemcachedNode(address, timeout=1)
        await node.set(key, stored.replace(b"KEY", key), 60)
        await node.close()
        assert await cache.read(b"a", source.load) == Entry(7, b'{"a": 1}\n{"b": 2}')
    assert source.asked == 2


async def test_without_servers_everything_is_loaded() -> None:
    source = Source()
    async with cache_on() as cache:
        await cache.read(b"a", source.load)
        await cache.read(b"a", source.load)
        await cache.forget(b"a")
    assert source.asked == 2


async def test_a_server_that_is_away_costs_no_answer() -> None:
    source = Source()
    async with cache_on("127.0.0.1:1") as cache:
        for _ in range(5):
            assert (await cache.read(b"a", source.load)).version == 1
            await cache.forget(b"a")
    assert source.asked == 5


async def test_a_removal_that_failed_is_made_up_for(address: str) -> None:
    """The entry is still there when the server is reached again."""

    class Deaf(MemcachedNode):
        deaf = False

        async def delete(self, key: bytes) -> bool:
            if self.deaf:
                raise NodeUnavailable("it did not hear")
            return await super().delete(key)

    node = Deaf(address, timeout=1)
    cache = NaiveCache([node], ttl=60, namespace="test")
    source = Source(1)
    await cache.read(b"a", source.load)
    node.deaf = True
    source.version = 2
    await cache.forget(b"a")
    assert (await cache.read(b"a", source.load)).version == 2
    assert len(stored_keys(address, 1)) == 1
    node.deaf = False
    assert (await cache.read(b"a", source.load)).version == 2
    await cache.close()


async def test_a_server_that_hung_through_a_write_is_right_when_it_goes_on() -> None:
    process, address = await start_memcached()
    try:
        async with cache_on(address, patience=0.1) as cache:
            source = Source(1)
            await cache.read(b"a", source.load)
            process.send_signal(signal.SIGSTOP)
            source.version = 2
            await cache.forget(b"a")
            assert (await cache.read(b"a", source.load)).version == 2
            process.send_signal(signal.SIGCONT)
            assert (await cache.read(b"a", source.load)).version == 2
    finally:
        process.kill()
        process.wait()


async def test_a_key_lives_on_one_node_whatever_the_order_of_the_list(address: str) -> None:
    async with cache_on(address, "127.0.0.1:1") as one, cache_on("127.0.0.1:1", address) as other:
        sources = [Source() for _ in range(40)]
        for i, source in enumerate(sources):
            await one.read(b"key%d" % i, source.load)
            await other.read(b"key%d" % i, source.load)
    cached = sum(source.asked == 1 for source in sources)
    assert 8 < cached < 32  # about half of them live on the node that is there

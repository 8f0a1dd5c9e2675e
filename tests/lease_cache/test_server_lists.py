"""Lists of servers that differ or are replaced: each rule of server_lists.py, on two nodes.

At first, `other` has the list in force, and the other processes have another setting.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.lease_cache.test_lease_cache import (
    KEEN,
    Source,
    own_memcached,
    process,
    status,
    until_hit,
)
from tests.support.registry import MemoryRegistry
from tests.support.waiting import until
from tornado_members.lease_cache import server_lists
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.commands import Put
from tornado_members.lease_cache.errors import NotAnnounced, StoreUnavailable
from tornado_members.lease_cache.look_ups import HIT, bypass
from tornado_members.lease_cache.reads import SERVER_LIST_CHANGING
from tornado_members.lease_cache.registry import Registration, Registry, ServerList
from tornado_members.lease_cache.writes import WritesUnderWay
from tornado_members.storage.cache_registry import CacheRegistry
from tornado_members.storage.mongo import Mongo


class Path:
    """The path of one process to the registry that all share; while it is cut, nothing passes."""

    def __init__(self, registry: Registry) -> None:
        self.is_cut = False
        self._registry = registry

    def _reached(self) -> Registry:
        if self.is_cut:
            raise StoreUnavailable("the path is cut")
        return self._registry

    async def register(self, registration: Registration) -> None:
        await self._reached().register(registration)

    async def renew(self, registration: Registration) -> bool:
        return await self._reached().renew(registration)

    async def remove(self, registration: Registration) -> None:
        await self._reached().remove(registration)

    async def read(self) -> Sequence[Registration]:
        return await self._reached().read()

    async def list_in_force(self) -> ServerList | None:
        return await self._reached().list_in_force()

    async def replace_list(self, new: ServerList, old: ServerList | None) -> bool:
        return await self._reached().replace_list(new, old)


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_lists, "_RENEW_SECONDS", 0.3)
    monkeypatch.setattr(server_lists, "_CHANGE_SECONDS", 0.05)


@asynccontextmanager
async def two_nodes() -> AsyncIterator[tuple[str, str]]:
    async with own_memcached() as (_, first), own_memcached() as (_, second):
        yield first, second


def opened(address: str, registry: Registry, **options: Any) -> Any:
    return process(address, timing=KEEN, registry=registry, **options)


def servers(cache: LeaseCache) -> list[str]:
    return [node.address for node in cache.nodes]


async def test_process_with_another_list_uses_the_list_in_force_and_reports_it() -> None:
    source, registry = Source(1), MemoryRegistry()
    async with two_nodes() as (old, new), opened(old, registry) as other:
        await until_hit(other, source)
        async with opened(new, registry) as one:
            assert servers(one) == [old]
            assert one.server_list_conflict() == (
                f"cache.servers is [{new}] here, but the cache uses [{old}] until all processes "
                "have the same setting: 1 of 2 have another"
            )
            assert other.server_list_conflict() is None
            await until_hit(one, source)
            async with one.changing(b"a"):
                assert await status(other, source) == bypass("tombstone")
                source.version = 2
            await until_hit(other, source)


async def test_list_is_replaced_when_all_processes_have_the_same_other_one() -> None:
    source, registry = Source(1), MemoryRegistry()
    async with two_nodes() as (old, new), AsyncExitStack() as stack:
        async with opened(old, registry) as other:
            await until_hit(other, source)
            first = await stack.enter_async_context(opened(new, registry))
            second = await stack.enter_async_context(opened(new, registry))
            await until_hit(second, source)
            assert servers(first) == servers(second) == [old]
        await until(
            lambda: first.server_list_conflict() is None and second.server_list_conflict() is None
        )
        assert first.states().keys() == second.states().keys() == {new}
        source.version = 2  # nothing of the old list is read
        await until_hit(first, source)
        await until_hit(second, source)
        assert len(registry.processes) == 2
    assert registry.processes == {}


@asynccontextmanager
async def changing(
    registry: MemoryRegistry, source: Source
) -> AsyncIterator[tuple[LeaseCache, Path, LeaseCache, Path]]:
    """Two processes that want the same list, one step before it replaces another one.

    Each hits by the list in force. Their paths are cut, so that neither takes the step before the
    block restores its path.
    """
    async with two_nodes() as (old, new), AsyncExitStack() as stack:
        async with opened(old, registry):
            found: list[Any] = []
            for _ in range(2):
                path = Path(registry)
                found += [await stack.enter_async_context(opened(new, path)), path]
                await until_hit(found[-2], source)
            found[1].is_cut = found[3].is_cut = True
        yield found[0], found[1], found[2], found[3]


async def test_write_keeps_readers_by_the_replaced_list_from_its_keys() -> None:
    """One process does not know the new list yet, and reads."""
    source, registry = Source(1), MemoryRegistry()
    async with changing(registry, source) as (one, informing, uninformed, path):
        informing.is_cut = False
        await until(
            lambda: one.states() != {} and [*one.states().values()] == [SERVER_LIST_CHANGING]
        )
        async with one.changing(b"a"):
            source.version = 2
        assert (await status(uninformed, source)) != HIT
        path.is_cut = False
        await until_hit(uninformed, source)


async def test_no_process_reads_by_a_new_list_before_earlier_writes_are_over() -> None:
    source, registry = Source(1), MemoryRegistry()
    async with changing(registry, source) as (one, path, other, other_path):
        old = servers(one)
        async with one.changing(b"a"):  # by the old list alone
            path.is_cut = other_path.is_cut = False
            await until(lambda: [*other.states().values()] == [SERVER_LIST_CHANGING])
            for _ in range(30):
                assert await status(other, source) == bypass(SERVER_LIST_CHANGING)
                await asyncio.sleep(0.01)
            source.version = 2
        await until_hit(other, source)
        assert servers(one) == servers(other) != old


def test_write_may_end_after_it_could_no_longer_commit() -> None:
    now = 0.0
    writes = WritesUnderWay(lambda: now)
    writes.begin(b"a", 1.0)
    now = 2.0
    assert writes.current() == frozenset()
    writes.end(b"a", 1.0)
    assert writes.current() == frozenset()


async def test_process_that_was_not_waited_for_neither_reads_nor_writes_by_its_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is cut off from MongoDB for so long that the others regard it as ended."""
    monkeypatch.setattr(server_lists, "VALID_SECONDS", 0.5)
    source, registry = Source(1), MemoryRegistry()
    options = {"write_deadline": 0.1}
    async with two_nodes() as (old, new), AsyncExitStack() as stack:
        path = Path(registry)
        lost = await stack.enter_async_context(opened(old, path, **options))
        await until_hit(lost, source)
        path.is_cut = True
        one = await stack.enter_async_context(opened(new, registry, **options))
        await until(lambda: servers(one) == [new] and one.server_list_conflict() is None)
        await until_hit(one, source)
        async with one.changing(b"a"):
            source.version = 2
        assert servers(lost) == [old]
        for _ in range(50):
            assert await status(lost, source) != HIT
            await asyncio.sleep(0.01)
        assert not await lost.renew_epochs()
        with pytest.raises(NotAnnounced):
            async with lost.changing(b"a"):
                raise AssertionError("this is written")
        path.is_cut = False
        await until_hit(lost, source)
        assert servers(lost) == [new]


async def remove(cache: LeaseCache, name: bytes) -> None:
    """Remove a key of the protocol from the only node."""
    node, key = cache.nodes[0].protocol._node, cache._prefix + name
    held = (await node.gets_many([key]))[key]
    assert await node.put_many([Put(key, b"", 0, held.token)]) == [1]


async def test_node_that_restarts_is_not_read_before_the_list_is_confirmed() -> None:
    """It has lost the id of the list that replaced this one."""
    source, registry = Source(1), MemoryRegistry()
    path = Path(registry)
    async with own_memcached() as (_, address), opened(address, path) as one:
        await until_hit(one, source)
        path.is_cut = True
        await remove(one, b"epoch")
        await until(lambda: one.nodes[0]._quarantine is not None)
        await remove(one, b"quarantine")
        for _ in range(50):
            assert await status(one, source) != HIT
            await asyncio.sleep(0.01)
        path.is_cut = False
        await until_hit(one, source)


async def test_first_list_has_the_same_id_in_any_order() -> None:
    registry = MemoryRegistry()
    async with two_nodes() as (first, second), process(first, second, registry=registry) as one:
        assert one.server_list_conflict() is None
        async with process(second, first, registry=registry) as other:
            assert other.server_list_conflict() is None


async def test_registry_in_mongodb_keeps_processes_and_the_list(mongo: Mongo) -> None:
    registry = CacheRegistry(mongo)
    one = Registration("one", ("a:1",), None, "1", 4.0)
    assert not await registry.renew(one)
    await registry.register(one)
    renewed = Registration("one", ("a:1",), "0" * 16, "2", 4.0)
    assert await registry.renew(renewed)
    assert await registry.read() == [renewed]
    await registry.remove(one)  # it was renewed since then
    assert await registry.read() == [renewed]
    await registry.remove(renewed)
    assert await registry.read() == []
    old, new = ServerList("1" * 16, ("a:1",)), ServerList("2" * 16, ("b:1",), replaces=("a:1",))
    assert await registry.list_in_force() is None
    assert await registry.replace_list(old, None)
    assert not await registry.replace_list(new, None)
    assert await registry.replace_list(new, old)
    assert not await registry.replace_list(new, old)
    assert await registry.list_in_force() == new

"""Fences: a change is announced when no process can return what was stored before it."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from signal import SIGCONT

import pytest

from tests.lease_cache.test_lease_cache import (
    KEEN,
    Source,
    own_memcached,
    process,
    status,
    stop,
    until_hit,
)
from tests.support.flush_store import MemoryFlushStore
from tornado_members.lease_cache import pending_flushes
from tornado_members.lease_cache.commands import Held, Put
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.memcached import MemcachedNode


class CutOff(MemcachedNode):
    """A node that one process alone does not reach, once `is_cut` is set."""

    is_cut = False

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        self._check()
        return await super().get_many(keys)

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, Held]:
        self._check()
        return await super().gets_many(keys)

    async def put_many(self, puts: Sequence[Put]) -> list[int | None]:
        self._check()
        return await super().put_many(puts)

    def _check(self) -> None:
        if CutOff.is_cut:
            raise NodeUnavailable("cut off on purpose")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_flushes, "_READ_SECONDS", 0.3)
    monkeypatch.setattr(pending_flushes, "FENCE_SECONDS", 1.5)
    monkeypatch.setattr(CutOff, "is_cut", False)


async def test_process_that_is_cut_off_alone_waits_until_another_has_emptied_the_node() -> None:
    store, source = MemoryFlushStore(), Source(1)
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, flush_store=store, kind=CutOff) as one,
        process(address, timing=KEEN, flush_store=store) as other,
    ):
        await until_hit(other, source)
        CutOff.is_cut = True
        for _ in range(2):
            source.version = (source.version or 0) + 1  # by another program
            await one.invalidate_for_all([b"a"])
            await status(other, source)  # asserts that it is the present version
            await until_hit(other, source)


async def test_fence_of_a_node_that_no_process_reaches_lasts() -> None:
    """The first change waits. As long as the fence stands, later ones do not raise another."""
    store, source = MemoryFlushStore(), Source(1)
    async with (
        own_memcached() as (server, address),
        process(address, timing=KEEN, flush_store=store) as one,
        process(address, timing=KEEN, flush_store=store) as other,
    ):
        await until_hit(other, source)
        await stop(server)
        source.version = 2
        await one.invalidate_for_all([b"a"])
        fences = [flush for flush in await store.read() if not flush.writes_end_after]
        assert len(fences) == 1
        source.version = 3
        await one.invalidate_for_all([b"a"])
        assert fences[0] in await store.read()
        server.send_signal(SIGCONT)
        async with asyncio.timeout(10):
            with suppress(TimeoutError):
                await until_hit(other, source)  # asserts each version on the way
        async with asyncio.timeout(60):
            while await store.read():
                await asyncio.sleep(0.02)


async def test_change_is_announced_at_once_while_all_nodes_reply() -> None:
    store, source = MemoryFlushStore(), Source(1)
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, flush_store=store) as one,
        process(address, timing=KEEN, flush_store=store) as other,
    ):
        await until_hit(other, source)
        source.version = 2
        await one.invalidate_for_all([b"a"])
        await status(other, source)
        assert await store.read() == []

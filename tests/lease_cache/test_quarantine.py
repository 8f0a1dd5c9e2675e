"""The quarantine of a node that restarted ends when no write may have lost its tombstones."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.lease_cache.test_lease_cache import (
    KEEN,
    Source,
    process,
    seconds_left,
    status,
    until_hit,
)
from tests.support.memcached import flush_memcached, start_memcached
from tests.support.registry import MemoryRegistry
from tests.support.waiting import until
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.look_ups import bypass
from tornado_members.lease_cache.registry import Registration

LONG: dict[str, Any] = {"timing": KEEN, "write_deadline": 30}  # a quarantine that no test waits for


@asynccontextmanager
async def two_processes() -> AsyncIterator[tuple[str, LeaseCache, LeaseCache]]:
    """Two processes on a node that was new to them."""
    server, address = await start_memcached()
    try:
        async with process(address, **LONG) as one, process(address, **LONG) as other:
            await until_hit(one, Source(1))
            await until_hit(other, Source(1))
            yield address, one, other
    finally:
        server.kill()
        server.wait()


async def never_hit(cache: LeaseCache, source: Source) -> None:
    """Check for longer than a quarantine would take to end."""
    for _ in range(30):
        assert (await status(cache, source)).startswith("fwd=bypass")
        await asyncio.sleep(0.03)


async def test_hits_are_back_long_before_a_write_may_end() -> None:
    async with two_processes() as (address, one, other):
        for _ in range(2):  # the second time within the first quarantine
            flush_memcached(address)
            await until_hit(one, Source(2))
            await until_hit(other, Source(2))
            assert seconds_left(address, b"quarantine") > 20


async def test_quarantine_lasts_while_a_write_is_under_way() -> None:
    """Also if another process than the reader began the write."""
    async with two_processes() as (address, one, other):
        for writer in (one, other):
            source = Source(1)
            async with writer.changing(b"a"):
                flush_memcached(address)
                await asyncio.gather(never_hit(one, source), never_hit(other, source))
                source.version = 2
            await until_hit(one, source)
            await until_hit(other, source)


async def test_quarantine_lasts_while_the_outcome_of_a_write_is_unknown() -> None:
    async with two_processes() as (address, one, other):
        with pytest.raises(ConnectionError):
            async with other.changing(b"a"):
                raise ConnectionError
        flush_memcached(address)
        await never_hit(one, Source(1))


async def test_quarantine_does_not_wait_for_writes_that_begin_in_it() -> None:
    async with two_processes() as (address, one, other), AsyncExitStack() as later:
        async with other.changing(b"a"):
            node = other.nodes[0]
            earlier = node._quarantine
            flush_memcached(address)
            await until(lambda: node._quarantine not in (None, earlier))
            await later.enter_async_context(other.changing(b"b"))
        await until_hit(one, Source(1))
        assert await status(one, Source(1), b"b") == bypass("tombstone")


async def test_quarantine_lasts_while_a_process_does_not_confirm_it() -> None:
    """It may be killed or paused. When its registration is removed, its writes are over."""
    async with two_processes() as (address, one, _):
        registry = MemoryRegistry.of_this_test()
        killed = Registration("killed", (address,), "0" * 16, "1", 30.0)
        await registry.register(killed)
        flush_memcached(address)
        await never_hit(one, Source(1))
        await registry.remove(killed)
        await until_hit(one, Source(1))


async def test_confirmation_of_an_earlier_quarantine_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memcached restarts twice, and one process is paused in between."""
    async with two_processes() as (address, one, other):
        node = other.nodes[0]
        flush_memcached(address)
        await until_hit(one, Source(1))
        async with other.changing(b"a"):

            async def paused(*_: Any) -> None:
                pass

            with monkeypatch.context() as patch:
                patch.setattr(node._watch, "advance", paused)
                flush_memcached(address)
                await never_hit(one, Source(1))
        await until_hit(one, Source(1))

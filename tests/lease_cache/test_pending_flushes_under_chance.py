"""Pending flushes under random faults: readers and writers are killed while a node hangs.

All of these "processes" are tasks of this one, on one Memcached behind a proxy that holds its
bytes, like a server that hangs and keeps its memory. A write that was sent may commit after its
process was killed.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest

from tests.lease_cache.test_lease_cache import own_memcached
from tests.support.fault_proxy import FROZEN, NO_FAULT, FaultProxy
from tests.support.flush_store import MemoryFlushStore
from tests.support.registry import MemoryRegistry
from tornado_members.lease_cache import pending_flushes
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.errors import NotAnnounced
from tornado_members.lease_cache.look_ups import HIT
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.node_health import Timing

PROCESSES = 3
TIMING = Timing(heartbeat=0.1, timeout=0.05, return_after=0.35)
WRITE_DEADLINE = 1.0
REGISTERS = 12


class Register:
    """A value in the database, and the newest version that is certain."""

    def __init__(self, chance: random.Random) -> None:
        self.version = 1
        self.known = 1  # acknowledged or read
        self.commits: set[asyncio.Task[int]] = set()
        self._chance = chance

    async def write(self, seconds_left: Callable[[], float]) -> None:
        """Send a write, which commits in time or never, even if its sender is killed."""
        await asyncio.sleep(self._chance.choice([0, 0.01, 0.05]))
        if seconds_left() <= 0:
            raise TimeoutError
        commit = asyncio.create_task(self._commit(min(seconds_left(), WRITE_DEADLINE)))
        self.commits.add(commit)
        commit.add_done_callback(self.commits.discard)
        version = await asyncio.shield(commit)
        self.known = max(self.known, version)

    async def _commit(self, seconds: float) -> int:
        end = clock() + seconds
        await asyncio.sleep(seconds * self._chance.choice([0, 0, 0.3, 0.6, 0.9]))
        if clock() >= end:
            raise TimeoutError
        self.version += 1
        return self.version

    async def load(self) -> Entry:
        await asyncio.sleep(self._chance.choice([0, 0, 0.005]))
        return Entry(self.version, b"-", b"")


class Load:
    """Reads and writes of several processes, each with a cache, and the wrong reads among them."""

    def __init__(self, seed: int, longest_pause: float) -> None:
        """`longest_pause` of a process between two writes, in seconds."""
        self.chance = random.Random(seed)
        self.registers = {b"key%d" % number: Register(self.chance) for number in range(REGISTERS)}
        self.flush_store = MemoryFlushStore()
        self.flush_store.deadline = 0.2
        self.wrong: list[str] = []
        self._longest_pause = longest_pause

    async def run(self, servers: Sequence[str], registry: Any) -> None:
        """Run a process until it is killed, that is, cancelled; its knowledge is lost then."""
        cache = LeaseCache(
            servers,
            connect=partial(MemcachedNode, timeout=TIMING.timeout, probe_interval=TIMING.pause),
            namespace="test",
            ttl=60,
            timing=TIMING,
            write_deadline=WRITE_DEADLINE,
            flush_store=self.flush_store,
            registry=registry,
        )
        await cache.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(cache))
                tasks.create_task(self._write(cache))
        finally:
            self.note_end(cache)
            await cache.close()

    def note_hit(self, cache: LeaseCache) -> None:
        """Count a hit."""
        raise NotImplementedError

    def note_end(self, cache: LeaseCache) -> None:
        """Add up what a process has counted, when it is killed."""

    async def _read(self, cache: LeaseCache) -> None:
        while True:
            key = self.chance.choice([*self.registers])
            register = self.registers[key]
            least = register.known
            found = await cache.read(key, register.load)
            assert found.entry
            if found.entry.version < least:
                self.wrong.append(f"{found.status} of {found.entry.version} after {least}")
            register.known = max(register.known, found.entry.version)
            if found.status == HIT:
                self.note_hit(cache)
            await asyncio.sleep(0.002)

    async def _write(self, cache: LeaseCache) -> None:
        while True:
            await asyncio.sleep(self._longest_pause * self.chance.random() ** 2)
            key = self.chance.choice([*self.registers])
            with suppress(TimeoutError, NotAnnounced):
                # A caller may not await the commit.
                patience = self.chance.choice([None, 0.05, 0.3])
                async with cache.changing(key) as write, asyncio.timeout(patience):
                    await self.registers[key].write(write.seconds_left)


class Storm(Load):
    """A load on one node, which hangs again and again."""

    def __init__(self, address: str, seed: int) -> None:
        super().__init__(seed, longest_pause=1.0)
        self.hits = 0
        self.kills = 0
        self.unannounced = 0
        self._address = address

    async def process(self) -> None:
        """Run a process until it is killed."""
        await self.run([self._address], MemoryRegistry.of_this_test())

    def note_hit(self, cache: LeaseCache) -> None:
        self.hits += 1

    def note_end(self, cache: LeaseCache) -> None:
        self.unannounced += cache.counts.unannounced_writes


@asynccontextmanager
async def storm(seconds: float, seed: int) -> AsyncIterator[Storm]:
    """Run a storm for so many seconds, then yield its findings."""
    async with AsyncExitStack() as stack:
        _, memcached = await stack.enter_async_context(own_memcached())
        proxy = await stack.enter_async_context(FaultProxy(memcached))
        running = Storm(proxy.address, seed)
        processes = [asyncio.create_task(running.process()) for _ in range(PROCESSES)]
        chance, loop = running.chance, asyncio.get_running_loop()
        stop_at = loop.time() + seconds
        try:
            while loop.time() < stop_at:
                await asyncio.sleep(1 + chance.random())
                await proxy.set(FROZEN)
                await asyncio.sleep(1.5 * chance.random())
                for number in chance.sample(range(PROCESSES), chance.randint(1, PROCESSES)):
                    await end(processes[number])
                    processes[number] = asyncio.create_task(running.process())
                    running.kills += 1
                    await asyncio.sleep(0.3 * chance.random() ** 2)
                await proxy.set(NO_FAULT)
        finally:
            await proxy.set(NO_FAULT)
            for process in processes:
                await end(process)
            for register in running.registers.values():
                await asyncio.gather(*register.commits, return_exceptions=True)
        yield running


async def end(process: asyncio.Task[None]) -> None:
    process.cancel()
    with suppress(asyncio.CancelledError):
        await process


@pytest.fixture(autouse=True)
def _short_reliance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_flushes, "REUSE_SECONDS", 0.2)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(4))
async def test_reads_are_never_stale(seed: int) -> None:
    async with storm(25, seed) as outcome:
        assert outcome.kills > 10
        assert outcome.unannounced > 5
        assert outcome.hits > 100
        assert outcome.wrong == []


@pytest.mark.exhaustive
async def test_reads_are_stale_unless_missed_changes_are_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The storm can fail. test_ended_writers.py leaves out the other rules."""

    async def nothing(_: object) -> float:
        return math.inf  # no time by which the write must have ended

    monkeypatch.setattr(pending_flushes.NodePendingFlushes, "record", nothing)
    for seed in range(6):
        async with storm(15, seed) as outcome:
            if outcome.wrong:
                return
    raise AssertionError("the rule is not needed, or not tested")

"""Pending flushes on a real MongoDB: each rule of pending_flushes.py, with processes that end."""

import asyncio
from signal import SIGCONT
from subprocess import Popen
from typing import Any

import pymongo
import pytest

from tests.lease_cache.test_lease_cache import KEEN, Source, own_memcached, process, status, stop
from tests.lease_cache.virtual_time import run
from tests.support.flush_store import MemoryFlushStore
from tests.support.mongodb import failing
from tests.support.waiting import until
from tornado_members.lease_cache import pending_flushes
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.errors import NotAnnounced
from tornado_members.lease_cache.look_ups import HIT
from tornado_members.lease_cache.pending_flushes import (
    NodePendingFlushes,
    PendingFlush,
    PendingFlushWatcher,
)
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.pending_flushes import PendingFlushCollection

REUSE_SECONDS = 0.2  # in these tests; process() gives a write half a second
WRITES_END_AFTER = REUSE_SECONDS + 0.5  # seconds

Admin = pymongo.MongoClient[dict[str, Any]]


class Counting(PendingFlushCollection):
    """A store that counts its records."""

    records = 0

    async def record(self, flush: PendingFlush) -> None:
        self.records += 1
        await super().record(flush)


@pytest.fixture(autouse=True)
def _end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writes that rely on one record end sooner."""
    monkeypatch.setattr(pending_flushes, "REUSE_SECONDS", REUSE_SECONDS)


@pytest.fixture
def store(mongo: Mongo) -> Counting:
    return Counting(mongo)


async def hit(*caches: LeaseCache, source: Source) -> None:
    """Wait until each of these caches hits."""
    for cache in caches:
        async with asyncio.timeout(60):
            while await status(cache, source) != HIT:
                await asyncio.sleep(0.02)


async def until_flushed(store: Counting) -> None:
    """Wait until no flush is pending."""
    async with asyncio.timeout(60):
        while await store.read():
            await asyncio.sleep(0.05)


async def missed(cache: LeaseCache, source: Source, server: Popen[bytes]) -> None:
    """Write while the node hangs, so that it misses the change."""
    await stop(server)
    async with cache.changing(b"a"):
        source.version = (source.version or 0) + 1


async def test_pending_flush_is_recorded_before_its_unannounced_write(store: Counting) -> None:
    async with (
        own_memcached() as (server, address),
        process(address, timing=KEEN, flush_store=store) as one,
    ):
        await hit(one, source=Source())
        await stop(server)
        async with one.changing(b"a"):
            (flush,) = await store.read()
            assert flush.node == address
        server.send_signal(SIGCONT)
        await hit(one, source=Source(2))
        await until_flushed(store)


async def test_store_records_nothing_without_outages(store: Counting) -> None:
    source = Source()
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, flush_store=store) as one,
    ):
        for _ in range(3):
            await hit(one, source=source)
            async with one.changing(b"a"):
                source.version = (source.version or 0) + 1
    assert store.records == 0


async def test_store_records_once_per_second_of_an_outage_not_per_write(
    store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_flushes, "REUSE_SECONDS", second := 0.5)
    loop = asyncio.get_running_loop()
    writes = 0
    async with process("127.0.0.1:1", timing=KEEN, flush_store=store) as one:
        async with one.changing(b"a"):
            began = loop.time()
        while (seconds := loop.time() - began) < 3 * second or writes < 20:
            async with one.changing(b"a"):
                writes += 1
            await asyncio.sleep(0.02)
    assert 3 <= store.records <= 2 + seconds / second


async def test_write_has_no_time_left_after_a_pause_behind_its_record() -> None:
    """Another process may have done the flush in the meantime."""
    paused = 0.0

    class Pausing(MemoryFlushStore):
        async def record(self, flush: PendingFlush) -> None:
            nonlocal paused
            await super().record(flush)
            paused = 2.0  # less than its tombstones would last

    async with (
        process(
            "127.0.0.1:1", timing=KEEN, flush_store=Pausing(), now=lambda: clock() + paused
        ) as one,
        one.changing(b"a") as write,
    ):
        assert write.seconds_left() < 0


async def test_write_is_refused_if_its_pending_flush_cannot_be_recorded(
    store: Counting, admin: Admin
) -> None:
    async with (
        own_memcached() as (_, address),
        process(address, "127.0.0.1:1", timing=KEEN, flush_store=store) as one,
    ):
        keys = [b"key%d" % i for i in range(20)]
        refusal = {"failCommands": ["update"], "errorCode": 13}
        with failing(admin, 100, **refusal), pytest.raises(NotAnnounced):
            async with one.changing(*keys):
                raise AssertionError("this is written")
        async with one.changing(*keys):
            pass


@pytest.mark.parametrize("looks", ["starts", "was there"])
async def test_pending_flush_of_an_ended_process_is_done_by_another(
    store: Counting, looks: str
) -> None:
    """Either a process that starts later or one that shared the outage flushes the node."""
    source = Source(1)
    async with own_memcached() as (server, address):
        async with process(address, timing=KEEN, flush_store=store) as other:
            async with process(address, timing=KEEN, flush_store=store) as writer:
                await hit(writer, other, source=source)
                await missed(writer, source, server)
            if looks == "was there":
                server.send_signal(SIGCONT)
                await hit(other, source=source)  # status() compares the version
                await until_flushed(store)
                return
        async with process(address, timing=KEEN, flush_store=store) as newcomer:
            server.send_signal(SIGCONT)
            await until(lambda: newcomer.states()[address] == "node-flush-pending")
            await hit(newcomer, source=source)
            await until_flushed(store)
            assert newcomer.counts.epochs_set == 1


async def test_pending_flush_recorded_while_a_node_returns_is_found(store: Counting) -> None:
    """The recording process shares the outage, and ends before it flushes the node."""
    source = Source(1)
    async with own_memcached() as (_, address):
        async with process(address, timing=KEEN, flush_store=store) as one:
            await hit(one, source=source)
        async with process(address, timing=KEEN, flush_store=store) as newcomer:
            await store.record(PendingFlush(address, "another", "1", WRITES_END_AFTER))
            source.version = 2
            await until(lambda: newcomer.states()[address] == "node-flush-pending")
            await hit(newcomer, source=source)


async def test_pending_flush_is_not_done_while_its_writes_may_still_commit(store: Counting) -> None:
    source, seconds = Source(1), 1.5
    async with own_memcached() as (_, address):
        async with process(address, timing=KEEN, flush_store=store) as one:
            await hit(one, source=source)
        source.version = 2
        for number in range(4):
            await store.record(PendingFlush(address, "another", str(number), seconds))
            if number == 0:
                opening = process(address, timing=KEEN, flush_store=store)
                newcomer = await opening.__aenter__()
            await asyncio.sleep(seconds / 3)
            assert newcomer.states()[address] in ("node-recovering", "node-flush-pending")
            assert newcomer.counts.epochs_set == 0
        await hit(newcomer, source=source)
        await opening.__aexit__(None, None, None)


async def test_pending_flush_recorded_again_is_not_removed(store: Counting) -> None:
    seen = PendingFlush("node", "process", "1", 1.0)
    await store.record(seen)
    await store.record(PendingFlush("node", "process", "2", 1.0))
    await store.remove(seen)
    (left,) = await store.read()
    assert left.nonce == "2"
    await store.remove(left)
    assert await store.read() == []


async def test_pending_flush_is_done_by_several_processes_at_once(store: Counting) -> None:
    source = Source(1)
    async with own_memcached() as (server, address):
        async with process(address, timing=KEEN, flush_store=store) as writer:
            await hit(writer, source=source)
            await missed(writer, source, server)
        async with (
            process(address, timing=KEEN, flush_store=store) as one,
            process(address, timing=KEEN, flush_store=store) as other,
        ):
            server.send_signal(SIGCONT)
            await asyncio.gather(hit(one, source=source), hit(other, source=source))
            await until_flushed(store)


async def test_node_that_returns_before_mongodb_is_not_read(store: Counting, admin: Admin) -> None:
    source = Source(1)
    async with own_memcached() as (server, address):
        async with process(address, timing=KEEN, flush_store=store) as writer:
            await hit(writer, source=source)
            await missed(writer, source, server)
        with failing(admin, 10_000, failCommands=["find"], errorCode=13):
            async with process(address, timing=KEEN, flush_store=store) as newcomer:
                server.send_signal(SIGCONT)
                for _ in range(20):
                    assert await status(newcomer, source) != HIT
                    await asyncio.sleep(KEEN.return_after / 10)
                admin.admin.command("configureFailPoint", "failCommand", mode="off")
                await hit(newcomer, source=source)


async def test_pending_flush_is_done_although_its_record_was_not_acknowledged(
    store: Counting,
) -> None:
    """The record has the name of a process that does not know it."""
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, flush_store=store) as one,
    ):
        await hit(one, source=Source(1))
        await store.record(one.nodes[0].pending_flushes._new())
        one._pending_flushes._read_at = float("-inf")
        one.nodes[0].pending_flushes.wanted.set()
        await until(lambda: one.counts.epochs_set == 1)
        await hit(one, source=Source(2))
        await until_flushed(store)
        assert one.counts.epochs_set == 1


@pytest.mark.parametrize("what", ["keys", "everything"])
async def test_pending_flush_is_recorded_for_a_failed_invalidation(
    store: Counting, what: str
) -> None:
    source = Source(1)
    async with own_memcached() as (server, address):
        async with process(address, timing=KEEN, flush_store=store) as one:
            await hit(one, source=source)
            await stop(server)
            source.version = 2
            invalidation = one.invalidate([b"a"]) if what == "keys" else one.renew_epochs()
            assert not await invalidation
            assert [flush.node for flush in await store.read()] == [address]
        async with process(address, timing=KEEN, flush_store=store) as newcomer:
            server.send_signal(SIGCONT)
            await hit(newcomer, source=source)


async def test_pending_flush_of_a_partitioned_process_is_done_by_connected_ones(
    store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_flushes, "_READ_SECONDS", 0.2)
    source = Source(1)
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, flush_store=store) as one,
    ):
        await hit(one, source=source)
        await store.record(PendingFlush(address, "another", "1", WRITES_END_AFTER))
        await until(lambda: one.counts.epochs_set == 1)
        await hit(one, source=Source(2))
        await until_flushed(store)


async def test_invalid_documents_do_not_block_a_node(
    store: Counting, admin: Admin, database_name: str
) -> None:
    documents: list[dict[str, Any]] = [
        {"_id": 1},
        {"_id": "x", "node": 1, "process": None, "nonce": []},
    ]
    admin[database_name]["cache_pending_flushes"].insert_many(documents)
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, flush_store=store) as one,
    ):
        await hit(one, source=Source())
    assert await store.read() == []


async def test_pending_flush_of_a_removed_node_is_left_alone(store: Counting) -> None:
    flush = PendingFlush("removed:11211", "another", "1", 0.0)
    await store.record(flush)
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, flush_store=store) as one,
    ):
        await hit(one, source=Source())
    assert await store.read() == [flush]


class ReadNode:
    """A node that is read, and needs no flush."""

    address = "model:1"
    is_stale = False

    def __init__(self, pending_flushes: NodePendingFlushes) -> None:
        self.pending_flushes = pending_flushes
        self.back_at = 0.0

    def readable_at(self) -> float:
        return self.back_at

    def mark_stale(self) -> None:
        raise NotImplementedError

    async def flush_for_other_process(self) -> None:
        raise NotImplementedError


def test_list_of_servers_is_confirmed_rarely_but_before_a_node_is_read_again() -> None:
    reads: list[float] = []
    confirmed: list[float] = []

    class Store(MemoryFlushStore):
        async def read(self) -> Any:
            reads.append(asyncio.get_running_loop().time())
            return await super().read()

    async def confirm() -> None:
        confirmed.append(asyncio.get_running_loop().time())

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        watcher = PendingFlushWatcher(
            Store(), process="one", write_deadline=1.0, confirm=confirm, now=loop.time
        )
        node = ReadNode(watcher.of(ReadNode.address))
        await watcher.open([node])
        await asyncio.sleep(60)
        assert len(reads) >= 60 / 2.0
        assert 60 / 7.5 <= len(confirmed) <= 60 / 5.0 + 1
        for _ in range(5):
            node.back_at = loop.time()
            node.pending_flushes.wanted.set()
            await asyncio.sleep(0.5)
            assert node.back_at <= confirmed[-1] <= node.pending_flushes.none_at
        await watcher.close()

    run(watch())

"""The lease cache on real servers: caches that share them act as the processes of a cluster."""

import asyncio
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import psutil
import pytest

from tests.support.flush_store import MemoryFlushStore
from tests.support.memcached import (
    flush_cache,
    flush_memcached,
    send_to_memcached,
    start_memcached,
    stored_keys,
)
from tests.support.registry import MemoryRegistry
from tests.support.waiting import until
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.commands import MAX_VALUE, Command, Put
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry, encode_lease
from tornado_members.lease_cache.epochs import Lifetimes
from tornado_members.lease_cache.errors import NotAnnounced
from tornado_members.lease_cache.get_commands import Get
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import (
    HIT,
    LEASED,
    REFUSED,
    STORED,
    Bypass,
    Hit,
    Miss,
    bypass,
)
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.node_health import Timing
from tornado_members.lease_cache.placement import namespace_prefix
from tornado_members.lease_cache.protocol import LeaseProtocol
from tornado_members.lease_cache.registry import first_list

T = TypeVar("T")

PREFIX = namespace_prefix("test")
EPOCH = b"0123456789abcdef"  # the one that flush_cache sets
# With CALM, no node counts as away, even if a test blocks the event loop for long ...
CALM = Timing(heartbeat=60, timeout=5, return_after=0)
# ... with KEEN, each process notices everything soon.
KEEN = Timing(heartbeat=0.2, timeout=0.1, return_after=0.6)


class Source:
    """The source behind the cache; counts its loads."""

    def __init__(self, version: int | None = 1) -> None:
        self.loads = 0
        self.version = version
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def load(self) -> Entry | None:
        self.loads += 1
        version = self.version
        await self.let_go.wait()
        return None if version is None else Entry(version, b"mark", b'{"a": 1}\n{"b": 2}')


class Counting(MemcachedNode):
    """A node that counts its reads, and all of its requests."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(address, **options)
        self.commands: list[Command[Any]] = []

    @property
    def requests(self) -> int:
        return len(self._sent())

    @property
    def reads(self) -> int:
        return sum(isinstance(command, Get) for command in self._sent())

    def _sent(self) -> list[Command[Any]]:
        """Leave out the commands that share the request of another one."""
        return [command for command in self.commands if command.sent_at > float("-inf")]

    def _connected(self) -> Any:
        connection = super()._connected()

        class Recorder:
            @staticmethod
            def send(command: Command[T]) -> "asyncio.Future[T]":
                self.commands.append(command)
                return connection.send(command)

        return Recorder


@asynccontextmanager
async def process(
    *addresses: str,
    timing: Timing = CALM,
    kind: type[MemcachedNode] = MemcachedNode,
    **options: Any,
) -> AsyncIterator[LeaseCache]:
    """One of the processes that share the servers, ready to read."""
    settings: dict[str, Any] = {
        "namespace": "test",
        "ttl": 60,
        "write_deadline": 0.5,
        "flush_store": MemoryFlushStore(),
        "registry": MemoryRegistry.of_this_test(),
        "connect": partial(kind, timeout=timing.timeout, probe_interval=timing.pause),
        **options,
    }
    cache = LeaseCache(addresses, timing=timing, **settings)
    await cache.open()
    try:
        yield cache
    finally:
        await cache.close()


@asynccontextmanager
async def own_memcached(*options: str) -> AsyncIterator[tuple[subprocess.Popen[bytes], str]]:
    """A server that the test may stop and kill."""
    server, address = await start_memcached(None, *options)
    flush_cache(address, "test")
    try:
        yield server, address
    finally:
        server.kill()
        server.wait()


async def stop(server: subprocess.Popen[bytes]) -> None:
    """Stop each thread of the server."""
    server.send_signal(signal.SIGSTOP)
    await until(lambda: psutil.Process(server.pid).status() == psutil.STATUS_STOPPED)
    await asyncio.sleep(0.05)


async def status(cache: LeaseCache, source: Source, key: bytes = b"a") -> str:
    found = await cache.read(key, source.load)
    assert (found.entry.version if found.entry else None) == source.version
    return found.status


async def until_hit(cache: LeaseCache, source: Source) -> None:
    async with asyncio.timeout(60):
        while await status(cache, source) != HIT:
            await asyncio.sleep(0.03)


async def until_read(cache: LeaseCache) -> None:
    """Wait until the only node is read again."""
    await until(lambda: cache.nodes[0].bypass_reason() is None)


@pytest.mark.parametrize("version", [1, None])
async def test_read_hits_after_the_first(address: str, version: int | None) -> None:
    source = Source(version)
    async with process(address) as one, process(address) as other:
        assert await status(one, source) == STORED
        assert await status(one, source) == HIT
        assert await status(other, source) == HIT
    assert source.loads == 1


async def test_change_is_visible_in_every_process(address: str) -> None:
    source = Source(None)
    async with process(address) as one, process(address) as other:
        for version in range(1, 6):
            await status(other, source)
            async with one.changing(b"a", b"b"):
                source.version = version
            assert await status(other, source) == STORED
            assert await status(one, source) == HIT


async def test_read_bypasses_the_cache_during_a_write(address: str) -> None:
    source = Source()
    async with process(address) as one, process(address) as other:
        await status(one, source)
        async with one.changing(b"a"):
            assert await status(one, source) == bypass("tombstone")
            assert await status(other, source) == bypass("tombstone")
            source.version = 2
            assert await status(other, source) == bypass("tombstone")
        assert await status(other, source) == STORED


async def test_write_that_ends_keeps_the_tombstone_of_another(address: str) -> None:
    source = Source()
    async with process(address) as one, process(address) as other:
        async with one.changing(b"a"):
            async with other.changing(b"a"):
                pass
            assert await status(other, source) == bypass("tombstone")
        assert await status(other, source) == STORED


async def test_fill_loaded_before_a_write_is_not_stored_after_it(address: str) -> None:
    source = Source(1)
    async with process(address) as one, process(address) as other:
        source.let_go.clear()
        reading = asyncio.create_task(one.read(b"a", source.load))
        await until(lambda: source.loads == 1)
        async with other.changing(b"a"):
            source.version = 2
        source.let_go.set()
        found = await reading
        assert found.entry
        assert (found.entry.version, found.status) == (1, "fwd=miss; detail=overtaken")
        assert await status(one, source) == STORED


async def peeked(cache: LeaseCache) -> int | None:
    """Return the version that a look-up finds without loading anything."""
    found, other = await cache.look_up([b"a", b"b"])
    assert not (isinstance(other, Hit) and other.entry)
    return found.entry.version if isinstance(found, Hit) and found.entry else None


async def test_look_up_hits_exactly_where_a_read_would(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, nobody = Source(1), Source(None)
    async with process(address) as one, process(address) as other:
        assert await peeked(one) is None
        await one.read(b"a", source.load)
        await one.read(b"b", nobody.load)  # the cache does not store "no such member"
        assert [await peeked(cache) for cache in (one, other)] == [1, 1]
        async with other.changing(b"a"):
            assert await peeked(one) is None
            source.version = 2
        assert await peeked(one) is None
        await one.read(b"a", source.load)
        assert await peeked(one) == 2
        with monkeypatch.context() as patch:
            patch.setattr(one.nodes[0], "bypass_reason", lambda: "node-stale")
            assert await peeked(one) is None
        assert await peeked(one) == 2
        await other.renew_epochs()
        assert await peeked(one) is None
        await one.read(b"a", source.load)
        assert await peeked(one) == 2
        await one.nodes[0].protocol._begin_quarantine()
        assert await peeked(one) is None
    assert (source.loads, nobody.loads) == (3, 1)


async def test_look_up_of_bodies_returns_them_or_every_look_up(address: str) -> None:
    """From two nodes, in the order of the keys."""
    keys = [b"key%d" % i for i in range(40)]
    listed = KeyList.of(b"key", [b"%d" % i for i in range(40)])
    async with own_memcached() as (_, second), AsyncExitStack() as stack:
        for server in (address, second):
            flush_cache(server, "test", servers=[address, second])
        cache = await stack.enter_async_context(process(address, second))
        assert await cache.look_up_bodies(listed, b"") == ([], await cache.look_up(keys))

        async def load(key: bytes) -> Entry | None:
            return Entry(1, b"mark", key)

        for key in keys:
            await cache.read(key, partial(load, key))
        tag_end = b"rk"
        assert await cache.look_up_bodies(listed, tag_end) == (keys, [])
        look_ups = await cache.look_up(keys)
        assert [look_up.body for look_up in look_ups if isinstance(look_up, Hit)] == keys
        assert await cache.look_up_bodies(listed, b"another") == ([], look_ups)
        for tombstone in (keys[0], keys[-1]):
            async with cache.changing(tombstone):
                look_ups = await cache.look_up(keys)
                assert isinstance(look_ups[keys.index(tombstone)], Bypass)
                assert await cache.look_up_bodies(listed, tag_end) == ([], look_ups)
            await cache.read(tombstone, partial(load, tombstone))


@pytest.mark.parametrize("way", ["read", "fill"])
async def test_reader_takes_no_lease_on_a_node_that_became_stale_after_its_look_up(
    address: str, way: str
) -> None:
    source = Source()

    async def load_many(keys: Sequence[bytes]) -> list[Entry | None]:
        return [await source.load() for _ in keys]

    async with process(address) as cache:
        (look_up,) = await cache.look_up([b"a"])
        assert isinstance(look_up, Miss)
        cache.nodes[0].mark_stale()
        if way == "read":
            found = await cache.read(b"a", source.load, look_up=look_up)
        else:
            found = (await cache.fill({b"a": look_up}, load_many))[b"a"]
        assert (found.entry and found.entry.version, found.status) == (1, bypass("node-stale"))
        assert send_to_memcached(address, b"get %ba\r\n" % PREFIX) == b"END\r\n"


async def test_look_up_of_bodies_is_not_misled_by_line_ends_that_make_up_for_each_other(
    address: str,
) -> None:
    """The tombstone has a line less than an entry, the garbage a line more."""
    listed = KeyList.of(b"a", [b"1", b"2"])
    async with process(address) as cache:
        await cache.read(b"a1", Source(1).load)
        node = MemcachedNode(address, timeout=5)
        await node.set(PREFIX + b"a2", b"x\n\n\n", 60)
        await node.close()
        async with cache.changing(b"a1"):
            look_ups = await cache.look_up([*listed])
            assert isinstance(look_ups[0], Bypass)
            assert await cache.look_up_bodies(listed, b"") == ([], look_ups)


async def test_read_after_a_look_up_sends_the_node_two_requests(address: str) -> None:
    source = Source(1)
    async with process(address, kind=Counting) as one, process(address) as other:
        node = one.nodes[0]._health.node
        assert isinstance(node, Counting)
        (look_up,) = await one.look_up([b"a"])
        node.commands.clear()
        found = await one.read(b"a", source.load, look_up=look_up)
        assert (found.status, node.requests) == (STORED, 2)  # one for the lease, one for the entry
        assert await status(other, source) == HIT


async def test_look_up_before_a_write_does_not_make_a_read_stale(address: str) -> None:
    source = Source(1)
    async with process(address) as one, process(address) as other:
        (miss,) = await one.look_up([b"a"])
        await status(other, source)
        (hit,) = await one.look_up([b"a"])
        assert isinstance(hit, Hit)
        async with other.changing(b"a"):
            source.version = 2
        for look_up in (hit, miss):
            found = await one.read(b"a", source.load, look_up=look_up)
            assert found.entry
            assert found.entry.version == 2


async def test_entry_too_large_for_any_node_is_not_stored(address: str) -> None:
    async with process(address) as one:
        body = b"x" * 2**20

        async def load() -> Entry:
            return Entry(1, b"-", body)

        for _ in range(2):  # the lease of one read does not block the next
            found = await one.read(b"large", load)
            assert found.status == "fwd=miss; detail=too-large"
            assert found.entry
            assert found.entry.body == body
        body = b"x" * (MAX_VALUE - 200)
        for expected in (STORED, HIT):
            assert (await one.read(b"large", load)).status == expected
        assert one.states() == {address: None}
        assert one.counts.refused_fills == {"too-large": 2}


async def test_entry_too_large_for_a_smaller_node_is_not_stored() -> None:
    """The -I option of Memcached may be less than our own limit."""

    async def load() -> Entry:
        return Entry(1, b"-", b"x" * 700_000)

    async with own_memcached("-I", "512k") as (_, address), process(address) as cache:
        for _ in range(5):
            assert (await cache.read(b"large", load)).status == REFUSED
        assert await status(cache, Source()) == STORED
        assert await status(cache, Source()) == HIT
        assert cache.states() == {address: None}
        assert cache.counts.refused_fills == {"refused": 5}


async def test_entry_that_a_node_refuses_does_not_remove_the_tombstone_of_a_write() -> None:
    source = Source()
    async with (
        own_memcached("-I", "512k") as (_, address),
        process(address) as cache,
        AsyncExitStack() as write,
    ):

        async def load() -> Entry:
            await write.enter_async_context(cache.changing(b"a"))
            return Entry(1, b"-", b"x" * 700_000)

        assert (await cache.read(b"a", load)).status == REFUSED
        assert await status(cache, source) == bypass("tombstone")


@asynccontextmanager
async def protocol(address: str, seconds: int) -> AsyncIterator[LeaseProtocol]:
    """The protocol of a process whose writes may take the given number of seconds."""
    node = MemcachedNode(address, timeout=5)
    lifetimes = Lifetimes(entry=60, lease=3, tombstone=seconds, quarantine=seconds)
    try:
        one = LeaseProtocol(node, namespace=PREFIX, lifetimes=lifetimes, counts=CacheCounts())
        one.list_id = first_list([address]).id.encode()
        yield one
    finally:
        await node.close()


def seconds_left(address: str, key: bytes) -> int:
    reply = send_to_memcached(address, b"mg %b%b t\r\nverbosity 0\r\n" % (PREFIX, key))
    found = re.match(rb"HD t(\d+)", reply)
    return int(found[1]) if found else 0


async def test_mark_of_a_dead_writer_expires_while_others_write(address: str) -> None:
    """Also if the value that serves as the clock of the node is evicted in between."""
    async with protocol(address, seconds=2) as dead, protocol(address, seconds=2) as alive:
        await dead.place_tombstones([PREFIX + b"a"], b"dead")
        statuses = []
        async with asyncio.timeout(60):
            while HIT not in statuses:
                await alive.place_tombstones([PREFIX + b"a"], b"alive")
                await alive.remove_tombstones([PREFIX + b"a"], b"alive")
                statuses = [(await alive.read(PREFIX + b"a", Source().load)).status for _ in "12"]
                await asyncio.sleep(0.2)
                send_to_memcached(address, b"delete %bclock\r\nverbosity 0\r\n" % PREFIX)


async def test_tombstone_is_not_shortened_by_a_writer_with_less_time(
    address: str,
) -> None:
    async with protocol(address, seconds=60) as long, protocol(address, seconds=2) as short:
        keys = [PREFIX + b"a"]
        await long.place_tombstones(keys, b"long")
        await short.place_tombstones(keys, b"short")
        assert seconds_left(address, b"a") > 50
        await short.remove_tombstones(keys, b"short")
        assert seconds_left(address, b"a") > 50
        await short.place_tombstones(keys, b"short")
        await long.remove_tombstones(keys, b"long")
        assert 0 < seconds_left(address, b"a") <= 2


async def test_quarantine_is_as_long_as_the_longest_write(address: str) -> None:
    async with protocol(address, seconds=60) as long, protocol(address, seconds=2) as short:
        flush_memcached(address)
        await short.probe()
        assert 0 < seconds_left(address, b"quarantine") <= 2
        await long.probe()
        assert seconds_left(address, b"quarantine") > 50
        await short.probe()
        await short._begin_quarantine()
        assert seconds_left(address, b"quarantine") > 50


async def test_tombstone_of_many_writers_has_one_shared_mark_that_expires(address: str) -> None:
    async with protocol(address, seconds=2) as leases:
        keys = [PREFIX + b"a"]
        writers = [b"writer%d" % number for number in range(101)]
        for writer in writers:
            await leases.place_tombstones(keys, writer)
        for writer in writers:
            await leases.remove_tombstones(keys, writer)
        assert 0 < seconds_left(address, b"a") <= 2


async def test_write_knows_how_long_its_tombstone_lasts(address: str) -> None:
    """A process that was paused between its tombstone and its commit detects the pause."""
    now = 1000.0
    async with process(address, now=lambda: now) as cache, cache.changing(b"a") as write:
        assert 0.5 <= write.seconds_left() < seconds_left(address, b"a")
        now += seconds_left(address, b"a")
        assert write.seconds_left() < 0


async def test_read_during_the_fill_of_another_stores_nothing(address: str) -> None:
    source = Source(1)
    async with process(address) as one, process(address) as other:
        source.let_go.clear()
        reading = asyncio.create_task(one.read(b"a", source.load))
        await until(lambda: source.loads == 1)
        assert await status(other, Source(1)) == LEASED
        source.let_go.set()
        assert (await reading).status == STORED
        assert await status(other, source) == HIT


async def test_failed_load_returns_its_lease(address: str) -> None:
    async def fail() -> Entry:
        raise LookupError("on purpose")

    async with process(address) as one, process(address) as other:
        with pytest.raises(LookupError, match="on purpose"):
            await one.read(b"a", fail)
        assert await status(other, Source()) == STORED


async def test_write_that_wrote_nothing_removes_its_tombstone(address: str) -> None:
    source = Source()
    async with process(address) as cache:
        for error in (LookupError(), asyncio.CancelledError()):
            with suppress(type(error)):
                async with cache.changing(b"a") as write:
                    write.void()
                    raise error
        assert await status(cache, source) == STORED


async def test_write_that_is_cancelled_before_it_is_sent_removes_its_tombstones() -> None:
    """One of its nodes hangs, so that it waits; the other has its tombstones already."""
    keys = [b"key%d" % number for number in range(20)]

    async def write(cache: LeaseCache) -> None:
        async with cache.changing(*keys):
            raise AssertionError("this is written")

    async with (
        own_memcached() as (_, address),
        own_memcached() as (hanging, other),
        process(address, other, timing=KEEN) as cache,
    ):
        await stop(hanging)
        writing = asyncio.create_task(write(cache))
        await until(lambda: any(b"key" in key for key in stored_keys(address, 1)))
        writing.cancel()
        await asyncio.wait([writing])
        hanging.send_signal(signal.SIGCONT)
        for server in (address, other):
            await until(partial(_has_no_tombstone, server))


def _has_no_tombstone(address: str) -> bool:
    return not any(b"key" in key for key in stored_keys(address, 0))


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), RuntimeError()],
)
async def test_write_of_unknown_outcome_keeps_its_tombstone(
    address: str, error: BaseException
) -> None:
    async with process(address) as one, process(address) as other:
        with pytest.raises(type(error)):
            async with one.changing(b"a"):
                raise error
        assert await status(other, Source()) == bypass("tombstone")
    seconds = re.search(
        rb"key=\w+a exp=(\d+)", send_to_memcached(address, b"lru_crawler metadump all\r\n")
    )
    assert seconds
    assert int(seconds[1]) - time.time() > 0.5  # longer than the write may take


async def test_rejected_entry_is_loaded_again(address: str) -> None:
    source = Source(1)
    async with process(address) as cache:
        await status(cache, source)
        rejected = (await cache.read(b"a", source.load)).entry
        source.version = 2
        assert (await cache.read(b"a", source.load, rejected=rejected)).status == STORED
        assert (await cache.read(b"a", source.load, rejected=rejected)).status == HIT


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\n",
        b"4 V KEY EPOCH",
        b"4 V KEY EPOCH\n1 mark",
        b"3 V KEY EPOCH\nx\n1 mark",
        b"4 V other EPOCH\nx\n1 mark",
        b"4 V KEY EPOCH\nx\nx mark",
        b"4 V KEY EPOCH\nx\n1",
        b"4 V KEY EPOCH\nx\n1 two words",
        b"4 V KEY EPOCH\nx\n11111111111111111111 mark",
        b"4 N KEY EPOCH\nx",
        b"4 V KEY fedcba9876543210\nx\n1 mark",
        b"4 N KEY fedcba9876543210\n",
        b"4 L KEY fedcba9876543210\n",
        b"4 T other writer=5\n",
        b"4 T KEY writer\n",
        b"4 T KEY writer=\n",
        b"4 T KEY =5\n",
        b"4 T KEY writer=0\n",
        b"4 T KEY clock@5\n",
        b"4 T KEY clock@5 clock@5 writer=5\n",
        b"4 X KEY EPOCH\n",
    ],
)
async def test_invalid_value_is_replaced(address: str, stored: bytes) -> None:
    node = MemcachedNode(address, timeout=5)
    await node.set(
        PREFIX + b"a", stored.replace(b"KEY", PREFIX + b"a").replace(b"EPOCH", EPOCH), 60
    )
    await node.close()
    async with process(address) as cache:
        assert await status(cache, Source(7)) == STORED
        assert await status(cache, Source(7)) == HIT


async def test_tombstone_counts_in_every_epoch(address: str) -> None:
    async with process(address) as one, process(address) as other, one.changing(b"a"):
        await other.renew_epochs()
        assert await status(other, Source()) == bypass("tombstone")


async def test_new_epoch_empties_the_nodes_for_every_process(address: str) -> None:
    async with process(address) as one, process(address) as other:
        await status(one, Source(1))
        await other.renew_epochs()
        assert await status(one, Source(2)) == STORED
        assert other.counts.epochs_set == 1


async def test_node_without_an_epoch_gets_one_and_a_quarantine(address: str) -> None:
    flush_memcached(address)
    async with process(address, timing=KEEN) as one, process(address, timing=KEEN) as other:
        assert (await status(one, Source())).startswith("fwd=bypass")
        assert PREFIX + b"epoch" in stored_keys(address, 3)
        await until_hit(one, Source())
        await until_hit(other, Source())
        assert one.counts.epochs_set + other.counts.epochs_set == 1


async def test_invalid_epoch_is_replaced(address: str) -> None:
    send_to_memcached(address, b"set %bepoch 0 0 3\r\nx y\r\nget x\r\n" % PREFIX)
    async with process(address, timing=KEEN) as cache:
        assert (await status(cache, Source())).startswith("fwd=bypass")
        await until_hit(cache, Source())
        assert cache.counts.epochs_set == 1


async def test_invalidation_removes_entries_and_leases_but_no_tombstone(address: str) -> None:
    async with process(address) as one, process(address) as other:
        await status(one, Source(1))
        node = MemcachedNode(address, timeout=5)
        lease = encode_lease(PREFIX + b"leased", EPOCH)
        await node.put_many([Put(PREFIX + b"leased", lease, 60)])
        await node.close()
        async with one.changing(b"changing"):
            await other.invalidate([b"a", b"leased", b"changing", b"unknown"])
            assert await status(other, Source(), b"changing") == bypass("tombstone")
        assert await status(one, Source(2)) == STORED
        assert await status(one, Source(2), b"leased") == STORED


async def test_namespaces_do_not_see_each_other(address: str) -> None:
    flush_cache(address, "test", "other")
    async with process(address) as one, process(address, namespace="other") as other:
        await status(one, Source(1))
        assert await status(other, Source(2)) == STORED
        await one.renew_epochs()
        assert await status(other, Source(2)) == HIT


async def test_cache_without_nodes_loads_everything() -> None:
    source = Source()
    async with process() as cache:
        assert await status(cache, source) == bypass("no-node")
        async with cache.changing(b"a"):
            source.version = 2
        await cache.invalidate([b"a"])
        await cache.renew_epochs()
        assert await status(cache, source) == bypass("no-node")


async def test_key_has_the_same_node_in_any_order_of_the_list(address: str) -> None:
    async with own_memcached() as (_, second), AsyncExitStack() as stack:
        for server in (address, second):
            flush_cache(server, "test", servers=[address, second])
        one = await stack.enter_async_context(process(address, second))
        other = await stack.enter_async_context(process(second, address))
        for i in range(40):
            assert await status(one, Source(), b"key%d" % i) == STORED
            assert await status(other, Source(), b"key%d" % i) == HIT
        for server in (address, second):
            entries = [key for key in stored_keys(server, 9) if b"key" in key]
            assert 8 < len(entries) < 32
        async with one.changing(*(b"key%d" % i for i in range(40))):
            for i in range(40):
                assert await status(other, Source(), b"key%d" % i) == bypass("tombstone")


async def test_reads_of_one_turn_of_the_loop_are_one_request(address: str) -> None:
    async with process(address, kind=Counting) as cache:
        node = cache.nodes[0]._health.node
        assert isinstance(node, Counting)
        node.commands.clear()
        reads = [status(cache, Source(), b"key%d" % i) for i in range(50)]
        assert set(await asyncio.gather(*reads)) == {STORED}
        assert node.reads == 1


async def test_cancelled_reader_does_not_affect_readers_that_share_its_request(
    address: str,
) -> None:
    async with process(address) as cache:
        readers = [asyncio.create_task(cache.read(b"key%d" % i, Source().load)) for i in range(5)]
        await asyncio.sleep(0)
        readers[0].cancel()
        for reader in readers[1:]:
            assert (await reader).status == STORED


async def test_stampede_costs_two_loads_and_no_read_is_stale(
    address: str,
) -> None:
    source = Source(1)
    source.let_go.clear()
    async with process(address, kind=Counting) as cache:
        node = cache.nodes[0]._health.node
        assert isinstance(node, Counting)
        node.commands.clear()
        first = asyncio.create_task(cache.read(b"a", source.load))
        await until(lambda: source.loads == 1)
        source.version = 2  # without an invalidation, so that each answer shows when its load began
        await cache.renew_epochs()
        others = [asyncio.create_task(cache.read(b"a", source.load)) for _ in range(100)]
        await asyncio.sleep(0.01)
        others[0].cancel()
        source.let_go.set()
        answers = await asyncio.gather(first, *others[1:])
        assert [found.entry.version for found in answers if found.entry] == [1] + 99 * [2]
        assert source.loads == 2
        assert node.reads == 2


async def test_cancelled_reader_hands_its_load_to_another() -> None:
    source = Source()
    source.let_go.clear()
    async with process() as cache:
        readers = [asyncio.create_task(cache.read(b"a", source.load)) for _ in range(5)]
        await asyncio.sleep(0.01)
        readers[0].cancel()
        await asyncio.sleep(0.01)
        assert source.loads == 2
        readers[1].cancel()  # by now, this reader loads for the others
        await asyncio.sleep(0.01)
        assert source.loads == 3
        source.let_go.set()
        for reader in readers[2:]:
            assert (await reader).entry == Entry(1, b"mark", b'{"a": 1}\n{"b": 2}')


async def test_entries_do_not_expire_all_at_once(address: str) -> None:
    async with process(address, ttl=10_000) as cache:
        await asyncio.gather(*(status(cache, Source(), b"key%d" % i) for i in range(30)))
    dump = send_to_memcached(address, b"lru_crawler metadump all\r\n")
    lives = [int(exp) - time.time() for exp in re.findall(rb"key\d+ exp=(\d+)", dump)]
    assert all(8_990 < life < 10_002 for life in lives)
    assert max(lives) - min(lives) > 100


async def test_restarted_node_returns_empty_and_in_quarantine() -> None:
    source = Source(1)
    async with own_memcached() as (server, address), process(address, timing=KEEN) as cache:
        await until_read(cache)
        assert await status(cache, source) == STORED
        server.kill()
        server.wait()
        assert (await status(cache, source)).startswith("fwd=bypass")
        async with cache.changing(b"a"):
            source.version = 2
        again, _ = await start_memcached(int(address.rpartition(":")[2]))
        try:
            await until(lambda: seconds_left(address, b"quarantine") > 0)
            assert (await status(cache, source)).startswith("fwd=bypass")
            await until_hit(cache, source)
            assert not cache.nodes[0].is_stale
        finally:
            again.kill()
            again.wait()


async def test_write_of_unknown_outcome_gets_its_tombstone_late() -> None:
    """The write may still commit after its caller was cancelled and the node replies again."""
    source = Source(1)
    options: dict[str, Any] = {
        "timing": KEEN,
        "write_deadline": 20.0,
        "flush_store": MemoryFlushStore(),
    }
    async with (
        own_memcached() as (server, address),
        process(address, **options) as one,
        process(address, **options) as other,
    ):
        await until_read(one)
        await until_read(other)
        assert await status(one, source) == STORED
        await stop(server)
        with pytest.raises(asyncio.CancelledError):
            async with one.changing(b"a"):
                raise asyncio.CancelledError
        server.send_signal(signal.SIGCONT)
        for cache in (one, other):
            await until_read(cache)
            assert await status(cache, source) == bypass("tombstone")
        assert not one.nodes[0]._unconfirmed


async def test_pending_tombstones_of_writes_that_are_over_are_dropped() -> None:
    async with process("127.0.0.1:1", timing=KEEN, write_deadline=0.1) as cache:
        with pytest.raises(RuntimeError):
            async with cache.changing(b"a"):
                raise RuntimeError
        (node,) = cache.nodes
        assert node._unconfirmed
        await until(lambda: not node._unconfirmed)


async def test_monitor_probes_a_node_as_soon_as_a_command_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If it did not, it would take two outages for one, and writes would not wait long enough."""
    monkeypatch.setattr("tornado_members.lease_cache.cache_node._PROBE_SECONDS", 3600)
    async with own_memcached() as (server, address), process(address, timing=KEEN) as cache:
        await until_read(cache)
        await asyncio.sleep(KEEN.heartbeat)  # the monitor has begun its long pause
        node = cache.nodes[0]._health
        await stop(server)
        assert await status(cache, Source()) == bypass("node-unavailable")
        assert node.down_since is not None
        server.send_signal(signal.SIGCONT)
        await until(lambda: node.down_since is None)


async def test_process_that_only_writes_extends_a_quarantine_that_is_too_short(
    address: str,
) -> None:
    async with process(address, timing=KEEN, write_deadline=30.0) as cache:
        (node,) = cache.nodes
        begun = b"add %bquarantine 0 20 2\r\n20\r\n" % PREFIX
        assert send_to_memcached(address, begun) == b"STORED\r\n"
        async with asyncio.timeout(60):
            while True:
                async with cache.changing(b"a"):
                    pass
                held = await node.protocol._node.gets_many([PREFIX + b"quarantine"])
                if int(held[PREFIX + b"quarantine"].value.partition(b"-")[0]) > 30:
                    break


async def test_hanging_node_never_serves_a_missed_change() -> None:
    """One process writes while the node hangs; the other reads all the time."""
    source = Source(1)
    async with (
        own_memcached() as (server, address),
        process(address, timing=KEEN) as one,
        process(address, timing=KEEN) as other,
    ):
        await until_read(one)
        await until_read(other)
        assert await status(one, source) == STORED
        assert await status(other, source) == HIT
        await stop(server)
        async with one.changing(b"a"):
            source.version = 2
        assert one.nodes[0].is_stale
        assert one.counts.unannounced_writes == 1
        server.send_signal(signal.SIGCONT)
        async with asyncio.timeout(60):
            while (seen := await status(other, source)) != HIT:
                assert seen in (STORED, LEASED) or seen.startswith("fwd=bypass")
                await asyncio.sleep(0.001)
        assert not one.nodes[0].is_stale


async def test_node_that_hangs_briefly_gets_its_tombstone_late() -> None:
    source = Source(1)
    async with (
        own_memcached() as (server, address),
        process(address, timing=Timing(heartbeat=2, timeout=0.1, return_after=4)) as one,
        process(address) as other,
    ):
        await stop(server)
        asyncio.get_running_loop().call_later(0.5, server.send_signal, signal.SIGCONT)
        async with one.changing(b"a"):
            assert await status(other, source) == bypass("tombstone")
        assert one.counts.unannounced_writes == 0
        assert one.counts.epochs_set == 0


async def test_late_tombstone_does_not_outlive_its_write(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write ends while its late tombstone is on the way to the node."""
    async with process(address) as cache:
        (node,) = cache.nodes
        key, place_tombstones = PREFIX + b"a", node.protocol.place_tombstones
        flushed = asyncio.Event()

        async def place_late(keys: Collection[bytes], writer: bytes) -> None:
            await node.remove_tombstones([key], b"writer")
            await place_tombstones(keys, writer)
            flushed.set()

        monkeypatch.setattr(node.protocol, "place_tombstones", place_late)
        node._unconfirmed.place_later([key], b"writer")
        node._wanted.set()
        await flushed.wait()
        await until(lambda: not {PREFIX + b"a"} & {*stored_keys(address, 0)})


async def test_process_busy_while_a_node_returns_announces_at_the_end() -> None:
    async with own_memcached() as (server, address), process(address, timing=KEEN) as cache:
        await until_read(cache)
        await stop(server)
        node = cache.nodes[0]
        announcing = asyncio.create_task(node.place_tombstones([b"a"], b"writer"))
        await until(lambda: b"writer" in node._unconfirmed.unplaced)
        server.send_signal(signal.SIGCONT)
        time.sleep(KEEN.noticed * 2)  # noqa: ASYNC251  # the loop is to be busy
        assert await announcing
        await node.remove_tombstones([b"a"], b"writer")


async def test_node_that_stays_away_costs_its_writers_one_wait() -> None:
    source = Source(1)
    timing = Timing(heartbeat=1, timeout=0.1, return_after=1)
    async with process("127.0.0.1:1", timing=timing) as cache:
        async with cache.changing(b"a"):
            pass
        async with asyncio.timeout(10):  # each write would wait for more than a second
            for _ in range(50):
                async with cache.changing(b"a"):
                    pass
                assert await status(cache, source) == bypass("node-unavailable")


async def test_writes_may_require_the_cache() -> None:
    async with (
        own_memcached() as (_, address),
        process(address, "127.0.0.1:1", timing=KEEN, require_for_writes=True) as cache,
    ):
        keys = [b"key%d" % i for i in range(20)]
        with pytest.raises(NotAnnounced):
            async with cache.changing(*keys):
                raise AssertionError("this is written")
        await until(partial(_has_no_tombstone, address), seconds=1)


async def test_suspended_process_trusts_no_node(address: str) -> None:
    async with process(address, timing=KEEN) as cache:
        await until_read(cache)
        assert await status(cache, Source()) == STORED
        cache.nodes[0]._health.heartbeat.stop()  # stop the whole process, not only its event loop
        time.sleep(KEEN.heartbeat * 1.5)  # noqa: ASYNC251  # the loop is to be busy
        assert await status(cache, Source()) == bypass("node-unavailable")
        await until(lambda: cache.nodes[0].bypass_reason() == "node-recovering")
        await until_read(cache)
        assert await status(cache, Source()) == HIT


async def test_process_with_a_busy_event_loop_still_receives_heartbeats(address: str) -> None:
    """The heartbeat is so long that its thread runs in time on a busy machine, too."""
    timing = Timing(heartbeat=1, timeout=0.5, return_after=0)
    async with process(address, timing=timing) as cache:
        assert await status(cache, Source()) == STORED
        time.sleep(timing.heartbeat * 1.5)  # noqa: ASYNC251  # the loop is to be busy
        assert await status(cache, Source()) == HIT


async def test_new_process_waits_before_it_reads_a_node(address: str) -> None:
    """Another process may still be about to invalidate what the node missed."""
    async with process(address, timing=KEEN) as cache:
        assert await status(cache, Source()) == bypass("node-recovering")
        await until_read(cache)
        assert await status(cache, Source()) == STORED


async def test_lost_invalidation_marks_the_node_stale() -> None:
    async with own_memcached() as (server, address), process(address, timing=KEEN) as cache:
        await until_read(cache)
        await status(cache, Source(1))
        await stop(server)
        await cache.invalidate([b"a"])
        assert cache.nodes[0].is_stale
        server.send_signal(signal.SIGCONT)
        await until_read(cache)
        assert await status(cache, Source(2)) == STORED


async def test_node_is_maintained_after_any_error(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with process(address, timing=KEEN) as cache:
        node = cache.nodes[0]
        failed = asyncio.Event()

        async def fails() -> None:
            failed.set()
            raise RuntimeError("unforeseen")

        monkeypatch.setattr(node.protocol, "renew_epoch", fails)
        node.mark_stale()
        await failed.wait()
        monkeypatch.undo()
        await until_read(cache)
        assert not node.is_stale
    assert "unforeseen" in caplog.text

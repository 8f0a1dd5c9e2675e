"""Reads of several keys on real servers: one load, each key stored under its own lease."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from tests.lease_cache.test_lease_cache import CALM, EPOCH, PREFIX, Counting, own_memcached, process
from tests.support.waiting import until
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.commands import MAX_VALUE, Put
from tornado_members.lease_cache.entries import Entry, encode_lease
from tornado_members.lease_cache.look_ups import (
    HIT,
    LEASED,
    NOT_STORED,
    OVERTAKEN,
    STORED,
    TOO_LARGE,
    Found,
    Hit,
    Leased,
    LookUp,
    Miss,
    bypass,
)

KEYS = [b"k%d" % number for number in range(40)]
ABSENT = KEYS[::7]


class Loads:
    """Loads entries, and records the keys of each load."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self.loaded_keys: list[list[bytes]] = []
        self._before = before

    async def __call__(self, keys: Sequence[bytes]) -> list[Entry | None]:
        self.loaded_keys.append([*keys])
        result = self._before()
        if asyncio.iscoroutine(result):
            await result
        return [None if key in ABSENT else Entry(1, b"tag", b"body of " + key) for key in keys]


async def look_up(cache: LeaseCache, keys: Sequence[bytes]) -> dict[bytes, LookUp]:
    """Return the look-ups by key."""
    return dict(zip(keys, await cache.look_up(keys), strict=True))


async def fill(
    cache: LeaseCache, look_ups: Mapping[bytes, LookUp], load: Loads
) -> dict[bytes, Found]:
    """Load the keys that are not hits; return what was found by key."""
    others = {key: look_up for key, look_up in look_ups.items() if not isinstance(look_up, Hit)}
    return await cache.fill(others, load)


async def read_many(cache: LeaseCache, keys: Sequence[bytes], load: Loads) -> dict[bytes, Found]:
    """Read keys as MemberDirectory.get_many does."""
    look_ups = await look_up(cache, keys)
    found = {key: Found(one.entry, HIT) for key, one in look_ups.items() if isinstance(one, Hit)}
    found |= await fill(cache, look_ups, load)
    for key in keys:
        entry = found[key].entry
        assert (entry and entry.body) == (None if key in ABSENT else b"body of " + key)
    return found


def statuses(found: dict[bytes, Found]) -> set[str]:
    return {result.status for result in found.values()}


async def test_fill_of_two_nodes_loads_once(address: str) -> None:
    async with (
        own_memcached() as (_, second),
        process(address, second, kind=Counting) as cache,
        process(address, second) as other,
    ):
        for one in (cache, other):
            await one.renew_epochs()  # the nodes may be those of another list
            await until(lambda one=one: {*one.states().values()} == {None})  # type: ignore[misc]
        nodes = [node._health.node for node in cache.nodes]
        sent = []
        for _ in range(3):  # the cache itself may send a command meanwhile
            await cache.renew_epochs()
            before = [node.requests - node.reads for node in nodes]  # type: ignore[attr-defined]
            load = Loads()
            assert statuses(await read_many(cache, KEYS, load)) == {STORED}
            assert [sorted(keys) for keys in load.loaded_keys] == [sorted(KEYS)]
            after = [node.requests - node.reads for node in nodes]  # type: ignore[attr-defined]
            sent.append([end - begin for begin, end in zip(before, after, strict=True)])
        assert [2, 2] in sent  # beside the look-up: to take the leases, and to store
        assert min(map(sum, sent)) == 4
        assert cache.counts.fills == 3 * len(KEYS)
        assert statuses(await read_many(other, KEYS, load)) == {HIT}
        assert len(load.loaded_keys) == 1


async def test_fill_treats_each_key_by_its_own_state(address: str) -> None:
    """Hits, misses, dead values, leases of others, tombstones, and a write during the load."""
    async with process(address) as cache, process(address) as other:
        (node,) = other.nodes
        hit, miss, dead, leased, tombstone, overtaken, large = KEYS[1:7] + KEYS[8:9]
        await read_many(cache, [hit], Loads())
        put = node.protocol._node.put_many
        lease = encode_lease(PREFIX + leased, EPOCH)
        await put([Put(PREFIX + leased, lease, 60), Put(PREFIX + dead, b"nonsense", 60)])

        async def meanwhile() -> None:
            async with other.changing(overtaken):
                pass

        class Larger(Loads):
            async def __call__(self, keys: Sequence[bytes]) -> list[Entry | None]:
                loaded = await super().__call__(keys)
                loaded[[*keys].index(large)] = Entry(1, b"tag", b"x" * MAX_VALUE)
                return loaded

        async with other.changing(tombstone):
            look_ups = await look_up(cache, KEYS[1:9])
            found = await fill(cache, look_ups, Larger(meanwhile))
        assert isinstance(look_ups[hit], Hit)
        assert isinstance(look_ups[leased], Leased)
        expected = {
            miss: STORED,
            dead: STORED,
            leased: LEASED,
            tombstone: bypass("tombstone"),
            overtaken: OVERTAKEN,
            large: TOO_LARGE,
        }
        assert {key: found[key].status for key in expected} == expected
        after = await look_up(other, [*expected])
        assert [isinstance(after[key], Hit) for key in (miss, dead)] == [True, True]
        for key in (tombstone, overtaken, large):  # nothing is left behind
            assert after[key] == Miss(EPOCH, None)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_fill_removes_its_leases_if_the_load_fails(
    address: str,
    is_cancelled: bool,
) -> None:
    loading = asyncio.Event()

    async def fail() -> None:
        loading.set()
        if is_cancelled:
            await asyncio.Event().wait()
        raise LookupError("no database")

    async with process(address) as cache:
        reading = asyncio.create_task(read_many(cache, KEYS, Loads(fail)))
        await loading.wait()
        if is_cancelled:
            assert {*map(type, await cache.look_up(KEYS))} == {Leased}
            reading.cancel()
        with pytest.raises(asyncio.CancelledError if is_cancelled else LookupError):
            await reading
        assert {*await cache.look_up(KEYS)} == {Miss(EPOCH, None)}


async def test_fill_survives_the_end_of_a_node(address: str) -> None:
    async with (
        own_memcached() as (server, second),
        process(address, second, timing=CALM) as cache,
    ):

        async def kill() -> None:
            server.kill()
            await until(lambda: server.poll() is not None)

        load = Loads(kill)
        await cache.renew_epochs()  # the nodes may be those of another list
        await until(lambda: {*cache.states().values()} == {None})
        found = await read_many(cache, KEYS, load)
        assert statuses(found) == {STORED, NOT_STORED}
        again = await read_many(cache, KEYS, load)
        away = {key for key, one in found.items() if one.status == NOT_STORED}
        assert {key for key, one in again.items() if one.status != HIT} == away
        assert len(load.loaded_keys) == 2

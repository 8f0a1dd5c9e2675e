"""The fence on a real node: processes whose drivers know different primaries."""

from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.lease_cache.test_lease_cache import PREFIX, Counting, Source, own_memcached, process
from tests.support.memcached import flush_cache, flush_memcached, send_to_memcached
from tornado_members.lease_cache.errors import NodeUnavailable, StoreUnavailable
from tornado_members.lease_cache.look_ups import HIT, NOT_STORED, STORED, Hit, bypass


class Driver:
    """The terms of one process, as its driver knows them."""

    def __init__(self, term: int) -> None:
        self.term = term
        # The term in which a majority acknowledges writes; None if only a deposed primary replies.
        self.acknowledges: int | None = term
        self.confirmations = 0

    def current(self) -> int:
        return self.term

    def has_rivals(self) -> bool:
        return self.term > 0

    async def acknowledged(self) -> int:
        self.confirmations += 1
        if self.acknowledges is None:
            raise StoreUnavailable("only a deposed primary replies")
        self.term = max(self.term, self.acknowledges)
        return self.acknowledges


async def test_load_from_an_older_primary_than_others_know_is_not_returned(address: str) -> None:
    deposed, new = Driver(1), Driver(2)
    old, source = Source(1), Source(2)
    async with process(address, terms=deposed) as cut_off:
        await cut_off.read(b"b", old.load)
        deposed.acknowledges = None
        async with process(address, terms=new) as other:
            assert (await other.read(b"a", source.load)).status == STORED
            with pytest.raises(StoreUnavailable):
                await cut_off.read(b"b", old.load)
            with pytest.raises(StoreUnavailable):
                await cut_off.load([b"b"], old.load)
            assert (await cut_off.read(b"a", old.load)).status == HIT
            assert cut_off.counts.doubtful_loads == 2
            deposed.acknowledges = 2  # its driver reaches the new primary
            found = await cut_off.read(b"b", source.load)
            assert (found.entry and found.entry.version, found.status) == (2, STORED)


async def test_write_stores_its_term_before_it_is_acknowledged(address: str) -> None:
    deposed, new = Driver(1), Driver(1)
    async with process(address, terms=deposed) as cut_off, process(address, terms=new) as other:
        assert (await cut_off.read(b"a", Source(1).load)).status == STORED
        deposed.acknowledges = None
        async with other.changing(b"a"):
            new.term = 2
        with pytest.raises(StoreUnavailable):
            await cut_off.read(b"a", Source(1).load)


async def test_load_stores_its_term_before_it_returns(address: str) -> None:
    """Also of keys that are not stored, such as those of a list."""
    deposed, new = Driver(1), Driver(1)
    async with process(address, terms=deposed) as cut_off, process(address, terms=new) as other:
        assert (await cut_off.read(b"a", Source(1).load)).status == STORED
        deposed.acknowledges = None
        new.term = new.acknowledges = 2
        found = await other.load([b"b"], Source(2).load)
        assert found
        assert found.version == 2
        with pytest.raises(StoreUnavailable):
            await cut_off.load([b"b"], Source(1).load)


async def test_write_stores_its_term_on_each_node(address: str) -> None:
    """A list of the deposed primary lacks the write, whatever nodes its members are on."""
    deposed, new = Driver(1), Driver(1)
    async with own_memcached() as (_, second), AsyncExitStack() as stack:
        for server in (address, second):
            flush_cache(server, "test", servers=[address, second])
        cut_off, other = [
            await stack.enter_async_context(process(address, second, terms=terms))
            for terms in (deposed, new)
        ]
        await cut_off.read(b"a", Source(1).load)
        deposed.acknowledges = None
        async with other.changing(b"a"):
            new.term = 2
        for number in range(10):  # keys of both nodes
            with pytest.raises(StoreUnavailable):
                await cut_off.load([b"%d" % number], Source(1).load)


async def test_new_primary_is_read_after_a_commit_of_its_own(address: str) -> None:
    """Until then it may return less than the old one has committed."""
    driver = Driver(1)
    async with process(address, terms=driver) as cache:
        await cache.read(b"a", Source(1).load)
        driver.term, driver.acknowledges = 2, None
        source = Source(1)
        with pytest.raises(StoreUnavailable):
            await cache.read(b"b", source.load)
        assert source.loads == 0
        driver.acknowledges = 2
        await cache.read(b"b", source.load)
        before = driver.confirmations
        await cache.read(b"c", source.load)
        assert driver.confirmations == before


async def test_entry_is_not_stored_if_the_node_does_not_take_its_term(
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = Driver(1)
    async with process(address, terms=driver) as cache:
        await cache.read(b"a", Source(1).load)

        async def fail() -> None:
            raise NodeUnavailable("it does not take the term")

        monkeypatch.setattr(cache.nodes[0].protocol, "raise_term", fail)
        source = Source(2)

        async def load() -> Any:
            driver.term = driver.acknowledges = 2
            return await source.load()

        found = await cache.read(b"b", load)
        assert found.status == NOT_STORED
        assert not isinstance((await cache.look_up([b"b"]))[0], Hit)


async def test_term_of_another_history_begins_a_new_epoch(address: str) -> None:
    """A database that was restored into a new replica set begins with the first term."""
    async with process(address, terms=Driver(7)) as before:
        assert (await before.read(b"a", Source(1).load)).status == STORED
    restored = Driver(1)
    async with process(address, terms=restored) as cache:
        source = Source(2)
        assert (await cache.read(b"b", source.load)).entry
        assert cache.nodes[0].protocol.term == 1
        found = await cache.read(b"a", source.load)
        assert found.entry
        assert found.entry.version == 2
        confirmed = restored.confirmations
        await cache.read(b"c", source.load)
        assert restored.confirmations == confirmed


async def test_node_without_an_epoch_gets_none_from_a_deposed_primary(address: str) -> None:
    deposed = Driver(1)
    async with process(address, terms=deposed) as cache:
        await cache.read(b"a", Source(1).load)
        deposed.acknowledges = None
        flush_memcached(address)
        with pytest.raises(StoreUnavailable):
            await cache.read(b"a", Source(1).load)
        assert send_to_memcached(address, b"get %bepoch\r\n" % PREFIX) == b"END\r\n"
        deposed.acknowledges = 1
        await cache.read(b"a", Source(1).load)
        assert b"-1\r\n" in send_to_memcached(address, b"get %bepoch\r\n" % PREFIX)


async def test_fence_costs_no_request(address: str) -> None:
    """Neither to the node nor to the database: on a hit, on a miss, in a write, and in a list."""
    requests = []
    for driver in (Driver(0), Driver(3)):
        async with process(address, terms=driver, kind=Counting) as cache:
            await cache.renew_epochs()
            source = Source(1)
            await cache.read(b"x", source.load)
            node = cache.nodes[0]._health.node
            assert isinstance(node, Counting)
            before, confirmations = node.requests, driver.confirmations
            await cache.read(b"a", source.load)
            await cache.read(b"a", source.load)
            async with cache.changing(b"a"):
                source.version = 2
            requests.append(node.requests - before)
            assert (driver.confirmations, source.loads) == (confirmations, 2)
            before = node.requests
            await cache.load([], source.load)
            assert (node.requests, driver.confirmations) == (before, confirmations)
    assert requests[0] == requests[1]


async def test_load_past_a_node_that_does_not_reply_is_acknowledged() -> None:
    """The process cannot ask the node for its term."""
    deposed = Driver(1)
    async with own_memcached() as (server, own), process(own, terms=deposed) as cache:
        await cache.read(b"a", Source(1).load)
        deposed.acknowledges = None
        server.kill()
        server.wait()
        for load in (cache.read(b"b", Source(1).load), cache.load([b"b"], Source(1).load)):
            with pytest.raises(StoreUnavailable):
                await load
        deposed.acknowledges = 1
        found = await cache.read(b"b", Source(1).load)
        assert found.status == bypass("node-unavailable")

"""Debts of the cache on a real MongoDB: each rule of debts.py, with processes that end."""

import asyncio
from signal import SIGCONT
from subprocess import Popen
from typing import Any

import pymongo
import pytest

from tests.lease_cache.test_lease_cache import (
    KEEN,
    Source,
    own_memcached,
    process,
    status,
    stop,
    until,
)
from tests.support.ledger import MemoryLedger
from tests.support.mongodb import failing
from tornado_members.lease_cache import debts
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.debts import RELIED_ON, Debt
from tornado_members.lease_cache.errors import NotAnnounced
from tornado_members.lease_cache.look_ups import HIT
from tornado_members.storage.debts import DebtLedger
from tornado_members.storage.mongo import Mongo

WRITES_END_AFTER = 1.5  # seconds; process() gives a write half of one

Admin = pymongo.MongoClient[dict[str, Any]]


class Counting(DebtLedger):
    """A ledger that counts its records."""

    records = 0

    async def record(self, debt: Debt) -> None:
        self.records += 1
        await super().record(debt)


@pytest.fixture
def ledger(mongo: Mongo) -> Counting:
    return Counting(mongo)


async def hit(*caches: LeaseCache, source: Source) -> None:
    """Wait until each of these caches hits."""
    for cache in caches:
        async with asyncio.timeout(10):
            while await status(cache, source) != HIT:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def until_paid(ledger: Counting) -> None:
    """Wait until no debt is left. They are removed after they were paid."""
    async with asyncio.timeout(10):
        while await ledger.read():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def missed(cache: LeaseCache, source: Source, server: Popen[bytes]) -> None:
    """Write while the node hangs, so that it misses the change."""
    await stop(server)
    async with cache.changing(b"a"):
        source.version = (source.version or 0) + 1


async def test_debt_is_recorded_before_its_unannounced_write(ledger: Counting) -> None:
    async with (
        own_memcached() as (server, address),
        process(address, timing=KEEN, ledger=ledger) as one,
    ):
        await hit(one, source=Source())
        await stop(server)
        async with one.changing(b"a"):
            (debt,) = await ledger.read()
            assert debt.node == address
        server.send_signal(SIGCONT)
        await hit(one, source=Source(2))
        await until_paid(ledger)


async def test_ledger_records_nothing_without_outages(ledger: Counting) -> None:
    source = Source()
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, ledger=ledger) as one,
    ):
        for _ in range(3):
            await hit(one, source=source)
            async with one.changing(b"a"):
                source.version = (source.version or 0) + 1
    assert ledger.records == 0


async def test_ledger_records_once_per_second_of_an_outage_not_per_write(ledger: Counting) -> None:
    loop = asyncio.get_running_loop()
    writes = 0
    async with process("127.0.0.1:1", timing=KEEN, ledger=ledger) as one:
        async with one.changing(b"a"):
            began = loop.time()
        while (seconds := loop.time() - began) < 2 * RELIED_ON + 0.5 or writes < 20:
            async with one.changing(b"a"):
                writes += 1
    assert 3 <= ledger.records <= 2 + seconds / RELIED_ON


async def test_write_has_no_time_left_after_a_pause_behind_its_record() -> None:
    """Another process may have paid the debt in the meantime."""
    paused = 0.0

    class Pausing(MemoryLedger):
        async def record(self, debt: Debt) -> None:
            nonlocal paused
            await super().record(debt)
            paused = 2.0  # less than its tombstones would last

    async with (
        process("127.0.0.1:1", timing=KEEN, ledger=Pausing(), now=lambda: clock() + paused) as one,
        one.changing(b"a") as write,
    ):
        assert write.seconds_left() < 0


async def test_write_is_refused_if_its_debt_cannot_be_recorded(
    ledger: Counting, admin: Admin
) -> None:
    async with (
        own_memcached() as (_, address),
        process(address, "127.0.0.1:1", timing=KEEN, ledger=ledger) as one,
    ):
        keys = [b"key%d" % i for i in range(20)]
        refusal = {"failCommands": ["update"], "errorCode": 13}
        with failing(admin, 100, **refusal), pytest.raises(NotAnnounced):
            async with one.changing(*keys):
                raise AssertionError("this is written")
        async with one.changing(*keys):
            pass


@pytest.mark.parametrize("looks", ["starts", "was there"])
async def test_debt_of_an_ended_process_is_paid_by_another(ledger: Counting, looks: str) -> None:
    """Either a process that starts later or one that shared the outage pays it."""
    source = Source(1)
    async with own_memcached() as (server, address):
        async with process(address, timing=KEEN, ledger=ledger) as other:
            async with process(address, timing=KEEN, ledger=ledger) as writer:
                await hit(writer, other, source=source)
                await missed(writer, source, server)
            if looks == "was there":
                server.send_signal(SIGCONT)
                await hit(other, source=source)  # status() compares the version
                await until_paid(ledger)
                return
        async with process(address, timing=KEEN, ledger=ledger) as newcomer:
            server.send_signal(SIGCONT)
            await until(lambda: newcomer.states()[address] == "node-owed")
            await hit(newcomer, source=source)
            await until_paid(ledger)
            assert newcomer.counts.epochs_set == 1


async def test_debt_recorded_while_a_node_returns_is_found(ledger: Counting) -> None:
    """The debtor is a process that shares the outage, and ends before it pays."""
    source = Source(1)
    async with own_memcached() as (_, address):
        async with process(address, timing=KEEN, ledger=ledger) as one:
            await hit(one, source=source)
        async with process(address, timing=KEEN, ledger=ledger) as newcomer:
            await ledger.record(Debt(address, "another", "1", WRITES_END_AFTER))
            source.version = 2
            await until(lambda: newcomer.states()[address] == "node-owed")
            await hit(newcomer, source=source)


async def test_debt_is_not_paid_while_its_writes_may_still_commit(ledger: Counting) -> None:
    source = Source(1)
    debt = Debt("", "another", "0", WRITES_END_AFTER)
    async with own_memcached() as (_, address):
        async with process(address, timing=KEEN, ledger=ledger) as one:
            await hit(one, source=source)
        source.version = 2
        for number in range(6):
            await ledger.record(Debt(address, debt.process, str(number), WRITES_END_AFTER))
            if number == 0:
                opening = process(address, timing=KEEN, ledger=ledger)
                newcomer = await opening.__aenter__()
            await asyncio.sleep(WRITES_END_AFTER / 3)
            assert newcomer.states()[address] in ("node-back", "node-owed")
            assert newcomer.counts.epochs_set == 0
        await hit(newcomer, source=source)
        await opening.__aexit__(None, None, None)


async def test_debt_recorded_again_is_not_removed(ledger: Counting) -> None:
    seen = Debt("node", "process", "1", 1.0)
    await ledger.record(seen)
    await ledger.record(Debt("node", "process", "2", 1.0))
    await ledger.remove(seen)
    (left,) = await ledger.read()
    assert left.nonce == "2"
    await ledger.remove(left)
    assert await ledger.read() == []


async def test_debt_is_paid_by_several_processes_at_once(ledger: Counting) -> None:
    source = Source(1)
    async with own_memcached() as (server, address):
        async with process(address, timing=KEEN, ledger=ledger) as writer:
            await hit(writer, source=source)
            await missed(writer, source, server)
        async with (
            process(address, timing=KEEN, ledger=ledger) as one,
            process(address, timing=KEEN, ledger=ledger) as other,
        ):
            server.send_signal(SIGCONT)
            await asyncio.gather(hit(one, source=source), hit(other, source=source))
            await until_paid(ledger)


async def test_node_that_returns_before_mongodb_is_not_read(ledger: Counting, admin: Admin) -> None:
    source = Source(1)
    async with own_memcached() as (server, address):
        async with process(address, timing=KEEN, ledger=ledger) as writer:
            await hit(writer, source=source)
            await missed(writer, source, server)
        with failing(admin, 10_000, failCommands=["find"], errorCode=13):
            async with process(address, timing=KEEN, ledger=ledger) as newcomer:
                server.send_signal(SIGCONT)
                for _ in range(20):
                    assert await status(newcomer, source) != HIT
                    await asyncio.sleep(KEEN.return_after / 10)
                admin.admin.command("configureFailPoint", "failCommand", mode="off")
                await hit(newcomer, source=source)


async def test_debt_is_paid_although_its_record_was_not_acknowledged(
    ledger: Counting,
) -> None:
    """The debt has the name of a process that does not remember it."""
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, ledger=ledger) as one,
    ):
        await hit(one, source=Source(1))
        await ledger.record(one.nodes[0].debts._new())
        one._debts._looked_at = float("-inf")
        one.nodes[0].debts.wanted.set()
        await until(lambda: one.counts.epochs_set == 1)
        await hit(one, source=Source(2))
        await until_paid(ledger)
        assert one.counts.epochs_set == 1


@pytest.mark.parametrize("what", ["keys", "everything"])
async def test_debt_is_recorded_for_a_failed_invalidation(ledger: Counting, what: str) -> None:
    source = Source(1)
    async with own_memcached() as (server, address):
        async with process(address, timing=KEEN, ledger=ledger) as one:
            await hit(one, source=source)
            await stop(server)
            source.version = 2
            told = one.invalidate([b"a"]) if what == "keys" else one.renew_epochs()
            assert not await told
            assert [debt.node for debt in await ledger.read()] == [address]
        async with process(address, timing=KEEN, ledger=ledger) as newcomer:
            server.send_signal(SIGCONT)
            await hit(newcomer, source=source)


async def test_debt_of_a_partitioned_process_is_paid_by_connected_ones(
    ledger: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debts, "_LOOK_SECONDS", 0.2)
    source = Source(1)
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, ledger=ledger) as one,
    ):
        await hit(one, source=source)
        await ledger.record(Debt(address, "another", "1", WRITES_END_AFTER))
        await until(lambda: one.counts.epochs_set == 1)
        await hit(one, source=Source(2))
        await until_paid(ledger)


async def test_invalid_debt_documents_do_not_block_a_node(
    ledger: Counting, admin: Admin, database_name: str
) -> None:
    documents: list[dict[str, Any]] = [
        {"_id": 1},
        {"_id": "x", "node": 1, "process": None, "nonce": []},
    ]
    admin[database_name]["cache_debts"].insert_many(documents)
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, ledger=ledger) as one,
    ):
        await hit(one, source=Source())
    assert await ledger.read() == []


async def test_debt_of_a_removed_node_is_left_alone(ledger: Counting) -> None:
    debt = Debt("removed:11211", "another", "1", 0.0)
    await ledger.record(debt)
    async with (
        own_memcached() as (_, address),
        process(address, timing=KEEN, ledger=ledger) as one,
    ):
        await hit(one, source=Source())
    assert await ledger.read() == [debt]

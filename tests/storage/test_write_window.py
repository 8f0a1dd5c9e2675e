"""A write is sent only before its deadline and within its window, on both drivers."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pymongo
import pytest
from motor.frameworks import asyncio as motor_framework

from tests.support.flush_store import MemoryFlushStore
from tests.support.members import make_draft, make_member
from tests.support.mongodb import failing
from tests.support.registry import MemoryRegistry
from tornado_members.directory import MemberDirectory
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import DependencyUnavailable
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.node_health import Timing
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.member_groups import MemberGroups, Replacement
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo, open_mongo
from tornado_members.storage.recorded import RecordedWrites
from tornado_members.storage.write_window import WindowGuard, write_window

Admin = pymongo.MongoClient[dict[str, Any]]

ADA = make_draft(name="Ada Lovelace")
GRACE = make_draft(name="Grace Hopper")


def store_on(mongo: Mongo, audited: bool) -> MemberStore:
    if not audited:
        return MemberStore(mongo)
    return MemberStore(mongo, RecordedWrites(AuditLog(mongo, timedelta(days=1))))


@pytest.fixture
def busy_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Motor has one thread, which is busy until the event is set."""
    free = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        monkeypatch.setattr(motor_framework, "_EXECUTOR", executor)
        executor.submit(free.wait)
        yield free
        free.set()


@pytest.mark.parametrize("driver", ["motor"])
@pytest.mark.parametrize("audited", [False, True])
async def test_motor_sends_no_write_after_its_deadline_however_late_it_gets_a_thread(
    mongo: Mongo, members: Any, busy_thread: threading.Event, audited: bool
) -> None:
    """The client's own timeoutMS would only begin with the thread."""
    timeout = 0.2
    store = store_on(replace(mongo, timeout=timeout, deadline=60), audited)
    inserting = asyncio.create_task(store.insert(ADA, 1))
    await asyncio.sleep(0)
    began = time.monotonic()
    while time.monotonic() - began <= timeout:
        await asyncio.sleep(0.05)
    busy_thread.set()
    with pytest.raises(DependencyUnavailable):
        await inserting
    assert members.count_documents({}) == 0


@pytest.mark.parametrize("driver", ["motor"])
@pytest.mark.usefixtures("busy_thread")
async def test_operation_that_gets_no_thread_in_time_is_an_outage(mongo: Mongo) -> None:
    store = MemberStore(replace(mongo, timeout=0.1, deadline=0.1))
    with pytest.raises(DependencyUnavailable):
        await store.find_member(1)


@pytest.mark.parametrize("audited", [False, True])
async def test_no_write_is_sent_after_its_window(mongo: Mongo, members: Any, audited: bool) -> None:
    store = store_on(mongo, audited)
    await store.insert(ADA, 1)
    with write_window(lambda: 0.0):
        for write in (
            store.insert(GRACE, 2),
            store.insert_many([GRACE], 2),
            store.replace(1, GRACE),
            store.delete(1),
        ):
            with pytest.raises(DependencyUnavailable, match="held up"):
                await write
        if not audited:
            with pytest.raises(DependencyUnavailable, match="held up"):
                await MemberGroups(mongo).replace(
                    [Replacement(make_member(1, 1, name=ADA.name), GRACE)]
                )
    assert [document["name"] for document in members.find()] == ["Ada Lovelace"]
    assert await store.replace(1, GRACE)


@pytest.mark.parametrize("audited", [False, True])
async def test_server_ends_each_command_at_the_deadline_of_its_operation(
    mongo: Mongo, audited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver adds the time that is left. Its client has a longer timeout."""
    limits: dict[str, int | None] = {}

    def started(_: WindowGuard, event: pymongo.monitoring.CommandStartedEvent) -> None:
        limits[event.command_name] = event.command.get("maxTimeMS")

    monkeypatch.setattr(WindowGuard, "started", started)
    store = store_on(replace(mongo, timeout=10, deadline=10), audited)
    await store.insert(ADA, 1)
    await store.replace(1, GRACE)
    await store.find_member(1)
    await MemberGroups(store.mongo).find([1])
    await store.delete(1)
    assert {"insert", "find", "findAndModify"} <= {*limits}
    assert [command for command, limit in limits.items() if not limit or limit > 10_000] == []


@asynccontextmanager
async def one_connection(uri: str, driver: Any) -> AsyncIterator[Mongo]:
    mongo = open_mongo(
        f"{uri}{'&' if '?' in uri else '/?'}maxPoolSize=1", "test", driver, timeout=20
    )
    try:
        yield mongo
    finally:
        await mongo.close()


@pytest.mark.parametrize("in_group", [False, True])
async def test_write_whose_window_ends_inside_the_driver_is_not_sent(
    servers: PrivateServers, admin: Admin, members: Any, driver: Any, in_group: bool
) -> None:
    """The clock of the window includes a suspension of the machine, unlike that of the driver."""
    left = 10.0
    async with one_connection(servers.mongodb_uri, driver) as mongo:
        store = MemberStore(mongo)
        ada = await store.insert(ADA, 1)
        together = [Replacement(ada, GRACE)]
        write: Any = MemberGroups(mongo).replace(together) if in_group else store.replace(1, GRACE)
        with failing(admin, 1, failCommands=["ping"], blockConnection=True, blockTimeMS=1000):
            occupying = asyncio.ensure_future(mongo.database.command("ping"))
            await asyncio.sleep(0.1)
            with write_window(lambda: left):
                replacing = asyncio.create_task(write)
            await asyncio.sleep(0.1)
            assert not replacing.done()
            left = 0.0
            with suppress(pymongo.errors.PyMongoError):
                await occupying
            with pytest.raises(DependencyUnavailable, match="held up"):
                await replacing
        assert [document["name"] for document in members.find()] == ["Ada Lovelace"]
        assert await store.replace(1, GRACE)


@pytest.mark.parametrize("audited", [False, True])
async def test_transaction_whose_window_ends_is_not_committed(
    mongo: Mongo, members: Any, audited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a plain write, for which only the command itself counts."""
    left = 10.0
    store = store_on(mongo, audited)
    await store.insert(ADA, 1)
    if audited:
        record = RecordedWrites._record

        async def record_slowly(self: RecordedWrites, *args: Any) -> None:
            nonlocal left
            await record(self, *args)
            left = 0.0

        monkeypatch.setattr(RecordedWrites, "_record", record_slowly)
    else:
        left = 0.0
    with write_window(lambda: left), pytest.raises(DependencyUnavailable, match="held up"):
        await store.replace(1, GRACE)
    assert [document["name"] for document in members.find()] == ["Ada Lovelace"]


async def test_process_paused_after_its_tombstones_does_not_write(
    mongo: Mongo, members: Any, servers: PrivateServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    timing = Timing(heartbeat=60, timeout=5, return_after=0)
    cache = LeaseCache(
        servers.cache_servers,
        connect=partial(MemcachedNode, timeout=5),
        namespace="test",
        ttl=60,
        timing=timing,
        write_deadline=mongo.deadline,
        flush_store=MemoryFlushStore(),
        registry=MemoryRegistry(),
        now=lambda: now,
    )
    await cache.open()
    try:
        directory = MemberDirectory(MemberStore(mongo), cache)
        created = await directory.create(ADA)
        announce = cache._announce

        async def announce_and_sleep(*args: Any) -> float:
            nonlocal now
            announced = await announce(*args)
            now += 1000
            return announced

        monkeypatch.setattr(cache, "_announce", announce_and_sleep)
        for write in (
            directory.create(GRACE),
            directory.replace(created.member_id, GRACE),
            directory.delete(created.member_id),
            directory.put_by_name(make_draft(name=ADA.name, phone="555-0100")),
            directory.create_many([GRACE], await directory.take_ids(1)),
        ):
            with pytest.raises(DependencyUnavailable, match="held up"):
                await write
        monkeypatch.undo()
        assert [document["version"] for document in members.find()] == [1]
        assert (await directory.replace(created.member_id, GRACE)).version == 2
    finally:
        await cache.close()

"""Changes by other programs, from a real MongoDB to the cache."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from tests.support.api import Api, parsed
from tests.support.motor_threads import no_free_thread
from tests.support.service import Command
from tests.support.suspension import suspend
from tests.support.waiting import until
from tornado_members import invalidator
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.invalidator import InvalidatorStatus, invalidating
from tornado_members.settings import Settings
from tornado_members.storage import change_reader
from tornado_members.storage.changes import Change, MemberChanges
from tornado_members.storage.leader_election import LeaderElection
from tornado_members.storage.mongo import Mongo, open_mongo
from tornado_members.storage.stores import open_streams

Admin = pymongo.MongoClient[dict[str, Any]]

pytestmark = pytest.mark.usefixtures("collected")


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll an idle stream more often, and retry failures sooner."""
    monkeypatch.setattr(change_reader, "_AWAIT_MS", 30)
    monkeypatch.setattr(invalidator, "_FIRST_PAUSE", 0.02)


@pytest.fixture
def members(admin: Admin, database_name: str) -> Any:
    """The collection itself, as another program changes it."""
    return admin[database_name]["members"]


class RecordingCache:
    """A directory that records its invalidations."""

    def __init__(self) -> None:
        self.invalidated: list[Change] = []
        self.everything = 0
        self.failures = 0  # remaining failures, for single changes
        self.failed = 0  # failures so far
        self.failed_before_flush = 0  # failures before the last flush
        self.is_cut_off = False  # from a node, as each command finds
        self.reaches = True  # each node, as far as the process has found
        self.attempts = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def invalidate_members(self, changes: Sequence[Change]) -> bool:
        self.attempts += 1
        await self.goes_on.wait()
        if self.failures:
            self.failures -= 1
            self.failed += 1
            raise RuntimeError("on purpose")
        if not self.is_cut_off:
            self.invalidated += changes
        return not self.is_cut_off

    async def flush_cache(self) -> bool:
        self.everything += 1
        self.failed_before_flush = self.failed
        return not self.is_cut_off

    def reaches_all_nodes(self) -> bool:
        return self.reaches

    async def wait_for_failure(self) -> None:
        await until(lambda: not self.reaches)


@asynccontextmanager
async def running(
    mongo: Mongo, cache: RecordingCache, name: str = "test"
) -> AsyncIterator[InvalidatorStatus]:
    status = InvalidatorStatus()
    async with invalidating(MemberChanges(mongo), LeaderElection(mongo, name), cache, status):
        yield status


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_change_stream_does_not_wait_for_threads_of_motor(
    settings: Settings, servers: PrivateServers, mongo: Mongo, members: Any
) -> None:
    async with open_streams(settings, servers.mongodb_uri, mongo) as streams:
        batches = MemberChanges(streams).since(None)
        assert (await anext(batches)).everything
        async with no_free_thread():
            members.insert_one({"_id": 1, "name": "A"})
            while not (await anext(batches)).changes:
                pass
        await batches.aclose()


async def test_invalidator_removes_members_that_others_change(mongo: Mongo, members: Any) -> None:
    cache = RecordingCache()
    async with running(mongo, cache) as status:
        await until(lambda: cache.everything)  # earlier changes are unknown
        for i in range(1, 4):
            members.insert_one({"_id": i, "name": f"{i}"})
        await until(lambda: len(cache.invalidated) == 3)
        assert cache.invalidated == [Change(i, f"{i}") for i in range(1, 4)]
        await until(lambda: status.events == 3)
        assert status.lag_seconds is not None
        assert 0 <= status.lag_seconds < 10
    assert not status.is_leader
    assert cache.everything == 1


async def test_invalidator_resumes_where_the_last_one_stopped(mongo: Mongo, members: Any) -> None:
    one, other = RecordingCache(), RecordingCache()
    async with running(mongo, one) as first:
        await until(lambda: one.everything)
        async with running(mongo, other) as second:
            members.insert_one({"_id": 1, "name": "A"})
            await until(lambda: one.invalidated)
            assert first.is_leader
            assert not second.is_leader
    members.insert_one({"_id": 2, "name": "B"})
    async with running(mongo, other):
        await until(lambda: other.invalidated)
    assert one.invalidated == [Change(1, "A")]
    assert other.invalidated == [Change(2, "B")]
    assert other.everything == 0


async def test_invalidator_retries_a_failed_removal(mongo: Mongo, members: Any) -> None:
    cache = RecordingCache()
    cache.failures = 2
    async with running(mongo, cache) as status:
        await until(lambda: cache.everything)
        members.insert_one({"_id": 1, "name": "A"})
        await until(lambda: cache.invalidated)
        assert status.failed_invalidations == 2
    assert cache.everything == 1


async def test_invalidator_stores_progress_only_after_the_removal(
    mongo: Mongo, members: Any
) -> None:
    one, other = RecordingCache(), RecordingCache()
    async with running(mongo, one) as status:
        await until(lambda: one.everything)
        one.failures = 1000
        members.insert_one({"_id": 1, "name": "A"})
        await until(lambda: status.failed_invalidations)
    async with running(mongo, other):
        await until(lambda: other.invalidated)
    assert other.invalidated == [Change(1, "A")]


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_invalidator_removes_everything_after_repeated_failures(
    mongo: Mongo, members: Any
) -> None:
    """A leader that loses its lock meanwhile begins again, and may remove members twice."""
    cache = RecordingCache()
    async with running(mongo, cache):
        await until(lambda: cache.everything)
        cache.failures = 1000
        members.insert_one({"_id": 1, "name": "A"})
        await until(lambda: cache.failed_before_flush >= invalidator._KEY_ATTEMPTS)
        assert not cache.invalidated
        cache.failures = 0
        members.insert_one({"_id": 2, "name": "B"})
        await until(lambda: Change(2, "B") in cache.invalidated)


@pytest.mark.parametrize("token", [{"_data": "no hex"}, {}, "no token"])
async def test_invalidator_removes_everything_without_a_history(
    mongo: Mongo, members: Any, token: Any
) -> None:
    cache = RecordingCache()
    members.database["leader_locks"].insert_one({"_id": "test", "progress": token})
    async with running(mongo, cache):
        await until(lambda: cache.everything)
        members.insert_one({"_id": 1, "name": "A"})
        await until(lambda: cache.invalidated)


async def test_invalidator_removes_everything_after_a_drop(mongo: Mongo, members: Any) -> None:
    cache = RecordingCache()
    async with running(mongo, cache) as status:
        await until(lambda: cache.everything)
        members.insert_one({"_id": 1, "name": "A"})
        members.drop()
        members.insert_one({"_id": 2, "name": "B"})
        await until(lambda: Change(2, "B") in cache.invalidated)
        assert cache.everything > 1
        assert status.lost_histories == 0


async def test_invalidator_reopens_the_stream_of_a_database_that_hung(
    servers: PrivateServers, driver: Any, members: Any
) -> None:
    """Soon enough that the lock is not lost."""
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=0.3)
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    cache = RecordingCache()
    async with running(mongo, cache) as status:
        await until(lambda: cache.everything)
        await suspended(mongod, until(lambda: status.reopened))
        members.insert_one({"_id": 1, "name": "A"})
        await until(lambda: cache.invalidated)
    await mongo.close()


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_invalidator_hands_over_if_it_cannot_reach_a_node(mongo: Mongo, members: Any) -> None:
    cut_off, well = RecordingCache(), RecordingCache()
    async with running(mongo, cut_off) as first:
        await until(lambda: first.is_leader and cut_off.everything)
        cut_off.is_cut_off = True
        async with running(mongo, well) as second:
            members.insert_one({"_id": 1, "name": "A"})
            await until(lambda: well.invalidated == [Change(1, "A")])
            assert (first.is_leader, second.is_leader) == (False, True)
            assert cut_off.attempts == 1


async def test_invalidator_hands_over_before_it_has_anything_to_remove(mongo: Mongo) -> None:
    cut_off, well = RecordingCache(), RecordingCache()
    async with running(mongo, cut_off) as first:
        await until(lambda: first.is_leader and cut_off.everything)
        async with running(mongo, well) as second:
            cut_off.reaches = False
            await until(lambda: second.is_leader)
            assert not first.is_leader
            assert cut_off.invalidated == well.invalidated == []


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_invalidator_continues_if_no_process_reaches_a_node(
    mongo: Mongo, members: Any
) -> None:
    alone = RecordingCache()
    async with running(mongo, alone) as status:
        await until(lambda: status.is_leader and alone.everything)
        alone.is_cut_off = True
        for number in range(3):
            members.insert_one({"_id": number + 1, "name": str(number)})
            await until(lambda: alone.attempts >= number + 2)  # noqa: B023  # at once  # the first one twice
        alone.is_cut_off = False
        members.insert_one({"_id": 9, "name": "Z"})
        # An earlier change may be removed once more, and succeed now.
        await until(lambda: alone.invalidated[-1:] == [Change(9, "Z")])


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_invalidator_reports_a_stream_without_progress(
    mongo: Mongo, members: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The leader, whose removal hangs, and a process that waits for the lock report it."""
    monkeypatch.setattr(invalidator, "STALLED_SECONDS", 2.0)
    hanging, waiting = RecordingCache(), RecordingCache()
    async with running(mongo, hanging) as first:
        await until(lambda: first.is_leader and hanging.everything)
        await until(lambda: first.current_problem() is None)
        hanging.goes_on.clear()
        members.insert_one({"_id": 1, "name": "A"})
        async with running(mongo, waiting) as second:
            for status in (first, second):
                await until(lambda: "no progress" in (status.current_problem() or ""))  # noqa: B023  # at once
            assert "the change stream has made no progress" in caplog.text
            hanging.goes_on.set()
            for status in (first, second):
                await until(lambda: status.current_problem() is None)  # noqa: B023  # at once


async def suspended(process: psutil.Process, meanwhile: Any) -> None:
    suspend(process)
    try:
        await meanwhile
    finally:
        process.resume()


@pytest.mark.parametrize("driver", ["pymongo"], indirect=True)
async def test_invalidator_stops_after_too_long_a_suspension(mongo: Mongo, members: Any) -> None:
    cache = RecordingCache()
    async with running(mongo, cache) as status:
        await until(lambda: status.is_leader)
        members.database["leader_locks"].update_one({}, {"$set": {"holder": "another"}})
        await until(lambda: not status.is_leader)


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_invalidator_of_another_process_takes_over_after_a_kill(
    mongo: Mongo, members: Any, servers: PrivateServers, folder: Path
) -> None:
    mongodb = {"uri": servers.mongodb_uri, "database": "test"}
    command = Command(folder, {"mongodb": mongodb, "cache": {"servers": servers.cache_servers}})
    cache = RecordingCache()
    with command.serving() as service:
        await until(
            lambda: members.database["leader_locks"].find_one({"progress._data": {"$gt": ""}})
        )
        async with running(mongo, cache, "invalidator") as status:
            assert not status.is_leader
            await asyncio.to_thread(service.stop, signal.SIGKILL)
            members.insert_one({"_id": 1, "name": "A"})
            await until(lambda: cache.invalidated and status.is_leader)
    assert cache.invalidated == [Change(1, "A")]
    assert cache.everything == 0


@pytest.fixture
def tail_changes() -> bool:
    return True


async def test_change_by_another_program_is_visible_through_the_service(
    api: Api, members: Any
) -> None:
    ada = await api.create("Ada", phone="555-0001")
    path = f"/members/{ada['memberId']}"
    for i in range(3):
        await asyncio.sleep(0.05)  # until it is cached after the last change
        await api("GET", path)
        members.update_one({"_id": ada["memberId"]}, {"$set": {"phone": f"555-{i}"}})
        async with asyncio.timeout(60):  # the entry would live for five minutes
            while parsed(await api("GET", path))["phone"] != f"555-{i}":
                await asyncio.sleep(0.01)
    members.delete_one({"_id": ada["memberId"]})
    async with asyncio.timeout(60):
        while (await api("GET", path)).code != 404:
            await asyncio.sleep(0.01)

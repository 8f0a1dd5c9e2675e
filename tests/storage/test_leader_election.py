"""A real MongoDB elects one holder at a time."""

import asyncio
import os
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest

from tests.support.mongodb import failing
from tornado_members.errors import DependencyUnavailable
from tornado_members.lease_cache.process_name import has_ended, process_name
from tornado_members.storage import leader_election
from tornado_members.storage.leader_election import LeaderElection
from tornado_members.storage.mongo import Mongo


@pytest.fixture
def leases(admin: pymongo.MongoClient[dict[str, Any]], database_name: str) -> Any:
    """The collection itself."""
    return admin[database_name]["leader_locks"]


async def test_leader_election_has_one_winner(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_election, "LOCK_SECONDS", 60.0)  # longer than the test takes
    contenders = [LeaderElection(mongo, "test") for _ in range(20)]
    acquired = await asyncio.gather(*(contender.acquire() for contender in contenders))
    assert sorted(acquired) == [False] * 19 + [True]
    assert [contender.is_leader for contender in contenders] == acquired


async def test_leader_lock_passes_on_with_the_progress(mongo: Mongo) -> None:
    one, other = LeaderElection(mongo, "test"), LeaderElection(mongo, "test")
    assert await one.acquire()
    assert one.progress is None
    assert await one.renew({"$at": 1})  # text, not an operator
    assert await one.renew(None)
    assert not await other.acquire()
    await one.release({"_data": "2"})
    assert not one.is_leader
    assert await other.acquire()
    assert other.progress == {"_data": "2"}


async def test_leader_lock_is_acquired_although_a_connection_is_lost(
    mongo: Mongo, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    with failing(admin, 1, failCommands=["findAndModify"], closeConnection=True):
        assert await LeaderElection(mongo, "test").acquire()


async def test_leader_lock_is_not_acquired_unless_a_majority_acknowledges_it(
    mongo: Mongo, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    election = LeaderElection(mongo, "test")
    error = {"code": 64, "errmsg": "waiting for replication timed out"}
    with (
        failing(admin, None, failCommands=["findAndModify"], writeConcernError=error),
        pytest.raises(DependencyUnavailable),
    ):
        await election.acquire()
    assert not election.is_leader


async def test_former_leader_cannot_change_the_lock(mongo: Mongo, leases: Any) -> None:
    """Like a process that was suspended or cut off."""
    late, other = LeaderElection(mongo, "test"), LeaderElection(mongo, "test")
    await late.acquire()
    leases.update_one({"_id": "test"}, {"$set": {"expiresAt": datetime(2020, 1, 1, tzinfo=UTC)}})
    assert await other.acquire()
    await other.renew({"_data": "new"})
    assert not await late.renew({"_data": "old"})
    assert not late.is_leader
    await late.release({"_data": "old"})
    document = leases.find_one({"_id": "test"})
    assert document["holder"] == other.holder
    assert document["progress"] == {"_data": "new"}


async def test_leader_stops_before_another_begins(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_election, "LOCK_SECONDS", 0.8)
    silent, other = LeaderElection(mongo, "test"), LeaderElection(mongo, "test")
    assert await silent.acquire()
    async with asyncio.timeout(60):
        while not await other.acquire():
            await asyncio.sleep(0.01)
            in_time = silent.is_leader  # as it was before the last attempt
    assert not in_time
    assert not silent.is_leader


async def test_expired_leader_lock_can_be_renewed_while_it_is_free(
    mongo: Mongo, leases: Any
) -> None:
    election = LeaderElection(mongo, "test")
    await election.acquire()
    leases.update_one({"_id": "test"}, {"$set": {"expiresAt": datetime(2020, 1, 1, tzinfo=UTC)}})
    assert await election.renew({"_data": "1"})
    assert election.progress == {"_data": "1"}


@pytest.mark.parametrize(
    "ahead", [timedelta(hours=1), timedelta(seconds=2 * leader_election.LOCK_SECONDS + 2)]
)
async def test_leader_lock_that_expires_later_than_possible_is_free(
    mongo: Mongo, leases: Any, ahead: timedelta
) -> None:
    """MongoDB's clock was set back, or the clock of the previous primary was ahead."""
    ended, other = LeaderElection(mongo, "test"), LeaderElection(mongo, "test")
    await ended.acquire()
    await ended.renew({"_data": "1"})
    leases.update_one({"_id": "test"}, {"$set": {"expiresAt": datetime.now(UTC) + ahead}})
    assert await other.acquire()
    assert other.progress == {"_data": "1"}
    assert not await ended.acquire()
    left = leases.find_one({"_id": "test"})["expiresAt"].replace(tzinfo=UTC) - datetime.now(UTC)
    assert left < timedelta(seconds=leader_election.LOCK_SECONDS + 1)


async def test_progress_is_seen_by_candidates(mongo: Mongo) -> None:
    holder, other = LeaderElection(mongo, "test"), LeaderElection(mongo, "test")
    await holder.acquire()
    await other.acquire()
    began = other.progressed_at
    await holder.renew({"_data": "1"})
    assert not await other.acquire()
    assert other.progressed_at is not None
    assert began is not None
    assert other.progressed_at > began
    noted = other.progressed_at
    await holder.renew({"_data": "1"})
    await other.acquire()
    assert other.progressed_at == noted


async def test_leader_lock_of_a_command_that_began_later_is_not_free(
    mongo: Mongo, leases: Any
) -> None:
    """Two candidates ask at once: $$NOW of the command that is applied last may be the earlier."""
    leader, other = LeaderElection(mongo, "test"), LeaderElection(mongo, "test")
    assert await leader.acquire()
    later = datetime.now(UTC) + timedelta(seconds=leader_election.LOCK_SECONDS + 1)
    leases.update_one({"_id": "test"}, {"$set": {"expiresAt": later}})
    assert not await other.acquire()


async def test_leader_lock_of_a_process_that_was_killed_is_free(
    mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of the same machine sees that, and need not wait until the lock expires."""
    killed, other = LeaderElection(mongo, "test"), LeaderElection(mongo, "test")
    assert await killed.acquire()
    assert not await other.acquire()
    child = subprocess.Popen(["true"])
    child.wait()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: child.pid)
        killed.holder = process_name()
    await mongo.database["leader_locks"].update_one(
        {"_id": "test"}, {"$set": {"holder": killed.holder}}
    )
    assert await other.acquire()
    assert not await killed.acquire()


def test_process_that_runs_or_is_elsewhere_has_not_ended() -> None:
    elsewhere = ["", "x", ":::", "host:1", "host:999999:0123456789abcdef"]
    assert not any(map(has_ended, [process_name(), *elsewhere]))

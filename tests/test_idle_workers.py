"""An idle process sends few commands: each periodic task is as rare as its promise permits."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from pymongo.monitoring import CommandStartedEvent
from tornado.ioloop import IOLoop

from tests.support.memcached import send_to_memcached, start_memcached
from tests.support.sharding import RoutedCommands
from tornado_members.admin.status import ProcessStatus
from tornado_members.lease_cache.echoes import ECHOES
from tornado_members.services import Services
from tornado_members.settings import Settings
from tornado_members.storage.leader_election import LOCK_SECONDS
from tornado_members.ticks import TICK

Admin = pymongo.MongoClient[dict[str, Any]]

_SECONDS = 5.0
_HEARTBEAT_SECONDS = 1.0
_PAUSE_SECONDS = 0.7  # between two heartbeats to a node that the process does not read
_PROBE_SECONDS = 4 * TICK  # between two probes of a node that the process does not read
_PROBE_BYTES = 60  # at most: a get of the epoch and the quarantine

# The most commands per second of each kind. A task that begins late does not catch up, so a busy
# machine sends fewer. Only the health check may then write in place of a late renewal.
_MOST = {
    "findAndModify leader_locks": 1 / TICK,
    "update leader_locks": 1.0,
    "ping": 0.0,
    "getMore members": 0.2,
    "find cluster": 0.2,
    "find cache_pending_flushes": 0.63,
    "update cache_processes": 0.2,
    "find cache_processes": 0.2,
    "find members": 0.2,  # two kinds of members that lack something
}


@pytest.fixture
def tail_changes() -> bool:
    return True


@pytest.fixture(params=[True, False], ids=["leader", "follower"])
def is_leader(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def hold_lock(admin: Admin, database_name: str) -> None:
    """Let another host hold the lock until 5.9 seconds from now.

    A lock that expires later is free: no process has acquired it in this way.
    """
    expires_at = datetime.now(UTC) + timedelta(seconds=2 * LOCK_SECONDS - 0.1)
    lock = {"holder": "another host", "expiresAt": expires_at}
    admin[database_name]["leader_locks"].replace_one({"_id": "invalidator"}, lock, upsert=True)


@pytest.fixture
def cache_servers(
    is_leader: bool,
    database_name: str,
    admin: Admin,
    io_loop: IOLoop,
) -> Iterator[tuple[str, ...]]:
    """A node of this test alone. A follower finds the lock held by another host."""
    if not is_leader:
        hold_lock(admin, database_name)
    process, address = io_loop.run_sync(start_memcached)
    yield (address,)
    process.kill()
    process.wait()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    heartbeat = {"heartbeat_ms": round(_HEARTBEAT_SECONDS * 1000)}
    return settings.model_copy(update={"cache": settings.cache.model_copy(update=heartbeat)})


async def test_idle_process_sends_few_commands(
    services: Services,
    process_status: ProcessStatus,
    *,
    cache_servers: tuple[str, ...],
    is_leader: bool,
    admin: Admin,
    database_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: Counter[str] = Counter()

    def count(_listener: object, event: CommandStartedEvent) -> None:
        name, target = event.command_name, event.command.get(event.command_name)
        if name == "getMore":
            target = event.command["collection"]
        sent[f"{name} {target}" if isinstance(target, str) else name] += 1

    def received_bytes() -> int:
        stats = send_to_memcached(cache_servers[0], b"stats\r\n").split()
        return int(stats[stats.index(b"bytes_read") + 1])

    stream = services.dependencies.change_stream

    def is_starting() -> bool:
        """True until the change stream is followed and the node is read."""
        return bool(stream.problem) or any(services.directory.cache_states().values())

    while is_starting():
        await asyncio.sleep(0.01)
    monkeypatch.setattr(RoutedCommands, "started", count)
    began, before = time.monotonic(), received_bytes()
    for _ in range(round(_SECONDS)):
        if not is_leader:
            hold_lock(admin, database_name)
        await asyncio.sleep(1)
    seconds, received = time.monotonic() - began, received_bytes() - before

    for kind, number in sent.items():
        assert number <= _MOST.get(kind, 0.0) * seconds + 2, (kind, sent)
    assert stream.is_leader is is_leader
    assert is_leader or not sent["getMore members"]
    probes, beats = seconds / _PROBE_SECONDS + 2, seconds / _PAUSE_SECONDS + 2
    beat_bytes = len(ECHOES[-1][0])  # the longest
    assert 0 < received <= probes * _PROBE_BYTES + beats * beat_bytes + len(b"stats\r\n")
    assert process_status.report().is_ready

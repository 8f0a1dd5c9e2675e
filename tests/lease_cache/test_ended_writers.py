"""The rules of pending flushes, with a writer that ends at every point of a grid of times.

Two processes read one key of one node. The node hangs. One process writes the key meanwhile, and
ends before the node replies again; its commit may come later than its end. The other process never
writes, so it has missed nothing, and only the record in the store keeps it from the old entry.

Each rule is left out once, and some run then finds a stale read. A storm of real processes seldom
does: a process that writes in the outage flushes the node itself (pending_flushes.py).
"""

import asyncio
import itertools
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from tests.lease_cache.test_outages_in_virtual_time import (
    ADDRESS,
    KEY,
    TIMING,
    Database,
    VirtualCache,
)
from tests.lease_cache.virtual_time import ModelConnection, ModelServer, VirtualHeartbeat, run
from tests.support.flush_store import MemoryFlushStore
from tests.support.registry import MemoryRegistry
from tornado_members.lease_cache import node_health
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.look_ups import HIT
from tornado_members.lease_cache.pending_flushes import (
    REUSE_SECONDS,
    NodePendingFlushes,
    PendingFlush,
    PendingFlushWatcher,
)

WRITE_DEADLINE = 2.0  # seconds
WARM = 3.0  # seconds after which both processes hit
FLUSHED_WITHIN = 2 * (REUSE_SECONDS + WRITE_DEADLINE)  # seconds after the node replies again


class Schedule(NamedTuple):
    """The events of a run. Times are in seconds from the beginning of the outage."""

    write: float  # when the write begins
    commit: float  # its duration
    end: float  # when its process ends, if that is after the write was sent
    outage: float  # its duration


@dataclass
class Outcome:
    """Wrong reads, and the status of the last read."""

    wrong: list[str]
    last_status: str


def judge(schedule: Schedule) -> Outcome:
    return run(_play(schedule))


async def _play(schedule: Schedule) -> Outcome:
    server, database = ModelServer(), Database()
    VirtualHeartbeat.server = server
    flush_store, registry = MemoryFlushStore(), MemoryRegistry()

    def cache() -> LeaseCache:
        return VirtualCache(
            [ADDRESS],
            connect=lambda address: ModelConnection(  # type: ignore[arg-type,return-value]
                server, address, TIMING.timeout
            ),
            namespace="test",
            ttl=60,
            timing=TIMING,
            write_deadline=WRITE_DEADLINE,
            flush_store=flush_store,
            registry=registry,
            now=asyncio.get_running_loop().time,
        )

    writer, reader = cache(), cache()
    await writer.open()
    await reader.open()
    outcome = Outcome([], "")
    reading = [asyncio.create_task(_read(cache, database, outcome)) for cache in (writer, reader)]
    await asyncio.sleep(WARM)
    assert outcome.last_status == HIT
    server.state = "hangs"
    writing = asyncio.create_task(_write(writer, database, schedule))
    ending = asyncio.create_task(_end(writer, reading[0], writing, schedule.end))
    await asyncio.sleep(schedule.outage)
    server.resume()
    await ending
    await asyncio.sleep(FLUSHED_WITHIN)
    reading[1].cancel()
    await asyncio.wait(reading)
    await reader.close()
    return outcome


async def _read(cache: LeaseCache, database: Database, outcome: Outcome) -> None:
    while True:
        least = database.known
        found = await cache.read(KEY, database.load)
        assert found.entry
        if found.entry.version < least:
            outcome.wrong.append(f"{found.status} of {found.entry.version} after {least}")
        outcome.last_status = found.status
        await asyncio.sleep(0.031)


async def _write(cache: LeaseCache, database: Database, schedule: Schedule) -> None:
    await asyncio.sleep(schedule.write)
    async with cache.changing(KEY) as write:
        assert write.seconds_left() > schedule.commit
        await asyncio.shield(asyncio.create_task(_commit(database, schedule.commit)))


async def _commit(database: Database, seconds: float) -> None:
    """Commit a write that was sent, whether or not its process has ended."""
    await asyncio.sleep(seconds)
    database.version += 1
    database.known = database.version


async def _end(
    cache: LeaseCache, reading: asyncio.Task[None], writing: asyncio.Task[None], after: float
) -> None:
    """End a process, and all that it knows."""
    await asyncio.sleep(after)
    for task in (reading, writing):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await cache.close()


SCHEDULES = [
    Schedule(write, commit, write + end, write + end + outage)
    for write, commit, end, outage in itertools.product(
        (0.02, 0.3), (0.01, 1.4), (0.8, 1.1), (0.05, 0.4, 1.0)
    )
]


@pytest.fixture(autouse=True)
def _virtual_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_health, "HeartbeatThread", VirtualHeartbeat)


def test_writes_of_ended_processes_are_read_and_hit_again() -> None:
    for schedule in SCHEDULES:
        outcome = judge(schedule)
        assert outcome.wrong == [], schedule
        assert outcome.last_status == HIT, schedule


def _leave_out(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    match rule:
        case "a missed change is recorded":

            async def nothing(flushes: NodePendingFlushes) -> float:
                return flushes._now() + WRITE_DEADLINE

            monkeypatch.setattr(NodePendingFlushes, "record", nothing)
        case "a node is read only after the store was read":
            always = property(lambda _: float("inf"), lambda *_: None)
            monkeypatch.setattr(NodePendingFlushes, "none_at", always, raising=False)
        case "the store is read after the node has replied for a while":

            def at_any_time(flushes: NodePendingFlushes) -> float:
                return float("inf") if flushes.__dict__["none_at"] > 0 else float("-inf")

            earlier = property(at_any_time, lambda flushes, at: flushes.__dict__.update(none_at=at))
            monkeypatch.setattr(NodePendingFlushes, "none_at", earlier, raising=False)
        case "a flush comes after the writes that rely on its record":

            def at_once(watcher: PendingFlushWatcher, flush: PendingFlush) -> float:
                return watcher._seen[flush]

            monkeypatch.setattr(PendingFlushWatcher, "_due_at", at_once)


@pytest.mark.parametrize(
    "rule",
    [
        "a missed change is recorded",
        "a node is read only after the store was read",
        "the store is read after the node has replied for a while",
        "a flush comes after the writes that rely on its record",
    ],
)
def test_reads_are_stale_without_any_one_rule(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    _leave_out(rule, monkeypatch)
    assert any(judge(schedule).wrong for schedule in SCHEDULES)

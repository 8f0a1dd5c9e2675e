"""The rules of outages of a node, with events at every point of a grid of times.

The code is that of a service: LeaseCache, CacheNode and NodeHealth. Two processes read one key
constantly. One of them writes it at each point of time relative to one or two outages of the node:
the node hangs, is suspended or refuses connections, and keeps its memory or loses it. The other
process notices the outage at another moment than the first, since their probes are not in step.

A second after the last outage, both processes hit again, unless the outcome of the write is
unknown.

Each rule is left out once, and some run then finds a stale read or one that goes backward.
"""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from tests.lease_cache.virtual_time import (
    LATENCY,
    ModelConnection,
    ModelServer,
    VirtualHeartbeat,
    run,
)
from tests.support.flush_store import MemoryFlushStore
from tests.support.registry import MemoryRegistry
from tornado_members.lease_cache import node_health, unconfirmed_tombstones
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.lease_cache.cache_node import CacheNode
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.epochs import NodeEpoch
from tornado_members.lease_cache.errors import NotAnnounced
from tornado_members.lease_cache.heartbeat import HeartbeatThread
from tornado_members.lease_cache.look_ups import HIT, bypass
from tornado_members.lease_cache.node_health import NodeHealth, Timing
from tornado_members.lease_cache.pending_flushes import NodePendingFlushes, PendingFlushWatcher
from tornado_members.lease_cache.protocol import LeaseProtocol
from tornado_members.lease_cache.quarantine import QuarantineWatch
from tornado_members.lease_cache.registry import Registration
from tornado_members.lease_cache.unconfirmed_tombstones import UnconfirmedTombstones

KEY, ADDRESS = b"key", "model:1"
TIMING = Timing(heartbeat=0.2, timeout=0.1, return_after=0.45)
PHASE = 0.023  # seconds by which the processes are out of step
WRITE_AT = 1.2  # seconds after the start: the node is read by then
HITS_WITHIN = 1.0  # seconds after the end of the last outage


class Schedule(NamedTuple):
    """The events of a run; times are in seconds."""

    how: str  # the node "hangs", is "suspended", "refuses" connections, or "restarts"
    outages: tuple[tuple[float, float], ...]  # beginning, relative to the write, and end
    commit: float  # duration of the commit
    is_known: bool = True  # False: the writer's caller gives up before the commit
    interval: float = 0.013  # between two reads of the process that does not write


@dataclass
class Database:
    """One register, and the newest version that is certain."""

    version: int = 1
    known: int = 1

    async def load(self) -> Entry:
        await asyncio.sleep(LATENCY)
        return Entry(self.version, b"-", b"")


class VirtualCache(LeaseCache):
    """A process in virtual time."""

    def _make_node(self, address: str) -> CacheNode:
        loop = asyncio.get_running_loop()
        connected = self._connect(address)
        health = NodeHealth(connected, self._timing, now=loop.time)
        protocol = LeaseProtocol(
            connected,
            namespace=self._prefix,
            lifetimes=self._lifetimes,
            counts=self.counts,
            may_claim=self._lists.is_fresh,
        )
        return CacheNode(
            health,
            protocol,
            timing=self._timing,
            counts=self.counts,
            pending_flushes=self._pending_flushes.of(address),
            quarantine=QuarantineWatch(
                protocol,
                process=self._process,
                writes=self._writes,
                registered=self._lists.registered,
                now=loop.time,
            ),
            confirm_list=self._lists.confirm,
            now=loop.time,
        )


class Run:
    """Two processes and a node, through one schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self.wrong: list[str] = []
        self.last_statuses: list[str] = []  # of a read of each process at the end
        self._schedule = schedule
        self._server = ModelServer()
        self._database = Database()
        self._flush_store, self._registry = MemoryFlushStore(), MemoryRegistry()
        self._until = WRITE_AT + max(3.0, *(end + HITS_WITHIN for _, end in schedule.outages))

    def _cache(self) -> LeaseCache:
        return VirtualCache(
            [ADDRESS],
            connect=lambda address: ModelConnection(  # type: ignore[arg-type,return-value]
                self._server, address, TIMING.timeout
            ),
            namespace="test",
            ttl=60,
            timing=TIMING,
            write_deadline=0.5,
            flush_store=self._flush_store,
            registry=self._registry,
            now=asyncio.get_running_loop().time,
        )

    async def blow(self) -> None:
        VirtualHeartbeat.server = self._server
        self._began = asyncio.get_running_loop().time()
        one, other = self._cache(), self._cache()
        await one.open()
        await asyncio.sleep(PHASE)
        await other.open()
        tasks = [
            self._read(one, 0.013),
            self._read(other, self._schedule.interval),
            self._read_past_the_cache(),
            self._write(one),
            *(self._break(start, end) for start, end in self._schedule.outages),
        ]
        await asyncio.gather(*tasks)
        for cache in (one, other):
            found = await cache.read(KEY, self._database.load)
            self.last_statuses.append(found.status)
        await one.close()
        await other.close()

    async def _at(self, seconds: float) -> None:
        await asyncio.sleep(self._began + seconds - asyncio.get_running_loop().time())

    async def _read(self, cache: LeaseCache, interval: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < self._began + self._until:
            least = self._database.known
            found = await cache.read(KEY, self._database.load)
            assert found.entry
            if found.entry.version < least:
                self.wrong.append(f"{found.status} of {found.entry.version} after {least}")
            self._database.known = max(self._database.known, found.entry.version)
            await asyncio.sleep(interval)

    async def _read_past_the_cache(self) -> None:
        """Read from the database, as clients may ask for."""
        loop = asyncio.get_running_loop()
        while loop.time() < self._began + self._until:
            self._database.known = self._database.version
            await asyncio.sleep(0.03)

    async def _write(self, cache: LeaseCache) -> None:
        await self._at(WRITE_AT)
        with suppress(TimeoutError, NotAnnounced):
            async with cache.changing(KEY) as write:
                commit = asyncio.create_task(self._commit(write.seconds_left()))
                if not self._schedule.is_known:
                    await asyncio.sleep(min(0.05, self._schedule.commit / 2))
                    raise TimeoutError
                version = await commit
            self._database.known = max(self._database.known, version)

    async def _commit(self, left: float) -> int:
        assert left > self._schedule.commit
        await asyncio.sleep(self._schedule.commit)
        self._database.version += 1
        return self._database.version

    async def _break(self, start: float, end: float) -> None:
        await self._at(WRITE_AT + start)
        how = self._schedule.how
        self._server.state = "refuses" if how == "restarts" else how
        if how == "restarts":
            self._server.items.clear()
        await self._at(WRITE_AT + end)
        self._server.resume()


@pytest.fixture(autouse=True)
def _virtual_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_health, "HeartbeatThread", VirtualHeartbeat)


@pytest.fixture(params=[TIMING.resting_pause, 5 * TIMING.heartbeat])
def resting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Let a process rest between its reads, and probe at any pace meanwhile."""
    pause: float = request.param
    monkeypatch.setattr(node_health, "_REST_SECONDS", 0.1)
    monkeypatch.setattr(Timing, "resting_pause", property(lambda _: pause))
    return pause


def judge(schedule: Schedule) -> Run:
    blown = Run(schedule)
    run(blown.blow())
    return blown


def check(schedule: Schedule) -> None:
    blown = judge(schedule)
    assert blown.wrong == [], schedule
    # A mark stays while the write may still commit.
    assert blown.last_statuses == [HIT, HIT] or not schedule.is_known, schedule


def schedules(step: float) -> Iterator[Schedule]:
    """Yield outages that begin and end at each moment of a grid around the write."""
    starts = [number * step for number in range(round(-0.8 / step), round(0.4 / step) + 1)]
    lengths = [0.02, 0.11, 0.23, 0.31, 0.47, 0.61, 0.9, 1.4]
    for how, start, length, commit in itertools.product(
        ("hangs", "suspended", "refuses", "restarts"), starts, lengths, (0.01, 0.48)
    ):
        for is_known, interval in ((True, 0.013), (True, 0.17), (False, 0.013)):
            yield Schedule(how, ((start, start + length),), commit, is_known, interval)
    # The node returns for a moment, and goes away again.
    for start, length, gap in itertools.product(starts, (0.11, 0.31), (0.03, 0.11, 0.2)):
        again = start + length + gap
        for interval in (0.013, 0.17):
            outages = ((start, start + length), (again, again + 0.5))
            yield Schedule("hangs", outages, 0.01, True, interval)


def sample(step: float, every: int) -> list[Schedule]:
    return [*schedules(step)][::every]


def test_reads_around_an_outage_are_correct_and_hit_again() -> None:
    """A sample of the grid."""
    for schedule in sample(0.1, 101):
        check(schedule)


def test_reads_of_a_resting_process_are_correct_whatever_its_pace(resting: float) -> None:
    """No read relies on the pause between two probes of a process that does not read."""
    for schedule in sample(0.1, 211):
        rare = schedule._replace(interval=0.25)
        blown = judge(rare)
        assert blown.wrong == [], rare
        if resting < TIMING.heartbeat:
            assert blown.last_statuses == [HIT, HIT] or not rare.is_known, rare


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(8))
def test_reads_around_any_outage_are_correct_and_hit_again(part: int) -> None:
    for schedule in [*schedules(0.05)][part::8]:
        check(schedule)


def test_key_is_not_hit_again_if_a_missed_removal_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schedule = Schedule("suspended", ((0.1, 0.57),), commit=0.48)
    check(schedule)
    monkeypatch.setattr(UnconfirmedTombstones, "remove_later", lambda *_: None)
    assert judge(schedule).last_statuses == [bypass("tombstone")] * 2


async def _nothing(*_: Any) -> None:
    pass


def _note_reply_only(heartbeat: HeartbeatThread, sent: float) -> None:
    heartbeat.last_reply_at = sent


def _leave_out(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    match rule:
        case "a node is read only after it has replied for a while":
            timing = TIMING.__class__(0.2, 0.1, return_after=0.0)
            monkeypatch.setitem(globals(), "TIMING", timing)
        case "a write waits until all have noticed the outage":
            monkeypatch.setattr(Timing, "noticed", property(lambda _: 0.0))
        case "a node that missed something gets a new epoch":
            monkeypatch.setattr(CacheNode, "mark_stale", lambda _: None)
            # A removal that is repeated removes the old entry, too. It is not repeated for each of
            # very many writes.
            monkeypatch.setattr(unconfirmed_tombstones, "_MOST_UNREMOVED", 0)
        case "a node is read only while it replies":
            monkeypatch.setattr(CacheNode, "readable_at", lambda _: 0.0)
        case "late tombstones come before the new epoch":
            monkeypatch.setattr(
                CacheNode, "abandon", lambda node, writer, _: node._unconfirmed.end(writer)
            )
        case "a gap between two replies counts as an outage":
            monkeypatch.setattr(HeartbeatThread, "_note_reply", _note_reply_only)
        case "a node that restarted is in quarantine":
            monkeypatch.setattr(NodeEpoch, "_begin_quarantine", _nothing)


def _without_pending_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They serve processes that end. None ends here, and they would hide missing rules."""
    never = property(lambda _: float("inf"), lambda *_: None)
    monkeypatch.setattr(NodePendingFlushes, "none_at", never, raising=False)
    monkeypatch.setattr(PendingFlushWatcher, "_read_and_flush", _nothing)


# Schedules in which each rule matters: how, beginnings, lengths, commit, is_known, interval.
RULES: dict[str, tuple[str, list[float], list[float], float, bool, float]] = {
    "a node is read only after it has replied for a while": (
        "hangs", [-0.7], [1.1, 1.4], 0.48, False, 0.013,
    ),
    "a write waits until all have noticed the outage": (
        "refuses", [-0.009, -0.006, -0.003], [0.027, 0.03, 0.034], 0.01, True, 0.041,
    ),
    "a node that missed something gets a new epoch": (
        "hangs", [-0.1], [0.9, 1.4], 0.01, True, 0.013,
    ),
    "a node is read only while it replies": ("hangs", [-0.5, -0.3], [0.9], 0.01, True, 0.013),
    "late tombstones come before the new epoch": (
        "hangs", [-0.1, -0.02], [0.9, 1.0], 0.9, False, 0.013,
    ),
    # The process that does not write reads the node so rarely that it rests in between.
    "a gap between two replies counts as an outage": (
        "refuses", [-0.5, -0.49], [0.55, 0.56, 0.57], 0.01, True, 1.28,
    ),
    "a node that restarted is in quarantine": (
        "restarts", [0.02, 0.05], [0.01, 0.02], 0.48, False, 0.17,
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_reads_are_wrong_without_any_one_rule(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    _without_pending_flushes(monkeypatch)
    how, starts, lengths, commit, is_known, interval = RULES[rule]
    tried = [
        Schedule(how, ((start, start + length),), commit, is_known, interval)
        for start, length in itertools.product(starts, lengths)
    ]
    if interval > 1:
        monkeypatch.setattr(node_health, "_REST_SECONDS", 0.1)
    assert [blown.wrong for blown in map(judge, tried) if blown.wrong] == []
    _leave_out(rule, monkeypatch)
    assert any(judge(schedule).wrong for schedule in tried)


def test_quarantined_node_is_probed_once_per_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for the end of a quarantine does not keep its event loop busy."""
    commands: list[float] = []
    reach = ModelConnection.reach

    async def counted(connection: ModelConnection, *command: Any) -> None:
        commands.append(asyncio.get_running_loop().time())
        await reach(connection, *command)

    async def wait_in_quarantine() -> int:
        one = Run(Schedule("restarts", ((0.1, 0.2),), commit=0.01))
        VirtualHeartbeat.server = one._server
        cache = one._cache()
        await cache.open()
        await asyncio.sleep(WRITE_AT)
        assert (await cache.read(KEY, one._database.load)).status != bypass("quarantine")
        # This process never confirms a quarantine.
        await one._registry.register(Registration("killed", (ADDRESS,), "0" * 16, "1", 30.0))
        one._server.items.clear()
        await cache.read(KEY, one._database.load)
        await asyncio.sleep(TIMING.pause)
        before = len(commands)
        await asyncio.sleep(10 * TIMING.pause)
        assert (await cache.read(KEY, one._database.load)).status == bypass("quarantine")
        await cache.close()
        return len(commands) - before

    monkeypatch.setattr(ModelConnection, "reach", counted)
    assert run(wait_in_quarantine()) < 10 * 6

"""The promise through failovers: three MongoDB nodes, and the primary is lost under load.

One of the two services uses Motor and records changes; the other uses PyMongo's asynchronous
client and does not record changes.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.faults import Injected
from tests.support.history_report import check_record
from tests.support.hot_members import Record
from tests.support.replica_set import ReplicaSet
from tests.support.storm import GENTLE, Storm

SECONDS_AT_MOST = 60  # for operations that take far less
CALM = 0.4  # seconds of load around each fault

Lose = Callable[[ReplicaSet], Awaitable[object]]
FAULTS: dict[str, Lose] = {
    "primary-freeze": ReplicaSet.freeze_primary,
    "primary-kill": ReplicaSet.kill_primary_for_good,  # the last one: two nodes suffice after it
}
REPEATABLE = {**FAULTS, "primary-kill": ReplicaSet.kill_primary}
LONG = {
    **REPEATABLE,
    "primary-stepdown": ReplicaSet.step_down,
    "primary-cut-off": ReplicaSet.cut_off_primary,
}


class Losses:
    """Loses the primary in one way after another, under load."""

    def __init__(self, replica_set: ReplicaSet, storm: Storm) -> None:
        self.injected: list[Injected] = []
        self._replica_set = replica_set
        self._storm = storm

    async def happen(self, kinds: Mapping[str, Lose], rounds: int) -> None:
        """Inject each loss so many times; each ends when all services have written again."""
        await self._storm.make_members()
        load = asyncio.create_task(self._storm.run(SECONDS_AT_MOST * rounds))
        try:
            for kind, lose in rounds * [*kinds.items()]:
                await asyncio.sleep(CALM)
                await self._happen(kind, lose)
            await asyncio.sleep(CALM)
        finally:
            self._storm.stop()
            await load

    async def _happen(self, kind: str, lose: Lose) -> None:
        start = time.monotonic()
        try:
            await lose(self._replica_set)
            await self._until_written(time.monotonic())
        finally:
            self.injected.append(Injected(kind, "mongodb", start, time.monotonic()))

    async def _until_written(self, since: float) -> None:
        """Wait until each service has acknowledged a write that was sent after `since`."""
        seen: set[str] = set()
        async with asyncio.timeout(SECONDS_AT_MOST):
            while len(seen) < 2:
                await asyncio.sleep(0.02)
                recent = reversed(self._storm.record.operations)
                for operation in recent:
                    if operation.end < since:
                        break
                    if (
                        operation.kind == "write"
                        and operation.is_certain
                        and operation.start > since
                    ):
                        seen.add(operation.process)


async def lose_primaries(
    folder: Path,
    kinds: Mapping[str, Lose] = FAULTS,
    rounds: int = 1,
    *,
    writers: int = 1,
    audited: bool = True,
) -> tuple[Record, list[Injected]]:
    """Run a storm through failovers; then read everything, also past the cache."""
    async with ReplicaSet(folder, proxied="primary-cut-off" in kinds) as replica_set:
        cluster = Cluster(
            folder,
            replica_set.uri,
            processes=2,
            nodes=1,
            audited=audited,
            cache={"heartbeat_ms": 1000},  # the machine is busy, and Memcached is healthy
        )
        async with cluster:
            storm = Storm(cluster, **GENTLE, writers=writers)
            losses = Losses(replica_set, storm)
            await losses.happen(kinds, rounds)
            await read_everything(storm, cluster)
    return storm.record, losses.injected


async def read_everything(storm: Storm, cluster: Cluster) -> None:
    """Read every member through each service, from the cache and from MongoDB."""
    known = {a.register for a in storm.record.operations if isinstance(a.register, int)}
    for service in cluster.services:
        for no_cache in (False, True):
            client = storm.client(service)
            for member_id in known:
                await client.read(member_id, no_cache=no_cache)
            client.close()


@pytest.fixture(scope="module")
def lost() -> tuple[Record, list[Injected]]:
    with tempfile.TemporaryDirectory(prefix="tornado-members-failover-") as folder:
        return asyncio.run(lose_primaries(Path(folder)))


def test_writes_continue_once_there_is_a_primary(lost: tuple[Record, list[Injected]]) -> None:
    """Both services write again after each loss; otherwise there would be no record."""
    record, injected = lost
    assert [fault.kind for fault in injected] == [*FAULTS]
    for fault in injected:
        written = [
            a for a in record.operations if a.kind == "write" and a.is_certain and a.end < fault.end
        ]
        assert {a.process for a in written} == {"service-1", "service-2"}


def test_acknowledged_writes_are_durable_and_no_read_goes_back(
    lost: tuple[Record, list[Injected]],
) -> None:
    """A write that is missing at the end shows up as a stale read."""
    record, injected = lost
    assert check_record(record, injected, grace=0).lines == []


def test_requests_that_fail_receive_503(lost: tuple[Record, list[Injected]]) -> None:
    record, _ = lost
    assert {status for status in record.statuses if status >= 500} <= {503}
    assert record.statuses[0] == 0  # every request received a response


@pytest.mark.exhaustive
def test_promise_holds_through_many_failovers_and_partitions(folder: Path) -> None:
    record, injected = asyncio.run(lose_primaries(folder, LONG, rounds=4))
    assert {fault.kind for fault in injected} == {*LONG}
    assert check_record(record, injected, grace=0).lines == []


@pytest.mark.exhaustive
def test_promise_holds_for_groups_of_writes_through_failovers(folder: Path) -> None:
    record, injected = asyncio.run(
        lose_primaries(folder, REPEATABLE, rounds=3, writers=16, audited=False)
    )
    assert len(injected) == 3 * len(FAULTS)
    assert check_record(record, injected, grace=0).lines == []

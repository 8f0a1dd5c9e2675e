"""The promise while one service reaches only a primary that others have replaced.

The primary does not notice that for ten seconds (electionTimeoutMillis, by default). The test
steps another node up meanwhile, as a node with a higher priority does by itself. The other service
writes there, and both services share Memcached.
"""

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.faults import Injected
from tests.support.history_report import check_record
from tests.support.hot_members import Record
from tests.support.replica_set import ReplicaSet
from tests.support.storm import Storm
from tests.test_failover import read_everything

ELECTION_MS = 10_000
SECONDS_AT_MOST = 120  # of load
CALM = 0.4  # seconds of load before the partition
# Seconds for which a service is suspended in some rounds: longer than cache.heartbeat_ms. Then it
# bypasses the node for a while, and does not read its term.
STALL = 1.5

pytestmark = pytest.mark.exhaustive  # each test starts three nodes and two services


async def depose(
    folder: Path, *, seconds: float, rounds: int = 1, fenced: bool = True
) -> tuple[Record, list[Injected]]:
    """Read and write for some seconds while one service reaches only a deposed primary."""
    injected = []
    async with ReplicaSet(folder, proxied=True, election_ms=ELECTION_MS) as replica_set:
        cluster = Cluster(
            folder,
            replica_set.uri,
            processes=2,
            nodes=1,
            fenced=fenced,
            cache={"heartbeat_ms": 1000},  # the machine is busy, and Memcached is healthy
        )
        replica_set.clients = cluster.services
        async with cluster:
            storm = Storm(cluster, readers=2)
            load = asyncio.create_task(storm.run(SECONDS_AT_MOST))
            try:
                for number in range(rounds):
                    await asyncio.sleep(CALM)
                    start = time.monotonic()
                    alone = cluster.services[number % 2]
                    async with replica_set.deposed_primary(alone):
                        if number % 4 > 1:
                            await alone.pause(STALL)
                        await asyncio.sleep(seconds)
                    injected.append(Injected("deposed-primary", "mongodb", start, time.monotonic()))
                await replica_set.all_well()
            finally:
                storm.stop()
                await load
            await read_everything(storm, cluster)
    return storm.record, injected


def written(record: Record, during: Injected) -> dict[str, int]:
    """Return the number of acknowledged writes during a fault, by service."""
    counts: dict[str, int] = {}
    for operation in record.operations:
        if (
            operation.kind == "write"
            and operation.is_certain
            and during.start < operation.start < during.end
        ):
            counts[operation.process] = counts.get(operation.process, 0) + 1
    return counts


async def test_deposed_primary_makes_no_read_stale(folder: Path) -> None:
    record, injected = await depose(folder, seconds=5, rounds=8)
    assert check_record(record, injected, grace=0).lines == []
    for number, fault in enumerate(injected):
        assert written(record, fault).get(f"service-{2 - number % 2}", 0) > 10
    assert {status for status in record.statuses if status >= 500} == {503}


async def test_deposed_primary_makes_reads_stale_without_the_fence(folder: Path) -> None:
    """The control: the same load finds stale members if elections are ignored."""
    record, injected = await depose(folder, seconds=3, fenced=False)
    assert check_record(record, injected, grace=0).stale > 0

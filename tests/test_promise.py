"""The promise of the cache, checked on the responses of several services under load and faults.

`scripts/soak` runs the same check for longer.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.fault_proxy import NO_FAULT, LinkFault
from tests.support.faults import Faults, Injected
from tests.support.histories import with_versions
from tests.support.history_report import check_record
from tests.support.hot_members import Record
from tests.support.storm import GENTLE, Storm
from tornado_members.embedded.private_servers import PrivateServers

GRACE = 0  # seconds of allowed staleness: none of the faults below cuts off one process alone
SECONDS_AT_MOST = 90  # for operations that take far less

# Faults of Memcached, during which no response may be a 5xx; and of services, which may lose some.
OF_MEMCACHED = ("delay", "node-kill", "node-stop", "garbage")
# Their replacement while Memcached hangs is left to test_replaced_services.py.
OF_SERVICES = ("process-stop", "service-kill")

HITS_WITHIN = 10.0  # seconds after each fault, for every member through every service

DELAY = 0.03  # seconds, each way; a command waits for two of them (cache.timeout_ms)


@dataclass
class Run:
    """The results of a short storm."""

    record: Record
    injected: list[Injected]
    failures_of_memcached: list[tuple[float, str, int]]
    cold: list[str]  # members that did not hit within HITS_WITHIN seconds after a fault


@pytest.fixture(scope="module")
def run(servers: PrivateServers) -> Run:
    """One storm for most tests of this file, with the default settings of the cache."""
    with tempfile.TemporaryDirectory(prefix="tornado-members-promise-") as folder:
        return asyncio.run(_storm(Path(folder), servers.mongodb_uri))


async def _storm(folder: Path, mongodb_uri: str) -> Run:
    cluster = Cluster(
        folder,
        mongodb_uri,
        database="promise",
        processes=2,
        nodes=2,
        proxied=2,
        cache={"timeout_ms": 150, "return_ms": 700},
    )
    async with cluster:
        storm = Storm(cluster, **GENTLE)
        faults = Faults(
            cluster,
            longest=0.4,
            meanwhile=storm.change_resting,
            without_writes=storm.without_writes,
        )
        cold = await _with_load(storm, faults, OF_MEMCACHED)
        failures = [*storm.record.failures]
        await _with_races(storm, cluster, round_trips=4, rounds=3)
        cold += await _with_load(storm, faults, OF_SERVICES)
    return Run(storm.record, faults.injected, failures, cold)


async def _with_load(storm: Storm, faults: Faults, kinds: Sequence[str]) -> list[str]:
    """Inject each fault once, until every member hits again; return the misses, and why."""
    await storm.make_members()
    load = asyncio.create_task(storm.run(SECONDS_AT_MOST))
    cold = []
    try:
        await storm.find_cold(SECONDS_AT_MOST)  # a new service bypasses the cache at first
        for kind in kinds:
            await faults.inject(kind)
            cold += [f"after {kind}: {name}" for name in await storm.find_cold(HITS_WITHIN)]
    finally:
        storm.stop()
        await load
    return cold


async def _with_races(storm: Storm, cluster: Cluster, round_trips: int, rounds: int) -> None:
    """Delay one service's path to a node, but not the other's, until a read is wrong.

    `round_trips` are those of a fill: to look up and to store; with leases, two more for the lease.
    """
    slow, fast = cluster.services
    for proxy in cluster.proxies:
        await proxy.set(LinkFault(delay=DELAY), slow.name)
    for _ in range(rounds):
        await storm.race(slow, fast, spread=round_trips * 2 * DELAY)
        if check_record(storm.record, [], grace=0).stale:
            break
    for proxy in cluster.proxies:
        await proxy.set(NO_FAULT, slow.name)


def test_storm_made_many_requests_and_faults(run: Run) -> None:
    """The other checks would also pass on a history in which nothing happened."""
    assert {fault.kind for fault in run.injected} == {*OF_MEMCACHED, *OF_SERVICES}
    assert run.record.count("write") > 30
    assert run.record.count("read") > 200
    assert run.record.batched > 200
    batched = [a for a in with_versions(run.record.operations) if a.body and a.version is None]
    assert len(batched) < run.record.batched / 10  # of the others, the version is known
    assert {operation.process for operation in run.record.operations} == {"service-1", "service-2"}


def test_memcached_failures_cause_no_errors(run: Run) -> None:
    """Kill it, stop it and let it send garbage, under load."""
    assert run.failures_of_memcached == []


def test_cache_hits_every_member_again_after_each_fault(run: Run) -> None:
    """Under the load of the storm, without a restart of any process."""
    assert run.cold == []


def test_storm_finds_no_contradiction_and_no_loss(run: Run) -> None:
    """Each version has one body and one name, and no member is lost."""
    assert check_record(run.record, run.injected, GRACE).others == []


def test_cache_is_never_stale_or_backward(run: Run) -> None:
    assert check_record(run.record, run.injected, GRACE).lines == []


async def test_naive_cache_is_stale_or_backward(folder: Path, servers: PrivateServers) -> None:
    """The proof can fail: plain cache-aside returns stale reads without a partition.

    The fills of one service are late, and the other changes the member in the meantime.
    """
    cluster = Cluster(
        folder,
        servers.mongodb_uri,
        database="promise",
        processes=2,
        nodes=1,
        proxied=1,
        naive=True,
        cache={"timeout_ms": 1000, "return_ms": 5000},
    )
    async with cluster:
        storm = Storm(cluster, **GENTLE)
        await _with_races(storm, cluster, round_trips=2, rounds=40)
    report = check_record(storm.record, [], grace=0)
    assert report.stale
    assert report.others == []

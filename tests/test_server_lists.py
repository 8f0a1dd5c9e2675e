"""Lists of cache servers that differ between services, and are replaced under load."""

import asyncio
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.history_report import check_record
from tests.support.hot_members import Record
from tests.support.programs import Replacement
from tests.support.storm import GENTLE, Storm
from tornado_members.embedded.private_servers import PrivateServers

SECONDS_AT_MOST = 60
ENOUGH_READS = 200
HOWS: tuple[Replacement, ...] = ("reload", "restart")


async def _roll(folder: Path, mongodb_uri: str, rounds: int) -> tuple[Record, list[list[str]]]:
    """Replace lists under the load of a storm, by a reload of one service and a restart of another.

    In between, the settings of the services differ for a while. Return the members that were not
    hits soon after each change.
    """
    cluster = Cluster(
        folder,
        mongodb_uri,
        database="lists",
        processes=2,
        nodes=3,
        cache={"timeout_ms": 150, "return_ms": 700},
    )
    async with cluster:
        storm, servers = Storm(cluster, **GENTLE), cluster.servers
        await storm.make_members()
        load = asyncio.create_task(storm.run(rounds * SECONDS_AT_MOST))
        cold = []
        try:
            await storm.find_cold(SECONDS_AT_MOST)
            for number in range(rounds):
                wanted = [servers[number % 3], servers[(number + 1) % 3]]
                for service, how in zip(cluster.services, HOWS, strict=True):
                    await asyncio.sleep(0.5)  # while the settings differ, or are still the old ones
                    cluster.set_servers(service, wanted)
                    await service.replace(how)
                await cluster.until_in_force(wanted)
                cold.append(await storm.find_cold(10))
            while storm.record.count("read") <= ENOUGH_READS:  # a busy machine
                await asyncio.sleep(0.1)
        finally:
            storm.stop()
            await load
    return storm.record, cold


def test_reads_are_never_stale_while_a_list_is_replaced(
    folder: Path, servers: PrivateServers
) -> None:
    """All members are hits again after the change."""
    record, cold = asyncio.run(_roll(folder, servers.mongodb_uri, rounds=1))
    assert record.count("write") > 30
    assert record.count("read") > ENOUGH_READS
    assert check_record(record, [], grace=0).anomalies == []
    assert cold == [[]]


@pytest.mark.exhaustive
def test_reads_are_never_stale_while_many_lists_are_replaced(
    folder: Path, servers: PrivateServers
) -> None:
    record, cold = asyncio.run(_roll(folder, servers.mongodb_uri, rounds=12))
    assert check_record(record, [], grace=0).anomalies == []
    assert cold == [[]] * 12

"""The promise while many writers form groups, and MongoDB, Memcached or a service fails."""

import asyncio
import json
import re
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.cluster import Cluster
from tests.support.fault_proxy import CUT, FROZEN, NO_FAULT, FaultProxy, LinkFault
from tests.support.faults import Faults, Injected
from tests.support.history_report import check_record
from tests.support.hot_members import Record
from tests.support.programs import ServiceProgram
from tests.support.storm import Storm
from tornado_members.embedded.private_servers import PrivateServers

pytestmark = pytest.mark.exhaustive

ROUNDS = 3
CALM = 0.5  # seconds of load after each fault
SECONDS_AT_MOST = 240
# And their duration in seconds. Writes that are held for longer than mongodb.timeout_ms are applied
# after their clients have received 503.
OF_MONGODB = {"delay": (LinkFault(delay=0.02), 0.5), "cut": (CUT, 0.5), "freeze": (FROZEN, 4.0)}
OTHERS = ("node-kill", "node-stop", "service-kill", "process-stop")
_WRITTEN = re.compile(
    r'^members_mongodb_operation_duration_seconds_count\{.*operation="(\w+\.replace)".*\} (\d+)',
    re.MULTILINE,
)


def test_promise_holds_for_groups_of_writes_through_faults(
    folder: Path, servers: PrivateServers
) -> None:
    record, injected, groups = asyncio.run(_storm(folder, servers))
    assert len(injected) == ROUNDS * len([*OF_MONGODB, *OTHERS])
    assert groups > 50
    assert check_record(record, injected, grace=0).lines == []


async def _storm(folder: Path, servers: PrivateServers) -> tuple[Record, list[Injected], int]:
    async with FaultProxy(f"127.0.0.1:{servers.ports.mongodb}") as mongodb:
        cluster = Cluster(
            folder,
            f"mongodb://{mongodb.address}/?directConnection=true",
            database="groups",
            processes=2,
            nodes=2,
            audited=False,
            cache={"timeout_ms": 150, "return_ms": 700},
        )
        async with cluster:
            storm = Storm(cluster, readers=2, writers=16, read_pause=0.02)
            faults = Faults(cluster, longest=0.4)
            load = asyncio.create_task(storm.run(SECONDS_AT_MOST))
            await asyncio.sleep(CALM)
            for _ in range(ROUNDS):
                for kind in OF_MONGODB:
                    faults.injected.append(await _disturb(mongodb, kind))
                for kind in OTHERS:
                    await faults.inject(kind)
                    await asyncio.sleep(CALM)
            storm.stop()
            await load
            counts = [
                await asyncio.to_thread(_groups, folder, service) for service in cluster.services
            ]
    return storm.record, faults.injected, sum(counts)


async def _disturb(mongodb: FaultProxy, kind: str) -> Injected:
    start = time.monotonic()
    fault, seconds = OF_MONGODB[kind]
    await mongodb.set(fault)
    await asyncio.sleep(seconds)
    await mongodb.set(NO_FAULT)
    await asyncio.sleep(CALM)
    return Injected(f"mongodb-{kind}", "mongodb", start, time.monotonic())


def _groups(folder: Path, service: ServiceProgram) -> int:
    """Return the number of groups that a service has written since it was started."""
    settings = json.loads((folder / service.name / "settings.yaml").read_text())
    with urlopen(f"http://127.0.0.1:{settings['admin']['port']}/metrics") as reply:
        counts = dict(_WRITTEN.findall(reply.read().decode()))
    return int(counts.get("MemberGroups.replace", 0))

"""The consumer in docs/feed.md keeps a correct copy through its own and the services' faults."""

import asyncio
import json
import re
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pymongo

from tests.support.cluster import Cluster
from tests.support.feed_copy import Churn, stored
from tests.support.programs import Program
from tests.support.service import ROOT
from tornado_members.embedded.private_servers import PrivateServers

SECONDS = 60


class Consumer(Program):
    """The program, as a process that can be killed and started again."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        text = (ROOT / "docs" / "feed.md").read_text()
        (program,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        file = folder / "copy_members.py"
        file.write_text(program)
        self.copy = folder / "members.sqlite"
        command = [sys.executable, str(file), url, str(self.copy)]
        super().__init__("consumer", command, 0, folder / "consumer.log")
        self.environment["TOKEN"] = token

    def members(self) -> dict[int, Any]:
        """Return the copy; it is empty until the consumer has created its table."""
        with closing(sqlite3.connect(self.copy, timeout=30)) as copy:
            if not copy.execute("select 1 from sqlite_master where name = 'members'").fetchall():
                return {}
            found = copy.execute("select id, member from members").fetchall()
        return {member_id: json.loads(member) for member_id, member in found}

    async def until_equal(self, members: Any) -> None:
        """Wait until the copy equals MongoDB."""
        async with asyncio.timeout(SECONDS):
            while self.members() != await asyncio.to_thread(stored, members):
                assert self.pid, self.log.read_text()
                await asyncio.sleep(0.05)


def test_documented_consumer_keeps_a_correct_copy(
    folder: Path, servers: PrivateServers, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    asyncio.run(_keep(folder, servers, admin["feed"]["members"]))


async def _keep(folder: Path, servers: PrivateServers, members: Any) -> None:
    cluster = Cluster(folder, servers.mongodb_uri, database="feed", processes=1, nodes=1)
    members.delete_many({})
    members.insert_many([{"_id": number, "name": f"Member {number}"} for number in range(1, 601)])
    async with cluster:
        (service,) = cluster.services
        address = ("127.0.0.1", service.port)
        consumer = Consumer(folder, f"http://127.0.0.1:{service.port}", cluster.token)
        consumer.start()
        churn = Churn(members, [address], cluster.token, pause=0.02)
        changing = asyncio.create_task(churn.run())
        try:
            await _lose_all_cursors(consumer, service, members)
            changing.cancel()
            await asyncio.wait([changing])
            await consumer.until_equal(members)
            assert members.count_documents({})
        finally:
            changing.cancel()
            await asyncio.wait([changing])
            consumer.kill()


async def _lose_all_cursors(consumer: Consumer, service: Any, members: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while not consumer.copy.exists() or not consumer.members():
            await asyncio.sleep(0.05)
    await consumer.end(signal.SIGKILL)
    await asyncio.sleep(0.3)
    consumer.start()
    await service.replace("worker-kill")
    await asyncio.sleep(0.3)
    await service.replace("reload")
    members.drop()  # as a restore would: all cursors are lost
    await asyncio.sleep(0.3)
    assert consumer.pid, consumer.log.read_text()

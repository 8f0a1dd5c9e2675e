"""Broken connections to MongoDB: the driver retries, and each write happens once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.members import make_draft, make_member
from tests.support.mongodb import Admin
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.counters import Counter
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo, open_mongo
from tornado_members.storage.recorded import RecordedWrites

ADA, GRACE = make_draft(name="Ada"), make_draft(name="Grace")


@pytest.fixture
def records(admin: Admin, database_name: str) -> Any:
    """The records of changes, still empty."""
    records = admin[database_name]["audit"]
    records.delete_many({})
    return records


@asynccontextmanager
async def behind_a_proxy(servers: PrivateServers, driver: Any) -> AsyncIterator[tuple[Any, Mongo]]:
    async with FaultProxy(f"127.0.0.1:{servers.ports.mongodb}") as proxy:
        uri = f"mongodb://{proxy.address}/?directConnection=true"
        mongo = open_mongo(uri, "test", driver, timeout=5)
        yield proxy, mongo
        await mongo.close()


@pytest.mark.usefixtures("records")
async def test_counter_reserves_a_number_once_after_a_broken_connection(
    servers: PrivateServers, driver: Any
) -> None:
    async with behind_a_proxy(servers, driver) as (proxy, mongo):
        counter = Counter(mongo, "memberId")
        assert await counter.take() == 1
        proxy.drop_response_to(b"findAndModify")
        assert await counter.take() == 2
        assert proxy.dropped == 1
        assert await counter.take() == 3


# The command whose reply is lost. A transaction repeats all of its commands, or only the commit.
LOST = {
    "plain": (b"insert", b"findAndModify", b"delete"),
    "recorded": (b"insert", b"findAndModify", b"findAndModify"),
    "commit": (b"commitTransaction", b"commitTransaction", b"commitTransaction"),
}


@pytest.mark.parametrize(
    ("kind", "driver"),
    [("plain", "motor"), ("recorded", "pymongo"), ("commit", "motor"), ("commit", "pymongo")],
    indirect=["driver"],
)
async def test_store_writes_once_after_a_broken_connection(
    servers: PrivateServers, records: Any, driver: Any, kind: str
) -> None:
    lost, recorded = LOST[kind], kind != "plain"
    async with behind_a_proxy(servers, driver) as (proxy, mongo):
        audit = AuditLog(mongo, timedelta(days=1))
        await audit.prepare()
        store = MemberStore(mongo, RecordedWrites(audit) if recorded else None)
        await store.prepare()
        first = await store.take_ids()
        proxy.drop_response_to(lost[0])
        ada = await store.insert(ADA, first)
        proxy.drop_response_to(lost[1])
        grace = await store.replace(1, GRACE)
        proxy.drop_response_to(lost[2])
        assert await store.delete(1) is True
        assert proxy.dropped == 3
    assert (ada.member_id, ada.version) == (1, 1)
    assert grace == make_member(1, 2, name="Grace")
    kinds = [(record["kind"], record["version"]) for record in records.find(sort=[("version", 1)])]
    assert kinds == ([("created", 1), ("changed", 2), ("deleted", 3)] if recorded else [])

"""Lists are prepared while the service serves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pymongo
import pytest
from pymongo.errors import OperationFailure

from tests.support.members import make_draft
from tests.support.waiting import until
from tornado_members.errors import ListsBeingPrepared
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.storage import folding, leader_election, list_preparation
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.leader_election import LeaderElection
from tornado_members.storage.list_preparation import ListPreparation, preparing_lists
from tornado_members.storage.list_readiness import Stage
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo

Admin = pymongo.MongoClient[dict[str, Any]]

EMAIL, PHONE = {"email": "M1@Example.org"}, {"phone": "1"}
# The stage at which each list is answered, and its count.
LISTS = (
    (Filters(), Stage.NAMED, Stage.INDEXED),
    (Filters(name="M 01"), Stage.NAMED, Stage.NAMED),
    (Filters(equal=PHONE), Stage.INDEXED, Stage.INDEXED),
    (Filters(equal=EMAIL), Stage.FILLED_IN, Stage.FILLED_IN),
    (Filters(equal=EMAIL, name="M 01"), Stage.FILLED_IN, Stage.FILLED_IN),
    (Filters(name_prefix="m 01"), Stage.FILLED_IN, Stage.FILLED_IN),
    (Filters(q="m 01"), Stage.FILLED_IN, Stage.FILLED_IN),
)


@pytest.fixture
def members(admin: Admin, database_name: str) -> Any:
    """The collection itself, without an index of lists, as another program left it."""
    found = admin[database_name]["members"]
    found.drop_indexes()
    return found


def insert_foreign(members: Any, first: int, last: int) -> None:
    members.insert_many(
        [
            {"_id": i, "name": f"M {i:02}", "email": f"M{i}@Example.org", "phone": f"{i}"}
            for i in range(first, last + 1)
        ]
    )


@asynccontextmanager
async def store_of(mongo: Mongo) -> AsyncIterator[tuple[MemberStore, ListPreparation]]:
    preparation = ListPreparation(mongo, MemberCodec())
    store = MemberStore(mongo, readiness=preparation.readiness)
    await store.prepare()
    yield store, preparation


async def refuses(question: Any) -> bool:
    try:
        await question
    except ListsBeingPrepared:
        return True
    return False


async def reached(preparation: ListPreparation, stage: Stage) -> None:
    await until(lambda: preparation.readiness.stage >= stage)


async def test_each_list_is_answered_from_the_stage_at_which_it_is_complete(
    mongo: Mongo, members: Any
) -> None:
    insert_foreign(members, 1, 3)
    async with store_of(mongo) as (store, preparation):

        async def check() -> None:
            stage = preparation.readiness.stage
            for filters, for_page, for_count in LISTS:
                assert await refuses(store.page(ListQuery(filters))) == (stage < for_page)
                assert await refuses(store.page_json(ListQuery(filters))) == (stage < for_page)
                assert await refuses(store.count(filters)) == (stage < for_count)

        await check()
        assert preparation.detail() == "their indexes are being created"
        await preparation._indexes.create(preparation._wanted)
        preparation._reached(Stage.INDEXED)
        await check()
        assert "0 of 0 members" in (preparation.detail() or "")
        await preparation.prepare()
        await check()
        assert preparation.detail() is None
        for filters, _, _ in LISTS[1:]:
            assert [member.member_id for member in await store.page(ListQuery(filters))] == [1]


async def test_writes_during_the_preparation_are_kept_and_found(
    mongo: Mongo, members: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write falls between the reading of a batch and its update."""
    monkeypatch.setattr(folding, "_BATCH", 10)
    insert_foreign(members, 1, 40)
    async with store_of(mongo) as (store, preparation):
        read = folding.Folding._read_batch
        # By a member of the batch before whose update the write happens.
        writes: dict[int, Callable[[], Awaitable[Any]]] = {
            1: lambda: store.insert(make_draft(name="New One")),
            5: lambda: store.replace(5, make_draft(name="Renamed 5", email="five@x.org")),
            35: lambda: store.replace(35, make_draft(name="Renamed 35")),
            36: lambda: store.delete(36),
        }

        async def read_and_write(self: Any, cursor: Any) -> Any:
            batch = await read(self, cursor)
            for member_id in writes.keys() & {document["_id"] for document in batch}:
                assert preparation.readiness.stage == Stage.INDEXED
                await writes.pop(member_id)()
            return batch

        monkeypatch.setattr(folding.Folding, "_read_batch", read_and_write)
        async with preparing_lists(preparation, max_wait=0):
            await reached(preparation, Stage.FILLED_IN)
        assert not writes
        assert (await store.find_by_name("Renamed 5")) == await store.find_member(5)
        found = {
            text: [member.member_id for member in await store.page(ListQuery(Filters(q=text)))]
            for text in ("new one", "renamed", "five", "m 05", "m 35", "m 36", "m 40")
        }
    assert found == {
        "new one": [41],
        "renamed": [5, 35],
        "five": [5],
        "m 05": [],
        "m 35": [],
        "m 36": [],
        "m 40": [40],
    }
    assert members.find_one({"_id": 5})["version"] == 2


async def test_one_process_fills_in_and_the_others_wait(
    mongo: Mongo, members: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_BATCH", 5)
    monkeypatch.setattr(leader_election, "LOCK_SECONDS", 60)
    insert_foreign(members, 1, 300)
    async with (
        store_of(mongo) as (_, first),
        store_of(mongo) as (_, second),
        preparing_lists(first, max_wait=0),
    ):
        await until(lambda: first.folding.filled_in)
        async with preparing_lists(second, max_wait=None):
            assert members.count_documents({"nameFold": None}) == 0
        # MongoDB has applied the last update by now; its reply may be on its way.
        await reached(first, Stage.FILLED_IN)
        assert (first.folding.filled_in, second.folding.filled_in) == (300, 0)


async def test_process_that_loses_the_lock_stops_and_begins_again(
    mongo: Mongo, members: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_BATCH", 5)
    monkeypatch.setattr(leader_election, "LOCK_SECONDS", 60)
    insert_foreign(members, 1, 30)
    async with store_of(mongo) as (_, preparation):
        read, acquire = folding.Folding._read_batch, LeaderElection.acquire
        lost, acquired = False, 0

        async def count(self: Any) -> bool:
            nonlocal acquired
            acquired += 1
            return await acquire(self)

        async def read_and_lose(self: Any, cursor: Any) -> Any:
            nonlocal lost
            batch = await read(self, cursor)
            if preparation.folding.filled_in and not lost:
                lost = True
                preparation._lock.valid_until = 0.0
            return batch

        monkeypatch.setattr(folding.Folding, "_read_batch", read_and_lose)

        async def keep(_lock: Any, _progress: Any) -> bool:
            return True

        monkeypatch.setattr(LeaderElection, "acquire", count)
        monkeypatch.setattr(LeaderElection, "renew", keep)  # its late reply would undo the loss
        await preparation.prepare()
        assert acquired == 2
        assert preparation.folding.filled_in == 30


async def test_start_raises_what_an_operator_must_correct(
    mongo: Mongo, members: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that does not wait reports it in /readyz, and continues once it is corrected."""
    monkeypatch.setattr(list_preparation, "_FAULT_RETRY_SECONDS", 0.05)
    name = "nameFold_1_name_1__id_1"
    members.create_index([("nameFold", 1)], name=name)
    async with store_of(mongo) as (_, preparation):
        with pytest.raises(OperationFailure):
            async with preparing_lists(preparation):
                pass
    async with (
        store_of(mongo) as (store, preparation),
        preparing_lists(preparation, max_wait=0),
    ):
        await until(lambda: "cannot be prepared" in (preparation.detail() or ""))
        assert preparation.detail() == "cannot be prepared: refuses: IndexKeySpecsConflict"
        assert await refuses(store.page(ListQuery(Filters(q="a"))))
        members.drop_index(name)
        await reached(preparation, Stage.FILLED_IN)
        assert preparation.detail() is None

"""MemberStore on a real MongoDB, with both drivers."""

import asyncio
from typing import Any, cast

import bson
import pymongo
import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument

from tests.storage.conftest import EITHER_DRIVER
from tests.support.members import ADA, GRACE, make_draft, make_member
from tests.support.suspension import suspend
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import DependencyUnavailable, NameTaken
from tornado_members.model.list_query import ListQuery
from tornado_members.model.member import Member
from tornado_members.settings import SettingsError
from tornado_members.storage.counters import Counter
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo, open_mongo
from tornado_members.storage.operations import translate_outages

Admin = pymongo.MongoClient[dict[str, Any]]


@EITHER_DRIVER
async def test_insert_stores_the_documented_fields(store: MemberStore, members: Any) -> None:
    member = await store.insert(ADA)
    document = members.find_one({"_id": member.member_id})
    assert isinstance(document["_id"], Int64)
    assert isinstance(document["version"], Int64)
    assert document["createdAt"] == document["updatedAt"]
    dates = {"createdAt", "updatedAt"}
    derived = {"nameFold", "emailFold", "searchWords"}
    assert set(document) == {"_id", *ADA.values, *derived, "version", *dates}


@EITHER_DRIVER
async def test_find_by_id_and_by_name(store: MemberStore) -> None:
    ada = await store.insert(ADA)
    assert await store.find_member(ada.member_id) == ada
    assert await store.find_by_name("Ada Lovelace") == ada
    assert await store.find_by_names(["Ada Lovelace", "Nobody"]) == {"Ada Lovelace": ada}
    assert await store.find_member(999) is None
    assert await store.find_by_name("ada lovelace") is None


async def test_find_member_shares_a_query_within_one_turn(store: MemberStore, members: Any) -> None:
    """Each look-up returns what it would return alone, from one query."""
    ada, grace = await store.insert(ADA), await store.insert(GRACE)
    members.insert_many([{"_id": 77}, {"_id": 78, "name": 5}, {"_id": 79.0, "name": "Float"}])
    ids = [grace.member_id, 999, ada.member_id, 77, 78, 79, ada.member_id]
    alone = [await store.find_member(member_id) for member_id in ids]
    assert alone[:5] == [grace, None, ada, None, None]
    operations = store.mongo.operations.times["MemberStore.find_members"]
    before = operations.count
    together = await asyncio.gather(*(store.find_member(member_id) for member_id in ids))
    assert [*together] == alone
    assert operations.count == before + 1


@EITHER_DRIVER
async def test_find_member_is_not_affected_by_other_documents(
    store: MemberStore, members: Any
) -> None:
    ada, grace = await store.insert(ADA), await store.insert(GRACE)
    members.insert_one({"_id": Decimal128("77"), "name": "A number, but none of Python's"})
    broken = bson.encode({"_id": 78, "name": "QQQQ"}).replace(b"QQQQ", b"\xff\xfe\xfd\xfc")
    members.insert_one(RawBSONDocument(broken))
    ids = [77, ada.member_id, 78, 999, grace.member_id]
    expected = [None, ada, make_member(78, 1, name="\ufffd" * 4), None, grace]
    assert [(await store.find_members([member_id]))[0] for member_id in ids] == expected
    assert [*await asyncio.gather(*(store.find_member(number) for number in ids))] == expected


@EITHER_DRIVER
async def test_replace_raises_the_version_by_one_per_change(
    store: MemberStore, members: Any
) -> None:
    ada = await store.insert(ADA)
    before = members.find_one({"_id": ada.member_id})
    assert await store.replace(ada.member_id, ADA) == ada
    assert members.find_one({"_id": ada.member_id}) == before
    changed = await store.replace(ada.member_id, GRACE)
    assert changed == make_member(ada.member_id, 2, name="Grace Hopper")
    after = members.find_one({"_id": ada.member_id})
    assert isinstance(after["version"], Int64)
    assert after["createdAt"] == before["createdAt"]
    assert after["updatedAt"] > before["updatedAt"]
    assert await store.replace(999, ADA) is None


@EITHER_DRIVER
async def test_replace_named_requires_the_name(store: MemberStore) -> None:
    ada = await store.insert(ADA)
    draft = make_draft(name=ADA.name)
    assert await store.replace_named(ada.member_id, draft) == make_member(1, 2, name=ADA.name)
    assert await store.replace_named(ada.member_id, GRACE) is None


async def test_replace_concurrently_raises_the_version_each_time(store: MemberStore) -> None:
    ada = await store.insert(ADA)
    drafts = [make_draft(name=ADA.name, phone=f"555-{i:04}") for i in range(20)]
    changed = await asyncio.gather(*(store.replace(ada.member_id, draft) for draft in drafts))
    assert sorted(member.version for member in changed if member) == list(range(2, 22))


async def test_insert_and_replace_raise_name_taken(store: MemberStore) -> None:
    ada = await store.insert(ADA)
    grace = await store.insert(GRACE)
    with pytest.raises(NameTaken) as conflict:
        await store.insert(ADA)
    assert conflict.value.member_id == ada.member_id
    with pytest.raises(NameTaken) as conflict:
        await store.replace(grace.member_id, ADA)
    assert conflict.value.member_id == ada.member_id
    assert await store.find_member(grace.member_id) == grace


async def test_insert_of_one_name_fifty_times_creates_one_member(
    store: MemberStore, members: Any
) -> None:
    results = await asyncio.gather(*(store.insert(ADA) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(result, Member) for result in results) == 1
    assert sum(isinstance(result, NameTaken) for result in results) == 49
    assert members.count_documents({}) == 1


async def test_insert_many_leaves_out_taken_names(store: MemberStore) -> None:
    await store.insert(GRACE)
    drafts = [ADA, GRACE, make_draft(name="Edsger")]
    stored = await store.insert_many(drafts)
    assert [member.name if member else None for member in stored] == [
        "Ada Lovelace",
        None,
        "Edsger",
    ]
    assert [member.member_id for member in stored if member] == [2, 4]


async def test_delete_removes_a_member_once(store: MemberStore) -> None:
    ada = await store.insert(ADA)
    assert await store.delete(ada.member_id) is True
    assert await store.delete(ada.member_id) is False


@EITHER_DRIVER
async def test_page_is_sorted_in_every_order(store: MemberStore) -> None:
    for name in ("b", "a", "d", "c"):
        await store.insert(make_draft(name=name))

    async def names(**page: Any) -> str:
        return "".join(member.name for member in await store.page(ListQuery(**page)))

    assert await names(field="memberId", descending=False, after=None, limit=3) == "bad"
    assert await names(field="memberId", descending=True, after=3, limit=9) == "ab"
    assert await names(field="name", descending=False, after="b", limit=1) == "c"
    assert await names(field="name", descending=True, after=None, limit=9) == "dcba"


@EITHER_DRIVER
async def test_document_of_another_program_may_lack_optional_fields(
    store: MemberStore, members: Any
) -> None:
    members.insert_one({"_id": 5, "name": "By hand"})
    assert await store.find_member(5) == make_member(5, 1, name="By hand")
    changed = await store.replace(5, ADA)
    assert changed is not None
    assert changed.version == 2


@EITHER_DRIVER
async def test_prepare_skips_documents_that_are_not_members(
    store: MemberStore, members: Any, admin: Admin, database_name: str
) -> None:
    members.insert_many(
        [
            {"_id": "x", "name": "an id that is text"},
            {"_id": 5},
            {"_id": 6, "name": 7},
            {"_id": 7, "name": "no version", "version": None},
            {"_id": 2**60, "name": "an id that no client could read"},
            {"_id": 3.5, "name": "an id that is not whole"},
            {"_id": Decimal128("4"), "name": "an id of a type that is not for counting"},
            {"_id": 2, "name": ["a name that is a list"]},
        ]
    )
    await store.prepare()
    assert (await store.insert(ADA)).member_id == 8
    assert await store.find_member(5) is None
    assert await store.find_member(6) is None
    page = await store.page(ListQuery())
    assert [member.member_id for member in page] == [7, 8]
    assert admin[database_name]["counters"].find_one({"value": 8})


@EITHER_DRIVER
async def test_prepare_raises_the_counter_past_restored_members(
    store: MemberStore, members: Any, admin: Admin, database_name: str
) -> None:
    members.insert_one({"_id": Int64(500), "name": "Restored"})
    admin[database_name]["counters"].delete_many({})
    await store.prepare()
    assert (await store.insert(ADA)).member_id == 501


@EITHER_DRIVER
async def test_counter_never_goes_back(mongo: Mongo) -> None:
    counter = Counter(mongo, "test")
    assert await counter.take() == 1
    assert await counter.take(10) == 2
    await counter.raise_to(5)
    assert await counter.take() == 12
    await counter.raise_to(100)
    numbers = await asyncio.gather(*(counter.take() for _ in range(50)))
    assert sorted(numbers) == list(range(101, 151))


@EITHER_DRIVER
@pytest.mark.parametrize(
    ("stored", "first"),
    [("500", 501), (Decimal128("7.5"), 8), (7.0, 8), ([9], 1), (None, 1), (float("nan"), 1)],
)
async def test_counter_of_another_type_is_repaired(
    mongo: Mongo, admin: Admin, stored: Any, first: int
) -> None:
    counter = Counter(mongo, "test")
    admin["test"]["counters"].insert_one({"_id": "test", "value": stored})
    await counter.raise_to(0)
    assert await counter.take() == first


@EITHER_DRIVER
async def test_counter_without_numbers_raises_overflow_error(mongo: Mongo) -> None:
    counter = Counter(mongo, "test")
    await counter.raise_to(2**53 - 1)
    with pytest.raises(OverflowError):
        await counter.take()


async def test_client_has_majority_concerns_and_a_timeout(mongo: Mongo) -> None:
    concern = mongo.database["members"].write_concern.document
    assert concern == {"w": "majority", "j": True}
    assert mongo.database["members"].read_concern.level == "majority"
    assert cast(Any, mongo.client).options.timeout == 30


async def test_store_raises_dependency_unavailable_in_time(driver: Any) -> None:
    mongo = open_mongo("mongodb://127.0.0.1:1/?replicaSet=rs0", "test", driver, timeout=0.2)
    store = MemberStore(mongo)
    for call in (store.find_member(1), store.insert(ADA), store.delete(1), store.prepare()):
        async with asyncio.timeout(10):  # the driver's default is 30 seconds
            with pytest.raises(DependencyUnavailable):
                await call
    await mongo.close()


async def test_store_operations_do_not_wait_for_threads_of_a_hanging_database(
    servers: PrivateServers, database_name: str, driver: Any
) -> None:
    """Motor has five threads per core. If all of them wait, other operations have no thread."""
    mongo = open_mongo(servers.mongodb_uri, database_name, driver, timeout=0.5)
    store = MemberStore(mongo)
    await store.find_member(1)
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    suspend(mongod)
    try:
        async with asyncio.timeout(15):  # ten at a time, they would take 30 seconds
            waiting = (store.find_member(i + 1) for i in range(600))
            results = await asyncio.gather(*waiting, return_exceptions=True)
    finally:
        mongod.resume()
    assert all(isinstance(result, DependencyUnavailable) for result in results)
    await mongo.close()


async def test_close_waits_for_detached_operations(servers: PrivateServers, driver: Any) -> None:
    """The end of the loop would otherwise cancel the operations of PyMongo."""
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=0.05)
    let_go, ended = asyncio.Event(), []

    class Store:
        def __init__(self) -> None:
            self.mongo = mongo

        @translate_outages
        async def operate(self) -> None:
            try:
                await let_go.wait()
                ended.append("done")
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    with pytest.raises(DependencyUnavailable):
        await Store().operate()
    closing = asyncio.create_task(mongo.close())
    if driver == "pymongo":
        await asyncio.sleep(0.05)
        assert (closing.done(), ended) == (False, [])
        let_go.set()
    await closing
    assert ended == ["done" if driver == "pymongo" else "cancelled"]


async def test_close_does_not_wait_for_a_hanging_server(
    servers: PrivateServers, database_name: str, driver: Any
) -> None:
    """By default, drivers wait half a minute for the commands that end sessions."""
    mongo = open_mongo(servers.mongodb_uri, database_name, driver, timeout=0.5)
    await MemberStore(mongo).find_member(1)
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    suspend(mongod)
    try:
        async with asyncio.timeout(10):
            await mongo.close()
    finally:
        mongod.resume()


@pytest.mark.parametrize(
    "uri", ["mongodb://host:port", "mongodb://h/?x=y", "mongodb://u:hunter/hunter2@h/"]
)
async def test_invalid_uri_raises_settings_error(uri: str, driver: Any) -> None:
    with pytest.raises(SettingsError, match=r"mongodb\.uri") as refused:
        open_mongo(uri, "test", driver, timeout=1)
    assert "hunter2" not in str(refused.value)

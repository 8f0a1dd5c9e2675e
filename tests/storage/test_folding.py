"""Members that another program wrote receive their folded names."""

import asyncio
import logging
from typing import Any

import bson
import pymongo
import pytest
from bson import Int64
from bson.raw_bson import RawBSONDocument

from tests.storage.conftest import EITHER_DRIVER
from tests.support.members import make_draft
from tests.support.mongodb import prepare_all
from tests.support.suspension import suspend
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import DependencyUnavailable
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.storage import folding, list_preparation
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.folding import Folding
from tornado_members.storage.list_preparation import ListPreparation, preparing_lists
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo, open_mongo

pytestmark = EITHER_DRIVER

Admin = pymongo.MongoClient[dict[str, Any]]


def name_folds(members: Any) -> dict[Any, Any]:
    return {
        document["_id"]: (document.get("nameFold"), document.get("emailFold"))
        for document in members.find()
    }


async def test_folding_fills_in_missing_fields_at_the_start(mongo: Mongo, members: Any) -> None:
    store = MemberStore(mongo)
    await prepare_all(store)
    members.insert_many(
        [
            {"_id": Int64(1), "name": "Straße", "email": "Ada@Example.org", "version": Int64(7)},
            {"_id": 2, "name": "$name", "email": None, "nameFold": None},
            {"_id": 3.0, "name": "İ", "email": 5, "nameFold": 5, "emailFold": "5"},
            {"_id": 4, "name": "B", "email": ["x@example.org"], "nameFold": {"a": 1}},
            {"_id": 5, "name": "ours", "nameFold": "not looked at", "searchWords": ["nor", "this"]},
            {"_id": 8, "name": "Of 0.1", "nameFold": "of 0.1", "emailFold": None},
            {"_id": 9, "name": "!?", "nameFold": "!?", "searchWords": []},
            {"_id": 6, "name": 7},
            {"_id": "x", "name": "X"},
        ]
    )
    await prepare_all(store)
    assert name_folds(members) == {
        1: ("strasse", "ada@example.org"),
        2: ("$name", None),
        3: ("i\u0307", None),
        4: ("b", None),
        5: ("not looked at", None),
        8: ("of 0.1", None),
        9: ("!?", None),
        6: (None, None),
        "x": (None, None),
    }
    assert members.find_one({"_id": 1})["version"] == 7  # the visible part is unchanged
    for filters in (
        Filters(name_prefix="STRASS"),
        Filters(equal={"email": "ADA@example.org"}),
        Filters(q="ada stras"),
    ):
        assert [m.member_id for m in await store.page(ListQuery(filters))] == [1]
    found = {q: [m.member_id for m in await store.page(ListQuery(Filters(q=q)))] for q in "nOx"}
    assert found == {"n": [2, 5], "O": [1, 8], "x": []}  # one of them has words already


async def test_folding_by_two_processes_fills_in_many_and_logs_progress(
    mongo: Mongo, members: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await prepare_all(MemberStore(mongo))
    members.insert_many([{"_id": i, "name": f"Member {i:03}"} for i in range(1, 251)])
    monkeypatch.setattr(folding, "_BATCH", 20)
    monkeypatch.setattr(folding, "_REPORT_SECONDS", 0)
    caplog.set_level(logging.INFO)
    both = Folding(mongo), Folding(mongo)
    assert await asyncio.gather(*(process.fill_in() for process in both)) == [True, True]
    assert sum(process.filled_in for process in both) == 250
    assert members.count_documents({"nameFold": {"$regex": "^member"}}) == 250
    logged = caplog.text
    assert "250 members of another program or an earlier version have no folded names or" in logged
    assert " of 250 members so far" in logged
    assert "cannot be given any" not in logged
    caplog.clear()
    assert not await both[0].is_lacking()
    assert await both[0].fill_in()
    assert not caplog.text


async def test_folding_keeps_what_a_concurrent_change_stores(
    mongo: Mongo, members: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemberStore(mongo)
    await prepare_all(store)
    members.insert_many([{"_id": i, "name": f"Old {i}", "email": "a@x.org"} for i in range(1, 5)])
    read = Folding._read_batch
    rounds = 0

    async def read_and_change(self: Folding, cursor: Any) -> Any:
        nonlocal rounds
        batch = await read(self, cursor)
        rounds += 1
        if rounds == 1:
            await store.replace(1, make_draft(name="Renamed By Us", email="B@x.org"))
            members.update_one({"_id": 2}, {"$set": {"name": "Renamed By Hand"}})
            members.update_one({"_id": 3}, {"$set": {"email": "By@Hand.org"}})
            members.delete_one({"_id": 4})
        return batch

    monkeypatch.setattr(Folding, "_read_batch", read_and_change)
    filling = Folding(mongo)
    await filling.fill_in()  # it finds the changed documents too late
    await filling.fill_in()
    assert name_folds(members) == {
        1: ("renamed by us", "b@x.org"),
        2: ("renamed by hand", "a@x.org"),
        3: ("old 3", "by@hand.org"),
    }


async def test_folding_fills_in_what_other_programs_write_later(
    mongo: Mongo, members: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also documents that they change, if they remove the folded name with the old name."""
    store = MemberStore(mongo)
    await prepare_all(store)
    monkeypatch.setattr(list_preparation, "_SCAN_SECONDS", 0.01)
    await store.insert(make_draft(name="Ada"))
    async with preparing_lists(ListPreparation(mongo, MemberCodec())):
        removed_fields = {"nameFold": "", "emailFold": ""}
        members.update_one({"_id": 1}, {"$set": {"name": "GRACE"}, "$unset": removed_fields})
        members.insert_one({"_id": 2, "name": "Grace Hopper"})
        async with asyncio.timeout(60):
            while len(await store.page(ListQuery(Filters(name_prefix="grace")))) < 2:
                await asyncio.sleep(0.01)
    assert len(await store.page(ListQuery(Filters(q="grace")))) == 2
    assert await store.page(ListQuery(Filters(q="ada"))) == []
    assert name_folds(members) == {1: ("grace", None), 2: ("grace hopper", None)}


async def test_folding_has_a_longer_timeout_than_requests(
    servers: PrivateServers,
    database_name: str,
    members: Any,
    driver: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A start that gave up on a busy database would never complete."""
    mongo = open_mongo(servers.mongodb_uri, database_name, driver, timeout=0.5)
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    members.insert_one({"_id": 1, "name": "Ada"})
    read = Folding._read_batch

    async def read_and_suspend(self: Folding, cursor: Any) -> Any:
        batch = await read(self, cursor)
        if batch:
            suspend(mongod)
            asyncio.get_running_loop().call_later(1.5, mongod.resume)
        return batch

    monkeypatch.setattr(Folding, "_read_batch", read_and_suspend)
    filling = Folding(mongo)
    try:
        assert await filling.fill_in()
        assert filling.filled_in == 1
    finally:
        mongod.resume()
        await mongo.close()


async def test_folding_scan_costs_one_key(mongo: Mongo, admin: Admin) -> None:
    store = MemberStore(mongo)
    await prepare_all(store)
    await store.insert_many([make_draft(name=f"Member {i}") for i in range(200)])
    await store.insert_many([make_draft(name="!" * i) for i in range(1, 100)])
    for lacking, index in folding._SCANS:
        find = {"find": "members", "filter": lacking, "hint": dict(index)}
        explained = admin["test"].command("explain", find, verbosity="executionStats")
        assert explained["executionStats"]["totalKeysExamined"] <= 1
        assert explained["executionStats"]["totalDocsExamined"] == 0


async def test_folding_raises_dependency_unavailable_in_an_outage(
    driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "_TIMEOUT_SECONDS", 0.2)
    mongo = open_mongo("mongodb://127.0.0.1:1/?replicaSet=rs0", "test", driver, timeout=0.2)
    async with asyncio.timeout(10):
        with pytest.raises(DependencyUnavailable):
            await Folding(mongo).fill_in()
    await mongo.close()


async def test_folding_continues_behind_documents_that_are_not_members(
    mongo: Mongo, members: Any
) -> None:
    """More of each kind than fit into one batch."""
    await prepare_all(MemberStore(mongo))
    members.insert_many([{"_id": i, "name": [f"A {i}"]} for i in range(1, 261)])
    members.insert_many([{"_id": 300.5 + i, "name": f"A {i} and a half"} for i in range(260)])
    members.insert_one({"_id": 1000, "name": "Zoe"})
    filling = Folding(mongo)
    assert await filling.fill_in()
    assert filling.filled_in == 1
    assert members.find_one({"nameFold": {"$exists": True}})["nameFold"] == "zoe"


async def test_folding_continues_behind_names_that_cannot_be_matched(
    mongo: Mongo, members: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Names that are not UTF-8 are read with replacements; the log reports them once."""
    await prepare_all(MemberStore(mongo))
    for number in range(1, 261):
        document = bson.encode({"_id": number, "name": f"A {number:03} QQ"})
        members.insert_one(RawBSONDocument(document.replace(b"QQ", b"\xff\xfe")))
    members.insert_one({"_id": 1000, "name": "Zoe"})
    filling = Folding(mongo)
    assert all([await filling.fill_in() for _ in range(5)])
    assert filling.filled_in == 1
    assert members.find_one({"nameFold": {"$exists": True}})["nameFold"] == "zoe"
    assert caplog.text.count("cannot be given any") == 1
    assert "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" in caplog.text

"""The change stream of a real MongoDB, through both drivers."""

import asyncio
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import bson
import pymongo
import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from tests.storage.conftest import EITHER_DRIVER
from tests.support.mongodb import failing, open_streams
from tests.support.suspension import suspend
from tornado_members.embedded import private_servers
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.embedded.programs import find_mongod, free_port, mongod_command
from tornado_members.storage import change_reader
from tornado_members.storage.audit import AuditLog, TransactionsMissing
from tornado_members.storage.change_reader import (
    ChangesUnavailable,
    HistoryLost,
    NotReplicated,
    Token,
)
from tornado_members.storage.changes import Batch, Change, MemberChanges
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.feed_source import FeedSource
from tornado_members.storage.mongo import Mongo, open_mongo

Admin = pymongo.MongoClient[dict[str, Any]]
Batches = AsyncGenerator[Batch, None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll an idle stream more often."""
    monkeypatch.setattr(change_reader, "_AWAIT_MS", 30)


@asynccontextmanager
async def tail(mongo: Mongo, token: Token | None = None) -> AsyncIterator[Batches]:
    """Open a stream; one without a token has yielded its first batch."""
    async with aclosing(MemberChanges(mongo).since(token)) as batches:
        if token is None:
            first = await anext(batches)
            assert first.everything
            assert first.token
        yield batches


async def collect(batches: Batches, count: int) -> list[Change]:
    """Return at least so many of the next changes, within ten seconds."""
    found: list[Change] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            batch = await anext(batches)
            assert not batch.everything
            found += batch.changes
    return found


async def until_everything(batches: Batches) -> Batch:
    """Return the next batch after which anything may have changed, within ten seconds."""
    async with asyncio.timeout(60):
        while not (batch := await anext(batches)).everything:
            pass
    return batch


async def test_stream_is_closed_if_its_reader_is_cancelled_while_it_opens(
    mongo: Mongo, admin: Admin, database_name: str
) -> None:
    feed = FeedSource(mongo, MemberCodec(), None)
    token = await feed.current_token()
    slow = {"failCommands": ["aggregate"], "blockConnection": True, "blockTimeMS": 200}
    before = open_streams(admin, database_name)  # by earlier tests, whose clients were closed
    for place in (None, token):  # MongoDB is asked for the present place, or opens the stream
        batches = feed.since(place)
        with failing(admin, 1, **slow):
            reading = asyncio.create_task(anext(batches))
            await asyncio.sleep(0.1)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        await batches.aclose()
        await asyncio.sleep(0.2)  # a stream that was left behind is open by now
        assert open_streams(admin, database_name) <= before


@pytest.mark.parametrize("driver", ["pymongo"], indirect=True)
async def test_stream_of_the_service_opens_and_closes_without_waiting_for_a_change(
    servers: PrivateServers, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_reader, "_LONG_AWAIT_MS", 50_000)
    uri = servers.mongodb_uri
    mongo = open_mongo(uri, database_name, "pymongo", timeout=30, for_streams=True)
    async with asyncio.timeout(25):
        async with tail(mongo) as batches:
            reading = asyncio.create_task(anext(batches))
            await asyncio.sleep(0.2)
            assert not reading.done()
            reading.cancel()
            await asyncio.wait([reading])
        await mongo.close()


async def test_events_are_read_as_changes(mongo: Mongo, members: Any) -> None:
    """Events close together may form one batch, in which no change occurs twice."""
    async with tail(mongo) as batches:
        steps: list[tuple[Callable[[], Any], Change]] = [
            (lambda: members.insert_one({"_id": Int64(1), "name": "Ada"}), Change(1, "Ada")),
            (lambda: members.update_one({"_id": 1}, {"$set": {"phone": "1"}}), Change(1, None)),
            (lambda: members.update_one({"_id": 1}, {"$set": {"name": "A"}}), Change(1, "A")),
            (lambda: members.update_one({"_id": 1}, [{"$set": {"name": "B"}}]), Change(1, "B")),
            (lambda: members.replace_one({"_id": 1}, {"name": "C"}), Change(1, "C")),
            (lambda: members.update_one({"_id": 1}, {"$set": {"name": 7}}), Change(1, None)),
            (lambda: members.delete_one({"_id": 1}), Change(1, None)),
            (lambda: members.insert_one({"_id": 2.0, "name": "Dora"}), Change(2, "Dora")),
        ]
        for change, expected in steps:
            await asyncio.to_thread(change)
            assert await collect(batches, 1) == [expected]


@EITHER_DRIVER
async def test_changes_skip_documents_that_are_not_members(mongo: Mongo, members: Any) -> None:
    async with tail(mongo) as batches:
        ids = ["x", True, 2.5, float("nan"), 2**60, 0, -1, {"a": 1}, None, Decimal128("7")]
        members.insert_many([{"_id": key, "name": f"{key}"} for key in ids])
        members.insert_one({"_id": 5, "name": "Eve"})
        assert await collect(batches, 1) == [Change(5, "Eve")]


@EITHER_DRIVER
async def test_change_stream_survives_text_that_is_not_utf_8(mongo: Mongo, members: Any) -> None:
    """A stream that could not decode an event would reopen at the same place forever."""
    async with tail(mongo) as batches:
        document = bson.encode({"_id": 5, "name": "QQ"}).replace(b"QQ", b"\xff\xfe")
        members.insert_one(RawBSONDocument(document))
        assert await collect(batches, 1) == [Change(5, "\ufffd\ufffd")]


@EITHER_DRIVER
async def test_batch_has_the_time_of_its_last_event(mongo: Mongo, members: Any) -> None:
    async with tail(mongo) as batches:
        members.insert_many([{"_id": i, "name": f"{i}"} for i in range(1, 6)])
        created = members.find_one({"_id": 5})
        assert created
        seen = 0
        while seen < 5:
            batch = await anext(batches)
            seen += batch.events
        assert batch.happened
        assert batch.happened.tzinfo
        status = members.database.command("hello")
        assert abs((status["localTime"] - batch.happened.replace(tzinfo=None)).seconds) < 10


async def test_change_stream_resumes_from_a_token(mongo: Mongo, members: Any) -> None:
    async with tail(mongo) as batches:
        members.insert_one({"_id": 1, "name": "before"})
        await collect(batches, 1)
        idle = await anext(batches)
    members.insert_many([{"_id": i, "name": f"{i}"} for i in range(2, 1300)])
    members.database["others"].insert_one({})
    async with tail(mongo, idle.token) as batches:
        found = await collect(batches, 1298)
    assert found == [Change(i, f"{i}") for i in range(2, 1300)]


async def test_change_stream_holds_few_events_after_an_import(
    mongo: Mongo, members: Any, admin: Admin
) -> None:
    """MongoDB by default sends as many events as fit into 16 MiB."""
    async with tail(mongo) as batches:
        token = (await anext(batches)).token
    members.insert_many([{"_id": i, "name": f"{i}"} for i in range(1, 1201)])
    database = admin["test"]
    database.command("profile", 2, filter={"op": "getmore"})
    try:
        async with tail(mongo, token) as batches:
            assert len(await collect(batches, 1200)) == 1200
    finally:
        database.command("profile", 0, filter="unset")
        sent = [entry.get("nreturned", 0) for entry in database["system.profile"].find()]
        database.drop_collection("system.profile")
    assert sum(sent) >= 700  # the profile does not include the first batch
    assert max(sent) <= 500


async def test_token_advances_while_no_member_changes(mongo: Mongo, admin: Admin) -> None:
    """Otherwise, the oplog would have lost its place after some quiet days."""
    async with tail(mongo) as batches:
        before = (await anext(batches)).token
        async with asyncio.timeout(60):
            while (batch := await anext(batches)).token == before:
                admin["test"]["others"].insert_one({})
        assert batch.events == 0


@pytest.mark.parametrize("how", ["drop", "rename", "replace", "drop the database"])
async def test_change_stream_resumes_with_the_next_collection(
    mongo: Mongo, members: Any, admin: Admin, how: str
) -> None:
    members.insert_one({"_id": 1, "name": "Ada"})
    async with tail(mongo) as batches:
        if how == "drop":
            members.drop()
        elif how == "rename":
            members.rename("gone", dropTarget=True)
        elif how == "replace":
            members.aggregate([{"$out": "members"}])
        else:
            admin.drop_database("test")
        ended = await until_everything(batches)
        async for batch in batches:
            assert batch.everything
            ended = batch
    members.insert_one({"_id": 2, "name": "Bob"})
    async with tail(mongo, ended.token) as batches:
        assert await collect(batches, 1) == [Change(2, "Bob")]


@EITHER_DRIVER
@pytest.mark.parametrize(
    "token", [{"_data": "no hex"}, {"_data": "8263"}, {"other": 1}, {"_data": "00" * 30}]
)
async def test_invalid_token_raises_history_lost(mongo: Mongo, token: Token) -> None:
    with pytest.raises(HistoryLost):
        async with tail(mongo, token) as batches:
            await anext(batches)


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_expired_token_raises_history_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(data: Path, port: int) -> list[str]:
        command = mongod_command(data, port)
        command[command.index("--oplogSize") + 1] = "1"  # megabyte
        return [*command, "--syncdelay", "1"]  # excess oplog is removed every second

    monkeypatch.setattr(private_servers, "mongod_command", small)
    with PrivateServers(folder, memcached=False, die_with_parent=True) as own:
        drivers: list[Literal["motor", "pymongo"]] = ["motor", "pymongo"]
        mongos = [open_mongo(own.mongodb_uri, "test", driver, timeout=5) for driver in drivers]
        async with tail(mongos[0]) as batches:
            token = (await anext(batches)).token
        with Admin(own.mongodb_uri) as admin:
            async with asyncio.timeout(60):
                while _can_go_on(admin, token):
                    admin["test"]["others"].insert_many([{"x": "x" * 100_000} for _ in range(20)])
                    await asyncio.sleep(0.1)
        for mongo in mongos:
            with pytest.raises(HistoryLost):
                await anext(MemberChanges(mongo).since(token))
            await mongo.close()


def _can_go_on(admin: Admin, token: Token | None) -> bool:
    try:
        admin["test"]["members"].watch(start_after=token).close()
    except OperationFailure as error:
        return error.code != 286
    return True


async def test_killed_cursor_loses_no_changes(mongo: Mongo, members: Any, admin: Admin) -> None:
    async with tail(mongo) as batches:
        await anext(batches)
        operations = admin.admin.aggregate(
            [{"$currentOp": {"idleCursors": True, "allUsers": True}}, {"$match": _OF_MEMBERS}]
        )
        cursors = [operation["cursor"]["cursorId"] for operation in operations]
        assert cursors
        killed = members.database.command("killCursors", "members", cursors=cursors)
        assert killed["cursorsKilled"]
        members.insert_one({"_id": 1, "name": "Ada"})
        assert await collect(batches, 1) == [Change(1, "Ada")]


_OF_MEMBERS = {"ns": "test.members", "cursor.tailable": True}


async def test_hanging_server_ends_the_stream_which_resumes_later(
    servers: PrivateServers, driver: Any, members: Any
) -> None:
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=0.5)
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    async with tail(mongo) as batches:
        token = (await anext(batches)).token
        suspend(mongod)
        try:
            async with asyncio.timeout(60):
                with pytest.raises(ChangesUnavailable) as ended:
                    await until_everything(batches)
        finally:
            mongod.resume()
    assert type(ended.value) is ChangesUnavailable
    members.insert_one({"_id": 1, "name": "Ada"})
    async with tail(mongo, token) as batches:
        assert await collect(batches, 1) == [Change(1, "Ada")]
    await mongo.close()


@pytest.mark.parametrize("driver", ["motor"], indirect=True)
async def test_standalone_server_raises_not_replicated(folder: Path) -> None:
    port = free_port()
    place = ["--dbpath", str(folder), "--bind_ip", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [find_mongod(), *place, "--nounixsocket"], stdout=subprocess.DEVNULL
    ) as process:
        try:
            for driver in ("motor", "pymongo"):
                uri = f"mongodb://127.0.0.1:{port}/"
                mongo = open_mongo(uri, "test", driver, timeout=20)
                for token in (None, {"_data": "82"}):
                    with pytest.raises(NotReplicated):
                        await anext(MemberChanges(mongo).since(token))
                with pytest.raises(TransactionsMissing, match=r"audit\.enabled"):
                    await AuditLog(mongo, timedelta(days=1)).prepare()
                await mongo.close()
        finally:
            process.kill()

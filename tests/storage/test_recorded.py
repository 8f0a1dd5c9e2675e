"""A change and its record are written together or not at all, whatever happens meanwhile."""

import asyncio
import random
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pymongo
import pytest
from bson import Int64
from pymongo.client_session_shared import _AgnosticClientSessionBase
from tornado.ioloop import IOLoop

from tests.storage.conftest import EITHER_DRIVER
from tests.support.members import ADA, GRACE, make_draft, make_member
from tests.support.mongodb import failing
from tests.support.suspension import suspend
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import DependencyUnavailable, NameTaken, WriteConflict
from tornado_members.model.history import Actor, Position, Record
from tornado_members.model.member import Member
from tornado_members.model.precondition import Precondition
from tornado_members.storage import transactions
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import APP_NAME, Mongo, open_mongo
from tornado_members.storage.recorded import RecordedWrites

Admin = pymongo.MongoClient[dict[str, Any]]

SOMEBODY = Actor("https://issuer.example", "somebody", "request-1")


def recording(mongo: Mongo) -> MemberStore:
    return MemberStore(mongo, RecordedWrites(AuditLog(mongo, timedelta(days=1))))


@pytest.fixture
def audit(io_loop: IOLoop, mongo: Mongo, admin: Admin) -> AuditLog:
    admin["test"]["audit"].delete_many({})
    audit = AuditLog(mongo, timedelta(days=1))
    io_loop.run_sync(audit.prepare)
    return audit


@pytest.fixture
def store(io_loop: IOLoop, mongo: Mongo, audit: AuditLog) -> MemberStore:
    store = recording(mongo)
    io_loop.run_sync(store.prepare)
    return store


@pytest.fixture
def records(admin: Admin, database_name: str) -> Any:
    """The collection itself, as another program sees it."""
    return admin[database_name]["audit"]


async def history(audit: AuditLog, member_id: int) -> list[Record]:
    return await audit.page(member_id, after=None, limit=1000)


async def versions(audit: AuditLog, member_id: int) -> list[int]:
    return [record.position.version for record in await history(audit, member_id)]


async def test_record_of_each_kind_of_change(
    store: MemberStore, audit: AuditLog, records: Any
) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    ada = await store.insert(ADA, by=SOMEBODY)
    await store.replace(ada.member_id, make_draft(**{**ADA.values, "phone": None}), by=SOMEBODY)
    other = replace(SOMEBODY, subject="somebody else", request_id="request-2")
    await store.replace_named(ada.member_id, make_draft(name=ADA.name), by=other)
    await store.replace(ada.member_id, GRACE)
    await store.delete(ada.member_id, by=SOMEBODY)
    found = await history(audit, ada.member_id)
    assert [(r.position.version, r.kind, r.by, r.before, r.after) for r in reversed(found)] == [
        (1, "created", SOMEBODY, None, ADA.values),
        (2, "changed", SOMEBODY, {"phone": "555-0100"}, {"phone": None}),
        (3, "changed", other, {"email": "ada@example.org"}, {"email": None}),
        (4, "changed", None, {"name": "Ada Lovelace"}, {"name": "Grace Hopper"}),
        (5, "deleted", SOMEBODY, GRACE.values, None),
    ]
    times = [r.at for r in reversed(found) if r.at]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= datetime.now(UTC)
    for document in records.find():
        assert isinstance(document["memberId"], Int64)
        assert isinstance(document["version"], Int64)


@EITHER_DRIVER
async def test_write_that_changes_nothing_leaves_no_record(
    store: MemberStore, audit: AuditLog, records: Any, members: Any
) -> None:
    ada = await store.insert(ADA)
    await store.insert(GRACE)
    records.delete_many({})
    document = members.find_one({"_id": ada.member_id})
    wrong = Precondition(one_of=frozenset({7}))
    assert await store.replace(ada.member_id, ADA) == ada
    assert await store.replace(ada.member_id, GRACE, wrong) is None
    assert await store.replace_named(ada.member_id, GRACE) is None
    assert await store.delete(ada.member_id, wrong) is False
    assert await store.delete(999) is False
    for refused in (store.insert(GRACE), store.replace(ada.member_id, GRACE)):
        with pytest.raises(NameTaken) as conflict:
            await refused
        assert conflict.value.member_id == 2
    assert members.find_one({"_id": ada.member_id}) == document
    assert records.count_documents({}) == 0
    assert await history(audit, 999) == []


@EITHER_DRIVER
async def test_insert_many_records_each_member(
    store: MemberStore, audit: AuditLog, records: Any
) -> None:
    await store.insert(GRACE)
    await store.insert(make_draft(name="Barbara"))
    twice = make_draft(name="Twice", phone="555-0100")
    drafts = [ADA, GRACE, twice, make_draft(name="Twice"), make_draft(name="Barbara")]
    stored = await store.insert_many(drafts, by=SOMEBODY)
    assert [member and member.name for member in stored] == [
        "Ada Lovelace",
        None,
        "Twice",
        *2 * [None],
    ]
    for member in stored:
        if member:
            (record,) = await history(audit, member.member_id)
            assert (record.kind, record.by) == ("created", SOMEBODY)
    assert records.count_documents({}) == 4
    assert await store.insert_many(drafts) == [None] * 5
    assert records.count_documents({}) == 4


WRITES: list[tuple[str, Callable[[MemberStore], Coroutine[Any, Any, Any]]]] = [
    ("insert", lambda store: store.insert(GRACE)),
    ("insert_many", lambda store: store.insert_many([GRACE, make_draft(name="Barbara")])),
    ("replace", lambda store: store.replace(1, GRACE)),
    ("delete", lambda store: store.delete(1)),
]


@pytest.mark.parametrize("write", [w for _, w in WRITES], ids=[name for name, _ in WRITES])
async def test_change_fails_without_its_record(
    store: MemberStore, records: Any, members: Any, write: Any
) -> None:
    """Any failure of the record counts: here, an index admits none besides the first."""
    await store.insert(ADA)
    before = list(members.find())
    records.create_index("alone", unique=True)
    try:
        with pytest.raises((RuntimeError, pymongo.errors.PyMongoError)):
            await write(store)
    finally:
        records.drop_index("alone_1")
    assert list(members.find()) == before
    await write(store)
    assert list(members.find()) != before


def _late_commit(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Delay the next commits: the first event reports one, the second releases them."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    commit = transactions._commit

    async def later(*arguments: Any) -> None:
        reached.set()
        await go_on.wait()
        await commit(*arguments)

    monkeypatch.setattr(transactions, "_commit", later)
    return reached, go_on


async def test_readers_see_a_change_and_its_record_together(
    store: MemberStore, records: Any, members: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert(ADA)
    reached, go_on = _late_commit(monkeypatch)
    writing = asyncio.create_task(store.replace(1, GRACE))
    await reached.wait()
    assert (members.find_one()["version"], records.count_documents({})) == (1, 1)
    go_on.set()
    await writing
    assert (members.find_one()["version"], records.count_documents({})) == (2, 2)


async def test_fifty_writers_of_one_version_succeed_once(
    store: MemberStore, mongo: Mongo, audit: AuditLog
) -> None:
    """Half of them act as in another process."""
    await store.insert(ADA)
    condition = Precondition(one_of=frozenset({1}))
    stores = (store, recording(mongo))
    writers = [stores[n % 2].replace(1, make_draft(name=f"Ada {n}"), condition) for n in range(50)]
    results = await asyncio.gather(*writers)
    assert sum(member is not None for member in results) == 1
    assert len(await history(audit, 1)) == 2


async def test_fifty_unconditional_writers_all_succeed_and_are_recorded(
    store: MemberStore, mongo: Mongo, audit: AuditLog
) -> None:
    await store.insert(ADA)
    stores = (store, recording(mongo))
    names = [f"Ada {n}" for n in range(50)]
    await asyncio.gather(
        *(stores[n % 2].replace(1, make_draft(name=name)) for n, name in enumerate(names))
    )
    found = await history(audit, 1)
    assert [record.position.version for record in found] == list(range(51, 0, -1))
    after = [record.after["name"] for record in reversed(found) if record.after]
    before = [record.before["name"] for record in reversed(found) if record.before]
    assert set(after[1:]) == set(names)
    assert before == after[:-1]


@EITHER_DRIVER
async def test_fifty_creations_of_one_name_create_one_member(
    store: MemberStore, mongo: Mongo, records: Any
) -> None:
    stores = (store, recording(mongo))
    results = await asyncio.gather(
        *(stores[n % 2].insert(ADA) for n in range(50)), return_exceptions=True
    )
    assert sum(isinstance(result, Member) for result in results) == 1
    assert sum(isinstance(result, NameTaken) for result in results) == 49
    assert records.count_documents({}) == 1


async def until_conflict(write: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Repeat a write until it raises WriteConflict, while a busy MongoDB answers too late."""
    async with asyncio.timeout(60):
        while True:
            try:
                await write()
            except WriteConflict:
                return
            except DependencyUnavailable:
                continue
            raise AssertionError("the write succeeded")


async def test_open_transaction_of_another_process_raises_write_conflict(
    servers: PrivateServers, store: MemberStore, admin: Admin, records: Any, driver: Any
) -> None:
    """A writer was killed between change and commit: 503, and nothing is written."""
    await store.insert(ADA)
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=0.3)
    impatient = recording(mongo)
    with admin.start_session() as session, session.start_transaction():
        admin["test"]["members"].update_one({"_id": 1}, {"$inc": {"version": 1}}, session=session)
        for write in (partial(impatient.replace, 1, GRACE), partial(impatient.delete, 1)):
            await until_conflict(write)
        session.abort_transaction()
    assert records.count_documents({}) == 1
    assert await store.replace(1, GRACE) == make_member(1, 2, name=GRACE.name)
    await mongo.close()


KILLED_WRITER = """
import os, signal, sys, pymongo
client = pymongo.MongoClient(sys.argv[1], appname=sys.argv[2])
with client.start_session() as session, session.start_transaction():
    client.test.members.update_one({"_id": 1}, {"$inc": {"version": 1}}, session=session)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def patient_mongodb(admin: Admin) -> Iterator[None]:
    """A MongoDB that keeps an abandoned transaction for an hour."""
    name = "transactionLifetimeLimitSeconds"
    before = admin.admin.command({"setParameter": 1, name: 3600})["was"]
    yield
    admin.admin.command({"setParameter": 1, name: before})
    admin.admin.command("killAllSessions", [])


async def kill_writer(servers: PrivateServers, app_name: str) -> None:
    command = (sys.executable, "-c", KILLED_WRITER, servers.mongodb_uri, app_name)
    killed = await asyncio.create_subprocess_exec(*command)
    assert await killed.wait() == -signal.SIGKILL


@pytest.mark.usefixtures("patient_mongodb")
async def test_transaction_of_a_killed_writer_is_ended(
    servers: PrivateServers, store: MemberStore, driver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await store.insert(ADA)
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=0.5)
    survivor = recording(mongo)
    await kill_writer(servers, APP_NAME)
    async with asyncio.timeout(60):
        while True:
            with suppress(WriteConflict, DependencyUnavailable):  # the second on a busy machine
                replaced = await survivor.replace(1, GRACE)
                break
    assert replaced == make_member(1, 2, name=GRACE.name)
    assert "ended a transaction" in caplog.text
    await mongo.close()


@EITHER_DRIVER
@pytest.mark.usefixtures("patient_mongodb")
async def test_transaction_of_another_program_is_not_ended(
    servers: PrivateServers, store: MemberStore, admin: Admin, driver: Any
) -> None:
    await store.insert(ADA)
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=0.2)
    survivor = recording(mongo)
    await kill_writer(servers, "another program")
    for _ in range(5):
        with pytest.raises((WriteConflict, DependencyUnavailable)):  # the second if it is busy
            await survivor.replace(1, GRACE)
    admin.admin.command("killAllSessions", [])
    assert await store.replace(1, GRACE) == make_member(1, 2, name=GRACE.name)
    await mongo.close()


@EITHER_DRIVER
async def test_prepare_logs_that_abandoned_transactions_cannot_be_found(
    audit: AuditLog, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    with failing(admin, 1, failCommands=["aggregate"], errorCode=13):
        await audit.prepare()
    assert "transactionLifetimeLimitSeconds" in caplog.text
    assert "Unauthorized" in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        {"failCommands": ["commitTransaction"], "closeConnection": True},
        {
            "failCommands": ["commitTransaction"],  # the commit happens, but its outcome is unknown
            "writeConcernError": {"code": 64, "errmsg": "", "errInfo": {"wtimeout": True}},
        },
        {"failCommands": ["findAndModify"], "closeConnection": True},
        {
            "failCommands": ["insert"],
            "errorCode": 112,
            "errorLabels": ["TransientTransactionError"],
        },
    ],
    ids=["commit lost", "commit unknown", "connection lost", "conflict"],
)
async def test_transient_error_is_retried(
    store: MemberStore, audit: AuditLog, admin: Admin, fault: dict[str, Any]
) -> None:
    await store.insert(ADA)
    with failing(admin, 1, **fault):
        changed = await store.replace(1, GRACE)
    assert changed == make_member(1, 2, name=GRACE.name)
    assert await versions(audit, 1) == [2, 1]


async def test_commit_of_unknown_outcome_raises_dependency_unavailable(
    servers: PrivateServers,
    store: MemberStore,
    audit: AuditLog,
    driver: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MongoDB hangs at the commit, and commits when it continues."""
    await store.insert(ADA)
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=0.5)
    commit = transactions._commit
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]

    async def hanging(*arguments: Any) -> None:
        suspend(mongod)
        await commit(*arguments)

    monkeypatch.setattr(transactions, "_commit", hanging)
    try:
        with pytest.raises(DependencyUnavailable):
            await recording(mongo).replace(1, GRACE)
    finally:
        mongod.resume()
    monkeypatch.undo()
    await mongo.close()
    # Written or not, nothing blocks the next write.
    seen = await store.replace(1, make_draft(name="Barbara"))
    assert seen
    assert await versions(audit, 1) == list(range(seen.version, 0, -1))


async def test_commit_that_may_have_happened_is_never_a_write_conflict(
    store: MemberStore, records: Any, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WriteConflict means that nothing was written; the cache then removes its tombstones."""
    await store.insert(ADA)
    unknown = {"writeConcernError": {"code": 64, "errmsg": "", "errInfo": {"wtimeout": True}}}
    faults: list[dict[str, Any]] = [{"errorCode": 11601}, unknown]  # popped from the end
    commit = transactions._commit

    async def failing_commit(session: Any, deadline: float) -> None:
        send = session.commit_transaction

        async def send_and_fail() -> None:
            with failing(admin, 1, failCommands=["commitTransaction"], **faults.pop()):
                await send()

        monkeypatch.setattr(session, "commit_transaction", send_and_fail)
        await commit(session, deadline)

    monkeypatch.setattr(transactions, "_commit", failing_commit)
    conflict = {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}
    with (
        pytest.raises(DependencyUnavailable),
        failing(admin, 1, failCommands=["findAndModify"], **conflict),
    ):
        await store.replace(1, GRACE)
    assert not faults
    assert records.count_documents({}) == 2  # it has happened


@pytest.mark.parametrize("statement", ["findAndModify", "commitTransaction"])
async def test_server_without_sessions_is_an_outage(
    store: MemberStore, audit: AuditLog, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """A server that starts says for a moment that it has none. A commit is sent again."""
    await store.insert(ADA)
    apply, answers = _AgnosticClientSessionBase._apply_to, [False]

    def applied(self: Any, command: Any, is_retryable: bool, preference: Any, conn: Any) -> None:
        if statement in command and answers:
            monkeypatch.setattr(conn, "supports_sessions", answers.pop())
        try:
            apply(self, command, is_retryable, preference, conn)
        finally:
            conn.supports_sessions = True

    monkeypatch.setattr(_AgnosticClientSessionBase, "_apply_to", applied)
    if statement == "findAndModify":
        with pytest.raises(DependencyUnavailable):
            await store.replace(1, GRACE)
    assert await store.replace(1, GRACE) == make_member(1, 2, name=GRACE.name)
    assert not answers
    assert await versions(audit, 1) == [2, 1]


async def test_transaction_ends_after_its_caller_is_cancelled(
    store: MemberStore, audit: AuditLog, mongo: Mongo, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.insert(ADA)
    reached, go_on = _late_commit(monkeypatch)
    writing = asyncio.create_task(store.replace(1, GRACE))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    go_on.set()
    while mongo.detached_tasks:
        await asyncio.wait(mongo.detached_tasks)
    assert await versions(audit, 1) == [2, 1]
    assert await store.find_member(1) == make_member(1, 2, name=GRACE.name)


async def test_transaction_commits_nothing_after_its_deadline(
    servers: PrivateServers,
    store: MemberStore,
    audit: AuditLog,
    driver: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tombstones in the cache live only a little longer than the deadline."""
    await store.insert(ADA)
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=0.3)
    _, go_on = _late_commit(monkeypatch)
    with pytest.raises(DependencyUnavailable):
        await recording(mongo).replace(1, GRACE)
    go_on.set()
    monkeypatch.undo()
    await mongo.close()
    assert await versions(audit, 1) == [1]
    assert await store.replace(1, GRACE)  # nothing blocks it


async def test_cancelled_caller_leaves_no_change_without_its_record(
    store: MemberStore, audit: AuditLog, mongo: Mongo
) -> None:
    """Cancelled at any moment, an operation still completes or fails as a whole."""
    await store.insert(ADA)
    chance = random.Random(1)
    for n in range(30):
        writing = asyncio.create_task(store.replace(1, make_draft(name=f"Ada {n}")))
        await asyncio.sleep(chance.random() * 0.008)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
    while mongo.detached_tasks:
        await asyncio.wait(mongo.detached_tasks)
    seen = await store.find_member(1)
    assert seen
    found = await history(audit, 1)
    assert [record.position.version for record in found] == list(range(seen.version, 0, -1))
    assert found[0].after == {"name": seen.name}
    assert await store.replace(1, GRACE)  # nothing blocks it


@EITHER_DRIVER
async def test_record_of_documents_of_other_programs(
    store: MemberStore, audit: AuditLog, members: Any
) -> None:
    members.insert_many(
        [
            {"_id": 5, "name": "By hand", "email": 7},
            {"_id": 7, "name": "The last", "version": 2**63 - 1},
        ]
    )
    await store.replace(5, make_draft(name="By hand"))
    await store.delete(7)
    (changed,), (deleted,) = [await history(audit, i) for i in (5, 7)]
    assert (changed.position.version, changed.kind, changed.before, changed.after) == (
        2,
        "changed",
        {},
        {},
    )
    assert deleted.position.version == 2**63 - 1
    members.insert_one({"_id": 8})  # not a member
    assert await store.replace(8, ADA) is None
    assert await store.delete(8) is False
    assert await history(audit, 8) == []


@EITHER_DRIVER
async def test_history_pages_are_in_the_order_of_versions(audit: AuditLog, records: Any) -> None:
    """Even if a version occurs twice, because a backup was restored in part."""
    expected: dict[str, Any] = {"by": None, "requestId": None, "before": {}, "after": {}}
    template = {**expected, "memberId": 1, "kind": "changed", "at": datetime.now(UTC)}
    there = [3, 1, 2, 2, 2, 1]
    records.insert_many([{**template, "version": version} for version in there])
    records.insert_one({**template, "memberId": 2, "version": 2})
    seen: list[Position] = []
    while page := await audit.page(1, after=seen[-1] if seen else None, limit=2):
        seen += [record.position for record in page]
    assert [place.version for place in seen] == sorted(there, reverse=True)
    assert len(set(seen)) == len(there)


@EITHER_DRIVER
async def test_prepare_sets_how_long_records_are_kept(
    mongo: Mongo, audit: AuditLog, records: Any
) -> None:
    def kept() -> list[int]:
        indexes = records.list_indexes()
        return [index["expireAfterSeconds"] for index in indexes if "expireAfterSeconds" in index]

    await audit.prepare()
    assert kept() == [86_400]
    for days in (24_855, 30):
        await AuditLog(mongo, timedelta(days=days)).prepare()
        assert kept() == [days * 86_400]

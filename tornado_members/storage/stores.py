"""Opens the stores on MongoDB, with the client that they share."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from tornado_members.errors import OperatorError
from tornado_members.model.fields import FieldTable
from tornado_members.settings import Settings
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.cluster import ClusterIdentity
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.list_preparation import ListPreparation, preparing_lists
from tornado_members.storage.member_groups import MemberGroups
from tornado_members.storage.members import MemberStore
from tornado_members.storage.mongo import Mongo, open_mongo, without_credentials
from tornado_members.storage.outages import STORE_ERRORS, describe_failure
from tornado_members.storage.recorded import RecordedWrites
from tornado_members.storage.users import UserStore


class DatabaseMismatch(OperatorError):
    """A worker connects to another database than the workers that it joins."""

    def __init__(self) -> None:
        super().__init__(
            "mongodb.uri, mongodb.uri_file: this is another database than that of the running "
            "workers. Stop all services to move to another database."
        )


class MongoDBUnusable(OperatorError):
    """MongoDB cannot be used. The message gives its address and the error."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores on MongoDB."""

    mongo: Mongo
    members: MemberStore
    groups: MemberGroups | None  # None with audit.enabled or members.attributes
    lists: ListPreparation
    users: UserStore
    audit: AuditLog | None  # None without audit.enabled
    cluster_id: str


@asynccontextmanager
async def open_stores(
    settings: Settings,
    mongodb_uri: str,
    cluster_id: str | None = None,
    fields: FieldTable | None = None,
    *,
    drop_indexes: bool = False,
    logs_unused_indexes: bool = False,
) -> AsyncIterator[Stores]:
    """Open the stores, on a client made in the running event loop and closed at the end.

    `cluster_id` is that of the workers that this process joins, if there are any. `fields` are
    those that the settings declare, by default. `drop_indexes` drops the indexes of attributes that
    are not declared as indexed; `logs_unused_indexes` only logs them.

    Raises MongoDBUnusable, DatabaseMismatch, TransactionsMissing, and SettingsError for a URI that
    is not valid.
    """
    mongo = open_mongo(
        mongodb_uri,
        settings.mongodb.database,
        settings.mongodb.driver,
        settings.mongodb.timeout_ms / 1000,
    )
    try:
        with _with_address(mongodb_uri):
            identity = ClusterIdentity(mongo)
            found = await identity.find()
            if cluster_id not in (None, found):
                raise DatabaseMismatch
            fields = fields or settings.members.fields()
            stores = _make_stores(settings, mongo, found or await identity.create(), fields)
            await stores.members.prepare()
            if drop_indexes or logs_unused_indexes:
                await stores.members.drop_unused_indexes(dry_run=not drop_indexes)
            await stores.users.prepare()
            if stores.audit:
                await stores.audit.prepare()
        yield stores
    finally:
        await mongo.close()


@asynccontextmanager
async def open_streams(settings: Settings, mongodb_uri: str, mongo: Mongo) -> AsyncIterator[Mongo]:
    """Yield the client of the change streams, which connects when a stream is opened.

    Motor needs one of its few threads for each event, so that a stream would fall further and
    further behind many writes. PyMongo's asynchronous client needs no threads.
    """
    database, timeout = settings.mongodb.database, settings.mongodb.timeout_ms / 1000
    if settings.mongodb.driver == "pymongo":
        yield mongo
        return
    streams = open_mongo(mongodb_uri, database, "pymongo", timeout, for_streams=True)
    try:
        yield streams
    finally:
        await streams.close()


def _make_stores(settings: Settings, mongo: Mongo, cluster_id: str, fields: FieldTable) -> Stores:
    audit, writes = None, None
    if settings.audit.enabled:
        audit = AuditLog(mongo, timedelta(days=settings.audit.keep_days), fields)
        writes = RecordedWrites(audit, fields)
    lists = ListPreparation(mongo, MemberCodec(fields))
    members = MemberStore(mongo, writes, fields, lists.readiness)
    groups = None if audit or fields.attributes else MemberGroups(mongo, fields)
    return Stores(mongo, members, groups, lists, UserStore(mongo), audit, cluster_id)


@asynccontextmanager
async def open_lists(
    stores: Stores, mongodb_uri: str, max_wait: float | None
) -> AsyncIterator[None]:
    """Prepare lists during the block, which begins after `max_wait` seconds at the latest.

    None waits until lists are prepared. Raises MongoDBUnusable.
    """
    async with AsyncExitStack() as stack:
        with _with_address(mongodb_uri):
            await stack.enter_async_context(preparing_lists(stores.lists, max_wait))
        yield


@contextmanager
def _with_address(mongodb_uri: str) -> Iterator[None]:
    """Translate the errors of stores to MongoDBUnusable, which contains the address."""
    try:
        yield
    except STORE_ERRORS as error:
        where = f"MongoDB at {without_credentials(mongodb_uri)} (mongodb.uri)"
        raise MongoDBUnusable(f"{where} {describe_failure(error)}") from error

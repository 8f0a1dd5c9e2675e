"""The MongoDB client, and the differences between its two drivers.

Motor is the default. Its makers ended its support on 14 May 2026; PyMongo's own async client has
nearly the same methods. This module hides what differs, so that the stores are written once. The
tests run them on both drivers.
"""

import asyncio
import inspect
import linecache
import re
import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, cast

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError
from pymongo.read_concern import ReadConcern

from tornado_members.settings import SettingsError
from tornado_members.storage.operations import OperationCounts, OperationWaits, SendingListener
from tornado_members.storage.write_window import WindowGuard

Document = dict[str, Any]
# Motor's databases and collections support the calls of the stores in the same way.
Database = AsyncDatabase[Document]
Collection = AsyncCollection[Document]
ChangeStream = AsyncChangeStream[Document]
Session = AsyncClientSession

T = TypeVar("T")

APP_NAME = "tornado_members"  # by which MongoDB's logs and lists name the clients of all services
_DURABLE = WriteConcern(w="majority", j=True)
# The driver's own time-out should come first: its message is more specific.
_DEADLINE_FACTOR = 1.25


@dataclass(frozen=True, slots=True)
class Mongo:
    """An open client and the database on it."""

    client: AsyncMongoClient[Document] | AsyncIOMotorClient[Document]
    database: Database
    timeout: float  # of an operation, in seconds
    deadline: float  # the same, including the wait for a thread or a connection
    # False for PyMongo's own client: if an operation of it is cancelled while many wait for a
    # connection, its pool stays locked for ever.
    may_cancel: bool
    # True if a read of a change stream may be cancelled: the client is PyMongo's, and has so few
    # operations that none of them waits for a connection.
    may_cancel_streams: bool
    # Operations that no caller waits for any more.
    detached_tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    waits: OperationWaits = field(default_factory=OperationWaits)
    operations: OperationCounts = field(default_factory=OperationCounts)
    # Called with the time when a write began, on the loop's clock, once it is acknowledged.
    write_listeners: list[Callable[[float], None]] = field(default_factory=list)

    def with_timeout(self, seconds: float) -> "Mongo":
        """Return the same client with another timeout, which includes all waiting."""
        return replace(self, timeout=seconds, deadline=seconds)

    async def shielded(self, operation: Coroutine[Any, Any, T]) -> T:
        """Await the operation. It runs to its end even if the caller is cancelled."""
        task = asyncio.create_task(operation)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.detach(task)
            raise

    def detach(self, task: asyncio.Task[Any]) -> None:
        """Let a task end by itself, before the client is closed. Its exception is ignored."""
        self.detached_tasks.add(task)
        task.add_done_callback(self._forget)

    def note_write(self, began: float) -> None:
        """Report a write that a majority has acknowledged."""
        for listener in self.write_listeners:
            listener(began)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.detached_tasks.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio logs that it was never retrieved

    async def close(self) -> None:
        """Close all connections after all operations have ended, but the creation of an index.

        That may take an hour. It ends with its connection, or MongoDB completes it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self.deadline):
                while self.detached_tasks:  # asyncio.run would cancel them
                    await asyncio.wait(self.detached_tasks)
        with pymongo.timeout(self.timeout):  # for the commands that end the sessions
            if isinstance(self.client, AsyncMongoClient):
                await self.client.close()
            else:
                await asyncio.to_thread(self.client.close)


def open_mongo(
    uri: str,
    database: str,
    driver: Literal["motor", "pymongo"],
    timeout: float,
    *,
    for_streams: bool = False,
) -> Mongo:
    """Return a client in the running event loop. It connects when it is first used.

    `timeout` is that of each operation, in seconds. A majority acknowledges each write with its
    journal, and reads return majority-committed data of the primary. So acknowledged writes and
    data that was read survive a failover.

    A client for change streams does not await elections. It learns of them by failing commands, and
    every ten seconds, which saves an idle process two timers per second.

    Raises SettingsError for an invalid URI.
    """
    options: dict[str, Any] = {
        "timeoutMS": round(timeout * 1000),
        "appname": APP_NAME,
        "tz_aware": True,
        "event_listeners": [WindowGuard(), SendingListener()],
    }
    if for_streams:
        options["serverMonitoringMode"] = "poll"
    client: AsyncMongoClient[Document] | AsyncIOMotorClient[Document]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # the driver warns of unknown options
            make = AsyncMongoClient if driver == "pymongo" else AsyncIOMotorClient
            client = make(uri, **options)
        linecache.clearcache()  # the driver noted the stack, and read a MiB of sources for that
    except (ConfigurationError, ValueError, OSError, UserWarning) as error:
        # The driver's message may contain a part of the password.
        reason = "is it percent-encoded?" if "@" in uri else str(error)
        raise SettingsError(f"mongodb.uri: is not a valid MongoDB URI: {reason}") from None
    opened = client.get_database(
        database,
        # Other programs may store dates that Python does not support, and text that is not UTF-8.
        # Such a document must not break the page of a list, or the change stream.
        codec_options=CodecOptions(
            tz_aware=True,
            datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
            unicode_decode_error_handler="replace",
        ),
        read_preference=ReadPreference.PRIMARY,
        write_concern=_DURABLE,
        read_concern=ReadConcern("majority"),
    )
    deadline = timeout * _DEADLINE_FACTOR
    return Mongo(
        client,
        cast(Database, opened),
        timeout,
        deadline,
        may_cancel=driver == "motor",
        may_cancel_streams=for_streams and driver == "pymongo",
    )


async def watch(
    collection: Collection, pipeline: Sequence[Mapping[str, Any]], **options: Any
) -> ChangeStream:
    """Open a change stream."""
    stream: Any = await _awaited(collection.watch(pipeline, **options))
    await stream.__aenter__()  # Motor opens it here
    return cast(ChangeStream, stream)


async def open_session(mongo: Mongo) -> Session:
    """Return a session. The caller has to end it."""
    return cast(Session, await _awaited(mongo.client.start_session()))


async def start_transaction(session: Session) -> None:
    """Start a transaction that reads a snapshot and is durable once it is committed."""
    concerns = (ReadConcern("snapshot"), _DURABLE)
    await _awaited(session.start_transaction(*concerns, ReadPreference.PRIMARY))


async def _awaited(result: Any) -> Any:
    """Await the result of a method that is a coroutine of one driver only."""
    return await result if inspect.isawaitable(result) else result


def without_credentials(uri: str) -> str:
    """Return the URI without user name and password."""
    return re.sub("//[^/]*@", "//", uri)

"""The MongoDB client, and the seam between its two drivers.

Motor was asked for and is the default; its makers ended it on 14 May 2026. PyMongo's own async
client speaks nearly the same calls. Whatever differs between the two stays in this module, so that
the stores above are written once and tested on both.
"""

import asyncio
import inspect
import re
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from time import perf_counter
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, cast

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern

from tornado_members.errors import DependencyUnavailable
from tornado_members.settings import SettingsError
from tornado_members.storage.write_window import WindowGuard, WriteHeldUp, seconds_left
from tornado_members.telemetry.metrics import Histogram

Document = dict[str, Any]
# Motor's databases and collections answer the calls that the stores make in the same way.
Database = AsyncDatabase[Document]
Collection = AsyncCollection[Document]
ChangeStream = AsyncChangeStream[Document]
Session = AsyncClientSession

P = ParamSpec("P")
T = TypeVar("T")

_FOR_GOOD = WriteConcern(w="majority", j=True)
# The driver's own time-out should come first: it says more.
_DEADLINE_FACTOR = 1.25
# What a server says that cannot do now what it could do later, or elsewhere. The names are those of
# its own list (src/mongo/base/error_codes.yml).
_PASSING_CODES = frozenset(
    {
        # No primary, or one that is leaving: NotWritablePrimary and its old names,
        # PrimarySteppedDown, ShutdownInProgress, InterruptedAtShutdown,
        # InterruptedDueToReplStateChange, InterruptedDueToStorageChange, ElectionInProgress,
        # FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet,
        # LinearizableReadConcernError, UnsatisfiableWriteConcern.
        *(10107, 10058, 13435, 13436, 189, 91, 11600, 11602, 355, 216, 133, 134, 187, 100),
        # Read-only, or full: UserWritesBlocked, OutOfDiskSpace, and what Atlas says of both.
        *(371, 14031, 8000),
        # Time is up: MaxTimeMSExpired, ExceededTimeLimit, LockTimeout, NetworkTimeout,
        # NetworkInterfaceExceededTimeLimit; Interrupted and CursorKilled, by somebody's killOp.
        *(50, 262, 24, 89, 202, 11601, 237),
        # Too much of something: TemporarilyUnavailable, TooManyFilesOpen, ResourceExhausted,
        # AdmissionQueueOverflow, RateLimitExceeded.
        *(365, 264, 402, 433, 449),
        # One server does not reach another: HostUnreachable, HostNotFound, SocketException,
        # KeyNotFound (that signs cluster times).
        *(6, 7, 9001, 211),
        # Our password or our role is being changed: Unauthorized, AuthenticationFailed.
        *(13, 18),
    }
)


@dataclass(slots=True)
class OperationCounts:
    """How long operations of the stores took, and how many failed, in this process."""

    times: dict[str, Histogram] = field(default_factory=dict)  # by operation
    # By operation, and away, refused or held-up.
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    heard: Callable[[str, float], None] | None = None  # who is told, too, where there are traces

    def note(self, operation: str, seconds: float) -> None:
        """Count one that ended, however it did."""
        times = self.times.get(operation)
        if times is None:
            times = self.times[operation] = Histogram()
        times.observe(seconds)
        self.tell(operation, seconds)

    def tell(self, operation: str, seconds: float) -> None:
        """Tell the request that is waiting for it, if it is traced."""
        if self.heard is not None:
            self.heard(operation, seconds)


@dataclass(frozen=True, slots=True)
class Mongo:
    """An open client and the database on it."""

    client: AsyncMongoClient[Document] | AsyncIOMotorClient[Document]
    database: Database
    timeout: float  # seconds that an operation may take
    deadline: float  # the same, the wait for its turn included
    # Operations that nobody waits for any more.
    left_alone: set[asyncio.Task[Any]] = field(default_factory=set)
    operations: OperationCounts = field(default_factory=OperationCounts)

    async def in_time(self, operation: Coroutine[Any, Any, T]) -> T:
        """Do it before the deadline. Raises TimeoutError, and WriteHeldUp.

        The driver's deadline begins here and is absolute: it sends no command after `timeout`, nor
        after the end of the write window, however long the operation waits for one of Motor's
        threads. There are five threads per core; while MongoDB hangs, all other operations wait.
        (The client's own timeoutMS begins when an operation has a thread.)

        An operation of Motor that still waits for a thread is cancelled at `deadline`. One of
        PyMongo's own client must not be cancelled: while many wait for a connection, that leaves
        its pool locked for ever. It ends by itself.
        """
        left = min(self.timeout, seconds_left())
        if left <= 0:
            operation.close()
            raise WriteHeldUp
        with pymongo.timeout(left):
            if isinstance(self.client, AsyncMongoClient):
                operation = self.undisturbed(operation)
            async with asyncio.timeout(self.deadline):
                return await operation

    def patient(self, seconds: float) -> "Mongo":
        """The same client for operations that may take so many seconds, the wait included."""
        return replace(self, timeout=seconds, deadline=seconds)

    async def undisturbed(self, operation: Coroutine[Any, Any, T]) -> T:
        """Do it, to its end even if nobody waits for that any more."""
        task = asyncio.create_task(operation)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.leave_alone(task)
            raise

    def leave_alone(self, task: asyncio.Task[Any]) -> None:
        """Let it end by itself, before the client is closed; whatever it raises is nobody's."""
        self.left_alone.add(task)
        task.add_done_callback(self._forget)

    async def ping(self) -> None:
        """Hear from the primary. Raises TimeoutError, and what the driver does."""
        await self.in_time(self.database.command("ping"))

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.left_alone.discard(task)
        if not task.cancelled():
            task.exception()  # nobody is left to be told

    async def close(self) -> None:
        """Close every connection, once all operations have ended."""
        while self.left_alone:  # the loop would cancel them at its own end
            await asyncio.wait(self.left_alone)
        with pymongo.timeout(self.timeout):  # the server is told which sessions end
            if isinstance(self.client, AsyncMongoClient):
                await self.client.close()
            else:
                await asyncio.to_thread(self.client.close)


def open_mongo(
    uri: str, database: str, driver: Literal["motor", "pymongo"], timeout: float
) -> Mongo:
    """A client in the running event loop; it connects when it is first used.

    Every operation may take `timeout` seconds. Writes are acknowledged by a majority with their
    journal, and reads come from the primary's majority-committed data: what was answered survives
    a failover.

    Raises SettingsError for a URI that is none.
    """
    options: dict[str, Any] = {
        "timeoutMS": round(timeout * 1000),
        "appname": "tornado_members",
        "tz_aware": True,
        "event_listeners": [WindowGuard()],
    }
    client: AsyncMongoClient[Document] | AsyncIOMotorClient[Document]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an option that does not exist
            make = AsyncMongoClient if driver == "pymongo" else AsyncIOMotorClient
            client = make(uri, **options)
    except (ConfigurationError, ValueError, OSError, UserWarning) as error:
        # The driver's words may hold a part of the password that it took for something else.
        reason = "is it percent-encoded?" if "@" in uri else str(error)
        raise SettingsError(f"mongodb.uri: is no URI that MongoDB takes: {reason}") from None
    opened = client.get_database(
        database,
        # Other programs may store dates that Python has not, and text that is not UTF-8. Neither
        # may keep a document from being read, and with it a page of a list or the change stream.
        codec_options=CodecOptions(
            tz_aware=True,
            datetime_conversion=DatetimeConversion.DATETIME_CLAMP,
            unicode_decode_error_handler="replace",
        ),
        read_preference=ReadPreference.PRIMARY,
        write_concern=_FOR_GOOD,
        read_concern=ReadConcern("majority"),
    )
    return Mongo(client, cast(Database, opened), timeout, timeout * _DEADLINE_FACTOR)


async def watch(
    collection: Collection, pipeline: Sequence[Mapping[str, Any]], **options: Any
) -> ChangeStream:
    """A change stream. PyMongo's is open now, Motor's opens when it is first read."""
    return cast(ChangeStream, await _awaited(collection.watch(pipeline, **options)))


async def open_session(mongo: Mongo) -> Session:
    """A session; whoever opens it has to end it."""
    return cast(Session, await _awaited(mongo.client.start_session()))


async def begin(session: Session) -> None:
    """Start a transaction, which reads from one moment, and is for good once it is committed."""
    concerns = (ReadConcern("snapshot"), _FOR_GOOD)
    await _awaited(session.start_transaction(*concerns, ReadPreference.PRIMARY))


async def _awaited(result: Any) -> Any:
    """What is a coroutine of one driver is a plain call of the other."""
    return await result if inspect.isawaitable(result) else result


def without_credentials(uri: str) -> str:
    """A URI that may be shown."""
    return re.sub("//[^/]*@", "//", uri)


def is_outage(error: PyMongoError) -> bool:
    """Whether MongoDB is away for now, rather than asked for something it refuses."""
    if isinstance(error, ConnectionFailure | WriteConcernError) or error.timeout:
        return True
    if error.has_error_label("RetryableWriteError"):  # the driver has tried it twice
        return True
    if isinstance(error, BulkWriteError):
        return any(fault["code"] in _PASSING_CODES for fault in error.details["writeErrors"])
    return isinstance(error, OperationFailure) and error.code in _PASSING_CODES


class _OnMongo(Protocol):
    mongo: Mongo


S = TypeVar("S", bound=_OnMongo)


def reports_outages(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Turn an outage of MongoDB, whichever way the driver tells it, into DependencyUnavailable.

    And count: the operation is called as the method is, MemberStore.find_member.
    """
    operation = method.__qualname__.replace("._", ".")

    @wraps(method)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        counts = self.mongo.operations
        began = perf_counter()
        try:
            return await self.mongo.in_time(method(self, *args, **kwargs))
        except TimeoutError as error:
            counts.failures[operation, "away"] += 1
            raise DependencyUnavailable from error
        except WriteHeldUp:
            counts.failures[operation, "held-up"] += 1
            raise DependencyUnavailable("The write was held up for too long.") from None
        except DependencyUnavailable:
            counts.failures[operation, "away"] += 1
            raise
        except PyMongoError as error:
            is_away = is_outage(error)
            counts.failures[operation, "away" if is_away else "refused"] += 1
            if is_away and isinstance(error, OperationFailure):
                raise DependencyUnavailable("The database cannot do this now.") from error
            if is_away:
                raise DependencyUnavailable from error
            raise
        finally:
            counts.note(operation, perf_counter() - began)

    return wrapper

"""The MongoDB client, and the seam between its two drivers.

Motor was asked for and is the default; its makers ended it on 14 May 2026. PyMongo's own async
client speaks nearly the same calls. Whatever differs between the two stays in this module, so that
the stores above are written once and tested on both.
"""

import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar, cast

from bson.codec_options import CodecOptions
from motor.motor_tornado import MotorClient
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern

from tornado_members.errors import DependencyAway
from tornado_members.settings import SettingsError

Document = dict[str, Any]
# Motor's databases and collections answer the calls that the stores make in the same way.
Database = AsyncDatabase[Document]
Collection = AsyncCollection[Document]

P = ParamSpec("P")
T = TypeVar("T")

# Failures that pass: no primary, shutting down, out of disk, stepped down, time is up.
_PASSING_CODES = frozenset({50, 89, 91, 189, 262, 10107, 11600, 11602, 13435, 13436, 14031})


@dataclass(frozen=True, slots=True)
class Mongo:
    """An open client and the database on it."""

    client: AsyncMongoClient[Document] | MotorClient[Document]
    database: Database

    async def close(self) -> None:
        """Close every connection."""
        if isinstance(self.client, AsyncMongoClient):
            await self.client.close()
        else:
            self.client.close()


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
    }
    client: AsyncMongoClient[Document] | MotorClient[Document]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an option that does not exist
            make = AsyncMongoClient if driver == "pymongo" else MotorClient
            client = make(uri, **options)
    except (ConfigurationError, ValueError, UserWarning) as error:
        raise SettingsError(f"mongodb.uri: {error}") from None
    opened = client.get_database(
        database,
        codec_options=CodecOptions(tz_aware=True),
        read_preference=ReadPreference.PRIMARY,
        write_concern=WriteConcern(w="majority", j=True),
        read_concern=ReadConcern("majority"),
    )
    return Mongo(client, cast(Database, opened))


def is_outage(error: PyMongoError) -> bool:
    """Whether MongoDB is away for now, rather than asked for something it refuses."""
    if isinstance(error, ConnectionFailure | WriteConcernError) or error.timeout:
        return True
    return isinstance(error, OperationFailure) and error.code in _PASSING_CODES


def reports_outages(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Turn an outage of MongoDB, whichever way the driver tells it, into DependencyAway."""

    @wraps(method)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except PyMongoError as error:
            if is_outage(error):
                raise DependencyAway from error
            raise

    return wrapper

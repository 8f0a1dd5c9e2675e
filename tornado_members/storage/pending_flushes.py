"""Pending flushes of cache nodes that missed an invalidation, recorded until they are flushed.

The collection `cache_pending_flushes` has one document for each node and process that could not
reach it.
docs/decisions/pending-flushes.md explains why they are kept in MongoDB.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from tornado_members.errors import DependencyUnavailable
from tornado_members.lease_cache.errors import StoreUnavailable
from tornado_members.lease_cache.pending_flushes import PendingFlush
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.operations import translate_outages

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

# Seconds until a record is acknowledged by a majority, or the write that needs it is refused.
RECORD_SECONDS = 1.0

# Excludes documents of other programs.
_PENDING_FLUSHES: Document = {
    **{name: {"$type": "string"} for name in ("node", "process", "nonce")},
    "writesEndAfter": {"$type": "double"},
}


class SharedStoreUnavailable(StoreUnavailable, DependencyUnavailable):
    """MongoDB does not reply: to the cache, and to a request that waits for the cache."""


def as_shared_store(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Decorate a method: raise SharedStoreUnavailable, which the cache expects, in an outage."""

    @wraps(method)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(self, *args, **kwargs)
        except DependencyUnavailable as error:
            raise SharedStoreUnavailable from error

    return wrapper


class PendingFlushCollection:
    """The collection.

    Every method raises StoreUnavailable if MongoDB does not respond in time.
    """

    deadline = RECORD_SECONDS

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo.with_timeout(RECORD_SECONDS)
        self._pending_flushes = mongo.database["cache_pending_flushes"]

    @as_shared_store
    @translate_outages
    async def record(self, flush: PendingFlush) -> None:
        """Record a pending flush; it replaces the process's earlier one of the same node.

        It is acknowledged by a majority, with its journal, before this returns.
        """
        fields: Document = {
            "node": flush.node,
            "process": flush.process,
            "nonce": flush.nonce,
            "writesEndAfter": flush.writes_end_after,
            "recordedAt": "$$NOW",  # for operators; no clock decides anything
        }
        await self._pending_flushes.update_one(
            {"_id": _key(flush)}, [{"$set": fields}], upsert=True
        )

    @as_shared_store
    @translate_outages
    async def remove(self, flush: PendingFlush) -> None:
        """Remove a completed flush, unless it was recorded again since it was read."""
        await self._pending_flushes.delete_one({"_id": _key(flush), "nonce": flush.nonce})

    @as_shared_store
    @translate_outages
    async def read(self) -> Sequence[PendingFlush]:
        """Return all pending flushes: usually none, and never many."""
        documents = await self._pending_flushes.find(_PENDING_FLUSHES).to_list(None)
        return [
            PendingFlush(each["node"], each["process"], each["nonce"], each["writesEndAfter"])
            for each in documents
        ]


def _key(flush: PendingFlush) -> str:
    return f"{flush.node} {flush.process}"

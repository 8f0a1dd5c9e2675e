"""Debts of the cache: nodes that missed an invalidation, recorded until they are invalidated.

One document for each node and process that could not reach it, in the collection `cache_debts`.
docs/decisions/debts.md says why they are kept in MongoDB.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from tornado_members.errors import DependencyUnavailable
from tornado_members.lease_cache.debts import Debt
from tornado_members.lease_cache.errors import LedgerUnavailable
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.outages import translate_outages

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

# Seconds until a record is acknowledged by a majority, or the write that needs it is refused.
RECORD_SECONDS = 1.0

# Documents that another program put there are not debts.
_DEBTS: Document = {
    **{name: {"$type": "string"} for name in ("node", "process", "nonce")},
    "writesEndAfter": {"$type": "double"},
}


def as_ledger(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Raise what the cache expects when MongoDB does not answer."""

    @wraps(method)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(self, *args, **kwargs)
        except DependencyUnavailable as error:
            raise LedgerUnavailable("MongoDB does not reply to the cache") from error

    return wrapper


class DebtLedger:
    """The collection.

    Every method raises LedgerUnavailable when MongoDB does not answer in time.
    """

    deadline = RECORD_SECONDS

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo.with_timeout(RECORD_SECONDS)
        self._debts = mongo.database["cache_debts"]

    @as_ledger
    @translate_outages
    async def record(self, debt: Debt) -> None:
        """Record a debt in place of the process's earlier one to the same node.

        It is acknowledged by a majority, with its journal, before this returns.
        """
        fields: Document = {
            "node": debt.node,
            "process": debt.process,
            "nonce": debt.nonce,
            "writesEndAfter": debt.writes_end_after,
            "recordedAt": "$$NOW",  # for operators; no clock decides anything
        }
        await self._debts.update_one({"_id": _key(debt)}, [{"$set": fields}], upsert=True)

    @as_ledger
    @translate_outages
    async def remove(self, debt: Debt) -> None:
        """Remove a debt that was paid, unless it was recorded anew since it was read."""
        await self._debts.delete_one({"_id": _key(debt), "nonce": debt.nonce})

    @as_ledger
    @translate_outages
    async def read(self) -> Sequence[Debt]:
        """Return all debts: few, and mostly none."""
        documents = await self._debts.find(_DEBTS).to_list(None)
        return [
            Debt(each["node"], each["process"], each["nonce"], each["writesEndAfter"])
            for each in documents
        ]


def _key(debt: Debt) -> str:
    return f"{debt.node} {debt.process}"

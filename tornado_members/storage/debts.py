"""Debts of the cache: nodes that could not be told of a change, recorded until they have been.

One document for each node and process that could not reach it, in the collection `cache_debts`.
docs/decisions/debts.md says why they are kept in MongoDB.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.outages import translate_outages

# Seconds until a record is acknowledged by a majority, or the write that needs it is refused.
RECORD_SECONDS = 1.0

# Documents that another program put there are not debts.
_DEBTS: Document = {
    **{name: {"$type": "string"} for name in ("node", "process", "nonce")},
    "writesEndAfter": {"$type": "double"},
}


@dataclass(frozen=True, slots=True)
class Debt:
    """`process` changed, or may be changing, members of which `node` still has old entries."""

    node: str  # its address, as in cache.servers
    process: str
    nonce: str  # another one each time that the debt is recorded
    # Seconds after the recording within which each write that relies on it has ended.
    writes_end_after: float


class DebtLedger:
    """The collection.

    Every method raises DependencyUnavailable when MongoDB does not answer in time.
    """

    deadline = RECORD_SECONDS

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo.with_timeout(RECORD_SECONDS)
        self._debts = mongo.database["cache_debts"]

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

    @translate_outages
    async def remove(self, debt: Debt) -> None:
        """Remove a debt that was paid, unless it was recorded anew since it was read."""
        await self._debts.delete_one({"_id": _key(debt), "nonce": debt.nonce})

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

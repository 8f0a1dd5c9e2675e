"""Ends the transactions of processes that were killed.

MongoDB keeps such a transaction open for transactionLifetimeLimitSeconds, by default a minute, and
refuses all other changes of its members. A live process leaves no transaction idle for longer than
the timeout of an operation. One that was stopped for longer finds its transaction ended, and has
written nothing.
"""

import time
from contextlib import suppress
from logging import getLogger

from pymongo.errors import OperationFailure, PyMongoError

from tornado_members.storage.mongo import APP_NAME, Document, Mongo

log = getLogger(__name__)

_PAUSE_SECONDS = 0.25  # between two searches


class AbandonedTransactions:
    """Finds and ends abandoned transactions when a writer meets a conflict."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo
        self._admin = mongo.client.get_database("admin")
        self._read_at = 0.0  # time.monotonic()

    async def end(self) -> None:
        """End abandoned transactions. Returns at once if another writer has just searched."""
        now = time.monotonic()
        if now - self._read_at < _PAUSE_SECONDS:
            return
        self._read_at = now
        with suppress(PyMongoError):  # the conflict remains, and is reported
            for found in await self._find():
                log.warning("ended a transaction that %s left open", found.get("client"))
                await self._admin.command("killSessions", [{"id": found["lsid"]["id"]}])

    async def check(self) -> None:
        """Log a warning if MongoDB does not let this service find such transactions."""
        try:
            await self._find()
        except OperationFailure as error:
            log.warning(
                "changes of a member whose writer is killed will fail until MongoDB ends its "
                "transaction (transactionLifetimeLimitSeconds), because this service may not list "
                "its own sessions: %s",
                (error.details or {}).get("codeName") or error.code,
            )

    async def _find(self) -> list[Document]:
        """Return the abandoned transactions of this MongoDB user; no other ones are visible."""
        abandoned = {
            "appName": APP_NAME,
            "active": False,
            "transaction.timeInactiveMicros": {"$gt": round(self._mongo.timeout * 1e6)},
        }
        stages = [{"$currentOp": {"allUsers": False, "idleSessions": True}}, {"$match": abandoned}]
        reply = await self._admin.command("aggregate", 1, pipeline=stages, cursor={})
        found: list[Document] = reply["cursor"]["firstBatch"]
        return found

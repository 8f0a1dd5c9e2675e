"""A lease in MongoDB: of many processes, one at a time does a job."""

import asyncio
import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any

import pymongo
from pymongo import ReturnDocument

from tornado_members.storage.mongo import Document, Mongo, reports_outages

LEASE_SECONDS = 3.0
# A holder that heard nothing stops this much sooner than another can begin.
_MARGIN_SECONDS = 0.5


class LeaderLease:
    """A document of the collection `leases`: who holds it, until when, and how far he got.

    Until when is decided by MongoDB's clock alone. The holder counts from before he asked, on a
    clock of his own, so that he stops in time even if no answer comes. One who was stopped himself
    (SIGSTOP, a paused machine) may act once more when he wakes; he cannot move `progress` then.
    """

    def __init__(self, mongo: Mongo, name: str) -> None:
        self.mongo = mongo
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.progress: Mapping[str, Any] | None = None  # as the last holder left it
        self.valid_until = 0.0  # by the event loop's clock
        # When `progress` was last seen to change, by this holder or another; the loop's clock.
        self.progressed_at: float | None = None
        self._last_progress: Mapping[str, Any] | None = None
        self._timeout = mongo.timeout
        self._leases = mongo.database["leases"]
        self._name = name

    @property
    def is_valid(self) -> bool:
        """Whether it is ours for certain."""
        return asyncio.get_running_loop().time() < self.valid_until

    @reports_outages
    async def take(self) -> bool:
        """Take it if it is free, or ours. Raises DependencyUnavailable."""
        return await self._claim(None)

    @reports_outages
    async def renew(self, progress: Mapping[str, Any] | None) -> bool:
        """Renew the lock and store the progress. Return False if another process holds the lock.

        Raises DependencyUnavailable.
        """
        return await self._claim(progress)

    @reports_outages
    async def give_back(self, progress: Mapping[str, Any] | None) -> None:
        """Let the next one have it at once. Raises DependencyUnavailable."""
        self.valid_until = 0.0
        noted = {"progress": progress} if progress else {}
        await self._leases.update_one(
            {"_id": self._name, "holder": self.holder}, {"$set": {"holder": None, **noted}}
        )

    async def _claim(self, progress: Mapping[str, Any] | None) -> bool:
        """One update, in which the server decides; if it changes nothing, it writes nothing."""
        asked = asyncio.get_running_loop().time()
        # Where we hold it, the driver should give up before the time is up: it says more, and
        # cleans up behind itself.
        left = self.valid_until - asked
        with pymongo.timeout(min(self._timeout, left) if left > 0 else self._timeout):
            document = await self._leases.find_one_and_update(
                {"_id": self._name},
                _claim_of(self.holder, progress),
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        self._note_progress(document, asked)
        if document is None or document["holder"] != self.holder:
            self.valid_until = 0.0
            return False
        self.progress = document.get("progress")
        self.valid_until = asked + LEASE_SECONDS - _MARGIN_SECONDS
        return True

    def _note_progress(self, document: Document | None, asked: float) -> None:
        progress = document.get("progress") if document else None
        if self.progressed_at is None or progress != self._last_progress:
            self.progressed_at, self._last_progress = asked, progress


def _claim_of(holder: str, progress: Mapping[str, Any] | None) -> list[Document]:
    """Return an update that gives the lease to `holder` if it holds it, or if the lease is free.

    The lease is free if no process holds it, if it has run out, and if it would run out later than
    a lease that is taken now: then MongoDB's clock was set back, or the primary before had a clock
    that was ahead.
    """
    ours = {"$eq": ["$holder", holder]}
    nobody = {"$eq": [{"$ifNull": ["$holder", None]}, None]}
    until = {"$add": ["$$NOW", round(LEASE_SECONDS * 1000)]}
    ended = {"$lte": ["$expiresAt", "$$NOW"]}
    too_far = {"$gt": ["$expiresAt", until]}
    free = {"$or": [ours, nobody, ended, too_far]}
    fields: Document = {
        "holder": {"$cond": [free, holder, "$holder"]},
        "expiresAt": {"$cond": [free, until, "$expiresAt"]},
    }
    if progress:
        fields["progress"] = {"$cond": [ours, {"$literal": progress}, "$progress"]}
    return [{"$set": fields}]

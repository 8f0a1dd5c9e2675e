"""Leader election: a lock in MongoDB lets one process at a time do a job."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import pymongo
from pymongo import ReturnDocument
from pymongo.errors import AutoReconnect, WriteConcernError

from tornado_members.lease_cache.process_name import has_ended, process_name
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.operations import translate_outages

LOCK_SECONDS = 3.0
# A leader that receives no reply stops this much sooner than another process can begin.
_MARGIN_SECONDS = 0.5


class LeaderElection:
    """A candidate for one lock, a document of the collection `leader_locks`.

    The document holds the leader, the time until which the lock is valid, and the progress of the
    job. Only MongoDB's clock decides when a lock expires. The leader measures the time on a clock
    of its own, from before each request, so that it stops in time even without a reply. A process
    that was stopped (SIGSTOP, a suspended machine) may act once more when it continues. It cannot
    change `progress` then.
    """

    def __init__(self, mongo: Mongo, name: str) -> None:
        self.mongo = mongo
        self.holder = process_name()
        self._ended: str | None = None  # a holder that ended without releasing the lock
        self.progress: Mapping[str, Any] | None = None  # as the last leader stored it
        self.valid_until = 0.0  # by the event loop's clock
        # When a change of `progress` was last seen, by any leader; on the event loop's clock.
        self.progressed_at: float | None = None
        self.last_progress: Mapping[str, Any] | None = None  # as seen last, of any leader
        self._timeout = mongo.timeout
        self._locks = mongo.database["leader_locks"]
        self._name = name

    @property
    def is_leader(self) -> bool:
        """True if this process certainly holds the lock."""
        return asyncio.get_running_loop().time() < self.valid_until

    @translate_outages
    async def acquire(self) -> bool:
        """Acquire the lock if it is free. True if this process holds it now.

        Raises DependencyUnavailable.
        """
        if await self._claim(None):
            return True
        return self._ended is not None and await self._claim(None)

    @translate_outages
    async def renew(self, progress: Mapping[str, Any] | None) -> bool:
        """Renew the lock and store the progress. Return False if another process holds the lock.

        Raises DependencyUnavailable.
        """
        return await self._claim(progress)

    @translate_outages
    async def release(self, progress: Mapping[str, Any] | None) -> None:
        """Store the progress, and let another process acquire the lock at once.

        Raises DependencyUnavailable.
        """
        self.valid_until = 0.0
        stored = {"progress": progress} if progress else {}
        await self._locks.update_one(
            {"_id": self._name, "holder": self.holder}, {"$set": {"holder": None, **stored}}
        )

    async def _claim(self, progress: Mapping[str, Any] | None) -> bool:
        """Send one update, in which the server decides. It writes nothing if nothing changes.

        Like MongoProbe, it shows that MongoDB accepts writes.
        """
        sent_at = asyncio.get_running_loop().time()
        # A leader lets the driver time out before the lock expires: the driver's error is more
        # specific, and the driver closes the connection.
        left = self.valid_until - sent_at
        with pymongo.timeout(min(self._timeout, left) if left > 0 else self._timeout):
            document = await self._update(_claim_of(self.holder, progress, self._ended))
        self.mongo.note_write(sent_at)
        self._note_progress(document, sent_at)
        if document is None or document["holder"] != self.holder:
            self.valid_until = 0.0
            holder = document and document["holder"]
            self._ended = holder if isinstance(holder, str) and has_ended(holder) else None
            return False
        self._ended = None
        self.progress = document.get("progress")
        self.valid_until = sent_at + LOCK_SECONDS - _MARGIN_SECONDS
        return True

    async def _update(self, update: list[Document]) -> Document | None:
        """Update the lock; return its new document.

        The command alone takes a sixth less processor time than the driver's method, which repeats
        it after a lost connection or an election.
        """
        locks = self._locks
        command: Document = {
            "findAndModify": locks.name,
            "query": {"_id": self._name},
            "update": update,
            "upsert": True,
            "new": True,
            "writeConcern": locks.write_concern.document,
        }
        options = cast(Any, locks.codec_options)  # the types of the driver allow None only
        with suppress(AutoReconnect):
            reply = await locks.database.command(command, codec_options=options)
            if error := reply.get("writeConcernError"):
                raise WriteConcernError(error.get("errmsg", ""), error.get("code"), error)
            return cast(Document | None, reply["value"])
        return await locks.find_one_and_update(
            command["query"], update, upsert=True, return_document=ReturnDocument.AFTER
        )

    def _note_progress(self, document: Document | None, sent_at: float) -> None:
        progress = document.get("progress") if document else None
        if self.progressed_at is None or progress != self.last_progress:
            self.progressed_at, self.last_progress = sent_at, progress


def _claim_of(holder: str, progress: Mapping[str, Any] | None, ended: str | None) -> list[Document]:
    """Return an update that gives the lock to `holder` if it holds the lock or the lock is free.

    The lock is free if no process holds it, or one that has `ended`, if it has expired, or if it
    expires much later than a lock that is acquired now. In the last case MongoDB's clock was set
    back, or the clock of the former primary was ahead. "Much" is as long as a lock lasts: $$NOW is
    the time at which a command began, and of two concurrent commands the first to begin may be
    applied last.
    """
    ours = {"$eq": ["$holder", holder]}
    unheld = {"$eq": [{"$ifNull": ["$holder", None]}, None]}
    until = {"$add": ["$$NOW", round(LOCK_SECONDS * 1000)]}
    expired = {"$lte": ["$expiresAt", "$$NOW"]}
    too_far = {"$gt": ["$expiresAt", {"$add": [until, round(LOCK_SECONDS * 1000)]}]}
    abandoned = {"$eq": ["$holder", {"$literal": ended}]} if ended else False
    free = {"$or": [ours, unheld, abandoned, expired, too_far]}
    fields: Document = {
        "holder": {"$cond": [free, holder, "$holder"]},
        "expiresAt": {"$cond": [free, until, "$expiresAt"]},
    }
    if progress:
        fields["progress"] = {"$cond": [ours, {"$literal": progress}, "$progress"]}
    return [{"$set": fields}]

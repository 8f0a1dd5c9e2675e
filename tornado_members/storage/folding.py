"""Folded names and addresses, by which lists find members whatever their case.

Every write of this service stores them. Another program's document has none, nor has one of before
there were any; those are found by an index, and filled in: all of them at the start, new ones soon.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from logging import getLogger
from typing import Any, Final

import pymongo
from pymongo import UpdateOne

from tornado_members.errors import DependencyAway
from tornado_members.member import MAX_MEMBER_ID, fold
from tornado_members.storage.listing import BY_FOLDED_NAME
from tornado_members.storage.mongo import Document, Mongo, reports_outages

log = getLogger(__name__)

_BATCH: Final = 250
# Nobody waits for an answer here, and a start that gave up would have to begin again.
_PATIENCE_SECONDS: Final = 60
_TELL_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 10.0

_UNFOLDED: Final = {"$not": {"$gte": ""}}
# Covered by the index, so that a look which finds nothing costs one key.
_TO_BE_FOLDED: Final[Document] = {
    "nameFold": _UNFOLDED,
    "name": {"$gte": ""},
    "_id": {"$gte": 1, "$lte": MAX_MEMBER_ID},
}


def folded(name: str, email: str | None) -> Document:
    """The fields that a document has beside a name and an address."""
    return {"nameFold": fold(name), "emailFold": None if email is None else fold(email)}


class Folding:
    """Fills in what is missing."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = replace(mongo, deadline=_PATIENCE_SECONDS)
        self._members = mongo.database["members"]

    async def fill_in(self) -> int:
        """Fill in all there are; returns how many. Says so, and how far it is, if it takes a while.

        Raises DependencyAway.
        """
        done, told = 0, time.monotonic()
        last: list[Any] = []
        while batch := await self._read_batch():
            if len(batch) == _BATCH and not done:
                log.info(
                    "%d members of another program or an earlier version have no folded names;"
                    " filling them in, so that lists are complete",
                    await self._count(),
                )
            changed = await self._fill_in(batch)
            ids = [document["_id"] for document in batch]
            if not changed and ids == last:  # what they hold cannot be matched
                log.warning("members have no folded names and cannot be given any: %s", ids[:10])
                break
            done, last = done + changed, ids
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                log.info("filled in the folded names of %d members so far", done)
        if done:
            log.info("filled in the folded names of %d members", done)
        return done

    @reports_outages
    async def _read_batch(self) -> list[Document]:
        cursor = self._members.find(
            _TO_BE_FOLDED, {"name": 1, "email": 1}, hint=BY_FOLDED_NAME, limit=_BATCH
        )
        found = await cursor.to_list(_BATCH)
        return [document for document in found if isinstance(document["name"], str)]

    @reports_outages
    async def _count(self) -> int:
        with pymongo.timeout(_PATIENCE_SECONDS):
            return await self._members.count_documents(_TO_BE_FOLDED, hint=BY_FOLDED_NAME)

    @reports_outages
    async def _fill_in(self, batch: list[Document]) -> int:
        """Returns how many were changed: others may have been quicker, or have renamed some."""
        with pymongo.timeout(_PATIENCE_SECONDS):
            result = await self._members.bulk_write([_filling(one) for one in batch], ordered=False)
        return result.modified_count


def _filling(document: Document) -> UpdateOne:
    """The update of a document, if its name and its address still are those that were read."""
    name, email = document["name"], document.get("email")
    if isinstance(email, str):
        same: Any = {"email": {"$eq": email}}
    else:
        email, same = None, {"$expr": {"$ne": [{"$type": "$email"}, "string"]}}
    which = {"_id": document["_id"], "name": {"$eq": name}, "nameFold": _UNFOLDED, **same}
    return UpdateOne(which, {"$set": folded(name, email)})


@asynccontextmanager
async def folding(mongo: Mongo) -> AsyncIterator[None]:
    """Look for members without folded names now and then, and fill them in."""
    task = asyncio.create_task(_keep_filling_in(Folding(mongo)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_filling_in(members: Folding) -> None:
    failing = False
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        try:
            await members.fill_in()
        except DependencyAway:  # which whoever asks for members says, too
            continue
        except Exception:
            if not failing:
                log.exception("folded names cannot be filled in")
            failing = True
        else:
            failing = False

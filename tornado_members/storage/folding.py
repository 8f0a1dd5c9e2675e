"""Case-folded names and e-mail addresses, by which lists find members in any case.

Every write of this service stores them. Documents of other programs and of early versions lack
them. The service finds these by an index and fills them in: all of them at the start, new ones
within seconds.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from logging import getLogger
from typing import Any, Final

from pymongo import UpdateOne

from tornado_members.errors import DependencyUnavailable
from tornado_members.storage.documents import MEMBERS_ONLY, MemberCodec
from tornado_members.storage.listing import BY_FOLDED_NAME
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.outages import translate_outages

log = getLogger(__name__)

_BATCH: Final = 250
# No client waits for this, and a start that timed out would have to begin again.
_TIMEOUT_SECONDS: Final = 60
_REPORT_SECONDS: Final = 5.0
_SCAN_SECONDS: Final = 10.0  # between two scans
_LEAST_REST: Final = 20  # times the duration of a scan, so that scans take 5 % of the time at most
_MOST_IDS_LOGGED: Final = 10

_UNFOLDED: Final = {"$not": {"$gte": ""}}
# The index has all of it but whether a name is a list, so a scan that finds nothing costs one key.
_TO_BE_FOLDED: Final[Document] = {"nameFold": _UNFOLDED, **MEMBERS_ONLY}


class Folding:
    """Fills in the missing fields of all documents that are members."""

    def __init__(self, mongo: Mongo, codec: MemberCodec | None = None) -> None:
        self.mongo = mongo.with_timeout(_TIMEOUT_SECONDS)
        self._codec = codec or MemberCodec()
        self._names = [field.name for field in self._codec.fields.case_folded]
        self._members = mongo.database["members"]
        self._unmatched: list[Any] = []  # ids, after a scan that could change nothing
        self._is_reported = False

    async def fill_in(self) -> int:
        """Fill in all that are missing; return how many. Log it, and the progress of a long scan.

        Raises DependencyUnavailable.
        """
        done, reported_at = 0, time.monotonic()
        seen: list[Any] = []
        # One cursor for the scan: documents that cannot be changed do not hide those behind them.
        cursor = self._members.find(
            _TO_BE_FOLDED, dict.fromkeys(self._names, 1), hint=BY_FOLDED_NAME, batch_size=_BATCH
        )
        try:
            while batch := await self._read_batch(cursor):
                if len(batch) == _BATCH and not seen:
                    log.info(
                        "%d members of another program or an earlier version have no folded names;"
                        " filling them in, so that lists are complete",
                        await self._count(),
                    )
                done += await self._fill_in(batch)
                seen += [document["_id"] for document in batch][: _MOST_IDS_LOGGED - len(seen)]
                if time.monotonic() - reported_at > _REPORT_SECONDS:
                    reported_at = time.monotonic()
                    log.info("filled in the folded names of %d members so far", done)
        finally:
            await self._close(cursor)
        if done:
            log.info("filled in the folded names of %d members", done)
        self._report_unmatched([] if done else seen)
        return done

    def _report_unmatched(self, ids: list[Any]) -> None:
        """Log once that two scans in a row could change nothing of these documents."""
        if ids and ids == self._unmatched and not self._is_reported:
            self._is_reported = True
            log.warning(
                "members have no folded names and cannot be given any, so name_prefix and email do"
                " not find them; correct their names in MongoDB: %s",
                ids,
            )
        self._unmatched = ids

    @translate_outages
    async def _read_batch(self, cursor: Any) -> list[Document]:
        return list(await cursor.to_list(_BATCH))

    @translate_outages
    async def _close(self, cursor: Any) -> None:
        await cursor.close()

    @translate_outages
    async def _count(self) -> int:
        return await self._members.count_documents(_TO_BE_FOLDED, hint=BY_FOLDED_NAME)

    @translate_outages
    async def _fill_in(self, batch: list[Document]) -> int:
        """Return how many were changed: others may have been quicker, or have renamed some."""
        updates = [self._filling(document) for document in batch]
        result = await self._members.bulk_write(updates, ordered=False)
        return result.modified_count

    def _filling(self, document: Document) -> UpdateOne:
        """Return the update of a document, if its text still is what was read."""
        texts = {name: document.get(name) for name in self._names}
        values = {name: text if isinstance(text, str) else None for name, text in texts.items()}
        unchanged: list[Document] = [
            {"$expr": {"$ne": [{"$type": f"${name}"}, "string"]}}
            if value is None
            else {name: {"$eq": value}}
            for name, value in values.items()
        ]
        same = {"_id": document["_id"], "nameFold": _UNFOLDED, "$and": unchanged}
        return UpdateOne(same, {"$set": self._codec.case_folded(values)})


@asynccontextmanager
async def folding(mongo: Mongo, codec: MemberCodec | None = None) -> AsyncIterator[None]:
    """Fill in what other programs leave out, for as long as the block lasts."""
    task = asyncio.create_task(_keep_filling_in(Folding(mongo, codec)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_filling_in(members: Folding) -> None:
    failing, took = False, 0.0
    while True:
        await asyncio.sleep(max(_SCAN_SECONDS, _LEAST_REST * took))
        began = time.monotonic()
        try:
            await members.fill_in()
        except DependencyUnavailable:  # requests for members report it, too
            continue
        except Exception:
            if not failing:
                log.exception("folded names cannot be filled in")
            failing = True
        else:
            failing = False
        took = time.monotonic() - began

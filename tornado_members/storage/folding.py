"""Case-folded names and e-mail addresses, and words, by which lists find members.

Every write of this service stores them. Documents of other programs and of earlier versions lack
them. `Folding` finds these by an index and fills them in. A document that lacks folded names or
words receives both. `list_preparation.py` decides when.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from logging import getLogger
from typing import Any, Final

from pymongo import UpdateOne

from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.attributes import path_of
from tornado_members.storage.documents import MEMBERS_ONLY, SEARCHED_BY, WORDS, MemberCodec
from tornado_members.storage.list_indexes import (
    BY_FOLDED_NAME,
    BY_SEARCHED_ATTRIBUTES,
    BY_WORD,
    HAS_ATTRIBUTES,
    Index,
)
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.operations import translate_outages

log = getLogger(__name__)

_BATCH: Final = 250
# No client waits for this, and a start that timed out would have to begin again.
_TIMEOUT_SECONDS: Final = 60
_REPORT_SECONDS: Final = 5.0
_SLICE: Final = 25  # documents that are prepared before requests are served again
_MOST_IDS_LOGGED: Final = 10

# Each index has all of the condition but whether a name is a list, so a scan that finds nothing
# costs one key.
_TO_BE_FOLDED: Final[Document] = {"nameFold": {"$not": {"$gte": ""}}, **MEMBERS_ONLY}
_WITHOUT_WORDS: Final[Document] = {WORDS: None, **MEMBERS_ONLY}
_SCANS: Final = ((_TO_BE_FOLDED, BY_FOLDED_NAME), (_WITHOUT_WORDS, BY_WORD))


class Folding:
    """Fills in the missing fields of all documents that are members."""

    def __init__(self, mongo: Mongo, codec: MemberCodec | None = None) -> None:
        self.mongo = mongo.with_timeout(_TIMEOUT_SECONDS)
        self._codec = codec or MemberCodec()
        fields = self._codec.fields
        self._names = [*dict.fromkeys(field.name for field in fields.case_folded + fields.searched)]
        self._searched = [path_of(name) for name in fields.attributes.searched]
        self._members = mongo.database["members"]
        self._declarations = mongo.database["cluster"]
        self._unmatched: list[Any] = []  # ids, after a scan that could change nothing
        self._is_reported = False
        self.filled_in = 0  # documents, by this process
        self._done, self._total = 0, 0  # of this call of fill_in

    def progress(self) -> Mapping[str, int]:
        """Return the progress of fill_in, for other processes."""
        return {"filled_in": self._done, "total": max(self._done, self._total)}

    async def is_lacking(self) -> bool:
        """True if a document lacks something. Raises DependencyUnavailable."""
        return any([await self._has_any(*scan) for scan in await self._scans()])

    async def fill_in(self, may_continue: Callable[[], bool] = lambda: True) -> bool:
        """Fill in all that is missing. Log it, and the progress of a long scan.

        Return False if `may_continue`, which is called before each batch, ended it earlier. Raises
        DependencyUnavailable.
        """
        self._done, self._total, seen = 0, 0, list[Any]()
        for lacking, index in await self._scans():
            if not await self._scan(lacking, index, seen, may_continue):
                return False
        if self._done:
            log.info("filled in the folded names and words of %d members", self._done)
        self._report_unmatched([] if self._done else [*dict.fromkeys(seen)])
        return True

    async def _scans(self) -> list[tuple[Document, Index]]:
        """Return the conditions of documents that lack something, and the index of each."""
        if not self._searched or not await self._is_latest():
            return [*_SCANS]
        other = {SEARCHED_BY: {"$ne": self._codec.searched_by}, **HAS_ATTRIBUTES, **MEMBERS_ONLY}
        return [*_SCANS, (other, BY_SEARCHED_ATTRIBUTES)]

    @translate_outages
    async def declare(self) -> None:
        """Declare the searched attributes of this service as those whose words members have.

        Services with other declarations can run at the same time. The one that started last fills
        in words, so that they do not undo each other's work.
        """
        if self._searched:
            digest = {"digest": self._codec.searched_by}
            await self._declarations.update_one({"_id": SEARCHED_BY}, {"$set": digest}, upsert=True)

    @translate_outages
    async def _is_latest(self) -> bool:
        declared = await self._declarations.find_one({"_id": SEARCHED_BY})
        return declared is not None and declared["digest"] == self._codec.searched_by

    async def _scan(
        self, lacking: Document, index: Index, seen: list[Any], may_continue: Callable[[], bool]
    ) -> bool:
        """Fill in the documents that match; add the first ids to `seen`. False if interrupted."""
        reported_at, is_announced = time.monotonic(), False
        # One cursor for the scan: documents that cannot be changed do not hide those behind them.
        cursor = self._members.find(
            lacking,
            dict.fromkeys([*self._names, *self._searched], 1),
            hint=index,
            batch_size=_BATCH,
        )
        try:
            while batch := await self._read_batch(cursor):
                if not may_continue():
                    return False
                if len(batch) == _BATCH and not is_announced:
                    is_announced = True
                    await self._announce(lacking, index)
                changed = await self._fill_in(batch)
                self._done += changed
                self.filled_in += changed
                seen += [document["_id"] for document in batch][: _MOST_IDS_LOGGED - len(seen)]
                if time.monotonic() - reported_at > _REPORT_SECONDS:
                    reported_at = time.monotonic()
                    log.info(
                        "filled in the folded names and words of %d of %d members so far",
                        self._done,
                        self._total,
                    )
        finally:
            await self._close(cursor)
        return True

    async def _announce(self, lacking: Document, index: Index) -> None:
        count = await self._count(lacking, index)
        self._total = self._done + count
        log.info(
            "%d members of another program or an earlier version have no folded names or words;"
            " filling them in, so that lists are complete",
            count,
        )

    def _report_unmatched(self, ids: list[Any]) -> None:
        """Log once that two scans in a row could change nothing of these documents."""
        if ids and ids == self._unmatched and not self._is_reported:
            self._is_reported = True
            log.warning(
                "members have no folded names or words and cannot be given any, so name_prefix,"
                " email and q do not find them; correct their names in MongoDB: %s",
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
    async def _count(self, lacking: Document, index: Index) -> int:
        return await self._members.count_documents(lacking, hint=index)

    @translate_outages
    async def _has_any(self, lacking: Document, index: Index) -> bool:
        cursor = self._members.find(lacking, {"_id": 1}, hint=index).limit(1)
        return bool(await cursor.to_list(1))

    @translate_outages
    async def _fill_in(self, batch: list[Document]) -> int:
        """Return how many were changed: others may have been quicker, or have renamed some."""
        updates = list[UpdateOne]()
        for document in batch:
            updates.append(self._filling(document))
            if not len(updates) % _SLICE:
                await asyncio.sleep(0)  # serve requests
        result = await self._members.bulk_write(updates, ordered=False)
        return result.modified_count

    def _filling(self, document: Document) -> UpdateOne:
        """Return the update of a document, if its text still is what was read."""
        texts = {name: document.get(name) for name in self._names}
        values: Document = {
            name: text if isinstance(text, str) else None for name, text in texts.items()
        }
        unchanged: list[Document] = [
            {"$expr": {"$ne": [{"$type": f"${name}"}, "string"]}}
            if value is None
            else {name: {"$eq": value}}
            for name, value in values.items()
        ]
        if self._searched:
            values[ATTRIBUTES] = attributes = self._codec.attributes_of(document)
            stored = document.get(ATTRIBUTES)
            for path in self._searched:
                found = stored.get(path.partition(".")[2]) if isinstance(stored, dict) else None
                unchanged.append({path: {"$eq": found}} if attributes else {path: None})
        same = {"_id": document["_id"], "$and": unchanged}
        update: Document = {"$set": self._codec.derived(values)}
        if self._codec.searched_by is None:
            update["$unset"] = {SEARCHED_BY: ""}
        return UpdateOne(same, update)

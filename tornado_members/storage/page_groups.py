"""Reads several pages of members by one command.

A command takes about 120 µs of the driver's processor time, whatever it returns, which is half of
a page of 50, and MongoDB a third of its time. Pages that are requested at once share that.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

import pymongo
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import PyMongoError

from tornado_members.model.fields import FieldTable
from tornado_members.model.list_query import Filters, ListQuery, MemberPage
from tornado_members.model.member import MAX_MEMBER_ID, MEMBER_FIELDS
from tornado_members.storage.documents import MemberCodec, is_member
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.operations import translate_outages
from tornado_members.storage.page_json import PageEncoder
from tornado_members.storage.recent_facts import RecentFacts

_NO_FILTERS: Final = Filters()
_LARGEST: Final = 100  # members of a page; of eight pages, the driver decodes them in half a ms
_GROUP: Final = "group"
_FAILED_SECONDS: Final = 60.0
# Share of an operation's timeout after which the pages of a group are read alone.
_TIMEOUT_SHARE: Final = 0.25


class PageGroups:
    """Reads groups of pages of all members, if members have no attributes.

    All methods raise DependencyUnavailable if MongoDB does not respond in time.
    """

    def __init__(self, mongo: Mongo, fields: FieldTable = MEMBER_FIELDS) -> None:
        self.mongo = mongo
        self._database = mongo.database
        self._members = mongo.database["members"]
        self._encoder = PageEncoder(MemberCodec(fields))
        self._has_attributes = bool(fields.attributes)
        self._shown: Document = dict.fromkeys(("_id", *fields.keys), 1)
        self._failed = RecentFacts(_FAILED_SECONDS)

    def may_have(self, query: ListQuery) -> bool:
        """True if this page may be in a group; False if it must be read alone."""
        is_plain = query.limit <= _LARGEST and query.filters == _NO_FILTERS
        return is_plain and not self._has_attributes and _GROUP not in self._failed

    @translate_outages
    async def read(self, queries: Sequence[ListQuery]) -> list[MemberPage | None]:
        """Return a page for each query; None for one that must be read alone.

        A group can fail although each page can be read: MongoDB may be older than 6.0, the
        documents of other programs too large for one reply, or one page slow. So the pages of a
        group that fails are read alone, and all others for a minute.
        """
        try:
            with pymongo.timeout(self.mongo.timeout * _TIMEOUT_SHARE):
                groups = await self._find(queries)
        except PyMongoError:
            self._failed.add(_GROUP)
            return [None] * len(queries)
        return [
            await self._encode(query, found) for query, found in zip(queries, groups, strict=True)
        ]

    async def _encode(self, query: ListQuery, found: Sequence[Document]) -> MemberPage | None:
        """Return a page; None if some documents are not members, but of other programs."""
        page = await self._encoder.encode(query, found, b",")
        if found and not is_member(found[-1]):  # which may be behind the page
            return None
        return page if len(page.keys) == min(len(found), query.limit) else None

    async def _find(self, queries: Sequence[ListQuery]) -> list[list[Document]]:
        """Return the documents of each page, and one more if another page follows.

        The pages are fields of one document: each `$lookup` adds what its pipeline finds.
        """
        pages = [
            {"$lookup": {"from": self._members.name, "pipeline": pipeline, "as": str(i)}}
            for i, pipeline in enumerate(map(self._pipeline, queries))
        ]
        command: dict[str, Any] = {
            "aggregate": 1,
            "pipeline": [{"$documents": [{}]}, *pages],
            "cursor": {},
            "readConcern": self._members.read_concern.document,
        }
        options = cast(Any, self._members.codec_options)  # the driver's types allow None only
        reply = await self._database.command(command, codec_options=options)
        (found,) = reply["cursor"]["firstBatch"]
        return [found[str(i)] for i in range(len(queries))]

    def _pipeline(self, query: ListQuery) -> list[Document]:
        """Return the stages that find a page, in which documents of other programs may be.

        They cannot name an index. The condition leaves the planner only one: that of the order.
        """
        key = "_id" if query.field == "memberId" else "name"
        bounds: Document = {"$gte": 1, "$lte": MAX_MEMBER_ID} if key == "_id" else {"$gte": ""}
        if query.after is not None:
            bounds.pop("$lte" if query.descending else "$gte", None)
            bounds["$lt" if query.descending else "$gt"] = query.after
        return [
            {"$match": {key: bounds}},
            {"$sort": {key: DESCENDING if query.descending else ASCENDING}},
            {"$limit": query.limit + 1},
            {"$project": self._shown},
        ]

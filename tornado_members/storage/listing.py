"""Queries of lists. Each combination of filters and order names the index that it uses.

The planner does not choose. It would try several indexes, with a result that depends on the data,
and reuse that result for other values in queries of the same shape.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, Final

import pymongo
from bson import MinKey
from pymongo import ASCENDING
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from tornado_members.errors import ListTooWide
from tornado_members.model.fields import FieldTable
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.storage.documents import MEMBER_ID_RANGE, is_member, most_per_reply
from tornado_members.storage.list_filters import ListFilters, direction, is_key, sort_key
from tornado_members.storage.list_indexes import (
    BY_FOLDED_NAME,
    BY_NAME,
    Index,
    Prefix,
    behind,
    prefixes_of,
)
from tornado_members.storage.list_readiness import ListReadiness, stage_for, stage_for_count
from tornado_members.storage.list_walk import ListWalk
from tornado_members.storage.match_counts import MatchCounts
from tornado_members.storage.mongo import Collection, Document, Mongo
from tornado_members.storage.single_reply import Find, find

# A prefix with more matches is wide: a large part of all members may match.
_MAX_KEYS: Final = 5000
# Of several wide prefixes, one must have at most this many matches.
_MAX_KEYS_OF_WIDE: Final = 50_000
# Of several prefixes, the first one with at most this many matches is used. MongoDB reads all these
# members in the time in which it reads the keys of two words of a whole name, of a million members.
_FEW: Final = 500
# Keys are read in batches that grow by this factor, in case few of their members match.
_GROWTH: Final = 8
# Share of an operation's timeout after which a list is too wide. MongoDB reports it in time.
_TIMEOUT_SHARE: Final = 0.8


class MemberLists:
    """Reads pages of members' documents, and counts them."""

    def __init__(self, mongo: Mongo, fields: FieldTable, readiness: ListReadiness) -> None:
        self._readiness = readiness
        self._fields = fields
        self._members: Collection = mongo.database["members"]
        self._timeout = mongo.timeout
        self._filters = ListFilters(fields)
        self._walk = ListWalk(self._members, self._filters, self._read)
        # Without what members are found by, a document is a third as large, and has no lists.
        self._shown: Document = dict.fromkeys(("_id", *fields.keys), 1)
        self._per_reply = most_per_reply(fields)
        self._counts = MatchCounts(self._members)

    async def page(self, query: ListQuery) -> list[Document]:
        """Return at most `query.limit` documents in order, beginning after `query.after`.

        Raises ListTooWide if they cannot be found in time, and ListsBeingPrepared.
        """
        self._readiness.require(stage_for(query.filters, self._fields))
        prefixes, attributes = prefixes_of(query.filters), query.filters.attributes
        has_choice = bool(prefixes) or len(attributes) > 1
        if not has_choice or self._filters.leading_field(query.filters) is not None:
            return await self._read(query, self._filters.matching(query))
        counts = (_FEW,) if prefixes else (_FEW, _MAX_KEYS)
        path = await self._counts.find_narrow_attribute(self._filters.stored(attributes), counts)
        if path is not None or not prefixes:
            return await self._read(query, self._filters.matching(query), path)
        narrow = await self._narrow(prefixes)
        is_only = _is_only(prefixes, query)
        if len(narrow) > 1 or (
            narrow and not is_only and await self._counts.is_narrow(narrow[0], _FEW)
        ):
            matching = await self._matching_all(query, narrow)
            return await self._read(query, matching)
        if narrow:
            return await self._pick(query, narrow[0], is_only=is_only)
        with _too_wide_after(self._timeout * _TIMEOUT_SHARE):
            found = await self._walk.page(query)
            return found if found is not None else await self._pick_wide(query, prefixes)

    async def count(self, filters: Filters) -> int:
        """Count the members that match. MongoDB scans one index key for each.

        Raises ListTooWide if several prefixes are wide, and the count takes too long, and
        ListsBeingPrepared.
        """
        self._readiness.require(stage_for_count(filters, self._fields))
        matching = self._filters.matching(ListQuery(filters))
        field = self._filters.leading_path(filters)
        if field is not None:
            index = BY_NAME if field == "name" else behind(field, "_id")
            return await self._members.count_documents(matching, hint=index)
        prefixes = prefixes_of(filters)
        if len(prefixes) > 1 or (prefixes and filters.attributes):
            if narrow := await self._narrow(prefixes):
                matching = await self._matching_all(ListQuery(filters), narrow)
                return await self._members.count_documents(matching, hint=[("_id", ASCENDING)])
            with _too_wide_after(self._timeout * _TIMEOUT_SHARE):
                return await self._members.count_documents(matching, hint=prefixes[0].index)
        # Only fields of the index, so that MongoDB fetches no document.
        conditions = prefixes[0].condition if prefixes else {"nameFold": {"$gte": MinKey()}}
        index = prefixes[0].index if prefixes else BY_FOLDED_NAME
        covered = {**conditions, "name": {"$gte": ""}, "_id": MEMBER_ID_RANGE}
        return await self._members.count_documents(covered, hint=index)

    async def _narrow(self, prefixes: Sequence[Prefix]) -> Sequence[Prefix]:
        """Return prefixes with few matches, if there are any, and two at most.

        One with very few matches is the only one, because reading its members is cheaper than
        looking for a second prefix.
        """
        if len(prefixes) > 1 and (few := await self._counts.find_narrow(prefixes, _FEW)):
            return [few]
        narrow: list[Prefix] = []
        for prefix in prefixes:
            if len(narrow) < 2 and await self._counts.is_narrow(prefix, _MAX_KEYS):
                narrow.append(prefix)
        return narrow

    async def _matching_all(self, query: ListQuery, narrow: Sequence[Prefix]) -> Document:
        """Return the filter of a query, restricted to members that have all these prefixes.

        MongoDB reads keys for this, which takes a third of the time of reading the members.
        """
        key, matching = sort_key(query), self._filters.matching(query)
        for prefix in narrow:
            restricted = matching[key].get("$in")
            if restricted is None or len(restricted) > _FEW:
                cursor = self._find_keys(query, prefix, restricted)
                matching[key]["$in"] = [
                    found
                    for document in await cursor.to_list(None)
                    if is_key(found := document[key], key)
                ]
        return matching

    async def _pick_wide(self, query: ListQuery, prefixes: Sequence[Prefix]) -> list[Document]:
        """Return a page although many members have each prefix. Raises ListTooWide.

        With one condition, all members whose keys are sorted match. With several, few may match.
        """
        if _is_only(prefixes, query):
            return await self._pick(query, prefixes[0], is_only=True)
        prefix = await self._counts.find_narrow(prefixes, _MAX_KEYS_OF_WIDE)
        if prefix is None:
            raise ListTooWide
        return await self._pick(query, prefix, is_only=False)

    async def _pick(self, query: ListQuery, prefix: Prefix, *, is_only: bool) -> list[Document]:
        """Return a page by sorting the keys of all members with this prefix.

        If it is the only condition, the first keys suffice, and MongoDB holds no others. A few of
        their members may be deleted or renamed by the time they are read.
        """
        key, wanted = sort_key(query), query.limit
        at_once = await self._pick_at_once(query, prefix) if is_only else []
        if len(at_once) == wanted and all(map(is_member, at_once)):
            return at_once
        most = wanted if is_only else 0  # 0 is no limit
        found: list[Document] = []
        while True:
            total = 0
            async with aclosing(self._keys(query, prefix, most)) as batches:
                async for keys in batches:
                    if len(at_once) < wanted and keys == [document[key] for document in at_once]:
                        return at_once
                    matching = self._filters.matching(query)
                    matching[key]["$in"] = keys
                    found += await self._read(replace(query, limit=wanted - len(found)), matching)
                    if len(found) == wanted:
                        return found
                    total += len(keys)
            if not most or total < most:
                return found
            query = replace(query, after=keys[-1])

    async def _pick_at_once(self, query: ListQuery, prefix: Prefix) -> list[Document]:
        """Return a page of the members with this prefix, by one query.

        MongoDB sorts the keys, and then reads the documents of this page only. It leaves out those
        that were changed in between, although they may still match. So a page that is not full
        is read again, key by key.
        """
        return await self._find(query, self._filters.covered(query, prefix), prefix.index)

    async def _keys(
        self, query: ListQuery, prefix: Prefix, most: int
    ) -> AsyncGenerator[list[Any], None]:
        """Yield sort keys of members with this prefix, in order, beginning after `query.after`.

        MongoDB sorts keys of the index, and reads no documents. The batches grow.
        """
        key, count = sort_key(query), query.limit
        cursor = self._find_keys(query, prefix, batch_size=count)
        cursor.sort(key, direction(query)).limit(most)
        try:
            while entries := await cursor.to_list(count):
                yield [found for entry in entries if is_key(found := entry[key], key)]
                count = max(count, min(count * _GROWTH, _MAX_KEYS))
        finally:
            await cursor.close()

    def _find_keys(
        self,
        query: ListQuery,
        prefix: Prefix,
        restricted: Sequence[Any] | None = None,
        batch_size: int = _MAX_KEYS,
    ) -> AsyncCursor[Document]:
        """Return a cursor over sort keys of members with this prefix, behind `query.after`.

        `restricted` are the only keys that count.
        """
        key, matching = sort_key(query), self._filters.covered(query, prefix)
        if restricted is not None:
            matching[key]["$in"] = restricted
        only = {"_id": 1} if key == "_id" else {"_id": 0, key: 1}
        return self._members.find(matching, only, hint=prefix.index, batch_size=batch_size)

    async def _read(
        self, query: ListQuery, matching: Document, equality: str | None = None
    ) -> list[Document]:
        """Return a page of documents, with the fields that clients see.

        `equality` is the field with which the index begins; by default, the filters decide.
        """
        key = sort_key(query)
        field = equality or self._filters.leading_path(query.filters)
        if field == "name":  # at most one document, matching needs no order
            return await self._find(query, matching, BY_NAME, is_sorted=False)
        index = behind(field, key) if field else [(key, ASCENDING)]
        return await self._find(query, matching, index)

    async def _find(
        self, query: ListQuery, matching: Document, index: Index, *, is_sorted: bool = True
    ) -> list[Document]:
        """Return the first documents in the order of a query that match."""
        sort = (sort_key(query), direction(query)) if is_sorted else None
        found = Find(
            matching=matching, shown=self._shown, index=index, sort=sort, limit=query.limit
        )
        return await find(self._members, found, self._per_reply)


@contextmanager
def _too_wide_after(seconds: float) -> Iterator[None]:
    """Raise ListTooWide if the queries within the block take longer.

    MongoDB has answered a query just before. So a timeout is not taken for an outage, unless the
    primary is lost.
    """
    try:
        with pymongo.timeout(seconds):
            yield
    except PyMongoError as error:
        if error.timeout and not isinstance(error, ServerSelectionTimeoutError):
            raise ListTooWide from error
        raise


def _is_only(prefixes: Sequence[Prefix], query: ListQuery) -> bool:
    """True if every member with the first prefix matches."""
    return len(prefixes) == 1 and not query.filters.attributes

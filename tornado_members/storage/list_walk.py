"""Reads a page of a list by walking its order, for filters that many members match."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from pymongo import ASCENDING

from tornado_members.model.list_query import ListQuery
from tornado_members.storage.documents import MEMBER_ID_RANGE
from tornado_members.storage.list_filters import ListFilters, after, direction, sort_key
from tornado_members.storage.mongo import Collection, Document
from tornado_members.storage.name_ranges import name_ranges

# Members read per result in a walk for a wide prefix, before the prefix's index is used instead.
_READ_PER_MATCH: Final = 100
# The same in the first part of a walk. Most wide prefixes fill a page in it.
_FIRST_PER_MATCH: Final = 10
# A walk reads at least this many members before it gives up, however small the page is.
_MIN_READ: Final = 5000
_HAS_KEY: Final[Document] = {"_id": MEMBER_ID_RANGE, "name": {"$gte": ""}}


class ListWalk:
    """Reads members in the order of a list, whether they match or not, up to a bound."""

    def __init__(
        self,
        members: Collection,
        filters: ListFilters,
        read: Callable[[ListQuery, Document], Awaitable[list[Document]]],
    ) -> None:
        """`read` returns the first documents of a list among those that match a filter."""
        self._members = members
        self._filters = filters
        self._read = read

    async def page(self, query: ListQuery) -> list[Document] | None:
        """Return a page by reading members in its order; None if too many do not match."""
        counts = (
            query.limit * _FIRST_PER_MATCH,
            max(_MIN_READ, query.limit * _READ_PER_MATCH),
        )
        key, found = sort_key(query), list[Document]()
        for bounds in await _bounds(query):
            part, end = bounds, None
            for count in counts:
                end = await self._key_behind(query, part, count)
                before = [] if end is None else [{key: {"$gt" if query.descending else "$lt": end}}]
                matching = {"$and": [self._filters.matching(query), part, *before]}
                found += await self._read(replace(query, limit=query.limit - len(found)), matching)
                if len(found) == query.limit:
                    return found
                if end is None:
                    break
                part = {"$and": [bounds, {key: {"$lte" if query.descending else "$gte": end}}]}
            if end is not None:
                return None
        return found

    async def _key_behind(self, query: ListQuery, bounds: Document, count: int) -> Any:
        """Return the sort key behind the first `count` members of a walk; None if it has fewer."""
        key = sort_key(query)
        members = {key: {**_HAS_KEY[key], **after(query)}}
        only = {"_id": 1} if key == "_id" else {"_id": 0, key: 1}
        cursor = self._members.find({"$and": [members, bounds]}, only, hint=[(key, ASCENDING)])
        found = await cursor.sort(key, direction(query)).skip(count).limit(1).to_list(1)
        return found[0][key] if found else None


async def _bounds(query: ListQuery) -> list[Document]:
    """Return ranges of the order of a list with all its members, without those of earlier pages."""
    prefix = query.filters.name_prefix
    if prefix is None or query.field != "name":
        return [{}]
    ranges = await asyncio.to_thread(name_ranges, prefix)
    return [
        {"name": {"$gte": first} if end is None else {"$gte": first, "$lt": end}}
        for first, end in (reversed(ranges) if query.descending else ranges)
        if not _is_before(query, first, end)
    ]


def _is_before(query: ListQuery, first: str, end: str | None) -> bool:
    """True if earlier pages have the whole range of names."""
    if not isinstance(query.after, str):
        return False
    return first >= query.after if query.descending else end is not None and end <= query.after

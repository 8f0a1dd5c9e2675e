"""Queries of lists. Each combination of filters and order names the index that it uses.

The planner does not choose. It would try several indexes, with a result that depends on the data,
and reuse that result for other values in queries of the same shape.
"""

import asyncio
from bisect import bisect_left, bisect_right
from dataclasses import replace
from typing import Any, Final

from bson import MinKey
from pymongo import ASCENDING, DESCENDING, IndexModel

from tornado_members.model.fields import FieldTable
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.model.text import case_fold
from tornado_members.storage.documents import MEMBER_ID_RANGE, MEMBERS_ONLY
from tornado_members.storage.mongo import Collection, Document
from tornado_members.storage.name_ranges import name_ranges, successor

Index = list[tuple[str, int]]

BY_NAME: Final[Index] = [("name", ASCENDING)]
BY_FOLDED_NAME: Final[Index] = [
    ("nameFold", ASCENDING),
    ("name", ASCENDING),
    ("_id", ASCENDING),
]


def _behind(field: str, key: str) -> Index:
    """Return an index of one value of `field` that is in the order of `key`."""
    return [(field, ASCENDING), (key, ASCENDING)]


def list_indexes(fields: FieldTable) -> list[IndexModel]:
    """Return the indexes of lists, beside the unique one of names.

    Members that lack the field take no room in an index of a filter. `$gt` rather than `$type`,
    since the planner sees that an equality implies it.
    """
    partial = [
        IndexModel(_behind(name, key), partialFilterExpression={name: {"$gt": ""}})
        for name in (field.filtered_name for field in fields if field.filter)
        for key in ("_id", "name")
    ]
    return [IndexModel(BY_FOLDED_NAME), *partial]


_FIELDS: Final = {"memberId": "_id", "name": "name"}
# The maximum number of keys of a prefix that are read for a page. If there are more, a large part
# of all members matches.
_MAX_KEYS = 5000


class MemberLists:
    """Reads pages of members' documents, and counts them."""

    def __init__(self, members: Collection, fields: FieldTable = MEMBER_FIELDS) -> None:
        self._members = members
        self._filtered = {field.name: field for field in fields if field.filter}

    async def page(self, query: ListQuery) -> list[Document]:
        """Return at most `query.limit` documents in order, the first behind `query.after`."""
        filters = query.filters
        if filters.name_prefix is not None and self._equality(filters) is None:
            keys = await self._keys_of_prefix(filters.name_prefix, _FIELDS[query.field])
            if keys is not None:
                return await self._pick(query, keys)
            if query.field == "name":
                return await self._walk_names(query, filters.name_prefix)
        return await self._read(query, self._matching(query))

    async def count(self, filters: Filters) -> int:
        """Count the members that match. MongoDB scans one index key for each."""
        field = self._equality(filters)
        if field is not None:
            index = BY_NAME if field == "name" else _behind(field, "_id")
            return await self._members.count_documents(
                self._matching(ListQuery(filters)), hint=index
            )
        # Only fields of the index, so that MongoDB fetches no document.
        matching: Document = {
            "nameFold": {"$gte": MinKey()},
            "name": {"$gte": ""},
            "_id": MEMBER_ID_RANGE,
        }
        if filters.name_prefix is not None:
            matching["nameFold"] = _range(filters.name_prefix)
        return await self._members.count_documents(matching, hint=BY_FOLDED_NAME)

    async def _keys_of_prefix(self, prefix: str, key: str) -> list[Any] | None:
        """Return the sort keys of all members with this prefix, in order; None if too many."""
        matching = {
            "nameFold": _range(prefix),
            "name": {"$gte": ""},
            "_id": MEMBER_ID_RANGE,
        }
        only = {"_id": 1} if key == "_id" else {"_id": 0, key: 1}
        cursor = self._members.find(matching, only, hint=BY_FOLDED_NAME, limit=_MAX_KEYS + 1)
        found = await cursor.to_list(None)
        if len(found) > _MAX_KEYS:
            return None
        kind = (int, float) if key == "_id" else str  # other programs may store other types
        return sorted(entry[key] for entry in found if isinstance(entry[key], kind))

    async def _pick(self, query: ListQuery, keys: list[Any]) -> list[Document]:
        """Return a page of the members with these sort keys. Some may be deleted by now."""
        if query.after is not None and query.descending:
            keys = keys[: bisect_left(keys, query.after)]
        elif query.after is not None:
            keys = keys[bisect_right(keys, query.after) :]
        if query.descending:
            keys.reverse()
        found: list[Document] = []
        while keys and len(found) < query.limit:
            missing = query.limit - len(found)
            matching = self._matching(query)
            matching[_FIELDS[query.field]]["$in"] = keys[:missing]
            found += await self._read(query, matching)
            keys = keys[missing:]
        return found

    async def _walk_names(self, query: ListQuery, prefix: str) -> list[Document]:
        """Return a page in the order of names, of more members than can be sorted here."""
        ranges = await asyncio.to_thread(name_ranges, prefix)
        found: list[Document] = []
        for first, end in reversed(ranges) if query.descending else ranges:
            if _is_before(query, first, end):
                continue
            matching = self._matching(query)
            bounds = [matching, {"name": {"$gte": first}}]
            if end is not None:
                bounds.append({"name": {"$lt": end}})
            missing = replace(query, limit=query.limit - len(found))
            found += await self._read(missing, {"$and": bounds})
            if len(found) == query.limit:
                break
        return found

    async def _read(self, query: ListQuery, matching: Document) -> list[Document]:
        key = _FIELDS[query.field]
        field = self._equality(query.filters)
        cursor = self._members.find(matching).limit(query.limit)
        if field == "name":  # at most one document, matching needs no order
            cursor = cursor.hint(BY_NAME)
        else:
            index = _behind(field, key) if field else [(key, ASCENDING)]
            direction = DESCENDING if query.descending else ASCENDING
            cursor = cursor.hint(index).sort(key, direction)
        return await cursor.to_list(query.limit)

    def _equality(self, filters: Filters) -> str | None:
        """Return what the index to use begins with; None if no filter names a whole value.

        Names are unique. Of the others, the first in the table leads to the fewest members.
        """
        if filters.name is not None:
            return "name"
        named = (one.filtered_name for name, one in self._filtered.items() if name in filters.equal)
        return next(named, None)

    def _matching(self, query: ListQuery) -> Document:
        """Return the filter of a query. It matches members only."""
        filters = query.filters
        found: Document = {field: dict(conditions) for field, conditions in MEMBERS_ONLY.items()}
        if filters.name is not None:
            found["name"]["$eq"] = filters.name
        if filters.name_prefix is not None:
            found["nameFold"] = _range(filters.name_prefix)
        for name, value in filters.equal.items():
            field = self._filtered[name]
            found[field.filtered_name] = field.fold(value) if field.case_folded else value
        if query.after is not None:
            found[_FIELDS[query.field]]["$lt" if query.descending else "$gt"] = query.after
        return found


def _is_before(query: ListQuery, first: str, end: str | None) -> bool:
    """True if earlier pages have the whole range of names."""
    if not isinstance(query.after, str):
        return False
    return first >= query.after if query.descending else end is not None and end <= query.after


def _range(prefix: str) -> Document:
    """Return the condition that a folded string begins with this prefix, folded."""
    first = case_fold(prefix)
    end = successor(first)
    return {"$gte": first} if end is None else {"$gte": first, "$lt": end}

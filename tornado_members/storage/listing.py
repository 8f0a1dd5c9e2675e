"""How a list is answered: each combination of filters and order from an index that is named here.

The planner is not asked which index it likes best: it would decide by a trial whose outcome depends
on the data, and remember it for queries of the same shape and other values.
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
    """Members of one value of `field`, in the order of `key`."""
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
# So many keys of a prefix are looked at before a page; where there are more, one in a few members
# of the whole collection can be expected to match.
_MOST_KEYS = 5000


class MemberLists:
    """Reads pages of members' documents, and counts them."""

    def __init__(self, members: Collection, fields: FieldTable = MEMBER_FIELDS) -> None:
        self._members = members
        self._filtered = {field.name: field for field in fields if field.filter}

    async def page(self, query: ListQuery) -> list[Document]:
        """At most `query.limit` documents in order, from behind `query.after` on."""
        filters = query.filters
        if filters.name_prefix is not None and self._equality(filters) is None:
            keys = await self._keys_of_prefix(filters.name_prefix, _FIELDS[query.field])
            if keys is not None:
                return await self._pick(query, keys)
            if query.field == "name":
                return await self._walk_names(query, filters.name_prefix)
        return await self._read(query, self._matching(query))

    async def count(self, filters: Filters) -> int:
        """How many members there are of this kind. It looks at each one's key in an index."""
        field = self._equality(filters)
        if field is not None:
            index = BY_NAME if field == "name" else _behind(field, "_id")
            return await self._members.count_documents(
                self._matching(ListQuery(filters)), hint=index
            )
        # Nothing but fields of the index, so that no document is fetched.
        which: Document = {
            "nameFold": {"$gte": MinKey()},
            "name": {"$gte": ""},
            "_id": MEMBER_ID_RANGE,
        }
        if filters.name_prefix is not None:
            which["nameFold"] = _range(filters.name_prefix)
        return await self._members.count_documents(which, hint=BY_FOLDED_NAME)

    async def _keys_of_prefix(self, prefix: str, key: str) -> list[Any] | None:
        """The sort keys of all members whose name begins so, in order; None if they are many."""
        which = {
            "nameFold": _range(prefix),
            "name": {"$gte": ""},
            "_id": MEMBER_ID_RANGE,
        }
        only = {"_id": 1} if key == "_id" else {"_id": 0, key: 1}
        cursor = self._members.find(which, only, hint=BY_FOLDED_NAME, limit=_MOST_KEYS + 1)
        found = await cursor.to_list(None)
        if len(found) > _MOST_KEYS:
            return None
        kind = (int, float) if key == "_id" else str  # another program may have other ideas
        return sorted(entry[key] for entry in found if isinstance(entry[key], kind))

    async def _pick(self, query: ListQuery, keys: list[Any]) -> list[Document]:
        """A page of the members with these sort keys, less those that went away meanwhile."""
        if query.after is not None and query.descending:
            keys = keys[: bisect_left(keys, query.after)]
        elif query.after is not None:
            keys = keys[bisect_right(keys, query.after) :]
        if query.descending:
            keys.reverse()
        found: list[Document] = []
        while keys and len(found) < query.limit:
            missing = query.limit - len(found)
            which = self._matching(query)
            which[_FIELDS[query.field]]["$in"] = keys[:missing]
            found += await self._read(query, which)
            keys = keys[missing:]
        return found

    async def _walk_names(self, query: ListQuery, prefix: str) -> list[Document]:
        """A page in the order of names, of more members than can be put in order here."""
        ranges = await asyncio.to_thread(name_ranges, prefix)
        found: list[Document] = []
        for first, end in reversed(ranges) if query.descending else ranges:
            if _is_before(query, first, end):
                continue
            which = self._matching(query)
            bounds = [which, {"name": {"$gte": first}}]
            if end is not None:
                bounds.append({"name": {"$lt": end}})
            missing = replace(query, limit=query.limit - len(found))
            found += await self._read(missing, {"$and": bounds})
            if len(found) == query.limit:
                break
        return found

    async def _read(self, query: ListQuery, which: Document) -> list[Document]:
        key = _FIELDS[query.field]
        field = self._equality(query.filters)
        cursor = self._members.find(which).limit(query.limit)
        if field == "name":  # one at most, which needs no order
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
    """Whether all of a range of names was on the pages before."""
    if not isinstance(query.after, str):
        return False
    return first >= query.after if query.descending else end is not None and end <= query.after


def _range(prefix: str) -> Document:
    """Of all strings those that begin as this one does when it is folded."""
    first = case_fold(prefix)
    end = successor(first)
    return {"$gte": first} if end is None else {"$gte": first, "$lt": end}

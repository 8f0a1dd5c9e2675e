"""The filters and sort keys of lists, as MongoDB expects them."""

from collections.abc import Mapping
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING

from tornado_members.model.fields import FieldTable
from tornado_members.model.list_query import Filters, ListQuery
from tornado_members.storage.attribute_values import to_stored
from tornado_members.storage.documents import MEMBER_ID_RANGE, MEMBERS_ONLY
from tornado_members.storage.list_indexes import Prefix, prefixes_of
from tornado_members.storage.mongo import Document

_KEYS: Final = {"memberId": "_id", "name": "name"}


class ListFilters:
    """Translates the filters of lists to filters of MongoDB."""

    def __init__(self, fields: FieldTable) -> None:
        self._filtered = {field.name: field for field in fields if field.filter}
        self._attributes = fields.attributes.by_path

    def matching(self, query: ListQuery) -> Document:
        """Return the filter of a query. It matches members only."""
        filters = query.filters
        found: Document = {field: dict(conditions) for field, conditions in MEMBERS_ONLY.items()}
        if filters.name is not None:
            found["name"]["$eq"] = filters.name
        for name, value in filters.equal.items():
            field = self._filtered[name]
            found[field.filtered_name] = field.fold(value) if field.case_folded else value
        found |= self.stored(filters.attributes)
        if prefixes := prefixes_of(filters):
            found["$and"] = [prefix.condition for prefix in prefixes]
        found[sort_key(query)] |= after(query)
        return found

    def covered(self, query: ListQuery, prefix: Prefix) -> Document:
        """Return the filter of members with this prefix, of fields that its index has."""
        matching: Document = {
            **prefix.condition,
            "name": {"$gte": ""},
            "_id": dict(MEMBER_ID_RANGE),
        }
        matching[sort_key(query)] |= after(query)
        return matching

    def stored(self, attributes: Mapping[str, Any]) -> Document:
        """Return the values of attributes, by path, as MongoDB stores them."""
        return {
            path: to_stored(self._attributes[path], value) for path, value in attributes.items()
        }

    def leading_field(self, filters: Filters) -> str | None:
        """Return the field that the index to use begins with; None if no filter names a value.

        Names are unique. Of the others, the first in the table leads to the fewest members.
        """
        if filters.name is not None:
            return "name"
        named = (
            field.filtered_name for name, field in self._filtered.items() if name in filters.equal
        )
        return next(named, None)

    def leading_path(self, filters: Filters) -> str | None:
        """Return the field or the attribute that the index to use begins with, if there is one.

        Many members can have one value of an attribute, so that a prefix is the better choice.
        """
        field = self.leading_field(filters)
        if field is not None or filters.name_prefix is not None or filters.q is not None:
            return field
        return next(iter(filters.attributes), None)


def sort_key(query: ListQuery) -> str:
    """Return the field of a document by which a list is sorted."""
    return _KEYS[query.field]


def is_key(value: object, key: str) -> bool:
    """True if a member can have this sort key. Other programs may store other types."""
    return isinstance(value, int | float if key == "_id" else str)


def direction(query: ListQuery) -> int:
    """Return the direction in which MongoDB sorts a list."""
    return DESCENDING if query.descending else ASCENDING


def after(query: ListQuery) -> Document:
    """Return the condition on the sort key that a member is behind `query.after`."""
    if query.after is None:
        return {}
    return {"$lt" if query.descending else "$gt": query.after}

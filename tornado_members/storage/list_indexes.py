"""The indexes of lists, and the conditions that indexes of folded text answer.

An index of folded text is not in the order of any list. It contains the sort keys of both orders,
so that MongoDB finds the first members of a list without reading a document.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pymongo import ASCENDING, IndexModel

from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.list_query import Filters
from tornado_members.model.text import case_fold
from tornado_members.model.words import query_words
from tornado_members.storage.documents import SEARCHED_BY, WORDS
from tornado_members.storage.mongo import Document
from tornado_members.storage.name_ranges import successor

Index = list[tuple[str, int]]

BY_NAME: Final[Index] = [("name", ASCENDING)]
BY_FOLDED_NAME: Final[Index] = [
    ("nameFold", ASCENDING),
    ("name", ASCENDING),
    ("_id", ASCENDING),
]
BY_WORD: Final[Index] = [(WORDS, ASCENDING), ("name", ASCENDING), ("_id", ASCENDING)]

# By which the service finds members whose words lack those of attributes.
BY_SEARCHED_ATTRIBUTES: Final[Index] = [(SEARCHED_BY, ASCENDING)]
HAS_ATTRIBUTES: Final[Document] = {ATTRIBUTES: {"$exists": True}}
# The names of the indexes that attributes can have.
OF_ATTRIBUTES: Final = re.compile(rf"{ATTRIBUTES}\.\w+_1_(?:_id|name)_1|{SEARCHED_BY}_1", re.ASCII)


def behind(field: str, key: str) -> Index:
    """Return an index of one value of `field` that is in the order of `key`."""
    return [(field, ASCENDING), (key, ASCENDING)]


def list_indexes(fields: FieldTable) -> list[IndexModel]:
    """Return the indexes of lists, beside the unique one of names.

    Members that lack the field take no space in an index of a filter. `$gt` rather than `$type`,
    since the planner sees that an equality implies it.
    """
    partial = [
        IndexModel(behind(name, key), partialFilterExpression={name: {"$gt": ""}})
        for name in (field.filtered_name for field in fields if field.filter)
        for key in ("_id", "name")
    ]
    return [IndexModel(BY_FOLDED_NAME), IndexModel(BY_WORD), *partial, *attribute_indexes(fields)]


def attribute_indexes(fields: FieldTable) -> list[IndexModel]:
    """Return the indexes of attributes, by which lists find members with a value."""
    found = [
        IndexModel(
            behind(attribute.path, key), partialFilterExpression={attribute.path: {"$exists": True}}
        )
        for attribute in fields.attributes
        if attribute.indexed
        for key in ("_id", "name")
    ]
    if fields.attributes.searched:
        found.append(IndexModel(BY_SEARCHED_ATTRIBUTES, partialFilterExpression=HAS_ATTRIBUTES))
    return found


@dataclass(frozen=True, slots=True)
class Prefix:
    """A condition on the beginning of folded text, and the index that begins with that text."""

    text: str
    condition: Document
    index: Index


def prefixes_of(filters: Filters) -> Sequence[Prefix]:
    """Return the prefixes that each member of a list must have, the longest first.

    Raises ValueError if `q` is not a valid query.
    """
    found: list[Prefix] = []
    if filters.name_prefix is not None:
        folded = case_fold(filters.name_prefix)
        found.append(Prefix(folded, {"nameFold": _range(folded)}, BY_FOLDED_NAME))
    # A range of a field with several values would need $elemMatch, which reads documents. Words
    # contain no special characters of regular expressions.
    words = query_words(filters.q) if filters.q is not None else []
    found += [Prefix(word, {WORDS: {"$regex": f"^{word}"}}, BY_WORD) for word in words]
    return sorted(found, key=lambda prefix: len(prefix.text), reverse=True)


def _range(first: str) -> Document:
    """Return the condition that text begins with `first`."""
    end = successor(first)
    return {"$gte": first} if end is None else {"$gte": first, "$lt": end}

"""Attributes in the documents of members: one object, with a key for each value.

MongoDB stores times as dates, and all other values as in JSON. The object may hold more than the
declared attributes: those of other services, and those that were declared before. Updates leave
them unchanged. A value of another type than the declared one is decoded as far as JSON can show it.
"""

import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from bson import Decimal128

from tornado_members.model.attribute_table import AttributeTable
from tornado_members.model.attribute_types import format_datetime, parse_datetime, plain_number
from tornado_members.model.attributes import KEY, Attribute
from tornado_members.storage.mongo import Document

_SHOWN_AS_STORED: Final = frozenset({str, bool, int})
_STORED: Final = f"${KEY}"
_IS_OBJECT: Final[Document] = {"$eq": [{"$type": _STORED}, "object"]}


class AttributeCodec:
    """Turns the attributes of members into parts of documents and updates, and back."""

    def __init__(self, attributes: AttributeTable) -> None:
        self._attributes = attributes

    def decode(self, stored: object) -> dict[str, Any]:
        """Return the attributes that an object of a document has, in the order of the table."""
        if not isinstance(stored, Mapping):
            return {}
        found = {}
        for name in self._attributes.names:
            value = stored.get(name)
            if type(value) in _SHOWN_AS_STORED or (value := _shown(value)) is not None:
                found[name] = value
        return found

    def encode(self, values: Mapping[str, Any]) -> Document:
        """Return the object of a document."""
        return {
            name: [to_stored(self._attributes[name], item) for item in value]
            if isinstance(value, list)
            else to_stored(self._attributes[name], value)
            for name, value in values.items()
        }

    def changes(self, values: Mapping[str, Any], kept: Collection[str]) -> Document:
        """Return what an update sets of each attribute; None stands for removal."""
        names = [name for name in self._attributes.names if name not in kept]
        stored = self.encode({name: values[name] for name in names if name in values})
        return {name: stored.get(name) for name in names}

    def unchanged(self, changes: Mapping[str, Any]) -> list[Document]:
        """Return expressions that are true if the changes change nothing."""
        return [
            {"$eq": [{"$ifNull": [_value_of(name), None]}, {"$literal": value}]}
            for name, value in changes.items()
        ]

    def update(self, changes: Mapping[str, Any]) -> Document | str:
        """Return the expression of the object after the changes.

        An object that an update would only replace by an empty one stays unchanged.
        """
        values = {name: value for name, value in changes.items() if value is not None}
        if not changes:
            return _STORED
        others = {
            "$filter": {
                "input": {"$objectToArray": _STORED},
                "cond": {"$not": [{"$in": ["$$this.k", {"$literal": [*changes]}]}]},
            }
        }
        rest = {"$arrayToObject": others}
        merged = {"$mergeObjects": [rest, {"$literal": values}]}
        return {"$cond": [_IS_OBJECT, merged, {"$literal": values} if values else _STORED]}


def to_stored(attribute: Attribute, value: Any) -> Any:
    """Return a value, an item of a list or a single one, as MongoDB stores it."""
    return parse_datetime(value) if attribute.type == "datetime" else value


def _value_of(name: str) -> Document:
    """Return the expression of an attribute. A path would reach into the items of a list."""
    return {"$cond": [_IS_OBJECT, f"{_STORED}.{name}", None]}


def _shown(value: Any) -> Any:
    """Return a value of MongoDB as JSON shows it; None if it cannot."""
    match value:
        case None | str() | bool() | int():
            shown: Any = value
        case float():
            shown = plain_number(value) if math.isfinite(value) else None
        case datetime():
            shown = format_datetime(value)
        case list():
            shown = [_shown(item) for item in value]
        case Mapping():
            shown = {str(key): _shown(item) for key, item in value.items()}
        case Decimal128():
            shown = _shown(float(value.to_decimal()))
        case _:  # another type of BSON, which no attribute has
            shown = str(value)
    return shown

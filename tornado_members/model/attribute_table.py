"""The table of attributes, and the checks of bodies and merge patches.

`FieldTable.attributes` is this table, so that everything that reads the fields of members finds the
attributes there.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Final

from tornado_members.errors import Fault
from tornado_members.model.attributes import KEY, MAX_JSON_BYTES, Attribute, plain_heading
from tornado_members.model.strict_json import json_pointer

_MISSING: Final = object()
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# What affects values and their representation.
_DIGESTED: Final = attrgetter(
    *("name", "type", "is_list", "max_items", "required", "default"),
    *("max_length", "pattern", "enum", "format", "minimum", "maximum"),
)


@dataclass(frozen=True, slots=True)
class CheckedAttributes:
    """The result of checking the attributes of a body: values and faults."""

    values: dict[str, Any]  # in the order of the table
    left_out: frozenset[str]  # names that the body leaves unchanged
    faults: list[Fault]


class AttributeTable:
    """The attributes of members, in the order of responses. It may be empty."""

    def __init__(self, attributes: Iterable[Attribute] = ()) -> None:
        self._attributes = tuple(attributes)
        self._by_name = {attribute.name: attribute for attribute in self._attributes}
        self.names = tuple(self._by_name)
        self.by_path = {attribute.path: attribute for attribute in self._attributes}
        self.searched = tuple(
            attribute.name for attribute in self._attributes if attribute.is_searched
        )

    def __iter__(self) -> Iterator[Attribute]:
        return iter(self._attributes)

    def __bool__(self) -> bool:
        return bool(self._attributes)

    def __getitem__(self, name: str) -> Attribute:
        return self._by_name[name]

    @cached_property
    def by_heading(self) -> Mapping[str, str]:
        """The path of an attribute by each plain heading; its own names come before headings."""
        headings = {
            key: attribute.path for attribute in self._attributes for key in attribute.headings[2:]
        }
        names = {plain_heading(attribute.name): attribute.path for attribute in self._attributes}
        paths = {plain_heading(attribute.path): attribute.path for attribute in self._attributes}
        return {**headings, **names, **paths}

    def digest(self) -> bytes:
        """Return a digest of all declarations that affect values and their representation."""
        declared = [_DIGESTED(attribute) for attribute in self._attributes]
        return blake2b(json.dumps(declared).encode(), digest_size=16).digest()

    def searched_texts(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield the strings in which the search finds words."""
        for name in self.searched:
            value = values.get(name)
            items = value if isinstance(value, list) else [value]
            yield from (item for item in items if isinstance(item, str))

    def validate(self, content: object) -> CheckedAttributes:
        """Check the attributes of a new member. Those that are left out get their default."""
        return self._check(content, None)

    def merge(self, current: Mapping[str, Any], content: object) -> CheckedAttributes:
        """Apply a merge patch (RFC 7396 §2) to the attributes of a member.

        Only changed values are checked. Unchanged ones may contradict the declaration.
        """
        return self._check(content, current)

    def _check(self, content: object, current: Mapping[str, Any] | None) -> CheckedAttributes:
        if content is None:
            content = dict.fromkeys(self.names)
        if not isinstance(content, Mapping):
            fault = Fault(json_pointer(KEY), "must be an object or null")
            return CheckedAttributes({}, frozenset(self.names), [fault])
        faults = [
            Fault(json_pointer(KEY) + json_pointer(name), "is not an attribute of a member")
            for name in content
            if name not in self._by_name
        ]
        values: dict[str, Any] = {}
        left_out: set[str] = set()
        for attribute in self._attributes:
            before = current.get(attribute.name) if current is not None else attribute.default
            value = content.get(attribute.name, _MISSING)
            is_patch = current is not None
            if value is _MISSING or (is_patch and _is_same(value, before)):
                left_out.add(attribute.name)
                found = self._check_left_out(attribute, before, is_new=not is_patch)
            else:
                found = self._check_value(attribute, value)
            faults += found[1]
            if found[0] is not None:
                values[attribute.name] = found[0]
        if not faults and len(left_out) < len(self.names):
            faults = _size_faults(values, current or {})
        return CheckedAttributes(values, frozenset(left_out), faults)

    def _check_left_out(
        self, attribute: Attribute, before: Any, *, is_new: bool
    ) -> tuple[Any, list[Fault]]:
        if is_new and attribute.required and before is None:
            return None, [_missing(attribute)]
        return before, []

    def _check_value(self, attribute: Attribute, value: Any) -> tuple[Any, list[Fault]]:
        if value is None:
            return None, [_missing(attribute)] if attribute.required else []
        return attribute.check(value)


def _missing(attribute: Attribute) -> Fault:
    return Fault(json_pointer(KEY) + json_pointer(attribute.name), "is missing")


def _size_faults(values: Mapping[str, Any], before: Mapping[str, Any]) -> list[Fault]:
    """Return a fault if attributes are too large, and not smaller than before."""
    size = json_size(values)
    if size <= MAX_JSON_BYTES or size < json_size(before):
        return []
    detail = f"take {size} bytes as JSON; at most {MAX_JSON_BYTES} are allowed"
    return [Fault(json_pointer(KEY), detail)]


def _is_same(value: object, before: object) -> bool:
    """True if two values are equal also in their types: True is not 1."""
    return value is not None and value == before and json.dumps(value) == json.dumps(before)


def json_size(values: Mapping[str, Any]) -> int:
    """Return the size of attributes as JSON in UTF-8, in bytes."""
    return len(_encode(values).encode())

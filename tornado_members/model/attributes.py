"""Attributes: the fields that the settings add to members (`members.attributes`).

A member holds their values in one object, `attributes`. An attribute without a value is absent from
it. `FieldTable.attributes` is the table of them, so that everything that reads the fields of
members finds them there.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, Literal

from tornado_members.errors import Fault
from tornado_members.model.attribute_types import TEXT_PATTERN, VALUE_TYPES, TypeName, to_text
from tornado_members.model.emails import MAX_EMAIL_CHARACTERS, check_email
from tornado_members.model.phones import PHONE_PATTERN, check_phone
from tornado_members.model.strict_json import json_pointer
from tornado_members.model.text import MAX_CHARACTERS

TextFormat = Literal["email", "phone", "uri"]

KEY: Final = "attributes"  # of members and documents
MAX_ATTRIBUTES: Final = 50
MAX_JSON_BYTES: Final = 16 * 1024  # of the attributes of one member, in UTF-8
MAX_TEXT_CHARACTERS: Final = 1000
MAX_ITEMS: Final = 1000
DEFAULT_ITEMS: Final = 100

_MISSING: Final = object()
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# RFC 3986 §3: a scheme, and then only characters of URIs.
URI_PATTERN: Final = (
    r"^[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+$"
)
_URI: Final = re.compile(URI_PATTERN)
_NOT_IN_A_HEADING: Final = re.compile(r"[\W_]")


@dataclass(frozen=True, slots=True)
class _TextRules:
    """The rules of one format of strings."""

    check: Callable[[str], str]
    json_schema: Mapping[str, Any]
    example: str


def _check_uri(text: str) -> str:
    if not _URI.fullmatch(text):
        raise ValueError("is not a URI (RFC 3986), such as https://example.org/")
    return text


_FORMATS: Final[Mapping[TextFormat, _TextRules]] = {
    "email": _TextRules(
        check_email, {"format": "idn-email", "maxLength": MAX_EMAIL_CHARACTERS}, "ada@example.org"
    ),
    "phone": _TextRules(check_phone, {"pattern": PHONE_PATTERN}, "+44 20 7946 0018"),
    "uri": _TextRules(
        _check_uri, {"format": "uri", "pattern": URI_PATTERN}, "https://example.org/"
    ),
}


def plain_heading(heading: str) -> str:
    """Return a heading in lower case, without anything but letters and digits."""
    return _NOT_IN_A_HEADING.sub("", heading.casefold())


def path_of(name: str) -> str:
    """Return the name of an attribute in filters, CSV files and documents."""
    return f"{KEY}.{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute, as the settings declare it; see docs/attributes.md."""

    name: str
    type: TypeName
    description: str = ""
    is_list: bool = False
    max_items: int = DEFAULT_ITEMS
    required: bool = False
    default: Any = None  # None sets none
    example: Any = None
    indexed: bool = False  # lists can be filtered by it
    csv_headings: tuple[str, ...] = ()  # beside its name
    max_length: int = MAX_CHARACTERS  # of strings, in characters
    pattern: str | None = None  # of strings
    # Finds the pattern in a text; see bounded_pattern.py.
    matches: Callable[[str], bool] | None = field(default=None, compare=False)
    enum: tuple[Any, ...] | None = None
    format: TextFormat | None = None  # of strings
    minimum: float | None = None  # of numbers
    maximum: float | None = None

    @property
    def path(self) -> str:
        """Its name in filters, CSV files and documents."""
        return path_of(self.name)

    @property
    def is_searched(self) -> bool:
        """True if the search for words looks at its values."""
        return self.indexed and self.type == "string"

    @property
    def noun(self) -> str:
        """What a value has to be, for messages."""
        noun = VALUE_TYPES[self.type].noun
        return f"a list, and each item {noun}" if self.is_list else noun

    @property
    def headings(self) -> tuple[str, ...]:
        """The plain forms of the headings under which CSV files have it."""
        return (
            plain_heading(self.path),
            plain_heading(self.name),
            *map(plain_heading, self.csv_headings),
        )

    def check(self, value: Any) -> tuple[Any, list[Fault]]:
        """Return a value in the form in which it is shown, and its faults."""
        pointer = json_pointer(KEY) + json_pointer(self.name)
        if not self.is_list:
            return self._check_each([(pointer, value)], lambda values: values[0])
        if not isinstance(value, list):
            return None, [Fault(pointer, f"must be a list{self._or_null()}")]
        if len(value) > self.max_items:
            detail = f"has {len(value)} items; at most {self.max_items} are allowed"
            return None, [Fault(pointer, detail)]
        return self._check_each([(f"{pointer}/{i}", item) for i, item in enumerate(value)], list)

    def _check_each(
        self, items: Iterable[tuple[str, Any]], result: Callable[[list[Any]], Any]
    ) -> tuple[Any, list[Fault]]:
        values: list[Any] = []
        faults: list[Fault] = []
        for pointer, item in items:
            try:
                values.append(self.check_item(item))
            except ValueError as error:
                faults.append(Fault(pointer, str(error)))
        return (None, faults) if faults else (result(values), [])

    def check_item(self, value: Any) -> Any:
        """Return one value, of a list or alone, as it is shown. Raises ValueError."""
        try:
            value = VALUE_TYPES[self.type].check(value)
        except ValueError as error:
            is_of_type = not str(error).startswith("must be ")
            raise ValueError(f"{error}{'' if is_of_type else self._or_null()}") from None
        if self.type == "string":
            value = self._check_text(value)
        if self.enum is not None and value not in self.enum:
            raise ValueError(f"must be one of {', '.join(map(to_text, self.enum))}")
        if self.minimum is not None and value < self.minimum:
            raise ValueError(f"is {value}; at least {to_text(self.minimum)} is allowed")
        if self.maximum is not None and value > self.maximum:
            raise ValueError(f"is {value}; at most {to_text(self.maximum)} is allowed")
        return value

    def _check_text(self, text: str) -> str:
        if len(text) > self.max_length:
            detail = f"has {len(text)} characters; at most {self.max_length} are allowed"
            raise ValueError(detail)
        if self.format is not None:
            text = _FORMATS[self.format].check(text)
        if self.matches is not None and not self.matches(text):
            raise ValueError(f"does not match the pattern {self.pattern}")
        return text

    @property
    def has_example(self) -> bool:
        """True if a valid value is known: of a pattern, only an example shows one."""
        is_shown = self.example is not None or self.default is not None
        return is_shown or self.pattern is None or self.enum is not None

    def example_value(self) -> Any:
        """Return a valid value, if one is known."""
        if self.example is not None:
            return self.example
        if self.default is not None:
            return self.default
        return [self.example_item()] if self.is_list else self.example_item()

    def example_item(self) -> Any:
        """Return an example of one value, of a list or alone."""
        if self.enum is not None:
            return self.enum[0]
        if self.format is not None:
            return _FORMATS[self.format].example
        value = VALUE_TYPES[self.type].example
        if self.type == "string":
            return value[: self.max_length]
        if self.minimum is not None and value < self.minimum:
            return self.minimum
        return self.maximum if self.maximum is not None and value > self.maximum else value

    def _or_null(self) -> str:
        return "" if self.required or self.is_list else " or null"

    def read(self, text: str) -> Any:
        """Return the value of a cell or a query parameter; the text itself if it is malformed."""
        return VALUE_TYPES[self.type].read(text)

    def parse_filter(self, text: str) -> Any:
        """Return the value that a text names. Rules beside the type do not apply.

        Stored values that contradict the rules can be found, too. Raises ValueError.
        """
        if len(text) > MAX_TEXT_CHARACTERS:
            detail = f"has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are allowed"
            raise ValueError(detail)
        if not text:
            raise ValueError("is empty")
        return VALUE_TYPES[self.type].check(self.read(text))

    def request_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a value that a client sends."""
        item = self._item_schema()
        schema: dict[str, Any] = item
        if self.is_list:
            schema = {"type": "array", "items": item, "maxItems": self.max_items}
        about: dict[str, Any] = {"examples": [self.example_value()]} if self.has_example else {}
        if self.description:
            about["description"] = self.description
        if self.required:
            return {**schema, **about}
        schema = {"anyOf": [schema, {"type": "null"}], **about}
        return schema if self.default is None else {**schema, "default": self.default}

    def filter_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a value that a filter compares."""
        schema = dict(VALUE_TYPES[self.type].json_schema)
        if self.type == "string":
            schema |= {"minLength": 1, "maxLength": MAX_TEXT_CHARACTERS}
        return schema

    def stored_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a value in a response, where it is never null."""
        schema = self.request_schema()
        if "anyOf" in schema:
            schema = {**schema.pop("anyOf")[0], **schema}
        schema.pop("default", None)
        return schema

    def _item_schema(self) -> dict[str, Any]:
        schema = dict(VALUE_TYPES[self.type].json_schema)
        if self.enum is not None:
            return {**schema, "enum": [*self.enum]}
        if self.type == "string":
            return {**schema, **self._text_schema()}
        if self.minimum is not None:
            schema["minimum"] = self.minimum
        if self.maximum is not None:
            schema["maximum"] = self.maximum
        return schema

    def _text_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"minLength": 1, "maxLength": self.max_length}
        rules = _FORMATS[self.format].json_schema if self.format else {"pattern": TEXT_PATTERN}
        if "maxLength" in rules:
            rules = {**rules, "maxLength": min(self.max_length, rules["maxLength"])}
        schema.update(rules)
        if self.pattern is not None:
            schema["allOf"] = [{"pattern": self.pattern}]
        return schema


@dataclass(frozen=True, slots=True)
class CheckedAttributes:
    """What a body says of attributes: the values that result, and what is wrong with it."""

    values: dict[str, Any]  # in the order of the table
    left_out: frozenset[str]  # names of which the body says nothing new
    faults: list[Fault]


class AttributeTable:
    """The attributes of members, in the order in which they are shown. It may be empty."""

    def __init__(self, attributes: Iterable[Attribute] = ()) -> None:
        self._attributes = tuple(attributes)
        self._by_name = {one.name: one for one in self._attributes}
        self.names = tuple(self._by_name)
        self.by_path = {one.path: one for one in self._attributes}
        self.searched = tuple(one.name for one in self._attributes if one.is_searched)

    def __iter__(self) -> Iterator[Attribute]:
        return iter(self._attributes)

    def __bool__(self) -> bool:
        return bool(self._attributes)

    def __getitem__(self, name: str) -> Attribute:
        return self._by_name[name]

    @cached_property
    def by_heading(self) -> Mapping[str, str]:
        """The path of an attribute by each plain heading; its own names come before headings."""
        headings = {key: one.path for one in self._attributes for key in one.headings[2:]}
        names = {plain_heading(one.name): one.path for one in self._attributes}
        paths = {plain_heading(one.path): one.path for one in self._attributes}
        return {**headings, **names, **paths}

    def digest(self) -> bytes:
        """Return a digest of everything that decides which values there are and how they look."""
        told = [
            [
                *(one.name, one.type, one.is_list, one.max_items, one.required, one.default),
                *(one.max_length, one.pattern, one.enum, one.format, one.minimum, one.maximum),
            ]
            for one in self._attributes
        ]
        return blake2b(json.dumps(told).encode(), digest_size=16).digest()

    def searched_texts(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield the strings in which the search finds words."""
        for name in self.searched:
            value = values.get(name)
            items = value if isinstance(value, list) else [value]
            yield from (item for item in items if isinstance(item, str))

    def validate(self, given: object) -> CheckedAttributes:
        """Check the attributes of a new member. Those that are left out get their default."""
        return self._check(given, None)

    def merge(self, current: Mapping[str, Any], given: object) -> CheckedAttributes:
        """Apply a merge patch (RFC 7396 §2) to the attributes of a member.

        Only what the patch changes is checked: the rest may contradict the declaration.
        """
        return self._check(given, current)

    def _check(self, given: object, current: Mapping[str, Any] | None) -> CheckedAttributes:
        if given is None:
            given = dict.fromkeys(self.names)
        if not isinstance(given, Mapping):
            fault = Fault(json_pointer(KEY), "must be an object or null")
            return CheckedAttributes({}, frozenset(self.names), [fault])
        faults = [
            Fault(json_pointer(KEY) + json_pointer(name), "is not an attribute of a member")
            for name in given
            if name not in self._by_name
        ]
        values: dict[str, Any] = {}
        left_out: set[str] = set()
        for one in self._attributes:
            before = current.get(one.name) if current is not None else one.default
            value = given.get(one.name, _MISSING)
            is_patch = current is not None
            if value is _MISSING or (is_patch and _is_same(value, before)):
                left_out.add(one.name)
                found = self._left_out(one, before, is_new=not is_patch)
            else:
                found = self._given(one, value)
            faults += found[1]
            if found[0] is not None:
                values[one.name] = found[0]
        if (
            len(left_out) < len(self.names)
            and not faults
            and (size := json_size(values)) > MAX_JSON_BYTES
        ):
            detail = f"take {size} bytes as JSON; at most {MAX_JSON_BYTES} are allowed"
            faults.append(Fault(json_pointer(KEY), detail))
        return CheckedAttributes(values, frozenset(left_out), faults)

    def _left_out(self, one: Attribute, before: Any, *, is_new: bool) -> tuple[Any, list[Fault]]:
        if is_new and one.required and before is None:
            return None, [_missing(one)]
        return before, []

    def _given(self, one: Attribute, value: Any) -> tuple[Any, list[Fault]]:
        if value is None:
            return None, [_missing(one)] if one.required else []
        return one.check(value)


def _missing(one: Attribute) -> Fault:
    return Fault(json_pointer(KEY) + json_pointer(one.name), "is missing")


def _is_same(value: object, before: object) -> bool:
    """True if two values are equal also in their types: True is not 1."""
    return value is not None and value == before and json.dumps(value) == json.dumps(before)


def json_size(values: Mapping[str, Any]) -> int:
    """Return the size of attributes as JSON in UTF-8, in bytes."""
    return len(_encode(values).encode())

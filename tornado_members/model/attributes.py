"""Attributes: the fields that the settings add to members (`members.attributes`).

A member holds their values in one object, `attributes`. An attribute without a value is absent from
it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tornado_members.errors import Fault
from tornado_members.model.attribute_types import (
    TEXT_FORMATS,
    TEXT_PATTERN,
    VALUE_TYPES,
    TextFormat,
    TypeName,
    to_text,
)
from tornado_members.model.strict_json import json_pointer
from tornado_members.model.text import MAX_CHARACTERS

KEY: Final = "attributes"  # of members and documents
MAX_ATTRIBUTES: Final = 50
MAX_JSON_BYTES: Final = 16 * 1024  # of the attributes of one member, in UTF-8
MAX_TEXT_CHARACTERS: Final = 1000
MAX_ITEMS: Final = 1000
DEFAULT_ITEMS: Final = 100

_NOT_IN_A_HEADING: Final = re.compile(r"[\W_]")


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
        """True if the search includes its values."""
        return self.indexed and self.type == "string"

    @property
    def noun(self) -> str:
        """The kind of value, for messages."""
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
        """Return a value, an item of a list or a single one, as shown. Raises ValueError."""
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
            text = TEXT_FORMATS[self.format].check(text)
        if self.matches is not None and not self.matches(text):
            raise ValueError(f"does not match the pattern {self.pattern}")
        return text

    @property
    def has_example(self) -> bool:
        """True if a valid value is known. With a pattern, only an example provides one."""
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
            return TEXT_FORMATS[self.format].example
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
        """Return the value of a text. Only the type is checked.

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
        rules = TEXT_FORMATS[self.format].json_schema if self.format else {"pattern": TEXT_PATTERN}
        if "maxLength" in rules:
            rules = {**rules, "maxLength": min(self.max_length, rules["maxLength"])}
        schema.update(rules)
        if self.pattern is not None:
            schema["allOf"] = [{"pattern": self.pattern}]
        return schema

"""Settings of attributes: the fields that an operator adds to members."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from tornado_members.model.attribute_types import TextFormat, TypeName
from tornado_members.model.attributes import (
    DEFAULT_ITEMS,
    MAX_ATTRIBUTES,
    MAX_ITEMS,
    MAX_JSON_BYTES,
    MAX_TEXT_CHARACTERS,
    Attribute,
)
from tornado_members.model.bounded_pattern import compile_pattern
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.model.text import MAX_CHARACTERS
from tornado_members.settings.types import Section, as_tuple, values

_MAX_ENUM: Final = 200  # values


def _without_dates(value: Any) -> Any:
    """Turn dates into text: YAML reads 1815-12-10 as a date."""
    if isinstance(value, list | tuple):
        return tuple(map(_without_dates, value))
    if isinstance(value, datetime):
        text = value.isoformat()
        return text if value.tzinfo else f"{text}Z"
    return value.isoformat() if isinstance(value, date) else value


def _check_number(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise ValueError("should be a number")
    return value


def _check_map(value: Any) -> Any:
    """Report an invalid map in terms of the settings."""
    if not isinstance(value, dict):
        raise ValueError("should be a map of attributes, such as {level: {type: string}}")
    if len(value) > MAX_ATTRIBUTES:
        raise ValueError(f"has {len(value)} attributes; should have at most {MAX_ATTRIBUTES}")
    for name, declared in value.items():
        if not isinstance(name, str):
            raise ValueError(f"has the name {name!r}; a name should be text: put it in quotes")
        if not isinstance(declared, dict | AttributeSettings):
            raise ValueError(f"{name} was {declared!r}; should be a map, such as {{type: string}}")
    return value


Value = Annotated[Any, BeforeValidator(_without_dates)]
Number = Annotated[Any, BeforeValidator(_check_number)]


class AttributeSettings(Section):
    """An attribute of members. `NAME` is its name: a letter, then letters, digits or `_`."""

    type: TypeName = Field(
        description="Type of the values. A `date` is written as 1815-12-10, a `datetime` as in RFC "
        "3339 and kept in UTC with milliseconds."
    )
    description: str = Field(
        "", max_length=500, description="Meaning of the attribute, for `/openapi.json`."
    )
    list: bool = Field(False, description="Make the value a list of values of this type.")
    max_items: int = Field(
        DEFAULT_ITEMS, ge=1, le=MAX_ITEMS, description="Maximum number of values in a list."
    )
    required: bool = Field(
        False, description="Refuse new members, replacements and removals without a value."
    )
    default: Value = Field(
        None,
        description="Value of a new member that is created without one. `null` sets none.",
        json_schema_extra=values("a value of the type, or `null`"),
    )
    example: Value = Field(
        None,
        description="Example for `/openapi.json` and for fake members. A `required` attribute "
        "with a `pattern` needs one for `seed --fake`.",
        json_schema_extra=values("a value of the type, or `null`"),
    )
    indexed: bool = Field(
        False,
        description="Keep an index, so that lists can be filtered by the attribute. Strings are "
        "found by the search as well.",
    )
    csv_headings: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], BeforeValidator(as_tuple)
    ] = Field(
        (),
        description="Headings under which CSV files have the attribute, beside its name. Case, "
        "spaces and punctuation make no difference.",
        json_schema_extra=values("list of text"),
    )
    max_length: int = Field(
        MAX_CHARACTERS,
        ge=1,
        le=MAX_TEXT_CHARACTERS,
        description="Maximum length of a string, in characters.",
    )
    pattern: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Regular expression in the syntax of RE2 that is found in every string. `^` "
        "and `$` anchor it.",
        json_schema_extra=values("text, or `null`", see="attributes.md#patterns"),
    )
    enum: tuple[Value, ...] | None = Field(
        None,
        min_length=1,
        max_length=_MAX_ENUM,
        description="The only values allowed.",
        json_schema_extra=values("list of values of the type, or `null`"),
    )
    format: TextFormat | None = Field(None, description="Format of a string.")
    minimum: Number | None = Field(
        None,
        description="Minimum value of an integer or a number.",
        json_schema_extra=values("number, or `null`"),
    )
    maximum: Number | None = Field(
        None,
        description="Maximum value of an integer or a number.",
        json_schema_extra=values("number, or `null`"),
    )

    def to_attribute(self, name: str, matches: Callable[[str], bool] | None = None) -> Attribute:
        """Return the attribute, without its pattern, default and example, which need checks."""
        fields = self.model_dump(exclude={"list", "default", "example"})
        return Attribute(name=name, is_list=self.list, matches=matches, **fields)


AttributeMap = Annotated[dict[str, AttributeSettings], BeforeValidator(_check_map)]


def field_table(attributes: Mapping[str, AttributeSettings]) -> FieldTable:
    """Return the fields of members with these attributes. They must be valid."""
    if not attributes:
        return MEMBER_FIELDS
    return MEMBER_FIELDS.with_attributes(
        _complete(name, declared) for name, declared in attributes.items()
    )


def _complete(name: str, declared: AttributeSettings) -> Attribute:
    """Return an attribute, whose declaration must be valid."""
    attribute = declared.to_attribute(name, compiled_pattern(declared))
    default, example = (
        None if value is None else attribute.check(plain_value(value))[0]
        for value in (declared.default, declared.example)
    )
    return replace(attribute, default=default, example=example)


def compiled_pattern(declared: AttributeSettings) -> Callable[[str], bool] | None:
    """Return the function that finds the pattern. Raises ValueError."""
    if declared.pattern is None:
        return None
    items = declared.max_items if declared.list else 1
    return compile_pattern(declared.pattern, min(declared.max_length * items, MAX_JSON_BYTES))


def plain_value(value: Any) -> Any:
    """Return a value in its JSON form: the settings hold lists as tuples."""
    return [*value] if isinstance(value, tuple) else value

"""Settings of attributes: the fields that an operator adds to members."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from tornado_members.model.attribute_types import TypeName, to_text
from tornado_members.model.attributes import (
    DEFAULT_ITEMS,
    MAX_ATTRIBUTES,
    MAX_ITEMS,
    MAX_JSON_BYTES,
    MAX_TEXT_CHARACTERS,
    Attribute,
    TextFormat,
    path_of,
    plain_heading,
)
from tornado_members.model.bounded_pattern import compile_pattern
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.model.text import MAX_CHARACTERS
from tornado_members.settings.types import Section, as_tuple, values

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_MAX_ENUM: Final = 200  # values
_SETTING: Final = "members.attributes"
# Of which types a rule is, where it is not of all.
_ONLY_OF: Final[Mapping[str, tuple[TypeName, ...]]] = {
    "max_length": ("string",),
    "pattern": ("string",),
    "format": ("string",),
    "minimum": ("integer", "number"),
    "maximum": ("integer", "number"),
    "enum": ("string", "integer", "number", "date", "datetime"),
}


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
    """Describe wrong maps in words of the settings."""
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
    format: TextFormat | None = Field(None, description="Form of a string.")
    minimum: Number | None = Field(
        None,
        description="Least value of an integer or a number.",
        json_schema_extra=values("number, or `null`"),
    )
    maximum: Number | None = Field(
        None,
        description="Greatest value of an integer or a number.",
        json_schema_extra=values("number, or `null`"),
    )

    def to_attribute(self, name: str, matches: Callable[[str], bool] | None = None) -> Attribute:
        """Return the attribute, without its pattern, default and example, which need checks."""
        given = self.model_dump(exclude={"list", "default", "example"})
        return Attribute(name=name, is_list=self.list, matches=matches, **given)


AttributeMap = Annotated[dict[str, AttributeSettings], BeforeValidator(_check_map)]


def field_table(attributes: Mapping[str, AttributeSettings]) -> FieldTable:
    """Return the fields of members with these attributes. They must be valid."""
    if not attributes:
        return MEMBER_FIELDS
    return MEMBER_FIELDS.with_attributes(
        _complete(name, declared) for name, declared in attributes.items()
    )


def attribute_faults(attributes: Mapping[str, AttributeSettings]) -> Iterator[str]:
    """Yield what is wrong with the declarations: the setting, its value and what it may be."""
    for name, declared in attributes.items():
        key = f"{_SETTING}.{name}"
        if not _NAME.fullmatch(name):
            yield (
                f"{key}: was {name!r}; the name should be a letter, and then letters, digits or _, "
                "64 at most"
            )
            continue
        for setting, fault in _faults(name, declared):
            was = getattr(declared, setting)
            yield f"{key}.{setting}: was {was!r}; should be {fault}"
    yield from _ambiguous_names(attributes)


def _faults(name: str, declared: AttributeSettings) -> Iterator[tuple[str, str]]:
    """Yield a setting, and what it should be."""
    given = declared.model_fields_set
    for setting, types in _ONLY_OF.items():
        if (
            setting in given
            and getattr(declared, setting) is not None
            and declared.type not in types
        ):
            yield setting, f"left out: it is for attributes of type {' and '.join(types)}"
            return
    if "max_items" in given and not declared.list:
        yield "max_items", "left out: it is for attributes with list: true"
    least, most = declared.minimum, declared.maximum
    if least is not None and most is not None and least > most:
        yield "minimum", f"at most {to_text(most)}, the maximum"
    try:
        matches = _compiled(declared)
    except ValueError as error:
        yield "pattern", str(error)
    else:
        yield from _value_faults(declared.to_attribute(name, matches), declared)


def _value_faults(attribute: Attribute, declared: AttributeSettings) -> Iterator[tuple[str, str]]:
    one = replace(attribute, enum=None, is_list=False, required=True)
    for value in declared.enum or ():
        try:
            if one.check_item(value) != value:
                yield "enum", f"a list of values as they are stored, without {value!r}"
                return
        except ValueError as error:
            yield "enum", f"a list of values of the attribute: {value!r} {error}"
            return
    for setting in ("default", "example"):
        value = getattr(declared, setting)
        if value is None:
            continue
        _, faults = attribute.check(_plain(value))
        for fault in faults:
            where = fault.pointer.removeprefix(f"/attributes/{attribute.name}")
            yield setting, f"{attribute.noun}: {where + ' ' if where else ''}{fault.detail}"


def _ambiguous_names(attributes: Mapping[str, AttributeSettings]) -> Iterator[str]:
    """Yield names and headings that CSV files could not tell apart."""
    taken = {plain_heading(path_of(name)): name for name in attributes}
    owners: dict[str, str] = {}
    for name in attributes:
        if (other := owners.setdefault(plain_heading(name), name)) != name:
            yield (f"{_SETTING}.{name}: was {name!r}; should differ from {other!r} in a letter")
    for name, declared in attributes.items():
        for heading in declared.csv_headings:
            key = plain_heading(heading)
            other = owners.setdefault(key, name)
            if not key or other != name or taken.get(key, name) != name:
                whose = f": {other} has it" if other != name else ""
                yield (
                    f"{_SETTING}.{name}.csv_headings: was {heading!r}; should be a heading of no "
                    f"other attribute{whose}"
                )
            elif key in MEMBER_FIELDS.by_heading:
                field = MEMBER_FIELDS.by_heading[key]
                yield (
                    f"{_SETTING}.{name}.csv_headings: was {heading!r}; should be a heading of no "
                    f"field: {field} has it"
                )


def _complete(name: str, declared: AttributeSettings) -> Attribute:
    """Return an attribute, whose declaration must be valid."""
    attribute = declared.to_attribute(name, _compiled(declared))
    default, example = (
        None if value is None else attribute.check(_plain(value))[0]
        for value in (declared.default, declared.example)
    )
    return replace(attribute, default=default, example=example)


def _compiled(declared: AttributeSettings) -> Callable[[str], bool] | None:
    """Return the function that finds the pattern. Raises ValueError."""
    if declared.pattern is None:
        return None
    items = declared.max_items if declared.list else 1
    return compile_pattern(declared.pattern, min(declared.max_length * items, MAX_JSON_BYTES))


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value

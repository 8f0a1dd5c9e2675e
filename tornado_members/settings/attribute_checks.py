"""Checks of declared attributes, each of which is well-formed by itself."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from tornado_members.model.attribute_types import TypeName, to_text
from tornado_members.model.attributes import Attribute, path_of, plain_heading
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.settings.attributes import AttributeSettings, compiled_pattern, plain_value

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_SETTING: Final = "members.attributes"
# The types to which a rule applies, if not to all.
_ONLY_OF: Final[Mapping[str, tuple[TypeName, ...]]] = {
    "max_length": ("string",),
    "pattern": ("string",),
    "format": ("string",),
    "minimum": ("integer", "number"),
    "maximum": ("integer", "number"),
    "enum": ("string", "integer", "number", "date", "datetime"),
}


def attribute_faults(attributes: Mapping[str, AttributeSettings]) -> Iterator[str]:
    """Yield faults of the declarations: the setting, its value and what is allowed."""
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
    named = declared.model_fields_set
    for setting, types in _ONLY_OF.items():
        if (
            setting in named
            and getattr(declared, setting) is not None
            and declared.type not in types
        ):
            yield setting, f"left out: it is for attributes of type {' and '.join(types)}"
            return
    if "max_items" in named and not declared.list:
        yield "max_items", "left out: it is for attributes with list: true"
    least, most = declared.minimum, declared.maximum
    if least is not None and most is not None and least > most:
        yield "minimum", f"at most {to_text(most)}, the maximum"
    try:
        matches = compiled_pattern(declared)
    except ValueError as error:
        yield "pattern", str(error)
    else:
        yield from _value_faults(declared.to_attribute(name, matches), declared)


def _value_faults(attribute: Attribute, declared: AttributeSettings) -> Iterator[tuple[str, str]]:
    item = replace(attribute, enum=None, is_list=False, required=True)
    for value in declared.enum or ():
        try:
            if item.check_item(value) != value:
                yield "enum", f"a list of values as they are stored, without {value!r}"
                return
        except ValueError as error:
            yield "enum", f"a list of values of the attribute: {value!r} {error}"
            return
    for setting in ("default", "example"):
        value = getattr(declared, setting)
        if value is None:
            continue
        _, faults = attribute.check(plain_value(value))
        for fault in faults:
            where = fault.pointer.removeprefix(f"/attributes/{attribute.name}")
            yield setting, f"{attribute.noun}: {where + ' ' if where else ''}{fault.detail}"


def _ambiguous_names(attributes: Mapping[str, AttributeSettings]) -> Iterator[str]:
    """Yield faults of names and headings that are equal in CSV files."""
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

"""Attributes of fake members."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from mimesis import Person

from tornado_members.errors import OperatorError
from tornado_members.model.attribute_table import AttributeTable
from tornado_members.model.attribute_types import MAX_INTEGER, format_datetime
from tornado_members.model.attributes import Attribute

_FIRST_DAY: Final = date(1940, 1, 1)
_DAYS: Final = 24_000  # until 2005
_FIRST_MOMENT: Final = datetime(2020, 1, 1, tzinfo=UTC)
_SECONDS: Final = 150_000_000  # until 2024
_MOST_ITEMS: Final = 3
_SPREAD: Final = 1000  # of numbers that have no maximum
_WORDS: Final = ("blue", "green", "north", "south", "early", "late", "quiet", "swift")


class NoExample(OperatorError):
    """A required attribute has a pattern, and no example that matches it."""


def fake_attributes(attributes: AttributeTable, person: Person) -> dict[str, Any]:
    """Return a value of each attribute. Raises NoExample."""
    found = {}
    for attribute in attributes:
        if attribute.has_example:
            found[attribute.name] = _value(attribute, person)
        elif attribute.required:
            raise NoExample(
                f"members.attributes.{attribute.name}: fake members need an example of its pattern"
            )
    return found


def _value(attribute: Attribute, person: Person) -> Any:
    if attribute.pattern is not None and attribute.enum is None:
        return attribute.example_value()
    if not attribute.is_list:
        return _item(attribute, person)
    count = person.random.randint(1, min(_MOST_ITEMS, attribute.max_items))
    return list(dict.fromkeys(_item(attribute, person) for _ in range(count)))


def _item(attribute: Attribute, person: Person) -> Any:
    random = person.random
    if attribute.enum is not None:
        return random.choice(attribute.enum)
    least, most = _bounds(attribute)
    match attribute.type:
        case "boolean":
            value: Any = random.random() < 0.5
        case "integer":
            value = random.randint(math.ceil(least), math.floor(most))
        case "number":
            value = round(random.uniform(least, most), 2) if most - least >= 1 else least
        case "date":
            value = (_FIRST_DAY + timedelta(days=random.randint(0, _DAYS))).isoformat()
        case "datetime":
            value = format_datetime(_FIRST_MOMENT + timedelta(seconds=random.randint(0, _SECONDS)))
        case _:
            value = _text(attribute, person)
    return value


def _text(attribute: Attribute, person: Person) -> str:
    return (
        _formatted(attribute, person)
        if attribute.format
        else person.random.choice(_WORDS)[: attribute.max_length]
    )


def _formatted(attribute: Attribute, person: Person) -> str:
    if attribute.format == "email":
        return str(person.email(domains=["example.com", "example.net", "example.org"]))
    if attribute.format == "phone":
        return str(person.phone_number(mask="+1-555-###-####"))
    return f"https://example.org/{person.random.randint(1, 9999)}"


def _bounds(attribute: Attribute) -> tuple[float, float]:
    """Return the minimum and the maximum of the numbers to generate."""
    least, most = attribute.minimum, attribute.maximum
    if least is None:
        least = 0 if most is None or most >= 0 else most - _SPREAD
    if most is None:
        most = least + _SPREAD
    return max(least, -MAX_INTEGER), min(most, MAX_INTEGER)

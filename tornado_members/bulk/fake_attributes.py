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
    for one in attributes:
        if one.has_example:
            found[one.name] = _value(one, person)
        elif one.required:
            raise NoExample(
                f"members.attributes.{one.name}: fake members need an example of its pattern"
            )
    return found


def _value(one: Attribute, person: Person) -> Any:
    if one.pattern is not None and one.enum is None:
        return one.example_value()
    if not one.is_list:
        return _item(one, person)
    count = person.random.randint(1, min(_MOST_ITEMS, one.max_items))
    return list(dict.fromkeys(_item(one, person) for _ in range(count)))


def _item(one: Attribute, person: Person) -> Any:
    random = person.random
    if one.enum is not None:
        return random.choice(one.enum)
    least, most = _bounds(one)
    match one.type:
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
            value = _text(one, person)
    return value


def _text(one: Attribute, person: Person) -> str:
    return _formatted(one, person) if one.format else person.random.choice(_WORDS)[: one.max_length]


def _formatted(one: Attribute, person: Person) -> str:
    if one.format == "email":
        return str(person.email(domains=["example.com", "example.net", "example.org"]))
    if one.format == "phone":
        return str(person.phone_number(mask="+1-555-###-####"))
    return f"https://example.org/{person.random.randint(1, 9999)}"


def _bounds(one: Attribute) -> tuple[float, float]:
    """Return the minimum and the maximum of the numbers to generate."""
    least, most = one.minimum, one.maximum
    if least is None:
        least = 0 if most is None or most >= 0 else most - _SPREAD
    if most is None:
        most = least + _SPREAD
    return max(least, -MAX_INTEGER), min(most, MAX_INTEGER)

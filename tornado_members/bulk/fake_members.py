"""Fake members."""

from collections.abc import Iterator
from typing import Any

from mimesis import Person
from mimesis.locales import Locale

from tornado_members.bulk.fake_attributes import fake_attributes
from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS, MemberDraft, parse_draft


def fake_members(fields: FieldTable = MEMBER_FIELDS) -> Iterator[MemberDraft]:
    """Yield drafts endlessly. No two have the same name."""
    person = Person(Locale.EN)
    names: set[str] = set()
    while True:
        values: dict[str, Any] = {field.name: field.fake(person) for field in fields if field.fake}
        while values["name"] in names:  # after 10 million pairs of names: add a name
            values["name"] += f" {person.last_name()}"
        names.add(values["name"])
        if fields.attributes:
            values[ATTRIBUTES] = fake_attributes(fields.attributes, person)
        yield parse_draft(values, fields=fields)

"""The declaration of a field, and a table of fields."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from tornado_members.errors import Fault
from tornado_members.model.attribute_table import AttributeTable
from tornado_members.model.attributes import KEY, Attribute
from tornado_members.model.strict_json import json_pointer
from tornado_members.model.text import case_fold, check_text

_MISSING = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a member. Its value is a string, or null if it is not required."""

    name: str  # in JSON, documents, exports and histories
    description: str  # for /openapi.json
    example: str
    # Returns the value in the form in which it is stored. Raises ValueError with a message that
    # can follow the name of the field.
    check: Callable[[str], str] = check_text
    required: bool = False
    # The rules of `check` as keywords of JSON Schema, for clients.
    json_schema: Mapping[str, Any] = field(default_factory=dict)
    # The same for responses, where documents of other programs may hold more.
    stored_schema: Mapping[str, Any] | None = None
    csv_headings: tuple[str, ...] = ()  # beside the name; see heading_key()
    filter: str | None = None  # describes the query parameter of lists that names a value of it
    case_folded: bool = False  # filters find it in any case, by a folded copy in the document
    fold: Callable[[str], str] = case_fold  # makes that copy
    searched: bool = False  # the search `q` finds its words
    fake: Callable[[Any], str] | None = None  # generates a value, given a mimesis.Person

    @property
    def folded_name(self) -> str:
        """The name of the case-folded copy in a document."""
        return f"{self.name}Fold"

    @property
    def filtered_name(self) -> str:
        """The name of the field in documents that filters compare."""
        return self.folded_name if self.case_folded else self.name

    def request_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a value that a client sends; null if it may be absent."""
        string = dict(sorted({**self.json_schema, "type": "string"}.items()))
        about = {"description": self.description, "examples": [self.example]}
        if self.required:
            return {**about, **string}
        return {"anyOf": [string, {"type": "null"}], "default": None, **about}


class FieldTable:
    """The fields of a member, in the order of responses, and the attributes."""

    def __init__(self, fields: Iterable[Field], attributes: Iterable[Attribute] = ()) -> None:
        self._fields = tuple(fields)
        self._checks = [(field.name, field.check, field.required) for field in self._fields]
        self.attributes = AttributeTable(attributes)
        self.names = tuple(field.name for field in self._fields)
        self.case_folded = tuple(field for field in self._fields if field.case_folded)
        self.searched = tuple(field for field in self._fields if field.searched)
        # In any case and without punctuation, the headings under which CSV files have each field.
        self.by_heading = {
            heading: field.name
            for field in self._fields
            for heading in (heading_key(field.name), *field.csv_headings)
        }
        # The columns of a CSV file.
        self.columns = (*self.names, *self.attributes.by_path)
        # The names in the JSON of a member, beside its id.
        self.keys = (*self.names, KEY) if self.attributes else self.names
        self.known_keys = frozenset(self.keys)
        # Processes with different tables share a cache. The digest distinguishes their entries.
        declared = "\n".join(self.names).encode()
        if self.attributes:
            declared += b"\n" + self.attributes.digest()
        self.digest = blake2b(declared, digest_size=4).hexdigest().encode()

    def __iter__(self) -> Iterator[Field]:
        return iter(self._fields)

    def __getitem__(self, name: str) -> Field:
        return next(field for field in self._fields if field.name == name)

    def with_field(self, added: Field) -> "FieldTable":
        """Return a table with one more field."""
        return FieldTable([*self._fields, added], self.attributes)

    def with_attributes(self, attributes: Iterable[Attribute]) -> "FieldTable":
        """Return a table with these attributes instead of its own."""
        return FieldTable(self._fields, attributes)

    def validate(self, content: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
        """Return a value for each valid field, and a fault for each other one.

        Attributes are checked by their own table.
        """
        values: dict[str, Any] = {}
        faults: list[Fault] = []
        for name, check, required in self._checks:
            value = content.get(name, _MISSING)
            try:
                if isinstance(value, str):
                    values[name] = check(value)
                elif required or (value is not None and value is not _MISSING):
                    raise ValueError(_fault_of(value, required=required))
                else:
                    values[name] = None
            except ValueError as error:
                faults.append(Fault(json_pointer(name), str(error)))
        return values, faults


def heading_key(heading: str) -> str:
    """Return a heading in lower case, without anything but letters."""
    return re.sub("[^a-z]", "", heading.lower())


def _fault_of(value: object, *, required: bool) -> str:
    """Describe the fault of a value that is not a string."""
    if value is _MISSING:
        return "is missing"
    return "must be a string" if required else "must be a string or null"

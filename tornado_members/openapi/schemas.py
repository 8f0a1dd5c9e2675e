"""The parts of which schemas (JSON Schema 2020-12) are made, and the schemas of files."""

from collections.abc import Mapping
from typing import Any, Final

from tornado_members.model.fields import FieldTable
from tornado_members.openapi.operation import Schema

_REFERENCE: Final = "#/components/schemas/"

MAX_LOOKUP: Final = 1000  # ids in the body of a lookup

# The body of an import or an export.
TEXT_FILE: Final[Schema] = {"type": "string"}


def reference(name: str) -> Schema:
    """Return a reference to a schema of the components."""
    return {"$ref": _REFERENCE + name}


def request_object(description: str, properties: Mapping[str, Any], *required: str) -> Schema:
    """Return the schema of an object in a request, which has no other properties than these."""
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def page_of(item: str, description: str, further: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of a page of items, which a component describes.

    `further` are properties that not every page has.
    """
    return {
        "description": f"{description}, and the address of the next page",
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": reference(item)},
            **(further or {}),
            "next": {"type": ["string", "null"], "description": "null on the last page"},
        },
    }


def without_default(schema: Schema) -> Schema:
    """Return a schema of a value that keeps its present value if it is omitted."""
    return {key: value for key, value in schema.items() if key != "default"}


def csv_file(fields: FieldTable) -> Schema:
    """Return the schema of a CSV file."""
    columns = [field.name if field.required else f"(?:,{field.name})?" for field in fields]
    columns += [f"(?:,{path.replace('.', '[.]')})?" for path in fields.attributes.by_path]
    return {
        "description": "The first line names the columns. Other headings and delimiters are "
        "recognised, too.",
        "type": "string",
        "pattern": rf"^(?:memberId,)?{''.join(columns)}\r?\n",
    }

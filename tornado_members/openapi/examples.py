"""Examples of requests and responses, made from the fields of members."""

import json
from typing import Any, Final

from tornado_members.bulk.csv_export import csv_header, encode_csv
from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import Member

EXAMPLE_ID: Final = 42


def example_draft(fields: FieldTable) -> dict[str, Any]:
    """Return the content of a member."""
    return {field.name: field.example for field in fields} | _attributes(fields)


def example_details(fields: FieldTable) -> dict[str, Any]:
    """Return the content of a member whose name is in the address."""
    found = {field.name: field.example for field in fields if field.name != "name"}
    return found | _attributes(fields)


def _attributes(fields: FieldTable) -> dict[str, Any]:
    """Return the attributes of the example; none with a pattern of which no example is known."""
    if not fields.attributes:
        return {}
    shown = (attribute for attribute in fields.attributes if attribute.has_example)
    return {ATTRIBUTES: {attribute.name: attribute.example_value() for attribute in shown}}


def example_member(fields: FieldTable) -> dict[str, Any]:
    """Return a member."""
    return _member(fields).to_dict()


def example_page(fields: FieldTable) -> dict[str, Any]:
    """Return a page of a list."""
    return {"items": [example_member(fields)], "next": None}


def example_batch(fields: FieldTable) -> dict[str, Any]:
    """Return a batch, of which one id is missing."""
    return {"items": [example_member(fields)], "missing": [EXAMPLE_ID + 1], "next": None}


def example_csv(fields: FieldTable) -> str:
    """Return an export as CSV."""
    return (csv_header(fields) + encode_csv([_member(fields)], fields)).decode()


def example_ndjson(fields: FieldTable) -> str:
    """Return an export as NDJSON."""
    return json.dumps(example_member(fields)) + "\n"


def example_event(fields: FieldTable) -> str:
    """Return an event of the change feed."""
    return f"id: 8267a1\nevent: changed\ndata: {json.dumps(_change(fields))}\n\n"


def example_ndjson_event(fields: FieldTable) -> str:
    """Return an event of the change feed as NDJSON."""
    event = {"id": "8267a1", "event": "changed", "data": _change(fields)}
    return json.dumps(event) + "\n"


def _change(fields: FieldTable) -> dict[str, Any]:
    member = example_member(fields)
    return {"memberId": member["memberId"], "version": 8, "member": member}


def example_history(fields: FieldTable) -> dict[str, Any]:
    """Return a page of a history."""
    change = {
        "version": 2,
        "kind": "changed",
        "at": "2026-11-22T11:05:42.123Z",
        "by": {"issuer": "https://login.example.org/", "subject": "grace"},
        "requestId": "2f1c9a7e0b1d4c55a1b5c0b4d7a3e6f0",
        "before": {"phone": None},
        "after": {"phone": fields["phone"].example},
    }
    return {"items": [change], "next": None}


def _member(fields: FieldTable) -> Member:
    return Member(EXAMPLE_ID, example_draft(fields), version=1)

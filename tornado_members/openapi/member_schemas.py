"""The schemas of members, made from the table of their fields."""

from collections.abc import Mapping
from typing import Any, Final

from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.openapi.attributes import attribute_schemas, is_needed
from tornado_members.openapi.examples import EXAMPLE_ID
from tornado_members.openapi.operation import Schema
from tornado_members.openapi.schemas import (
    MAX_LOOKUP,
    page_of,
    reference,
    request_object,
    without_default,
)

_MAY_REPEAT_URL = (
    "A body may repeat what the URL states, so that clients can send back what they have read."
)
_MISSING: Final[Schema] = {
    "description": "The ids that no member has, in the order requested.",
    "type": "array",
    "items": {"type": "integer", "minimum": 1, "maximum": MAX_MEMBER_ID},
}


def member_schemas(fields: FieldTable) -> Mapping[str, Schema]:
    """Return the components that describe members."""
    requested = _request_schemas(fields)
    required = [field.name for field in fields if field.required]
    attributes = _attributes("AttributesDraft", fields)
    needed = [ATTRIBUTES] if any(map(is_needed, fields.attributes)) else []
    return {
        "Member": _member(fields),
        "MemberDraft": request_object(
            "The content of a new or replaced member", requested | attributes, *required, *needed
        ),
        "MemberDetails": request_object(
            f"A member without its name, which the URL states. {_MAY_REPEAT_URL}",
            {name: schema for name, schema in requested.items() if name != "name"} | attributes,
            *needed,
        ),
        "MemberPatch": request_object(
            "A JSON merge patch (RFC 7396): omitted fields stay unchanged, null removes a "
            "value. `name` cannot be removed.",
            {name: without_default(schema) for name, schema in requested.items()}
            | _attributes("AttributesPatch", fields),
        ),
        **attribute_schemas(fields),
        "MemberPage": page_of(
            "Member",
            "A page of members",
            {
                "missing": {
                    **_MISSING,
                    "description": f"{_MISSING['description']} Only with `memberId`.",
                }
            },
        ),
        "MemberLookup": request_object(
            "The ids of members",
            {
                "memberIds": {
                    "description": f"Up to {MAX_LOOKUP} ids. Of repeated ones, the first counts.",
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1, "maximum": MAX_MEMBER_ID},
                }
            },
            "memberIds",
        ),
        "MemberBatch": {
            "description": "The members with the given ids, in the order requested",
            "type": "object",
            "required": ["items", "missing", "next"],
            "properties": {
                "items": {"type": "array", "items": reference("Member")},
                "missing": _MISSING,
                "next": {"type": "null", "description": "A batch has one page."},
            },
        },
    }


def _request_schemas(fields: FieldTable) -> dict[str, dict[str, Any]]:
    return {field.name: field.request_schema() for field in fields}


def _attributes(component: str, fields: FieldTable) -> dict[str, Schema]:
    """Return the property `attributes` of a request.

    null sets every attribute to null, so it is allowed where no attribute is required.
    """
    if not fields.attributes:
        return {}
    schema = reference(component)
    if any(attribute.required for attribute in fields.attributes):
        return {ATTRIBUTES: schema}
    return {ATTRIBUTES: {"anyOf": [schema, {"type": "null"}]}}


def _member(fields: FieldTable) -> Schema:
    properties: dict[str, Any] = {
        "memberId": {
            "description": "Assigned by the service and never reused.",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_MEMBER_ID,
            "examples": [EXAMPLE_ID],
        }
    }
    for field in fields:
        schema = without_default(field.request_schema())
        if field.stored_schema is not None:
            rest = {key: value for key, value in schema.items() if key not in field.json_schema}
            schema = {**rest, **field.stored_schema}
        properties[field.name] = schema
    if fields.attributes:
        properties[ATTRIBUTES] = reference("Attributes")
    shown = request_object("A member", properties, *properties)
    return {key: value for key, value in shown.items() if key != "additionalProperties"}

"""The schemas of changes and histories of members."""

from collections.abc import Mapping
from typing import get_args

from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.history import Kind
from tornado_members.openapi.operation import Schema
from tornado_members.openapi.schemas import page_of, reference


def history_schemas(fields: FieldTable) -> Mapping[str, Schema]:
    """Return the components that describe changes."""
    return {
        "Change": _change(fields),
        "HistoryPage": page_of("Change", "A page of a member's changes"),
    }


def _change(fields: FieldTable) -> Schema:
    text: Schema = {"type": ["string", "null"]}
    changed: dict[str, Schema] = dict.fromkeys(fields.names, text)
    if fields.attributes:
        changed[ATTRIBUTES] = reference("ChangedAttributes")
    values = {"type": ["object", "null"], "properties": changed, "additionalProperties": False}
    properties = {
        "version": {
            "description": "The version that the change created; a deletion creates the last.",
            "type": "integer",
            "minimum": 1,
        },
        "kind": {"enum": list(get_args(Kind))},
        "at": {"type": "string", "format": "date-time"},
        "by": {
            "description": "The author of the change: iss and sub of the token. A command of the "
            "service has no issuer.",
            "type": ["object", "null"],
            "required": ["issuer", "subject"],
            "properties": {"issuer": text, "subject": {"type": "string"}},
        },
        "requestId": {
            **text,
            "description": "The X-Request-Id of the request that made the change.",
        },
        "before": {
            **values,
            "description": "The changed fields before it; null if the member did not exist.",
        },
        "after": {
            **values,
            "description": "The changed fields after it; null if the member was deleted.",
        },
    }
    return {
        "description": "A change of a member",
        "type": "object",
        "required": list(properties),
        "properties": properties,
    }

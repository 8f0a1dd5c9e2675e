"""JSON schemas of attributes, which exist only if the settings declare some."""

from collections.abc import Mapping

from tornado_members.model.attributes import Attribute
from tornado_members.model.fields import FieldTable
from tornado_members.openapi.operation import Schema


def attribute_schemas(fields: FieldTable) -> Mapping[str, Schema]:
    """Return the components that describe the attributes."""
    if not fields.attributes:
        return {}
    table = fields.attributes
    drafts = {attribute.name: attribute.request_schema() for attribute in table}
    return {
        "Attributes": {
            "description": "The attributes of a member that have a value",
            "type": "object",
            "properties": {attribute.name: attribute.stored_schema() for attribute in table},
        },
        "AttributesDraft": {
            "description": "The attributes of a new or replaced member; omitted ones get their "
            "default",
            "type": "object",
            "properties": drafts,
            "required": [attribute.name for attribute in table if is_needed(attribute)],
            "additionalProperties": False,
        },
        "AttributesPatch": {
            "description": "A merge patch of attributes: null removes a value",
            "type": "object",
            "properties": {
                name: {key: value for key, value in schema.items() if key != "default"}
                for name, schema in drafts.items()
            },
            "additionalProperties": False,
        },
        "ChangedAttributes": {
            "description": "The changed attributes; null stands for no value",
            "type": "object",
            "properties": {
                attribute.name: {"anyOf": [attribute.stored_schema(), {"type": "null"}]}
                for attribute in table
            },
            "additionalProperties": False,
        },
    }


def is_needed(attribute: Attribute) -> bool:
    """True if a new member has to have a value."""
    return attribute.required and attribute.default is None

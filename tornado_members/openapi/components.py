"""The schemas that the description refers to by name."""

from collections.abc import Mapping

from tornado_members.model.fields import FieldTable
from tornado_members.openapi.history_schemas import history_schemas
from tornado_members.openapi.login_schemas import LOGIN_SCHEMAS
from tornado_members.openapi.member_schemas import member_schemas
from tornado_members.openapi.operation import Schema
from tornado_members.openapi.status_schema import STATUS


def make_schemas(fields: FieldTable) -> Mapping[str, Schema]:
    """Return all schemas by name. Those of members depend on their fields."""
    return {
        **member_schemas(fields),
        **history_schemas(fields),
        **LOGIN_SCHEMAS,
        "Status": STATUS,
    }

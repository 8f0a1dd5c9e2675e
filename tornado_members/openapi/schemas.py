"""JSON schemas (2020-12) of requests and responses, made from the fields of members."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from tornado_members.errors import TYPE_PREFIX, Problem
from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.history import Kind
from tornado_members.model.member import MAX_MEMBER_ID, MEMBER_FIELDS
from tornado_members.model.names import PATH_NAME_PATTERN
from tornado_members.openapi.attributes import attribute_schemas, is_needed
from tornado_members.openapi.examples import EXAMPLE_ID
from tornado_members.openapi.operation import PathParameter, Schema
from tornado_members.settings import Permission

_REFERENCE: Final = "#/components/schemas/"

MAX_LOOKUP: Final = 1000  # ids in the body of a lookup

# The files of /docs; docs.js starts the viewer, Swagger UI.
PAGE_FILES: Final = ("docs.js", "docs.css", "swagger-ui.css", "swagger-ui-bundle.js")

PATH_PARAMETERS: Final[Mapping[str, PathParameter]] = {
    "memberId": PathParameter(
        "The id of the member. An invalid id is a 404.",
        {"type": "integer", "minimum": 1, "maximum": MAX_MEMBER_ID},
        EXAMPLE_ID,
    ),
    "name": PathParameter(
        "The name of the member, percent-encoded. It is compared in Unicode NFC, without "
        "surrounding white space. A name with `/` or `\\` is a 400.",
        {"type": "string", "pattern": PATH_NAME_PATTERN},
        MEMBER_FIELDS["name"].example,
        pattern=".+",
    ),
    "username": PathParameter(
        "The name of the user, percent-encoded. It is compared in Unicode NFC, without surrounding "
        "white space.",
        {"type": "string", "minLength": 1},
        "ada",
    ),
    "asset": PathParameter("The name of the file.", {"type": "string"}, "main.js"),
    "file": PathParameter(
        "The name of the file.", {"type": "string", "enum": PAGE_FILES}, PAGE_FILES[0]
    ),
}


def reference(name: str) -> Schema:
    """Return a reference to a schema of the components."""
    return {"$ref": _REFERENCE + name}


def _of_requests(description: str, properties: Mapping[str, Any], *required: str) -> Schema:
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
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
    if any(one.required for one in fields.attributes):
        return {ATTRIBUTES: schema}
    return {ATTRIBUTES: {"anyOf": [schema, {"type": "null"}]}}


def _without_default(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "default"}


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
        schema = _without_default(field.request_schema())
        if field.stored_schema is not None:
            rest = {key: value for key, value in schema.items() if key not in field.json_schema}
            schema = {**rest, **field.stored_schema}
        properties[field.name] = schema
    if fields.attributes:
        properties[ATTRIBUTES] = reference("Attributes")
    shown = _of_requests("A member", properties, *properties)
    return {key: value for key, value in shown.items() if key != "additionalProperties"}


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


_USER_FIELDS: Final[Mapping[str, Any]] = {
    "username": {"type": "string", "minLength": 1, "maxLength": 255},
    "accessRights": {
        "description": "0 none, 1 read, 2 read and write, 3 read, write and delete.",
        "type": "integer",
        "minimum": 0,
        "maximum": 3,
    },
    "memberId": {
        "description": "The user's own member, which it may read and change.",
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": MAX_MEMBER_ID,
    },
}
_PASSWORD: Final = {"type": "string", "minLength": 8, "maxLength": 1024, "writeOnly": True}
_WITHOUT_NAME: Final = {name: one for name, one in _USER_FIELDS.items() if name != "username"}
_USER_SCHEMAS: Final[Mapping[str, Schema]] = {
    "User": {
        "description": "A user of the login",
        "type": "object",
        # Other programs may store other rights and names.
        "properties": {
            **_USER_FIELDS,
            "username": {"type": "string"},
            "accessRights": {"type": "integer"},
        },
        "required": [*_USER_FIELDS],
    },
    "UserDraft": _of_requests(
        "A new user",
        {**_USER_FIELDS, "password": _PASSWORD},
        *("username", "password", "accessRights"),
    ),
    "UserPatch": _of_requests(
        "A JSON merge patch (RFC 7396) of a user", {**_WITHOUT_NAME, "password": _PASSWORD}
    ),
    "UserPage": {
        "description": "A page of users, and the address of the next page",
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": reference("User")},
            "next": {"type": ["string", "null"], "description": "null on the last page"},
        },
    },
}


_COUNT: Final = {"type": "integer", "minimum": 0}
_STATUS: Final[Schema] = {
    "description": "The health of the service, as /readyz reports it, and totals since the start",
    "type": "object",
    "required": ["status", "dependencies", "workers", "requests", "cache"],
    "properties": {
        "status": {"enum": ["ready", "degraded", "unready", "draining"]},
        "dependencies": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "state", "detail"],
                "properties": {
                    "name": {"type": "string"},
                    "state": {"enum": ["ok", "degraded", "unready"]},
                    "detail": {"type": "string"},
                },
            },
        },
        "workers": _COUNT,
        "requests": {
            "description": "`durations` has the number of requests up to each of the `bounds` in "
            "seconds, and last the number of slower ones.",
            "type": "object",
            "required": ["bounds", "durations"],
            "properties": {
                "bounds": {"type": "array", "items": {"type": "number"}},
                "durations": {"type": "array", "items": _COUNT},
            },
        },
        "cache": {
            "type": "object",
            "required": ["hit", "miss", "bypass"],
            "properties": dict.fromkeys(("hit", "miss", "bypass"), _COUNT),
        },
    },
}


_MAY_REPEAT_URL = (
    "A body may repeat what the URL states, so that clients can send back what they have read."
)


_MISSING: Final[Schema] = {
    "description": "The ids that no member has, in the order requested.",
    "type": "array",
    "items": {"type": "integer", "minimum": 1, "maximum": MAX_MEMBER_ID},
}


def make_schemas(fields: FieldTable) -> Mapping[str, Schema]:
    """Return the components of the description, by name."""
    requested = _request_schemas(fields)
    required = [field.name for field in fields if field.required]
    attributes = _attributes("AttributesDraft", fields)
    needed = [ATTRIBUTES] if any(map(is_needed, fields.attributes)) else []
    return {
        "Member": _member(fields),
        "MemberDraft": _of_requests(
            "The content of a new or replaced member", requested | attributes, *required, *needed
        ),
        "MemberDetails": _of_requests(
            f"A member without its name, which the URL states. {_MAY_REPEAT_URL}",
            {name: schema for name, schema in requested.items() if name != "name"} | attributes,
            *needed,
        ),
        "MemberPatch": _of_requests(
            "A JSON merge patch (RFC 7396): omitted fields stay unchanged, null removes a "
            "value. `name` cannot be removed.",
            {name: _without_default(schema) for name, schema in requested.items()}
            | _attributes("AttributesPatch", fields),
        ),
        **attribute_schemas(fields),
        "MemberPage": {
            "description": "A page of members, and the address of the next page",
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": {"type": "array", "items": reference("Member")},
                "missing": {
                    **_MISSING,
                    "description": f"{_MISSING['description']} Only with `memberId`.",
                },
                "next": {"type": ["string", "null"], "description": "null on the last page"},
            },
        },
        "MemberLookup": _of_requests(
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
        "Change": _change(fields),
        "HistoryPage": {
            "description": "A page of a member's changes, and the address of the next page",
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": {"type": "array", "items": reference("Change")},
                "next": {"type": ["string", "null"], "description": "null on the last page"},
            },
        },
        "Credentials": {
            "description": "The credentials of a user",
            "type": "object",
            "required": ["username", "password"],
            "properties": {"username": {"type": "string"}, "password": {"type": "string"}},
            "additionalProperties": False,
        },
        "Token": {
            "description": "A token, for `Authorization: Bearer` (RFC 6749 §5.1)",
            "type": "object",
            "required": ["access_token", "token_type", "expires_in"],
            "properties": {
                "access_token": {"type": "string"},
                "token_type": {"const": "Bearer"},
                "expires_in": {"type": "integer", "minimum": 1, "description": "seconds"},
            },
        },
        "Caller": {
            "description": "The subject of a token, and its permissions",
            "type": "object",
            "required": ["issuer", "subject", "permissions", "memberId"],
            "properties": {
                "issuer": {"type": "string"},
                "subject": {"type": "string"},
                "permissions": {"type": "array", "items": {"enum": list(get_args(Permission))}},
                "memberId": {
                    "description": "The caller's own member.",
                    "type": ["integer", "null"],
                },
            },
        },
        "Status": _STATUS,
        **_USER_SCHEMAS,
        "KeySet": {
            "description": "Public keys (RFC 7517 §5)",
            "type": "object",
            "required": ["keys"],
            "properties": {
                "keys": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["kty", "kid"],
                        "properties": {"kty": {"type": "string"}, "kid": {"type": "string"}},
                    },
                }
            },
        },
    }


# Bodies of imports and exports.
TEXT_FILE: Final[Schema] = {"type": "string"}


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


def problem_kinds(base: type[Problem] = Problem) -> list[type[Problem]]:
    """Return every kind of problem that has a code of its own."""
    found = [kind for sub in base.__subclasses__() for kind in [sub, *problem_kinds(sub)]]
    return [kind for kind in found if "code" in vars(kind)]


def problem_schema(kind: type[Problem]) -> Schema:
    """Return the schema of one kind of problem object (RFC 9457 §3.1)."""
    always = [name for name, extension in kind.extended_by.items() if extension.always]
    return {
        "description": kind.title,
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "requestId", *always],
        "properties": {
            "type": {"const": TYPE_PREFIX + kind.code},
            "title": {"const": kind.title},
            "status": {"const": kind.status},
            "detail": {"type": "string"},
            "code": {"const": kind.code},
            "requestId": {"type": "string", "description": "The X-Request-Id of the response."},
            **{name: extension.schema for name, extension in kind.extended_by.items()},
        },
    }

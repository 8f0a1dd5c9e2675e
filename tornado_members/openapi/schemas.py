"""What goes over the wire, as JSON schemas (2020-12) drawn from the models that check it."""

import json
from collections.abc import Mapping
from typing import Any, Final, get_args

from tornado_members.errors import TYPE_PREFIX, Problem
from tornado_members.model.history import Kind
from tornado_members.model.member import MAX_CHARACTERS, MAX_MEMBER_ID, NAME_PATTERN, MemberDraft
from tornado_members.openapi.operation import PathParameter, Schema

_DRAFT: Final = MemberDraft.model_json_schema()
_FIELDS: Final[Mapping[str, Any]] = _DRAFT["properties"]
_REFERENCE: Final = "#/components/schemas/"

# Of /docs: docs.js starts the viewer, Swagger UI.
PAGE_FILES: Final = ("docs.js", "docs.css", "swagger-ui.css", "swagger-ui-bundle.js")

ADA: Final = {
    "memberId": 42,
    "name": "Ada Lovelace",
    "email": "ada@example.org",
    "phone": "+44 20 7946 0018",
}
DETAILS_OF_ADA: Final = {name: ADA[name] for name in ("email", "phone")}
DRAFT_OF_ADA: Final = {"name": ADA["name"], **DETAILS_OF_ADA}

CHANGE_OF_ADA: Final = {
    "version": 2,
    "kind": "changed",
    "at": "2026-11-22T11:05:42.123Z",
    "by": {"issuer": "https://login.example.org/", "subject": "grace"},
    "requestId": "2f1c9a7e0b1d4c55a1b5c0b4d7a3e6f0",
    "before": {"phone": None},
    "after": {"phone": ADA["phone"]},
}

PATH_PARAMETERS: Final[Mapping[str, PathParameter]] = {
    "memberId": PathParameter(
        "The member's id. One that no member can have is a 404.",
        {"type": "integer", "minimum": 1, "maximum": MAX_MEMBER_ID},
        ADA["memberId"],
    ),
    "name": PathParameter(
        "The member's name, percent-encoded, slashes too; compared in Unicode NFC, without the "
        "white space around it.",
        {"type": "string", "pattern": NAME_PATTERN},
        ADA["name"],
        pattern=".+",
    ),
    "file": PathParameter("Its name.", {"type": "string", "enum": PAGE_FILES}, PAGE_FILES[0]),
}


def reference(name: str) -> Schema:
    """To a schema of the document's components."""
    return {"$ref": _REFERENCE + name}


def _of_requests(description: str, fields: Mapping[str, Any], *required: str) -> Schema:
    shown = {name: {k: v for k, v in f.items() if k != "title"} for name, f in fields.items()}
    return {
        "description": description,
        "type": "object",
        "properties": shown,
        "required": list(required),
        "additionalProperties": _DRAFT["additionalProperties"],
    }


def _without_default(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: {k: v for k, v in f.items() if k != "default"} for name, f in fields.items()}


def _member() -> Schema:
    name = {k: v for k, v in _FIELDS["name"].items() if k not in ("pattern", "title")}
    fields = {
        "memberId": {
            "description": "given by the service, never twice",
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_MEMBER_ID,
            "examples": [ADA["memberId"]],
        },
        **_without_default(_FIELDS),
        "name": {**name, "minLength": 1, "maxLength": MAX_CHARACTERS},
    }
    shown = _of_requests("A member", fields, *fields)
    return {key: value for key, value in shown.items() if key != "additionalProperties"}


def _change() -> Schema:
    text = {"type": ["string", "null"]}
    fields = {
        "type": ["object", "null"],
        "properties": dict.fromkeys(_FIELDS, text),
        "additionalProperties": False,
    }
    properties = {
        "version": {
            "description": "the one that the change made, its ETag; a deletion makes the last one",
            "type": "integer",
            "minimum": 1,
        },
        "kind": {"enum": list(get_args(Kind))},
        "at": {"type": "string", "format": "date-time"},
        "by": {
            "description": "Who made it: the iss and sub of their token. A command of the "
            "service's own has no issuer.",
            "type": ["object", "null"],
            "required": ["issuer", "subject"],
            "properties": {"issuer": text, "subject": {"type": "string"}},
        },
        "requestId": {**text, "description": "the X-Request-Id of the request that made it"},
        "before": {**fields, "description": "What was changed, as it was; null: no member."},
        "after": {**fields, "description": "The same, as it became; null: no member."},
    }
    return {
        "description": "A change of a member",
        "type": "object",
        "required": list(properties),
        "properties": properties,
    }


_SAYS_TWICE = (
    "What the address says already may be said again, so that what was read can be sent back."
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Member": _member(),
    "MemberDraft": _of_requests("A member to be, or to become", _FIELDS, *_DRAFT["required"]),
    "MemberDetails": _of_requests(
        f"A member but for its name, which the address says. {_SAYS_TWICE}",
        {name: field for name, field in _FIELDS.items() if name != "name"},
    ),
    "MemberPatch": _of_requests(
        "A JSON merge patch (RFC 7396): what it leaves out stays, null takes a field away. "
        "`name` cannot be taken away.",
        _without_default(_FIELDS),
    ),
    "MemberPage": {
        "description": "A page of members, and where the next one is",
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": reference("Member")},
            "next": {"type": ["string", "null"], "description": "null on the last page"},
        },
    },
    "Change": _change(),
    "HistoryPage": {
        "description": "A page of a member's changes, and where the next one is",
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": reference("Change")},
            "next": {"type": ["string", "null"], "description": "null on the last page"},
        },
    },
    "Credentials": {
        "description": "Who logs in",
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
CSV_FILE: Final[Schema] = {
    "description": "The first line names the columns. Other headings and delimiters are "
    "recognised, too.",
    "type": "string",
    "pattern": r"^(?:memberId,)?name(?:,email)?(?:,phone)?\r?\n",
}
CSV_OF_ADA: Final = (
    "memberId,name,email,phone\r\n42,Ada Lovelace,ada@example.org,'+44 20 7946 0018\r\n"
)
NDJSON_OF_ADA: Final = json.dumps(ADA) + "\n"


def problem_kinds(base: type[Problem] = Problem) -> list[type[Problem]]:
    """Every kind of problem that has a code of its own."""
    found = [kind for sub in base.__subclasses__() for kind in [sub, *problem_kinds(sub)]]
    return [kind for kind in found if "code" in vars(kind)]


def problem_schema(kind: type[Problem]) -> Schema:
    """The problem object (RFC 9457 §3.1) of one kind."""
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
            "requestId": {"type": "string", "description": "the answer's X-Request-Id"},
            **{name: extension.schema for name, extension in kind.extended_by.items()},
        },
    }

"""The schemas of the login, of its users, and of tokens."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from tornado_members.model.member import MAX_MEMBER_ID
from tornado_members.openapi.operation import Schema
from tornado_members.openapi.schemas import page_of, request_object
from tornado_members.settings import Permission

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
_WITHOUT_NAME: Final = {name: schema for name, schema in _USER_FIELDS.items() if name != "username"}

LOGIN_SCHEMAS: Final[Mapping[str, Schema]] = {
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
    "UserDraft": request_object(
        "A new user",
        {**_USER_FIELDS, "password": _PASSWORD},
        *("username", "password", "accessRights"),
    ),
    "UserPatch": request_object(
        "A JSON merge patch (RFC 7396) of a user", {**_WITHOUT_NAME, "password": _PASSWORD}
    ),
    "UserPage": page_of("User", "A page of users"),
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

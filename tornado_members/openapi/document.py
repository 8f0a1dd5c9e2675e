"""Builds /openapi.json from the routes and the declarations of their handlers."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from tornado_members import __version__
from tornado_members.errors import Problem
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.openapi.path_items import Described, PathItems
from tornado_members.openapi.problems import problem_schema

_INTRODUCTION: Final = """\
Members, read through a linearizable cache: a read that starts after a write was acknowledged never
returns an older version.

Errors are problem objects (RFC 9457) with a stable `code`. The `ETag` of a member is its version.
Send it in `If-None-Match` to fetch a member only if it changed, and in `If-Match` to change only
the version that you have read. Every resource supports `OPTIONS`, and `HEAD` wherever it supports
`GET`. Query parameters and fields that are not described here are refused."""

_AUTHENTICATION: Final = """\
A JWT of one of the configured issuers. By default the claim `scope` (`members:read`,
`members:write`, `members:delete`, separated by spaces) and the claim `access_rights` (1 read, 2
read and write, 3 all, 0 nothing) grant permissions; the settings can name other claims. Each
operation names the permission that it requires."""

_TAGS: Final = {
    "members": "Members, one by one or many at once.",
    "login": "Tokens for the users of this service, and the keys that verify them.",
    "users": "The users of the login, for administrators.",
    "console": "A page to manage members.",
    "description": "This description of the API.",
}

Route = tuple[str, type[Described]]


def describe(
    routes: Sequence[Route],
    *,
    never: Collection[type[Problem]] = (),
    fields: FieldTable = MEMBER_FIELDS,
    base_path: str = "",
) -> dict[str, Any]:
    """Describe a service with these routes; `never` are problems that cannot occur in it."""
    operations = [operation for _, handler in routes for operation in handler.operations.values()]
    tags = {operation.tag for operation in operations}
    names = {operation.name for operation in operations}
    items = PathItems(names, never, fields)
    paths = {path: items.path_item(path, handler) for path, handler in routes}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Members",
            "version": __version__,
            "description": _INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_path or "/"}],
        "tags": [
            {"name": name, "description": text} for name, text in _TAGS.items() if name in tags
        ],
        "paths": paths,
        "components": {
            "schemas": items.mentioned_schemas()
            | {kind.__name__: problem_schema(kind) for kind in items.problems},
            "responses": items.responses,
            "parameters": items.parameters,
            "headers": items.headers,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": _AUTHENTICATION,
                }
            },
        },
    }

"""The schemas of problem objects (RFC 9457)."""

from tornado_members.errors import TYPE_PREFIX, Problem
from tornado_members.openapi.operation import Schema


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

"""The schema of the status of the service."""

from typing import Final

from tornado_members.openapi.operation import Schema

_COUNT: Final = {"type": "integer", "minimum": 0}

STATUS: Final[Schema] = {
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

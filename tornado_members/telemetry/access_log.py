"""The access log: one record per answered request.

A record never holds a member's name, a query string, a body or credentials.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tornado_members.telemetry.spans import SpanIds
from tornado_members.telemetry.traceparent import parse_traceparent

_MAX_SEGMENT = 64  # characters of a path that matches no route
_MAX_SUBJECT = 64  # characters


class AccessLogRecord(NamedTuple):
    """One answered request."""

    method: str
    route: str  # the pattern of its path, such as /members/{memberId}
    path: str
    status: int
    seconds: float
    request_id: str | None = None
    client_address: str | None = None  # of a request that was refused or failed
    subject: str | None = None  # `sub` of the caller's token
    cache: str | None = None  # how the cache served a read (RFC 9211)
    code: str | None = None  # of the problem that was the answer
    traceparent: str | None = None
    span: SpanIds | None = None  # if the request was traced
    events: int | None = None  # that a subscriber of the change feed was sent
    ended_by: str | None = None  # why the stream of a subscriber ended
    seconds_to_start: float | None = None  # of a stream; the whole length is in `seconds`


def log_fields(record: AccessLogRecord) -> dict[str, str | int | float | None]:
    """Return the fields of a record's log line; fields that are None are left out of the line."""
    trace = parse_traceparent(record.traceparent) if record.traceparent else None
    return {
        "request_id": record.request_id,
        "method": record.method,
        "route": record.route,
        "path": loggable_path(record.route, record.path),
        "status": record.status,
        "seconds": round(record.seconds, 6),
        "client_address": record.client_address,
        "subject": record.subject[:_MAX_SUBJECT] if record.subject else None,
        "cache": record.cache,
        "code": record.code,
        "events": record.events,
        "ended_by": record.ended_by,
        "trace_id": record.span.trace_id if record.span else trace and trace.trace_id,
        "parent_id": trace and trace.parent_id,
        "span_id": record.span and record.span.span_id,
    }


def format_message(fields: Mapping[str, object]) -> str:
    """Return the message of the log line with these fields."""
    return f"{fields['method']} {fields['path']} {fields['status']}"


def loggable_path(route: str, path: str) -> str:
    """Return a path without personal data: of the variable parts of a route, only ids are kept.

    Of a path that matches no route, only the first segment is kept: any other may be a name.
    """
    if not route.startswith("/"):
        _, _, rest = path.partition("/")
        first, slash, _ = rest.partition("/")
        return f"/{first[:_MAX_SEGMENT]}{slash and '/...'}"
    before, brace, _ = route.partition("{")
    if not brace:
        return route
    if route[-1:] == "}" and route.count("{") == 1:
        value = path[len(before) :]
        return before + (value if _is_id(value) else "...")
    parts = path.split("/", route.count("/"))
    shown = [
        ("..." if part[:1] == "{" and not _is_id(value) else value)
        for part, value in zip(route.split("/"), parts, strict=False)
    ]
    return "/".join(shown)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20

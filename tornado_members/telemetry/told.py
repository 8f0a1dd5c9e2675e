"""What is told of a request that was answered: never a name, a query, a body or credentials."""

from typing import NamedTuple

from tornado_members.telemetry.spans import Ids
from tornado_members.telemetry.trace import parse_traceparent

_LONGEST_PART = 64  # characters of a path that no route has
_LONGEST_SUBJECT = 64


class Told(NamedTuple):
    """What is to be known of a request that was answered."""

    method: str
    route: str  # the pattern of its path, such as /members/{memberId}
    path: str
    status: int
    seconds: float
    request_id: str | None = None
    subject: str | None = None  # of whoever asked
    cache: str | None = None  # how it served a read, in the words of RFC 9211
    code: str | None = None  # of the problem that was the answer
    traceparent: str | None = None
    span: Ids | None = None  # in which it was traced here


def words_of(told: Told) -> str:
    """The message of a request's line."""
    return f"{told.method} {shown_path(told.route, told.path)} {told.status}"


def said_of(told: Told) -> dict[str, str | int | float | None]:
    """What it says beside: never a member's name, a query, a body or credentials."""
    trace = parse_traceparent(told.traceparent) if told.traceparent else None
    return {
        "request_id": told.request_id,
        "method": told.method,
        "route": told.route,
        "path": shown_path(told.route, told.path),
        "status": told.status,
        "seconds": round(told.seconds, 6),
        "subject": told.subject[:_LONGEST_SUBJECT] if told.subject else None,
        "cache": told.cache,
        "code": told.code,
        "trace_id": told.span.trace_id if told.span else trace and trace.trace_id,
        "parent_id": trace and trace.parent_id,
        "span_id": told.span and told.span.span_id,
    }


def shown_path(route: str, path: str) -> str:
    """A path as it may be logged: in the place of a part of the route, only a number is shown.

    Of a path that no route has, only the beginning: anything may stand in it, names as well.
    """
    if not route.startswith("/"):
        _, _, rest = path.partition("/")
        first, slash, _ = rest.partition("/")
        return f"/{first[:_LONGEST_PART]}{slash and '/...'}"
    before, brace, _ = route.partition("{")
    if not brace:
        return route
    if route[-1:] == "}" and route.count("{") == 1:
        given = path[len(before) :]
        return before + (given if _is_id(given) else "...")
    parts = path.split("/", route.count("/"))
    shown = [
        ("..." if part[:1] == "{" and not _is_id(given) else given)
        for part, given in zip(route.split("/"), parts, strict=False)
    ]
    return "/".join(shown)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20

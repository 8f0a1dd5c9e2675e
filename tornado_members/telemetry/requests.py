"""A line of log and a count for each request, and how many are under way."""

import asyncio
import logging
from logging import getLogger
from typing import Protocol

from tornado.httputil import HTTPServerRequest

from tornado_members.telemetry.logs import REQUESTS, fields
from tornado_members.telemetry.measures import Histogram
from tornado_members.telemetry.spans import RequestSpan, Spans
from tornado_members.telemetry.trace import parse_traceparent

log = getLogger(REQUESTS)

# A label has few values, whatever clients think of.
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_LONGEST_PART = 64  # characters of a path that no route has


class Answered(Protocol):
    """What is to be known of a request handler."""

    request: HTTPServerRequest
    route: str  # the pattern of its path, such as /members/{memberId}

    def get_status(self) -> int:
        """The status of the answer."""


class Begun(Protocol):
    """A request handler that was just made."""

    request: HTTPServerRequest
    span: RequestSpan | None  # where it is traced


class RequestLog:
    """What became of every request."""

    def __init__(self, spans: Spans | None = None) -> None:
        """`spans` where requests are traced."""
        self._spans = spans
        self.in_flight = 0
        self.idle = asyncio.Event()  # set while none is
        self.idle.set()
        # By route, method and status: how many, and how long they took.
        self.times: dict[tuple[str, str, int], Histogram] = {}

    def begun(self, handler: Begun) -> None:
        """A handler was made for a request."""
        if self._spans is not None:
            handler.span = self._spans.begin(handler.request)
        self.in_flight += 1
        self.idle.clear()

    def ended(self) -> None:
        """Its answer has left, or can never leave."""
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()

    def write(self, handler: Answered) -> None:
        """Count a request, and write its line."""
        request, status = handler.request, handler.get_status()
        seconds = request.request_time()
        self.count(handler.route, request.method or "", status, seconds)
        span: RequestSpan | None = None
        if self._spans is not None:
            span = getattr(handler, "span", None)
            if span is not None:
                span.end(handler, status, seconds)
        level = logging.WARNING if status >= 500 else logging.INFO
        if log.isEnabledFor(level):
            _write_line(handler, level, status, seconds, span)

    def count(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one that was answered."""
        times = self.times.get((route, method, status))
        if times is None:
            known = method if method in _METHODS else "other"
            times = self.times.setdefault((route, known, status), Histogram())
        times.observe(seconds)


def _write_line(
    handler: Answered, level: int, status: int, seconds: float, span: RequestSpan | None
) -> None:
    """Never a member's name, a query, a body or credentials."""
    request = handler.request
    caller = getattr(handler, "caller", None)
    said = {
        "request_id": getattr(handler, "request_id", None),
        "method": request.method,
        "route": handler.route,
        "path": shown_path(handler.route, request.path),
        "status": status,
        "seconds": round(seconds, 6),
        "subject": caller.subject[:64] if caller else None,
        "cache": getattr(handler, "cache_status", None),
        "code": getattr(handler, "problem_code", None),
    }
    if traceparent := request.headers.get("traceparent"):
        trace = parse_traceparent(traceparent)
        if trace:
            said["trace_id"], said["parent_id"] = trace
    if span is not None:
        said["trace_id"], said["span_id"] = span.ids
    words = f"{said['method']} {said['path']} {status}"
    # As log.log() would, but for looking up from where it is called.
    log.handle(log.makeRecord(REQUESTS, level, "", 0, "%s", (words,), None, None, fields(**said)))


def shown_path(route: str, path: str) -> str:
    """A path as it may be logged: in the place of a part of the route, only a number is shown.

    Of a path that no route has, only the beginning: anything may stand in it, names as well.
    """
    if not route.startswith("/"):
        _, _, rest = path.partition("/")
        first, slash, _ = rest.partition("/")
        return f"/{first[:_LONGEST_PART]}{slash and '/...'}"
    if "{" not in route:
        return route
    parts = path.split("/", route.count("/"))
    shown = [
        ("..." if part[:1] == "{" and not _is_id(given) else given)
        for part, given in zip(route.split("/"), parts, strict=False)
    ]
    return "/".join(shown)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20

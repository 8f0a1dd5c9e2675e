"""The parts of a trace, and the interface of an exporter."""

from typing import NamedTuple, Protocol

from tornado.httputil import HTTPServerRequest

from tornado_members.telemetry.traceparent import TraceContext


class SpanIds(NamedTuple):
    """The ids of a span, in hexadecimal digits."""

    trace_id: str
    span_id: str


class CompletedOperation(NamedTuple):
    """An operation that a request made."""

    operation: str
    seconds: float
    ended: int  # nanoseconds since the epoch


class TracedRequest(Protocol):
    """The parts of a request handler that a span may show: never a path, a name or a token."""

    request: HTTPServerRequest

    @property
    def route(self) -> str:
        """The pattern of its path."""


class Exporter(Protocol):
    """Makes spans of requests, and sends them."""

    def record(
        self,
        handler: TracedRequest,
        status: int,
        seconds: float,
        parent: TraceContext | None,
        operations: list[CompletedOperation],
    ) -> SpanIds:
        """Record a request that has just been answered after `seconds`. Must not block."""

    def close(self) -> None:
        """Send the spans that are left. May block."""

"""The parts of a trace, and the interface of an exporter."""

from typing import NamedTuple, Protocol

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


class AnsweredRequest(Protocol):
    """The parts of an answered request that a span may show: never a path, a name or a token."""

    @property
    def method(self) -> str:
        """The request method, as sent."""

    @property
    def route(self) -> str:
        """The pattern of its path."""

    @property
    def status(self) -> int:
        """The status of the response."""

    @property
    def seconds(self) -> float:
        """The time from its head to its response."""

    @property
    def cache(self) -> str | None:
        """The Cache-Status of a read (RFC 9211)."""

    @property
    def code(self) -> str | None:
        """The code of the problem that was the response."""


class Exporter(Protocol):
    """Makes spans of requests, and sends them."""

    def record(
        self,
        request: AnsweredRequest,
        parent: TraceContext | None,
        operations: list[CompletedOperation],
    ) -> SpanIds:
        """Record a request that has just been answered. Must not block."""

    def close(self) -> None:
        """Send the spans that are left. May block."""

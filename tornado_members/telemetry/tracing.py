"""Decides which requests are traced, and collects their operations.

A traced request keeps the operations that it makes in a context variable, so that the tasks that
it starts find it. When the request was answered, `otlp.py` turns them into spans at once. Until
then tracing costs one list. Only `otlp.py` imports OpenTelemetry.
"""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from tornado_members.settings import Server, SettingsError, Telemetry
from tornado_members.telemetry.spans import AnsweredRequest, CompletedOperation, Exporter, SpanIds
from tornado_members.telemetry.traceparent import TraceContext, parse_traceparent

# An import makes one operation per batch; its trace keeps the first ones only.
_MAX_OPERATIONS = 64
_CLOSE_SECONDS = 3.0  # for spans that are not exported yet; a collector that hangs is not awaited
_FLAGS = slice(53, 55)  # of a traceparent header
_SAMPLED = 1

_current: ContextVar["RequestSpan | None"] = ContextVar("request_span", default=None)


class RequestSpan:
    """A traced request."""

    __slots__ = ("_exporter", "_operations", "_parent", "ids")

    def __init__(self, exporter: Exporter, parent: TraceContext | None) -> None:
        self._exporter = exporter
        self._parent = parent
        self._operations: list[CompletedOperation] | None = []
        self.ids: SpanIds | None = None  # known once the request was answered

    def add_operation(self, operation: str, seconds: float) -> None:
        """Add an operation that has just ended. Without effect once the request was answered."""
        if self._operations is not None and len(self._operations) < _MAX_OPERATIONS:
            self._operations.append(CompletedOperation(operation, seconds, time.time_ns()))

    def end(self, request: AnsweredRequest) -> None:
        """Export the span of a request that has just been answered."""
        if self._operations is not None:
            operations, self._operations = self._operations, None
            self.ids = self._exporter.record(request, self._parent, operations)


class Tracer:
    """Decides which requests are traced, and adds operations to their spans."""

    def __init__(self, exporter: Exporter, sample_ratio: float) -> None:
        """`sample_ratio` applies to requests without a traceparent header."""
        self._exporter = exporter
        self._ratio = sample_ratio

    def start(self, traceparent: str | None) -> RequestSpan | None:
        """Start the span of a request, or return None if it is not traced.

        Tasks that are started after this call belong to the request.
        """
        span = self.sample(traceparent)
        _current.set(span)  # also None: the previous request of this connection may be traced
        return span

    def sample(self, traceparent: str | None) -> RequestSpan | None:
        """Return a span without operations, or None if the request is not traced.

        The caller decides if it sent a traceparent (W3C Trace Context §3.2.2.5).
        """
        parent = parse_traceparent(traceparent) if traceparent else None
        if parent and traceparent:
            is_sampled = bool(int(traceparent[_FLAGS], 16) & _SAMPLED)
        else:
            is_sampled = random.random() < self._ratio  # noqa: S311  # a sample
        return RequestSpan(self._exporter, parent) if is_sampled else None

    @staticmethod
    def add_operation(operation: str, seconds: float) -> None:
        """Add an operation that has just ended to the span of the current request."""
        span = _current.get()
        if span is not None:
            span.add_operation(operation, seconds)


@asynccontextmanager
async def open_tracer(telemetry: Telemetry, server: Server) -> AsyncIterator[Tracer | None]:
    """Yield the tracer, or None if telemetry.otlp_endpoint is not set.

    The exporter has a thread, so open it after the fork. Raises SettingsError if OpenTelemetry is
    not installed.
    """
    if telemetry.otlp_endpoint is None:
        yield None
        return
    try:
        from tornado_members.telemetry.otlp import OtlpExporter  # noqa: PLC0415  # optional
    except ImportError as error:
        raise SettingsError(
            f"telemetry.otlp_endpoint needs OpenTelemetry, but {error.name} is not installed: "
            "pip install 'tornado_members[otel]', or pip install -r requirements-otel.txt"
        ) from error
    scheme = "https" if server.tls.certificate else "http"
    exporter = OtlpExporter(telemetry.otlp_endpoint, scheme)
    try:
        yield Tracer(exporter, telemetry.sample_ratio)
    finally:
        await _close(exporter)


async def _close(exporter: Exporter) -> None:
    """Close the exporter, but do not wait for a collector that hangs.

    It runs in a thread of its own: when the loop is closed, it waits for its pool of threads.
    """
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        exporter.close()
        if not loop.is_closed():
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=close, daemon=True).start()
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await closed.wait()
    except TimeoutError:
        return

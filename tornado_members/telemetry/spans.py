"""Which requests are traced, and what they did meanwhile.

A request that is traced collects the operations that it made, in a variable of its context, so
that the tasks which it starts find it, too. When it was answered it becomes spans, all at once
(otlp.py); until then it costs a list. Nobody but otlp.py knows OpenTelemetry.
"""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from tornado.httputil import HTTPServerRequest

from tornado_members.settings import Server, SettingsError, Telemetry
from tornado_members.telemetry.trace import Trace, parse_traceparent

# An import has as many operations as batches; its span tells of the first ones.
_MOST_OPERATIONS = 64
_CLOSING_SECONDS = 3.0  # for what is not sent yet; a collector that hangs is not waited for
_FLAGS = slice(53, 55)  # of a traceparent
_SAMPLED = 1

_current: ContextVar["RequestSpan | None"] = ContextVar("request_span", default=None)


class Ids(NamedTuple):
    """Where a span is found; both in hexadecimal digits."""

    trace_id: str
    span_id: str


class Done(NamedTuple):
    """An operation of a request, and when it ended."""

    operation: str
    seconds: float
    ended: int  # nanoseconds since the epoch


class Traced(Protocol):
    """What a span tells of a request handler; never a path, a name, a token, who called."""

    request: HTTPServerRequest

    @property
    def route(self) -> str:
        """The pattern of its path."""


class Exporter(Protocol):
    """Makes spans of requests, and sends them."""

    def record(
        self, handler: Traced, status: int, seconds: float, parent: Trace | None, done: list[Done]
    ) -> Ids:
        """A request that was answered just now, and took so long. Must not wait for anything."""

    def close(self) -> None:
        """Send what is left. May take long."""


class RequestSpan:
    """A request that is traced, from its first moment on."""

    __slots__ = ("_done", "_exporter", "_parent", "ids")

    def __init__(self, exporter: Exporter, parent: Trace | None) -> None:
        self._exporter = exporter
        self._parent = parent
        self._done: list[Done] | None = []
        self.ids: Ids | None = None  # once it was answered

    def note(self, operation: str, seconds: float) -> None:
        """One of its operations has ended; nothing happens if the request had before."""
        if self._done is not None and len(self._done) < _MOST_OPERATIONS:
            self._done.append(Done(operation, seconds, time.time_ns()))

    def end(self, handler: Traced, status: int, seconds: float) -> None:
        """The request was answered, and took so long."""
        if self._done is not None:
            done, self._done = self._done, None
            self.ids = self._exporter.record(handler, status, seconds, self._parent, done)


class Spans:
    """Decides who is traced, and tells them what they do."""

    def __init__(self, exporter: Exporter, sample_ratio: float) -> None:
        """`sample_ratio` of those who do not say themselves are traced."""
        self._exporter = exporter
        self._ratio = sample_ratio

    def begin(self, request: HTTPServerRequest) -> RequestSpan | None:
        """A request has come; the tasks that are started for it from now on are its own.

        Whoever sent it decides, if there is a traceparent (W3C Trace Context §3.2.2.5).
        """
        header = request.headers.get("traceparent")
        parent = parse_traceparent(header) if header else None
        if parent and header:
            wanted = bool(int(header[_FLAGS], 16) & _SAMPLED)
        else:
            wanted = random.random() < self._ratio  # noqa: S311
        span = RequestSpan(self._exporter, parent) if wanted else None
        _current.set(span)  # None, too: the last request of this connection may have been traced
        return span

    @staticmethod
    def note(operation: str, seconds: float) -> None:
        """An operation has ended, and took so long."""
        span = _current.get()
        if span is not None:
            span.note(operation, seconds)


@asynccontextmanager
async def open_spans(telemetry: Telemetry, server: Server) -> AsyncIterator[Spans | None]:
    """Where requests are traced to, if they are to be. It has a thread: open it after the fork.

    Raises SettingsError where OpenTelemetry is not installed.
    """
    if telemetry.otlp_endpoint is None:
        yield None
        return
    try:
        from tornado_members.telemetry.otlp import OtlpExporter  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            f"telemetry.otlp_endpoint needs OpenTelemetry, and there is no {error.name}: "
            "pip install 'tornado_members[otel]', or pip install -r requirements-otel.txt"
        ) from error
    scheme = "https" if server.tls.certificate else "http"
    exporter = OtlpExporter(telemetry.otlp_endpoint, scheme)
    try:
        yield Spans(exporter, telemetry.sample_ratio)
    finally:
        await _close(exporter)


async def _close(exporter: Exporter) -> None:
    """Send what is left, but do not wait for a collector that hangs.

    Not in the loop's pool of threads, for which the end of the loop would wait.
    """
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        exporter.close()
        if not loop.is_closed():
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=close, daemon=True).start()
    try:
        async with asyncio.timeout(_CLOSING_SECONDS):
            await closed.wait()
    except TimeoutError:
        return

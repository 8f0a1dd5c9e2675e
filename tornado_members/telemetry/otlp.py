"""Spans of OpenTelemetry, sent by OTLP over HTTP. Only here is its SDK imported, if it is wanted.

Names follow its semantic conventions for HTTP servers and for databases; url.path is left out,
since it would hold members' names, and so is whatever a client makes up (user agent, request id).
"""

import logging
import os
import socket
import time
from collections.abc import Sequence
from logging import getLogger

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from tornado_members import __version__
from tornado_members.telemetry.spans import Done, Ids, Traced
from tornado_members.telemetry.trace import Trace

log = getLogger(__name__)

_PATH = "/v1/traces"
_NAME = "tornado_members"
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_SERVER_ERROR = Status(StatusCode.ERROR)


class OtlpExporter:
    """Makes spans of requests, and has a thread send them in batches.

    What the SDK's own variables say (OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_RESOURCE_ATTRIBUTES, ...) holds.
    """

    def __init__(self, endpoint: str, scheme: str) -> None:
        """`scheme` is that of the requests."""
        self._scheme = scheme
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # who is traced is decided before
            resource=_describe_service(),
            shutdown_on_exit=False,
        )
        outlet = _Outlet(endpoint.rstrip("/") + _PATH)
        self._provider.add_span_processor(BatchSpanProcessor(outlet))
        self._tracer = self._provider.get_tracer(_NAME, __version__)

    def record(
        self, handler: Traced, status: int, seconds: float, parent: Trace | None, done: list[Done]
    ) -> Ids:
        """A request that was answered just now, and took so long."""
        ended = time.time_ns()
        method = handler.request.method if handler.request.method in _METHODS else "_OTHER"
        # What no route has is no route of ours: "none" would be a name for something.
        route = handler.route if handler.route.startswith("/") else None
        span = self._tracer.start_span(
            f"{'HTTP' if method == '_OTHER' else method} {route or ''}".rstrip(),
            context=_context_of(parent),
            kind=SpanKind.SERVER,
            attributes=self._attributes(handler, str(method), route, status),
            start_time=ended - int(seconds * 1e9),
        )
        inside = set_span_in_context(span, Context())
        for operation, its_seconds, its_end in done:
            child = self._tracer.start_span(
                operation,
                context=inside,
                kind=SpanKind.CLIENT,
                attributes={"db.system.name": "mongodb", "code.function.name": operation},
                start_time=its_end - int(its_seconds * 1e9),
            )
            child.end(its_end)
        if status >= 500:
            span.set_status(_SERVER_ERROR)
        span.end(ended)
        context = span.get_span_context()
        return Ids(format_trace_id(context.trace_id), format_span_id(context.span_id))

    def _attributes(
        self, handler: Traced, method: str, route: str | None, status: int
    ) -> dict[str, str | int]:
        found: dict[str, str | int | None] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "url.scheme": self._scheme,
            "tornado_members.cache": getattr(handler, "cache_status", None),
            "error.type": _error_type(handler, status),
        }
        return {name: value for name, value in found.items() if value is not None}

    def close(self) -> None:
        """Send what is left. May take long."""
        self._provider.shutdown()


def _error_type(handler: Traced, status: int) -> str | None:
    """The problem's code, of an answer that is a fault of ours."""
    return getattr(handler, "problem_code", None) or str(status) if status >= 500 else None


def _context_of(parent: Trace | None) -> Context:
    """The span that sent the request; nothing is above it in this process."""
    if parent is None:
        return Context()
    remote = SpanContext(
        int(parent.trace_id, 16),
        int(parent.parent_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _describe_service() -> Resource:
    """Who sends; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say it otherwise."""
    ours = {
        "service.name": _NAME,
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    theirs = dict(Resource.create().attributes)
    if str(theirs["service.name"]).startswith("unknown_service"):
        del theirs["service.name"]
    return Resource(ours).merge(Resource(theirs))


class _Outlet(SpanExporter):
    """Sends spans, and says when that begins to fail and when it works again: a line each."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._exporter = OTLPSpanExporter(endpoint=url)
        self._fails = False
        self._words = _LastWords()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """In the thread that sends: nobody waits for it, and what is too much is lost."""
        self._words.first = ""
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            log.warning(
                "traces are lost: %s takes none (telemetry.otlp_endpoint): %s",
                self._url,
                self._words.first,
            )
        elif self._fails and not fails:
            log.info("traces are sent to %s again", self._url)
        self._fails = fails
        return result

    def shutdown(self) -> None:
        """Stop trying."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _LastWords(logging.Handler):
    """Listens to what the SDK says, so that it need not be written: it says it for every batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""  # in this batch; later ones only say that it was in vain
        logger = getLogger("opentelemetry")
        logger.propagate = False
        logger.handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of it."""
        self.first = self.first or record.getMessage()[:300]

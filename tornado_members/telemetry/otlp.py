"""Exports spans by OTLP over HTTP. The only module that imports OpenTelemetry's SDK.

Names follow the semantic conventions for HTTP servers and for databases. Two kinds of attributes
are left out: url.path, which may hold a member's name, and values that a client chooses freely
(user agent, request id).
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
from tornado_members.telemetry.spans import AnsweredRequest, CompletedOperation, SpanIds
from tornado_members.telemetry.traceparent import TraceContext

log = getLogger(__name__)

_PATH = "/v1/traces"
_NAME = "tornado_members"
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
_SERVER_ERROR = Status(StatusCode.ERROR)


class OtlpExporter:
    """Creates spans of requests; a thread of the SDK sends them in batches.

    The SDK's own environment variables apply (OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_MAX_QUEUE_SIZE,
    OTEL_RESOURCE_ATTRIBUTES, ...).
    """

    def __init__(self, endpoint: str, scheme: str) -> None:
        """`scheme` is the URL scheme of the requests."""
        self._scheme = scheme
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # the Tracer has decided already
            resource=_describe_service(),
            shutdown_on_exit=False,
        )
        exporter = _LoggingExporter(endpoint.rstrip("/") + _PATH)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_NAME, __version__)

    def record(
        self,
        request: AnsweredRequest,
        parent: TraceContext | None,
        operations: list[CompletedOperation],
    ) -> SpanIds:
        """Create the spans of an answered request."""
        ended = time.time_ns()
        method = request.method if request.method in _METHODS else "_OTHER"
        # A request that matches no route has no http.route.
        route = request.route if request.route.startswith("/") else None
        span = self._tracer.start_span(
            f"{'HTTP' if method == '_OTHER' else method} {route or ''}".rstrip(),
            context=_context_of(parent),
            kind=SpanKind.SERVER,
            attributes=self._attributes(request, method, route),
            start_time=ended - int(request.seconds * 1e9),
        )
        within = set_span_in_context(span, Context())
        for operation, duration, operation_end in operations:
            child = self._tracer.start_span(
                operation,
                context=within,
                kind=SpanKind.CLIENT,
                attributes={"db.system.name": "mongodb", "code.function.name": operation},
                start_time=operation_end - int(duration * 1e9),
            )
            child.end(operation_end)
        if request.status >= 500:
            span.set_status(_SERVER_ERROR)
        span.end(ended)
        context = span.get_span_context()
        return SpanIds(format_trace_id(context.trace_id), format_span_id(context.span_id))

    def _attributes(
        self, request: AnsweredRequest, method: str, route: str | None
    ) -> dict[str, str | int]:
        found: dict[str, str | int | None] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": request.status,
            "url.scheme": self._scheme,
            "tornado_members.cache": request.cache,
            "error.type": _error_type(request),
        }
        return {name: value for name, value in found.items() if value is not None}

    def close(self) -> None:
        """Send the remaining spans. May block."""
        self._provider.shutdown()


def _error_type(request: AnsweredRequest) -> str | None:
    """Return the code of the problem if the response is a server error."""
    return request.code or str(request.status) if request.status >= 500 else None


def _context_of(parent: TraceContext | None) -> Context:
    """Return the context of the remote parent span."""
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
    """Describe this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence."""
    ours = {
        "service.name": _NAME,
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    theirs = dict(Resource.create().attributes)
    if str(theirs["service.name"]).startswith("unknown_service"):
        del theirs["service.name"]
    return Resource(ours).merge(Resource(theirs))


class _LoggingExporter(SpanExporter):
    """Sends spans; logs one line when that begins to fail and one when it works again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._exporter = OTLPSpanExporter(endpoint=url)
        self._fails = False
        self._warnings = _FirstWarning()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, in the thread of the batch processor."""
        self._warnings.first = ""
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            log.warning(
                "traces are lost: %s accepts none (telemetry.otlp_endpoint): %s",
                self._url,
                self._warnings.first,
            )
        elif self._fails and not fails:
            log.info("traces are accepted by %s again", self._url)
        self._fails = fails
        return result

    def shutdown(self) -> None:
        """Stop retrying."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _FirstWarning(logging.Handler):
    """Keeps the SDK's first warning of a batch; the SDK would log it for every batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""  # of this batch; later ones only report that retries failed
        logger = getLogger("opentelemetry")
        logger.propagate = False
        logger.handlers = [self]

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message if it is the first one."""
        self.first = self.first or record.getMessage()[:300]

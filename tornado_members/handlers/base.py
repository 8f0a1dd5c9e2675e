"""The base of all handlers: admission, deadlines and the access log of a request."""

from collections.abc import Mapping
from typing import ClassVar

from tornado_members.auth.caller import Caller
from tornado_members.errors import NotFound, Overloaded, Problem
from tornado_members.handlers.response import ResponseHandler
from tornado_members.http.admission import admission_of, allowed_methods, caller_of
from tornado_members.http.cors import preflight_headers
from tornado_members.http.fast_path_errors import fast_path_errors
from tornado_members.openapi.operation import JSON, Operation
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord
from tornado_members.telemetry.tracing import RequestSpan


class BaseHandler(ResponseHandler):
    """A handler declares its operations, and implements their methods."""

    operations: ClassVar[Mapping[str, Operation]] = {}  # by method
    has_deadline: ClassVar[bool] = True  # whether server.limits.request_seconds applies

    operation: Operation  # of this request; set by prepare()
    caller: Caller | None = None
    own_member_id: int | None = None  # set if the caller may access this member only
    media_type: str = JSON  # of the response, as negotiated
    client_disconnected = False
    # Of a stream of events: how many were sent, why it ended, and when it began.
    events: int | None = None
    ended_by: str | None = None
    seconds_to_start: float | None = None
    span: RequestSpan | None = None

    def initialize(self, services: Services) -> None:
        # Removed, because the same task creates the handler of the next pipelined request.
        errors = fast_path_errors.get()
        self.fast_path_error = errors.pop() if errors else None
        services.requests.request_started()
        if services.tracer is not None:
            self.span = services.tracer.start(self.traceparent)
        if self.has_deadline:
            services.deadlines.begin(self)
        # Tornado would parse forms before prepare() runs; no handler takes any.
        self.request._parse_body = _parse_nothing  # type: ignore[method-assign]

    async def prepare(self) -> None:
        """Admit the request, or raise the problem for which it is refused."""
        if self.services.requests.in_flight > self.services.most_requests:
            raise Overloaded
        admission = admission_of(self.request)
        if admission is None:
            admission = await self.services.admission.admit(self.request, self.operations)
        self.caller = admission.caller
        self.own_member_id = admission.own_member_id
        self.media_type = admission.media_type
        if admission.operation is not None:
            self.operation = admission.operation
        if self.fast_path_error:
            error, query = self.fast_path_error
            self.fast_path_error = None
            if self.span and query:
                self.span.add_operation(*query)
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame

    def options(self, *_: str) -> None:
        """Send the methods of the path (RFC 9110 §9.3.7)."""
        self.set_status(204)
        self.set_header("Allow", self.allowed_methods())
        headers = self.request.headers
        if "Access-Control-Request-Method" in headers:
            rules, methods = self.services.cors, self.allowed_methods()
            self.set_headers(preflight_headers(rules, headers.get("Origin"), methods))

    def allowed_methods(self) -> str:
        """Return the value of the Allow header (RFC 9110 §10.2.1)."""
        return allowed_methods(self.operations)

    def caller_address(self) -> str:
        """Return the address of the caller itself, also behind server.trusted_proxies."""
        return self.services.proxies.caller(self.request.remote_ip or "", self.request.headers)

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self.client_disconnected = True

    def log_request(self) -> None:
        """End the request: count it, and write its access-log line. Tornado calls this."""
        self.services.deadlines.end(self)
        request, status = self.request, self.get_status()
        caller = self.caller or caller_of(request)  # the second, if it lacks the permission
        try:
            record = AccessLogRecord(
                method=request.method or "",
                route=self.route,
                path=request.path,
                status=status,
                seconds=request.request_time(),
                request_id=self.request_id,
                client_address=self.caller_address() if status >= 400 else None,
                subject=caller.subject if caller else None,
                cache=self.cache_status,
                code=self.problem_code,
                traceparent=self.traceparent,
                events=self.events,
                ended_by=self.ended_by,
                seconds_to_start=self.seconds_to_start,
            )
        finally:
            self.services.requests.request_finished()
        self.services.requests.record(record, self.span)


class NotFoundHandler(BaseHandler):
    """Any path that matches no route"""

    route = "none"

    async def prepare(self) -> None:
        """Admit only OPTIONS for the whole server, and for its root, as health checks send it.

        HAProxy sends `OPTIONS /`; RFC 9110 §9.3.7 defines `OPTIONS *`.
        """
        if self.request.method != "OPTIONS" or self.request.path not in ("*", "/"):
            raise NotFound

    def allowed_methods(self) -> str:
        """Return the methods that some path supports."""
        return "GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS"

    def problem_of(self, status_code: int, error: BaseException | None) -> Problem:
        """Return NotFound also for methods that Tornado refuses before prepare()."""
        return NotFound() if status_code == 405 else super().problem_of(status_code, error)


def _parse_nothing() -> None:
    """Replaces HTTPServerRequest._parse_body."""

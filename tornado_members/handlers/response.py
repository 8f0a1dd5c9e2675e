"""The response of a handler: its headers, with members, and problems for all errors."""

from asyncio import Future
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from tornado_members.errors import MemberNotFound, Problem, ResponseTimeout
from tornado_members.http.body_limit import leaves_body_unread
from tornado_members.http.problems import PROBLEM_JSON, encode_problem, log_failure, problem_of
from tornado_members.http.responses import PRIVATE, MemberResponse, cache_status
from tornado_members.http.streaming import ignore_disconnect
from tornado_members.http1.exchange import Exchange
from tornado_members.http1.heads import SharedHeaders, encode_headers
from tornado_members.openapi.operation import JSON
from tornado_members.services import Services


class ResponseHandler(RequestHandler):
    """Sets the headers of every response, and sends a problem for every error."""

    route: ClassVar[str] = "other"  # the pattern of its path, for logs and metrics

    request_id = ""  # set by clear()
    traceparent: str | None = None  # the header of the request, for its trace; set by clear()
    _headers: SharedHeaders
    cache_status: str | None = None  # for the log and the metrics
    problem_code: str | None = None
    timed_out = False
    _is_finishing = False

    def __init__(
        self,
        application: Application,
        request: HTTPServerRequest,
        *,
        services: Services,
        **arguments: Any,
    ) -> None:
        self.services = services
        super().__init__(application, request, services=services, **arguments)

    @property
    def response_started(self) -> bool:
        """True if a part of the response was sent: its status cannot change any more."""
        return bool(self._headers_written)

    @property
    def response_finished(self) -> bool:
        """True if the response is complete or being completed, or was aborted."""
        return bool(self._finished or self._is_finishing)

    def address(self, path: str) -> str:
        """Return the address of a path of this service, for a response."""
        return f"{self.services.base_path}{path}"

    def clear(self) -> None:
        """Start the response, with the headers that all responses have.

        Tornado calls this first, and again before it renders an error.
        """
        services, headers = self.services, self.request.headers
        self.request_id = self.request_id or services.request_ids.of(headers)
        self._headers = services.common_headers.make(headers, self.request_id)
        self.traceparent = headers.get("traceparent")
        self._write_buffer = []
        self.set_status(200)

    def set_headers(self, headers: Mapping[str, str]) -> None:
        """Set several headers."""
        for name, value in headers.items():
            self.set_header(name, value)

    def add_vary(self, names: str) -> None:
        """Add names to the Vary header, which is sent as one line."""
        present = self._headers.get("Vary")
        self.set_header("Vary", f"{present}, {names}" if present else names)

    def set_cache_status(self, status: str | None) -> None:
        """Report how the cache served a read (RFC 9211)."""
        self.cache_status = status
        if status is not None:
            self.set_header("Cache-Status", cache_status(status))

    def send_response(self, response: MemberResponse) -> None:
        """Send a response with members."""
        present, vary = self._headers, response.vary
        headers = {
            "Cache-Control": PRIVATE,
            "Vary": f"{present['Vary']}, {vary}" if "Vary" in present else vary,
            "Content-Type": JSON,  # omitted from a 204 and a 304
            **response.headers,
        }
        self.set_status(response.status)
        self.finish(response.body or None, headers)

    def finish(
        self,
        chunk: str | bytes | dict[str, Any] | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> "Future[None]":
        """Complete the response, which ends the request.

        `headers` are further headers, with the names in the form that Tornado normalizes names to.
        They are not checked, as those of set_header() are.

        The HTTP server bounds how long a client may leave the response unread, and a slow client
        does not count as a request in flight.
        """
        if chunk is not None:
            self.write(chunk)
        # If the body was not read, the HTTP server calls on_connection_close() during this.
        self._is_finishing = True
        connection = self.request.connection
        is_whole = not (self._headers_written or self._finished or "Connection" in self._headers)
        if is_whole and isinstance(connection, Exchange):
            return self._respond(connection, headers)
        self._headers.set_normalized(headers)
        sent = super().finish()
        if sent.done():
            ignore_disconnect(sent)
        else:
            sent.add_done_callback(ignore_disconnect)
        return sent

    def _respond(self, connection: Exchange, headers: Mapping[str, str]) -> "Future[None]":
        """Send the whole response as Tornado does, without its transforms, cookies and ETags."""
        status, body = self._status_code, b"".join(self._write_buffer)
        has_no_content = self._should_not_send_content(status)
        if has_no_content and body:
            raise RuntimeError(f"a response with status {status} has no body")
        if not has_no_content and "Content-Length" not in self._headers:
            headers = {**headers, "Content-Length": str(len(body))}
        self._headers.set_normalized(headers)
        if has_no_content:
            self._clear_representation_headers()
        header_lines = encode_headers(self._headers)
        self._headers_written = True
        sent = connection.respond(
            status, header_lines, b"" if self.request.method == "HEAD" else body
        )
        self._log()
        self._finished = True
        self.on_finish()
        self._break_cycles()
        return sent

    def allowed_methods(self) -> str:
        """Return the value of the Allow header."""
        raise NotImplementedError

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send a problem (RFC 9457) for any error, of this service or of Tornado."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        self.finish(self.render_problem(self.problem_of(status_code, error)))

    def problem_of(self, status_code: int, error: BaseException | None) -> Problem:
        """Return the problem to send."""
        return problem_of(status_code, error, self.request.method or "", self.allowed_methods())

    def render_problem(self, problem: Problem) -> bytes:
        """Set the status and the headers of a problem; return its body."""
        self.problem_code = problem.code
        self.set_status(problem.status)
        self.set_headers(problem.headers)
        if isinstance(problem, MemberNotFound):
            self.set_cache_status(problem.cache_status)
        self.set_header("Content-Type", PROBLEM_JSON)
        self.set_header("Cache-Control", "no-store")
        if leaves_body_unread(self.request):
            self.set_header("Connection", "close")
        return encode_problem(problem, self.request_id, self.services.base_path)

    def log_exception(self, _type: Any, value: BaseException | None, _traceback: Any) -> None:
        # After a time-out, Tornado reports that the response is already finished.
        if not self.timed_out or isinstance(value, ResponseTimeout):
            log_failure(value, self.request_id, self.route)

    def time_out(self) -> None:
        """Send a ResponseTimeout, unless the response has started; the handler continues."""
        if not self.response_finished and not self.response_started:
            self.timed_out = True
            timeout = ResponseTimeout()
            self.log_exception(ResponseTimeout, timeout, None)
            self.send_error(timeout.status, exc_info=(ResponseTimeout, timeout, None))

    def check_etag_header(self) -> bool:
        """Return False: member_response() has evaluated the conditions."""
        return False

    def compute_etag(self) -> None:
        """Return no ETag: an ETag is a version here, never a digest of the bytes."""

"""A request that the fast path answers itself, or passes on to the application."""

import time
from collections.abc import Awaitable
from contextlib import nullcontext
from logging import getLogger
from typing import Protocol

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
)

from tornado_members.auth.caller import Caller
from tornado_members.auth.permissions import READ
from tornado_members.cached_members import CachedMembers, MemberSelector, passed_on
from tornado_members.errors import ResponseTimeout
from tornado_members.handlers.plain_targets import is_list, selector_in
from tornado_members.http.fast_path_errors import Query, reporting
from tornado_members.http.plain_read import PlainRead, plain_read
from tornado_members.http.responses import (
    MemberResponse,
    batch_response,
    member_response,
    send_prepared,
)
from tornado_members.member_entries import MemberBatch, Representation
from tornado_members.model.list_query import ListQuery
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord

log = getLogger(__name__)


class FastPath(Protocol):
    """The methods of MemberCacheApplication that its requests use."""

    application: HTTPServerConnectionDelegate  # answers the requests that are passed on
    services: Services
    is_enabled: bool  # False passes every request on

    def page_query(self, target: str, headers: HTTPHeaders) -> ListQuery | None:
        """Return the query of a plain list; None if a handler must examine the request."""

    def answer(self, request: "FastPathRequest") -> None:
        """Answer a complete request, which counts as in flight."""


class FastPathRequest(HTTPMessageDelegate):
    """A request, from its head until it is answered here or passed on to the application."""

    start_line: RequestStartLine
    headers: HTTPHeaders
    read: PlainRead
    selector: MemberSelector  # unless it addresses a page
    page: ListQuery | None = None
    caller: Caller
    query: Query | None = None  # of MongoDB, if one was made
    delegate: HTTPMessageDelegate | None = None  # of the application, once it is passed on
    is_answered = False  # by the fast path; it then does not count as in flight any more
    started_at = 0.0  # time.perf_counter()

    def __init__(
        self, fast_path: FastPath, server_conn: object, connection: HTTPConnection
    ) -> None:
        self.connection = connection
        self._fast_path = fast_path
        self._server_conn = server_conn

    def headers_received(  # type: ignore[override]  # servers receive no ResponseStartLine
        self, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self.start_line, self.headers = start_line, headers
        self.started_at = time.perf_counter()  # not earlier: Tornado creates delegates in advance
        if self._admit():
            return None
        passed_on.set(None)
        return self._start_delegate()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self.delegate.data_received(chunk) if self.delegate else None

    def finish(self) -> None:
        if self.delegate:
            self.delegate.finish()
            return
        services = self._fast_path.services
        if services.requests.in_flight >= services.most_requests:
            self.pass_on()
        else:
            services.requests.request_started()
            self._fast_path.answer(self)

    def on_connection_close(self) -> None:
        if self.delegate:
            self.delegate.on_connection_close()

    def respond(self, found: Representation | MemberBatch | MemberResponse, *, route: str) -> None:
        """Send members or a response with them, and record the request, which ends it."""
        read, services = self.read, self._fast_path.services
        span = services.tracer.sample(read.traceparent) if services.tracer else None
        if span and self.query:
            span.add_operation(*self.query)
        request_id, cache_status = read.request_id or services.request_ids.new(), None
        if isinstance(found, MemberResponse):
            response = found
        elif isinstance(found, MemberBatch):
            cache_status = found.cache_status
            response = batch_response(found, request_headers=self.headers)
        else:
            cache_status, is_named = found.cache_status, isinstance(self.selector, str)
            address = f"{services.base_path}/members/{found.member_id}" if is_named else None
            response = member_response(found, request_headers=read.conditions, address=address)
        lines = read.response.fill(response, request_id)
        send_prepared(self.connection, response.status, lines, response.body)
        services.tokens.counts.remembered += 1
        seconds = time.perf_counter() - self.started_at
        self.is_answered = True
        services.requests.request_finished()
        if span is None and not services.requests.is_logged(response.status):
            services.requests.observe(route, "GET", response.status, seconds)
            return
        record = AccessLogRecord(
            method="GET",
            route=route,
            path=self.start_line.path.partition("?")[0],
            status=response.status,
            seconds=seconds,
            request_id=request_id,
            subject=self.caller.subject,
            cache=cache_status,
            traceparent=read.traceparent,
        )
        services.requests.record(record, span)

    def pass_on(self, cached: CachedMembers | None = None) -> None:
        """Pass the request on to the application, unless it already answers it.

        `cached` has the look-ups of this request, so that the application need not repeat them.
        """
        if self.delegate is not None:
            return
        passed_on.set(None)
        with cached.passed_on(self.selector) if cached else nullcontext():
            self._start_delegate()
            self.finish()

    def report(self, error: Exception) -> None:
        """Pass the request on to the application, which answers with an error."""
        with reporting(error, self.query):
            self.pass_on()

    def time_out(self) -> None:
        """Answer with 503: the query takes too long."""
        self.report(ResponseTimeout())

    def fail(self, error: Exception) -> None:
        """Log an error of the fast path, which must not affect other requests."""
        log.error("request failed", exc_info=error)
        self.connection.close()  # type: ignore[attr-defined]  # missing in Tornado

    def _admit(self) -> bool:
        """Return True for a plain read by a permitted caller; record what it addresses."""
        line, services, fast_path = self.start_line, self._fast_path.services, self._fast_path
        if line.method != "GET" or not fast_path.is_enabled:
            return False
        selector = selector_in(line.path)
        if selector is None and not is_list(line.path):
            return False
        read = plain_read(self.connection, self.headers, services.tokens, services.cors)
        caller = services.tokens.current_caller(read.token) if read else None
        limit = services.rate_limit
        if read is None or caller is None or (limit and limit.is_exceeded(caller)):
            return False
        self.read, self.caller = read, caller
        if selector is None:
            self.page = fast_path.page_query(line.path, self.headers)
            return READ in caller.permissions and self.page is not None
        self.selector = selector
        may_read = READ in caller.permissions
        return may_read or (isinstance(selector, int) and caller.may(READ, selector))

    def _start_delegate(self) -> Awaitable[None] | None:
        application = self._fast_path.application
        self.delegate = application.start_request(self._server_conn, self.connection)
        return self.delegate.headers_received(self.start_line, self.headers)

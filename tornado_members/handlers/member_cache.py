"""The fast path: answers plain reads of cached members without a request handler.

Most requests are of this kind, and a RequestHandler costs more than all their other work. The
reads that arrive in one turn of the event loop are answered together, from one question to the
cache. The response comes from member_response(), as the handlers' does. A request that asks for
more, or that the cache cannot answer, is passed on to the application: see
docs/decisions/member-cache.md.
"""

import asyncio
import re
import time
from collections.abc import Awaitable
from functools import lru_cache
from logging import getLogger
from typing import Final

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from tornado_members.auth.caller import Caller
from tornado_members.auth.permissions import READ
from tornado_members.cached_members import CachedMembers
from tornado_members.handlers.member import MEMBER_ID, MemberHandler
from tornado_members.http.admission import bearer_token
from tornado_members.http.responses import http_date, member_response
from tornado_members.member_entries import Representation
from tornado_members.openapi.operation import JSON
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord

log = getLogger(__name__)

StartLine = RequestStartLine | ResponseStartLine

_PATH: Final = re.compile(f"/members/({MEMBER_ID.pattern})")
_PLAIN_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
# A request with one of these headers asks for more than the cached member.
_HANDLER_HEADERS: Final = frozenset(
    {
        *("Cache-Control", "Content-Length", "Expect", "If-Match", "If-Unmodified-Since"),
        *("Origin", "Transfer-Encoding"),
    }
)
_ACCEPTED: Final = frozenset({"*/*", JSON})
_START_LINES: Final = {
    200: ResponseStartLine("", 200, "OK"),
    304: ResponseStartLine("", 304, "Not Modified"),
}


class MemberCacheApplication(HTTPServerConnectionDelegate):
    """Wraps an application; answers the requests that the cache can answer."""

    def __init__(self, application: HTTPServerConnectionDelegate, services: Services) -> None:
        self.application = application
        self._services = services
        # These settings need response headers, counts or spans that only the handlers provide.
        is_plain = services.rate_limit is None and services.tracer is None
        self._is_enabled = is_plain and not services.cors.origins
        self._pending: list[FastPathRequest] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return FastPathRequest(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)

    def requested_member(self, start_line: StartLine, headers: HTTPHeaders) -> int | None:
        """Return the id of the member that a plain read asks for; None for any other request."""
        if not isinstance(start_line, RequestStartLine) or start_line.method != "GET":
            return None
        match = _PATH.fullmatch(start_line.path) if self._is_enabled else None
        if match is None or not _HANDLER_HEADERS.isdisjoint(headers):
            return None
        if "Accept" in headers and headers["Accept"] not in _ACCEPTED:
            return None
        if "Host" not in headers or not _is_plain_host(headers["Host"]):
            return None
        return int(match[1])

    def cached_caller(self, headers: HTTPHeaders, member_id: int) -> Caller | None:
        """Return the caller if the token was verified before and permits reading this member."""
        token = bearer_token(headers)
        caller = self._services.tokens.get_cached(token) if token else None
        return caller if caller and caller.may(READ, member_id) else None

    def answer(self, request: "FastPathRequest") -> None:
        """Answer a complete request, together with the others of this turn of the loop."""
        requests = self._services.requests
        if requests.in_flight >= self._services.most_requests:
            request.pass_on()
            return
        requests.request_started()
        self._pending.append(request)
        if len(self._pending) == 1:
            task = asyncio.ensure_future(self._answer_pending())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer_pending(self) -> None:
        pending, self._pending = self._pending, []
        cached = CachedMembers()
        try:
            ids = [request.member_id for request in pending]
            cached = await self._services.directory.get_cached(ids)
        except Exception:
            log.exception("the cache could not be read")
        for request in pending:
            member = cached.members.get(request.member_id)
            try:
                if member is None:
                    with cached.passed_on(request.member_id):
                        request.pass_on()
                else:
                    self._respond(request, member)
            except Exception:  # must not affect the other requests
                log.exception("a request failed")
                request.close_connection()
            finally:  # after pass_on(), so that the number in flight never drops in between
                self._services.requests.request_finished()

    def _respond(self, request: "FastPathRequest", member: Representation) -> None:
        services = self._services
        request_id = services.request_ids.of(request.headers)
        response = member_response(member, request_headers=request.headers)
        headers = response.headers
        headers["Date"] = http_date(int(time.time()))
        headers["X-Request-Id"] = request_id
        if response.status == 200:
            headers["Content-Length"] = str(len(response.body))
        start_line = _START_LINES[response.status]
        request.connection.write_headers(start_line, headers, response.body or None)
        request.connection.finish()
        services.tokens.counts.remembered += 1
        services.requests.record(
            AccessLogRecord(
                method="GET",
                route=MemberHandler.route,
                path=f"/members/{request.member_id}",
                status=response.status,
                seconds=time.perf_counter() - request.started_at,
                request_id=request_id,
                subject=request.caller.subject if request.caller else None,
                cache=member.cache_status,
                traceparent=request.headers.get("traceparent"),
            )
        )


class FastPathRequest(HTTPMessageDelegate):
    """A request, from its head until it is answered here or passed on to the application."""

    start_line: StartLine
    headers: HTTPHeaders

    def __init__(
        self, fast_path: MemberCacheApplication, server_conn: object, connection: HTTPConnection
    ) -> None:
        self.connection = connection
        self.started_at = 0.0  # time.perf_counter()
        self.member_id = 0
        self.caller: Caller | None = None
        self._fast_path = fast_path
        self._server_conn = server_conn
        self._delegate: HTTPMessageDelegate | None = None  # of the application

    def headers_received(
        self, start_line: StartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self.start_line, self.headers = start_line, headers
        self.started_at = time.perf_counter()  # not earlier: Tornado creates delegates in advance
        member_id = self._fast_path.requested_member(start_line, headers)
        if member_id is not None:
            self.caller = self._fast_path.cached_caller(headers, member_id)
        if member_id is None or self.caller is None:
            return self._start_delegate()
        self.member_id = member_id
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk) if self._delegate else None

    def finish(self) -> None:
        if self._delegate:
            self._delegate.finish()
        else:
            self._fast_path.answer(self)

    def on_connection_close(self) -> None:
        if self._delegate:
            self._delegate.on_connection_close()

    def pass_on(self) -> None:
        """Let the application answer."""
        self._start_delegate()
        self.finish()

    def close_connection(self) -> None:
        """Close the connection without a response."""
        self.connection.close()  # type: ignore[attr-defined]  # missing in Tornado's interface

    def _start_delegate(self) -> Awaitable[None] | None:
        application = self._fast_path.application
        self._delegate = application.start_request(self._server_conn, self.connection)
        return self._delegate.headers_received(self.start_line, self.headers)


@lru_cache(256)
def _is_plain_host(host: str) -> bool:
    """Return True for a Host header that Tornado accepts without a closer look."""
    return _PLAIN_HOST.fullmatch(host) is not None

"""The fast path: answers plain reads of cached members without a request handler.

Most requests are of this kind, and a RequestHandler costs more than all their other work. The
reads that arrive in one turn of the event loop are answered together, with one look-up in the
cache. http/responses.py builds the response, as for the handlers. A request that asks for more, or
that the cache cannot answer, is passed on to the application: see docs/decisions/member-cache.md.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from logging import getLogger

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
)

from tornado_members.auth.caller import Caller
from tornado_members.auth.permissions import READ
from tornado_members.cached_members import Asked, CachedMembers
from tornado_members.handlers.plain_targets import asked_in, route_of
from tornado_members.http.plain_read import PlainRead, read_headers
from tornado_members.http.responses import (
    batch_response,
    is_long,
    member_response,
    send_prepared,
)
from tornado_members.http1.exchange import Exchange
from tornado_members.member_entries import MemberBatch, Representation
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord

log = getLogger(__name__)


class MemberCacheApplication(HTTPServerConnectionDelegate):
    """Wraps an application; answers the requests that the cache can answer."""

    def __init__(self, application: HTTPServerConnectionDelegate, services: Services) -> None:
        self.application = application
        self.is_enabled = True  # False passes every request on
        self._services = services
        self._pending: list[FastPathRequest] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return FastPathRequest(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)

    def admit(self, request: "FastPathRequest") -> bool:
        """Return True for a plain read by a permitted caller; record what it asks for."""
        line = request.start_line
        asked = asked_in(line.path) if line.method == "GET" and self.is_enabled else None
        read = None if asked is None else self._plain_read(request.connection, request.headers)
        caller = None if read is None else self._services.tokens.current_caller(read.token)
        if asked is None or read is None or caller is None:
            return False
        limit = self._services.rate_limit
        if limit is not None and limit.is_exceeded(caller):
            return False
        request.read, request.caller, request.asked = read, caller, asked
        if isinstance(asked, int):
            return caller.may(READ, asked)
        return READ in caller.permissions

    def _plain_read(self, connection: HTTPConnection, headers: HTTPHeaders) -> PlainRead | None:
        """Return the facts in the headers of a plain read; None if they ask for more.

        If the HTTP server detects repeated headers on a connection, they are examined once.
        """
        notes = connection.head.notes if isinstance(connection, Exchange) else {}
        read: PlainRead | None = notes.get(PlainRead)
        if read is None:
            read = read_headers(headers, self._services.tokens, self._services.cors)
            if read is not None:
                notes[PlainRead] = read
        return read

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
        cached, admitted = CachedMembers(), set[FastPathRequest]()
        found: dict[FastPathRequest, Representation | MemberBatch] = {}
        try:
            cached = await self._services.directory.get_cached([one.asked for one in pending])
            found = {
                one: hit
                for one in pending
                if (hit := cached.find(one.asked)) is not None and not _takes_long(hit, one.headers)
            }
            admitted = await self._admit([*found])
        except Exception:
            log.exception("the cache could not be read")
        for request in pending:
            try:
                if request in admitted:
                    self._respond(request, found[request])
                else:
                    with cached.passed_on(request.asked):
                        request.pass_on()
            except Exception:  # must not affect the other requests
                log.exception("a request failed")
                request.close_connection()
            finally:  # after pass_on(), so that the number in flight never drops in between
                self._services.requests.request_finished()

    async def _admit(self, requests: Sequence["FastPathRequest"]) -> set["FastPathRequest"]:
        """Count requests that can be answered; return those within their caller's rate limit.

        A request that the cache cannot answer is counted by its handler.
        """
        limit = self._services.rate_limit
        if limit is None or not requests:
            return {*requests}
        admitted = await limit.admit([request.caller for request in requests])
        return {one for one, is_admitted in zip(requests, admitted, strict=True) if is_admitted}

    def _respond(self, request: "FastPathRequest", found: Representation | MemberBatch) -> None:
        services, read = self._services, request.read
        span = services.tracer.sample(read.traceparent) if services.tracer else None
        request_id = read.request_id or services.request_ids.new()
        if isinstance(found, MemberBatch):
            response = batch_response(found, request_headers=request.headers)
            services.directory.cache_counts.hits += len(found.bodies) + len(found.missing)
        else:
            is_named = isinstance(request.asked, str)
            services.directory.cache_counts.hits += 1
            address = f"{services.base_path}/members/{found.member_id}" if is_named else None
            response = member_response(found, request_headers=read.conditions, address=address)
        lines = read.response.fill(response, request_id)
        send_prepared(request.connection, response.status, lines, response.body)
        services.tokens.counts.remembered += 1
        record = AccessLogRecord(
            method="GET",
            route=route_of(request.asked, request.start_line.path),
            path=request.start_line.path.partition("?")[0],
            status=response.status,
            seconds=time.perf_counter() - request.started_at,
            request_id=request_id,
            subject=request.caller.subject,
            cache=found.cache_status,
            traceparent=read.traceparent,
        )
        services.requests.record(record, span)


class FastPathRequest(HTTPMessageDelegate):
    """A request, from its head until it is answered here or passed on to the application."""

    start_line: RequestStartLine
    headers: HTTPHeaders
    read: PlainRead
    asked: Asked
    caller: Caller

    def __init__(
        self, fast_path: MemberCacheApplication, server_conn: object, connection: HTTPConnection
    ) -> None:
        self.connection = connection
        self.started_at = 0.0  # time.perf_counter()
        self._fast_path = fast_path
        self._server_conn = server_conn
        self._delegate: HTTPMessageDelegate | None = None  # of the application

    def headers_received(  # type: ignore[override]  # servers receive no ResponseStartLine
        self, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self.start_line, self.headers = start_line, headers
        self.started_at = time.perf_counter()  # not earlier: Tornado creates delegates in advance
        return None if self._fast_path.admit(self) else self._start_delegate()

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


def _takes_long(found: Representation | MemberBatch, headers: HTTPHeaders) -> bool:
    """Return True for a response that a handler must compress in a thread."""
    return isinstance(found, MemberBatch) and "Accept-Encoding" in headers and is_long(found)

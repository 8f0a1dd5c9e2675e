"""The fast path: answers plain reads of cached members without a request handler.

Most requests are of this kind, and a RequestHandler costs more than all their other work. The
reads that arrive in one turn of the event loop are answered together, from one question to the
cache. http/responses.py builds the response, as for the handlers. A request that asks for more, or
that the cache cannot answer, is passed on to the application: see docs/decisions/member-cache.md.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Sequence
from logging import getLogger
from typing import Final
from urllib.parse import unquote

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
)

from tornado_members.auth.caller import Caller
from tornado_members.auth.permissions import READ
from tornado_members.cached_members import CachedMembers
from tornado_members.handlers.member import MEMBER_ID, MemberHandler
from tornado_members.handlers.member_by_name import (
    MemberByNameHandler,
    MemberByNameInPathHandler,
)
from tornado_members.http.plain_read import PlainRead, read_headers
from tornado_members.http.responses import member_response, send_prepared
from tornado_members.http1.exchange import Exchange
from tornado_members.member_entries import Representation
from tornado_members.model.names import is_ambiguous_in_paths
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord

log = getLogger(__name__)

# By id, by name in the path, and by name in a query that has nothing else.
_TARGET: Final = re.compile(
    rf"/members/(?:({MEMBER_ID.pattern})|by-name/([!-.0->@-~]+)|by-name\?name=([!-%'-~]+))"
)


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
        """Return True for a plain read by a caller that may make it; note what it asks for."""
        line = request.start_line
        match = _TARGET.fullmatch(line.path) if line.method == "GET" and self.is_enabled else None
        read = None if match is None else self._plain_read(request.connection, request.headers)
        if match is None or read is None:
            return False
        caller = self._services.tokens.current_caller(read.token)
        member = int(match[1]) if match[1] else _name_in(match)
        if caller is None or member is None:
            return False
        limit = self._services.rate_limit
        if limit is not None and limit.is_exceeded(caller):
            return False
        request.read, request.caller, request.member = read, caller, member
        if isinstance(member, int):
            return caller.may(READ, member)
        return READ in caller.permissions

    def _plain_read(self, connection: HTTPConnection, headers: HTTPHeaders) -> PlainRead | None:
        """Return the facts in the headers of a plain read; None if they ask for more.

        Where the HTTP server notices that a connection repeats its headers, one look suffices.
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
        try:
            cached = await self._services.directory.get_cached([one.member for one in pending])
            admitted = await self._admit([one for one in pending if one.member in cached.members])
        except Exception:
            log.exception("the cache could not be read")
        for request in pending:
            member = cached.members.get(request.member)
            try:
                if member is None or request not in admitted:
                    with cached.passed_on(request.member):
                        request.pass_on()
                else:
                    self._respond(request, member)
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

    def _respond(self, request: "FastPathRequest", member: Representation) -> None:
        services, read = self._services, request.read
        span = services.tracer.sample(read.traceparent) if services.tracer else None
        request_id = read.request_id or services.request_ids.new()
        is_named = isinstance(request.member, str)
        response = member_response(member, request_headers=read.conditions, is_located=is_named)
        lines = read.response.fill(response, request_id)
        send_prepared(request.connection, response.status, lines, response.body)
        services.tokens.counts.remembered += 1
        record = AccessLogRecord(
            method="GET",
            route=_route_of(request),
            path=request.start_line.path,
            status=response.status,
            seconds=time.perf_counter() - request.started_at,
            request_id=request_id,
            subject=request.caller.subject,
            cache=member.cache_status,
            traceparent=read.traceparent,
        )
        services.requests.record(record, span)


class FastPathRequest(HTTPMessageDelegate):
    """A request, from its head until it is answered here or passed on to the application."""

    start_line: RequestStartLine
    headers: HTTPHeaders
    read: PlainRead
    member: int | str  # its id or its name
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


def _route_of(request: FastPathRequest) -> str:
    if isinstance(request.member, int):
        return MemberHandler.route
    is_in_query = request.start_line.path.startswith(f"{MemberByNameHandler.route}?")
    return (MemberByNameHandler if is_in_query else MemberByNameInPathHandler).route


def _name_in(target: re.Match[str]) -> str | None:
    """Decode a name; None if it is not UTF-8 or ambiguous in a path, which a handler refuses."""
    in_path, in_query = target[2], target[3]
    try:
        if in_query:
            return unquote(in_query.replace("+", " "), errors="strict")
        name = unquote(in_path, errors="strict")
    except UnicodeDecodeError:
        return None
    return None if is_ambiguous_in_paths(name) else name

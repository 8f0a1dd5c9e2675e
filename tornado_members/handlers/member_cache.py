"""The fast path: answers plain reads of members without a request handler.

Most requests are of this kind, and a RequestHandler costs more than all their other work. The
reads that arrive in one turn of the event loop are answered together, with one look-up in the
cache, and one query for the members that it does not have. http/responses.py builds the response,
as for the handlers. A request that asks for more, and one that is refused, is passed on to the
application: see docs/decisions/member-cache.md.
"""

import asyncio
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from itertools import compress
from logging import getLogger
from typing import Final

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
)

from tornado_members.auth.caller import Caller
from tornado_members.auth.permissions import READ
from tornado_members.cached_members import Asked, CachedMembers, forget_look_ups
from tornado_members.errors import ResponseTimeout
from tornado_members.handlers.plain_targets import asked_in, route_of
from tornado_members.http.found_errors import Query, reporting
from tornado_members.http.plain_read import PlainRead, plain_read
from tornado_members.http.responses import (
    batch_response,
    member_response,
    send_prepared,
    takes_long,
)
from tornado_members.member_entries import MemberBatch, Representation
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord

log = getLogger(__name__)

Found = Representation | MemberBatch
Outcome = Found | Exception | None  # of a request; None lets a handler find it

_FIND_MEMBER: Final = "MemberStore.find_member"  # as traces name it, also of a shared query


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
        line, services, limit = request.start_line, self._services, self._services.rate_limit
        asked = asked_in(line.path) if line.method == "GET" and self.is_enabled else None
        if asked is None:
            return False
        read = plain_read(request.connection, request.headers, services.tokens, services.cors)
        caller = services.tokens.current_caller(read.token) if read else None
        if read is None or caller is None or (limit and limit.is_exceeded(caller)):
            return False
        request.read, request.caller, request.asked = read, caller, asked
        if isinstance(asked, int):
            return caller.may(READ, asked)
        return READ in caller.permissions

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
            cached = await self._services.directory.get_cached([one.asked for one in pending])
        except Exception:
            log.exception("the cache could not be read")
        outcomes = {one: cached.find(one.asked) for one in pending}
        missed = [one for one in pending if outcomes[one] is None and cached.missed(one.asked)]
        if missed and self._services.load_shedder.refuses():
            missed = []
        await self._answer({one: outcomes[one] for one in pending if one not in missed}, cached)
        if missed:
            await self._answer(await self._load(missed, cached), cached)

    async def _load(
        self, requests: Collection["FastPathRequest"], cached: CachedMembers
    ) -> dict["FastPathRequest", Outcome]:
        """Load members that are not cached, with one query."""
        asked, began = {one.asked for one in requests}, time.perf_counter()
        with self._services.deadlines.running(requests):
            try:
                loaded = await self._services.directory.load_missed(cached, asked)
            except Exception as error:  # noqa: BLE001  # the handlers raise it
                loaded = dict.fromkeys(asked, error)
        for request in requests:
            request.query = Query(_FIND_MEMBER, time.perf_counter() - began)
        return {one: loaded.get(one.asked) for one in requests}

    async def _answer(
        self, outcomes: Mapping["FastPathRequest", Outcome], cached: CachedMembers
    ) -> None:
        """Send the members that were found; pass the other requests on."""
        found = {
            one: it
            for one, it in outcomes.items()
            if isinstance(it, Found) and one.delegate is None and not takes_long(it, one.headers)
        }
        admitted = set[FastPathRequest]()
        try:
            admitted = await self._admit([*found])
        except Exception:
            log.exception("requests could not be counted")
        for request, outcome in outcomes.items():
            try:
                if request in admitted:
                    self._respond(request, found[request])
                elif isinstance(outcome, Exception):
                    request.report(outcome)
                else:
                    with cached.passed_on(request.asked):
                        request.pass_on()
            except Exception:  # must not affect the other requests
                log.exception("a request failed")
                request.connection.close()  # type: ignore[attr-defined]  # missing in Tornado
            finally:  # after pass_on(), so that the number in flight never drops in between
                self._services.requests.request_finished()

    async def _admit(self, requests: Sequence["FastPathRequest"]) -> set["FastPathRequest"]:
        """Count requests that are answered here; return those within their caller's limit."""
        limit = self._services.rate_limit
        if limit is None or not requests:
            return {*requests}
        return {*compress(requests, await limit.admit([one.caller for one in requests]))}

    def _respond(self, request: "FastPathRequest", found: Found) -> None:
        services, read = self._services, request.read
        span = services.tracer.sample(read.traceparent) if services.tracer else None
        if span and request.query:
            span.add_operation(*request.query)
        request_id = read.request_id or services.request_ids.new()
        services.directory.cache_counts.hits += found.hits
        if isinstance(found, MemberBatch):
            response = batch_response(found, request_headers=request.headers)
        else:
            is_named = isinstance(request.asked, str)
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
    query: Query | None = None  # of MongoDB, if the member was not cached

    def __init__(
        self, fast_path: MemberCacheApplication, server_conn: object, connection: HTTPConnection
    ) -> None:
        self.connection = connection
        self.started_at = 0.0  # time.perf_counter()
        self._fast_path = fast_path
        self._server_conn = server_conn
        self.delegate: HTTPMessageDelegate | None = None  # of the application, once it is passed on

    def headers_received(  # type: ignore[override]  # servers receive no ResponseStartLine
        self, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self.start_line, self.headers = start_line, headers
        self.started_at = time.perf_counter()  # not earlier: Tornado creates delegates in advance
        forget_look_ups()
        return None if self._fast_path.admit(self) else self._start_delegate()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self.delegate.data_received(chunk) if self.delegate else None

    def finish(self) -> None:
        if self.delegate:
            self.delegate.finish()
        else:
            self._fast_path.answer(self)

    def on_connection_close(self) -> None:
        if self.delegate:
            self.delegate.on_connection_close()

    def pass_on(self) -> None:
        """Let the application answer, unless it does already."""
        if self.delegate is None:
            self._start_delegate()
            self.finish()

    def report(self, error: Exception) -> None:
        """Let the application answer with an error."""
        with reporting(error, self.query):
            self.pass_on()

    def time_out(self) -> None:
        """Answer that loading the member takes too long."""
        self.report(ResponseTimeout())

    def _start_delegate(self) -> Awaitable[None] | None:
        application = self._fast_path.application
        self.delegate = application.start_request(self._server_conn, self.connection)
        return self.delegate.headers_received(self.start_line, self.headers)

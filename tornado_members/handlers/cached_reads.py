"""The short way: a member that somebody simply asks for, and the cache has.

Nearly every request is such a one, and a RequestHandler of its own costs it more than all that is
to be done. So those that come in one turn of the loop are answered together, from one question to
the cache, by the same rules and in the same words as MemberHandler's. Whatever else is asked for,
or turns out to be needed, is the handlers' business: docs/decisions/cached-reads.md.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Mapping
from functools import lru_cache
from logging import getLogger

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from tornado_members.auth.caller import Caller
from tornado_members.directory import Representation
from tornado_members.handlers.member import MEMBER_ID, MemberHandler
from tornado_members.http.admission import bearer_token
from tornado_members.http.responses import (
    PRIVATE,
    SECURITY_HEADERS,
    VARY,
    cache_status,
    http_date,
    is_known,
    validators,
)
from tornado_members.openapi.operation import JSON
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord
from tornado_members.transport.headers import duplicate

log = getLogger(__name__)

StartLine = RequestStartLine | ResponseStartLine

_PATH = re.compile(f"/members/({MEMBER_ID.pattern})")
_PLAIN_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
# With one of these, more is asked for than what is there.
_SPECIAL = frozenset(
    {
        *("Cache-Control", "Content-Length", "Expect", "If-Match", "If-Unmodified-Since"),
        *("Origin", "Transfer-Encoding"),
    }
)
_ANY_TYPE = frozenset({"*/*", JSON})
_PERMISSION = MemberHandler.operations["GET"].permission
_OK = ResponseStartLine("", 200, "OK")
_ALWAYS_WITHOUT_BODY = HTTPHeaders(
    {
        "Date": "",  # these two are each answer's own, and have their place
        "X-Request-Id": "",
        **SECURITY_HEADERS,
        "Cache-Control": PRIVATE,
        "Vary": VARY,
    }
)
_ALWAYS = HTTPHeaders({"Content-Type": JSON, **_ALWAYS_WITHOUT_BODY})
_NOT_MODIFIED = ResponseStartLine("", 304, "Not Modified")


class CachedReads(HTTPServerConnectionDelegate):
    """In front of an application: what it can answer from the cache never gets there."""

    def __init__(self, application: HTTPServerConnectionDelegate, services: Services) -> None:
        self.application = application
        self._services = services
        # These have headers of their own, somebody else to ask, or somebody to be told.
        is_plain = services.rate_limit is None and services.tracer is None
        self._is_open = is_plain and not services.cors.origins
        self._waiting: list[_Read] = []
        self._answering: set[asyncio.Task[None]] = set()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return _Read(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self.application.on_close(server_conn)

    def member_asked_for(self, start_line: StartLine, headers: HTTPHeaders) -> int | None:
        """The id of the member that is simply asked for; None for anything else."""
        if not isinstance(start_line, RequestStartLine) or start_line.method != "GET":
            return None
        found = _PATH.fullmatch(start_line.path) if self._is_open else None
        if found is None or not _SPECIAL.isdisjoint(headers):
            return None
        if "Accept" in headers and headers["Accept"] not in _ANY_TYPE:
            return None
        if "Host" not in headers or not _is_plain_host(headers["Host"]):
            return None
        return int(found[1])

    def known_caller(self, headers: HTTPHeaders) -> Caller | None:
        """Who is asking, if that is remembered and they may read."""
        token = bearer_token(headers)
        caller = self._services.tokens.get_cached(token) if token else None
        return caller if caller and _PERMISSION in caller.permissions else None

    def take(self, read: "_Read") -> None:
        """A request is complete: it is answered with the others of this turn of the loop."""
        requests = self._services.requests
        if requests.in_flight >= self._services.most_requests:
            read.hand_over()
            return
        requests.request_started()
        self._waiting.append(read)
        if len(self._waiting) == 1:
            task = asyncio.ensure_future(self._answer_all())
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer_all(self) -> None:
        reads, self._waiting = self._waiting, []
        found: Mapping[int, Representation] = {}
        try:
            found = await self._services.directory.get_cached([read.member_id for read in reads])
        except Exception:
            log.exception("the cache was not asked")
        for read in reads:
            member = found.get(read.member_id)
            try:
                if member is None:
                    read.hand_over()
                else:
                    self._answer(read, member)
            except Exception:  # of one, which must not be that of all others as well
                log.exception("a request failed")
                read.break_off()
            finally:  # not before it has begun at the handlers, or none would seem to be left
                self._services.requests.request_finished()

    def _answer(self, read: "_Read", member: Representation) -> None:
        services = self._services
        request_id = services.request_ids.of(read.headers)
        is_modified = not is_known(read.headers, member)
        headers = duplicate(_ALWAYS if is_modified else _ALWAYS_WITHOUT_BODY)
        headers["Date"] = http_date(int(time.time()))
        headers["X-Request-Id"] = request_id
        headers["Cache-Status"] = cache_status(member.cache_status or "")
        for name, value in validators(member):
            headers[name] = value
        if is_modified:
            headers["Content-Length"] = str(len(member.body))
            read.connection.write_headers(_OK, headers, member.body)
        else:
            read.connection.write_headers(_NOT_MODIFIED, headers)
        read.connection.finish()
        services.tokens.counts.remembered += 1
        services.requests.record(
            AccessLogRecord(
                method="GET",
                route=MemberHandler.route,
                path=f"/members/{read.member_id}",
                status=200 if is_modified else 304,
                seconds=time.perf_counter() - read.began,
                request_id=request_id,
                subject=read.caller.subject if read.caller else None,
                cache=member.cache_status,
                traceparent=read.headers.get("traceparent"),
            )
        )


class _Read(HTTPMessageDelegate):
    """One request: read here, until it is known that it is the application's."""

    start_line: StartLine
    headers: HTTPHeaders

    def __init__(self, reads: CachedReads, server_conn: object, connection: HTTPConnection) -> None:
        self.connection = connection
        self.began = 0.0
        self.member_id = 0
        self.caller: Caller | None = None
        self._reads = reads
        self._server_conn = server_conn
        self._handler: HTTPMessageDelegate | None = None

    def headers_received(
        self, start_line: StartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self.start_line, self.headers = start_line, headers
        self.began = time.perf_counter()  # not before: Tornado waits for a head with this at hand
        member_id = self._reads.member_asked_for(start_line, headers)
        if member_id is not None:
            self.caller = self._reads.known_caller(headers)
        if member_id is None or self.caller is None:
            return self._begin()
        self.member_id = member_id
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._handler.data_received(chunk) if self._handler else None

    def finish(self) -> None:
        if self._handler:
            self._handler.finish()
        else:
            self._reads.take(self)

    def on_connection_close(self) -> None:
        if self._handler:
            self._handler.on_connection_close()

    def hand_over(self) -> None:
        """Let the application answer, after all."""
        self._begin()
        self.finish()

    def break_off(self) -> None:
        """Answer nothing any more."""
        self.connection.close()  # type: ignore[attr-defined]  # Tornado's interface lacks it

    def _begin(self) -> Awaitable[None] | None:
        application = self._reads.application
        self._handler = application.start_request(self._server_conn, self.connection)
        return self._handler.headers_received(self.start_line, self.headers)


@lru_cache(256)
def _is_plain_host(host: str) -> bool:
    """Whether Tornado would take it, too; it looks more closely at any other."""
    return _PLAIN_HOST.fullmatch(host) is not None

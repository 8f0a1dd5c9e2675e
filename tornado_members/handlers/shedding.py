"""Refuses requests under overload, before any other work is done for them.

A refusal must be cheap: at twice the capacity, half of all requests are refused.
"""

import time
from collections.abc import Awaitable
from typing import Final, cast

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from tornado_members.errors import Overloaded
from tornado_members.http.cors import cross_origin_headers
from tornado_members.http.problems import PROBLEM_JSON, encode_problem
from tornado_members.http.responses import SECURITY_HEADERS, http_date, send_prepared
from tornado_members.http.routed_application import has_body
from tornado_members.http.wrapping import WrappingApplication
from tornado_members.services import Services
from tornado_members.telemetry.access_log import AccessLogRecord

_ROUTE: Final = "other"  # finding the route would double the cost
_PROBLEM: Final = Overloaded()
_ID: Final = "%s"  # a placeholder, which no valid request id equals
_BODY: Final = encode_problem(_PROBLEM, _ID).decode()
_HEADER_LINES: Final = "".join(
    f"{name}: {value}\r\n"
    for name, value in {
        **SECURITY_HEADERS,
        "Content-Type": PROBLEM_JSON,
        "Cache-Control": "no-store",
        **_PROBLEM.headers,
    }.items()
)


class SheddingApplication(WrappingApplication):
    """Wraps an application; refuses new requests while the accepted ones wait too long."""

    def __init__(self, application: HTTPServerConnectionDelegate, services: Services) -> None:
        super().__init__(application)
        self._services = services

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        services = self._services
        is_full = services.requests.in_flight >= services.most_requests
        is_overloaded = services.load_shedder.refuses()
        services.load_shedder.refused += is_overloaded
        if is_overloaded or is_full:
            return _RefusedRequest(services, request_conn)
        return self._application.start_request(server_conn, request_conn)


class _RefusedRequest(HTTPMessageDelegate):
    """Responds with 503, immediately after the head if the request has a body."""

    def __init__(self, services: Services, connection: HTTPConnection) -> None:
        self._services = services
        self._connection = connection
        self._begun = time.perf_counter()
        self._is_answered = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._start_line = cast(RequestStartLine, start_line)
        self._headers = headers
        if has_body(headers):
            self.finish()
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:  # noqa: ARG002  # of Tornado
        return None

    def on_connection_close(self) -> None:
        self._is_answered = True

    def finish(self) -> None:
        if self._is_answered:
            return
        self._is_answered = True
        request_id = self._services.request_ids.of(self._headers)
        body = (_BODY % request_id).encode()
        lines = self._header_lines(request_id, len(body))
        is_head = self._start_line.method == "HEAD"
        send_prepared(self._connection, _PROBLEM.status, lines, b"" if is_head else body)
        self._record(request_id)

    def _header_lines(self, request_id: str, length: int) -> bytes:
        allowed = cross_origin_headers(self._services.cors, self._headers.get("Origin"))
        cors = "".join([f"{name}: {value}\r\n" for name, value in allowed.items()])
        return (
            f"Date: {http_date(int(time.time()))}\r\n"
            f"X-Request-Id: {request_id}\r\n"
            f"Content-Length: {length}\r\n"
            f"{_HEADER_LINES}{cors}"
        ).encode("latin-1")

    def _record(self, request_id: str) -> None:
        path, _, _ = self._start_line.path.partition("?")
        peer = getattr(self._connection.context, "remote_ip", None)  # type: ignore[attr-defined]
        self._services.requests.record(
            AccessLogRecord(
                method=self._start_line.method,
                route=_ROUTE,
                path=path,
                status=_PROBLEM.status,
                seconds=time.perf_counter() - self._begun,
                request_id=request_id,
                client_address=self._services.proxies.caller(peer or "", self._headers),
                code=_PROBLEM.code,
                traceparent=self._headers.get("traceparent"),
            )
        )

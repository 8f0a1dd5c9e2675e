"""What a connection is about, and for how long it may be."""

import time
from collections.abc import Awaitable
from logging import getLogger
from typing import Any, Literal, cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, SSLIOStream

from tornado_members.settings import Limits

log = getLogger(__name__)

_BYTES_A_SECOND = 1024  # of a body, once body_seconds are over
_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection:
    """One connection: waiting for a request, reading its body, or answering it."""

    def __init__(self, server_conn: Any) -> None:
        self._stream: IOStream = server_conn.stream
        self._request: HTTP1Connection | None = None
        self._phase: Literal["waiting", "body", "answering"] = "waiting"
        self.since = time.monotonic()  # of the phase
        self._first_seen: float | None = None  # bytes of a request that is not complete
        self._waited = 0.0  # seconds, for parts of this body
        self._received = 0  # bytes of it
        self._written = 0  # bytes in all, when last looked at,
        self._written_at = 0.0  # and since when it has been so many

    @property
    def is_silent(self) -> bool:
        """Whether nothing of a request has come, and all answers have gone."""
        return self._phase == "waiting" and not self._buffered

    @property
    def _buffered(self) -> int:
        return self._stream._read_buffer_size

    def begin(self, request_conn: HTTPConnection) -> None:
        """Wait for a request."""
        self._request = cast(HTTP1Connection, request_conn)
        if self._phase != "waiting":
            self._phase = "waiting"
            self.since = time.monotonic()
        self._first_seen = None

    def read_body(self) -> None:
        """Its headers are here."""
        self._phase = "body"
        self.since = time.monotonic()
        self._waited = 0.0
        self._received = 0

    def count(self, size: int) -> None:
        """A part of the body is here, of so many bytes."""
        now = time.monotonic()
        self._waited += now - self.since
        self._received += size
        self.since = now

    def hold(self) -> None:
        """It is we who let the client wait, until `go_on`."""
        self.since = float("inf")

    def go_on(self) -> None:
        """More of the body may come."""
        self.since = time.monotonic()

    def answer(self) -> None:
        """The request is complete."""
        self._phase = "answering"
        self._written_at = 0.0  # who has sent all of it may begin to read now

    def say_goodbye(self) -> None:
        """Close behind the answer, if it can still say so."""
        request = self._request
        if request and self._phase != "waiting" and request._response_start_line is None:
            request._disconnect_on_finish = True

    def look(self, now: float, limits: Limits) -> None:
        """Close it if its time is up."""
        if self._phase == "waiting":
            self._look_at_waiting(now, limits)
        elif self._phase == "body" and not self._stream.writing():
            late = self._waited + (now - self.since)
            if late > limits.body_seconds + self._received / _BYTES_A_SECOND:
                self._time_out("a body did not come in time")
        if self._stream.writing():
            self._look_at_writing(now, limits)
        else:
            self._written_at = 0.0

    def close(self) -> None:
        """Close it, whatever it is about."""
        self._stream.close()

    def _look_at_waiting(self, now: float, limits: Limits) -> None:
        shaking_hands = isinstance(self._stream, SSLIOStream) and self._stream._ssl_accepting
        if self._buffered and self._first_seen is None:
            self._first_seen = now
        if self._first_seen is not None:
            if now - self._first_seen > limits.header_seconds:
                self._time_out("a header did not come in time")
        elif now - self.since > (limits.header_seconds if shaking_hands else limits.idle_seconds):
            self.close()

    def _look_at_writing(self, now: float, limits: Limits) -> None:
        written = self._stream._total_write_done_index
        if written != self._written or not self._written_at:
            self._written, self._written_at = written, now
        elif self._phase == "body" and now - self.since <= limits.write_seconds:
            pass  # many who send do not read before they have sent all of it
        elif now - self._written_at > limits.write_seconds:
            log.debug("a client did not read its answer")
            self.close()

    def _time_out(self, why: str) -> None:
        log.debug("%s", why)
        request = self._request
        if request is None or request._response_start_line is None:
            self._stream.write(_TIMEOUT)
        self.close()


class Watched(HTTPMessageDelegate):
    """One request on its way in, whose connection is told how far it is."""

    def __init__(
        self, delegate: HTTPMessageDelegate, connection: Connection, request_conn: HTTPConnection
    ) -> None:
        self._delegate = delegate
        self._connection = connection
        connection.begin(request_conn)

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._connection.read_body()
        return self._going_on_after(self._delegate.headers_received(start_line, headers))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._connection.count(len(chunk))
        return self._going_on_after(self._delegate.data_received(chunk))

    def _going_on_after(self, dealing: Awaitable[None] | None) -> Awaitable[None] | None:
        """The time that we take is not held against the client."""
        if dealing is None:
            return None
        self._connection.hold()
        return self._go_on_after(dealing)

    async def _go_on_after(self, dealing: Awaitable[None]) -> None:
        await dealing
        self._connection.go_on()

    def finish(self) -> None:
        self._connection.answer()
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()

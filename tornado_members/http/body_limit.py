"""A limit on bodies that tells the client, where Tornado's own breaks the connection off."""

import asyncio
from collections.abc import Awaitable, Callable

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

StartLine = RequestStartLine | ResponseStartLine

# What nobody wants is read and thrown away up to here, so that a client hears why. bytes
MAX_DISCARDED = 16 * 1024 * 1024


class LimitedBodies(HTTPServerConnectionDelegate):
    """An application whose requests go to another, `refusal`, if their body is over the limit.

    The one method and path that are `exempt` have a limit of their own, and keep to it themselves.
    """

    def __init__(
        self,
        application: HTTPServerConnectionDelegate,
        refusal: HTTPServerConnectionDelegate,
        *,
        limit: int,
        patience: int,
        exempt: tuple[str, str] | None = None,
    ) -> None:
        """`limit` and `patience` in bytes."""
        self._application = application
        self._refusal = refusal
        self._limit = limit
        self._patience = patience
        self._exempt = exempt

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return _LimitedBody(
            self._application.start_request(server_conn, request_conn),
            lambda: self._refusal.start_request(server_conn, request_conn),
            self._limit,
            self._patience,
            self._exempt,
        )

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


class _LimitedBody(HTTPMessageDelegate):
    """Counts one body on its way.

    What is over the limit is read and thrown away, so that the client has sent its request and
    hears the answer (RFC 9110 §15.5.14); but no more than `patience` bytes. Then the answer goes
    out at once, and Tornado closes the connection behind it, as it does whenever a request was not
    read to its end.
    """

    def __init__(
        self,
        handler: HTTPMessageDelegate,
        make_refusal: Callable[[], HTTPMessageDelegate],
        limit: int,
        patience: int,
        exempt: tuple[str, str] | None,
    ) -> None:
        self._handler = handler
        self._make_refusal = make_refusal
        self._left = limit
        self._patience = patience
        self._exempt = exempt
        self._is_exempt = False
        self._start: tuple[StartLine, HTTPHeaders] | None = None  # until the body is refused
        self._finished = False

    def headers_received(
        self, start_line: StartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._start = (start_line, headers)
        length = announced_length(headers)
        if isinstance(start_line, RequestStartLine):
            self._is_exempt = (start_line.method, start_line.path.split("?")[0]) == self._exempt
        if length <= self._left or self._is_exempt:
            return self._handler.headers_received(start_line, headers)
        self._refuse(start_line, headers)
        if length > self._patience or "Expect" in headers:
            self.finish()
            # The handler runs in the next turn of the loop; only then is it known to the connection
            # that the body is not wanted, and no '100 Continue' goes out.
            return asyncio.sleep(0)
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._is_exempt:
            return self._handler.data_received(chunk)
        self._left -= len(chunk)
        if self._start and self._left >= 0:
            return self._handler.data_received(chunk)
        if self._start:
            self._handler.on_connection_close()  # it lets go of what it has gathered
            self._refuse(*self._start)
        if -self._left > self._patience:
            self.finish()
        return None

    def finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._handler.finish()

    def on_connection_close(self) -> None:
        if not self._finished:
            self._handler.on_connection_close()

    def _refuse(self, start_line: StartLine, headers: HTTPHeaders) -> None:
        self._start = None
        self._handler = self._make_refusal()
        self._handler.headers_received(start_line, headers)


def announced_length(headers: HTTPHeaders) -> int:
    """The Content-Length in bytes; 0 for one that is none, which Tornado will refuse."""
    text = headers.get("Content-Length", "")
    if not (text.isascii() and text.isdigit()):
        return 0
    return int(text[:20])  # of a longer one, the first digits are enough

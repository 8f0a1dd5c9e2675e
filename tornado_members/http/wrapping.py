"""Applications around an application, and requests that they pass on."""

from collections.abc import Awaitable, Callable
from typing import cast

from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

# Returns the start line to pass on; may change the headers.
Rewrite = Callable[[RequestStartLine, HTTPHeaders], RequestStartLine]


class WrappingApplication(HTTPServerConnectionDelegate):
    """Base of applications that change or answer requests in `start_request`."""

    def __init__(self, application: HTTPServerConnectionDelegate) -> None:
        self._application = application

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


class RewrittenRequest(HTTPMessageDelegate):
    """Passes one request on, with another head."""

    def __init__(self, delegate: HTTPMessageDelegate, rewrite: Rewrite) -> None:
        self._delegate = delegate
        self._rewrite = rewrite
        # The body needs no change, so the delegate receives it without a further call.
        self.data_received = delegate.data_received  # type: ignore[method-assign]
        self.finish = delegate.finish  # type: ignore[method-assign]
        self.on_connection_close = delegate.on_connection_close  # type: ignore[method-assign]

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        start_line = self._rewrite(cast(RequestStartLine, start_line), headers)
        return self._delegate.headers_received(start_line, headers)

"""Entity tags that a compressing reverse proxy has changed on their way to the client.

nginx, HAProxy and Envoy make a tag weak (`W/"4"`) when they compress a response, and Apache and
Caddy append the coding (`"4-gzip"`). Clients send these tags back. See
docs/decisions/proxied-etags.md.
"""

import re
from collections.abc import Awaitable
from typing import Final

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

_CHANGED: Final = re.compile(
    r'W/("[1-9][0-9]{0,18}")|"([1-9][0-9]{0,18})[-;/](?:gzip|br|zstd|deflate)"'
)


def original_tags(header: str) -> str:
    """Return the value of If-Match or If-None-Match with the tags that the service has sent."""
    return _CHANGED.sub(lambda found: found[1] or f'"{found[2]}"', header)


class OriginalTagsApplication(HTTPServerConnectionDelegate):
    """Wraps an application, which then receives its own entity tags."""

    def __init__(self, application: HTTPServerConnectionDelegate) -> None:
        self._application = application

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return _Request(self._application.start_request(server_conn, request_conn))

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


class _Request(HTTPMessageDelegate):
    def __init__(self, delegate: HTTPMessageDelegate) -> None:
        self._delegate = delegate
        self.data_received = delegate.data_received  # type: ignore[method-assign]
        self.finish = delegate.finish  # type: ignore[method-assign]
        self.on_connection_close = delegate.on_connection_close  # type: ignore[method-assign]

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        for name in ("If-Match", "If-None-Match"):
            if name in headers:
                headers[name] = original_tags(headers[name])
        return self._delegate.headers_received(start_line, headers)

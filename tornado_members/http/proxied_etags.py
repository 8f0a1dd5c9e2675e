"""Entity tags that a compressing reverse proxy has changed on their way to the client.

nginx, HAProxy and Envoy make a tag weak (`W/"4"`) when they compress a response, and Apache and
Caddy append the coding (`"4-gzip"`). Clients send these tags back. See
docs/decisions/proxied-etags.md.
"""

import re
from typing import Final

from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine

from tornado_members.http.wrapping import RewrittenRequest, WrappingApplication

_CHANGED: Final = re.compile(
    r'W/("[1-9][0-9]{0,18}")|"([1-9][0-9]{0,18})[-;/](?:gzip|br|zstd|deflate)"'
)


def original_tags(header: str) -> str:
    """Return the value of If-Match or If-None-Match with the entity tags that the service sent."""
    return _CHANGED.sub(lambda found: found[1] or f'"{found[2]}"', header)


class OriginalTagsApplication(WrappingApplication):
    """Wraps an application, which then receives its own entity tags."""

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        delegate = self._application.start_request(server_conn, request_conn)
        return RewrittenRequest(delegate, _with_original_tags)


def _with_original_tags(start_line: RequestStartLine, headers: HTTPHeaders) -> RequestStartLine:
    for name in ("If-Match", "If-None-Match"):
        if name in headers:
            headers[name] = original_tags(headers[name])
    return start_line

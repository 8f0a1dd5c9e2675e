"""The application below a base path, such as /api (server.base_path).

Routes, logs and the fast path see paths without it. Addresses in responses begin with it.
"""

from collections.abc import Awaitable

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

_OF_THE_SERVER = ("/", "*")  # health checks send OPTIONS for these


class MountedApplication(HTTPServerConnectionDelegate):
    """Wraps an application; removes the base path from each request's target."""

    def __init__(self, application: HTTPServerConnectionDelegate, base_path: str) -> None:
        self._application = application
        self._base_path = base_path

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        return _MountedRequest(
            self._application.start_request(server_conn, request_conn), self._base_path
        )

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


class _MountedRequest(HTTPMessageDelegate):
    """Passes one request on, with another target."""

    def __init__(self, delegate: HTTPMessageDelegate, base_path: str) -> None:
        self._delegate = delegate
        self._base_path = base_path

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        if isinstance(start_line, RequestStartLine):
            target = target_below(self._base_path, start_line.path)
            start_line = start_line._replace(path=target)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk)

    def finish(self) -> None:
        self._delegate.finish()

    def on_connection_close(self) -> None:
        self._delegate.on_connection_close()


def target_below(base_path: str, target: str) -> str:
    """Return a request's target without the base path.

    A target that is not below the base path begins with two slashes then, which match no route.
    """
    rest = target[len(base_path) :]
    if target.startswith(base_path) and rest[:1] in ("", "/", "?"):
        return rest if rest.startswith("/") else f"/{rest}"
    return target if target in _OF_THE_SERVER else f"/{target}"

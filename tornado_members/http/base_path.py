"""The application below a base path, such as /api (server.base_path).

Routes, logs and the fast path see paths without it. Addresses in responses begin with it.
"""

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
)

from tornado_members.http.wrapping import RewrittenRequest, WrappingApplication

_OF_THE_SERVER = ("/", "*")  # health checks send OPTIONS for these


class MountedApplication(WrappingApplication):
    """Wraps an application; removes the base path from each request's target."""

    def __init__(self, application: HTTPServerConnectionDelegate, base_path: str) -> None:
        super().__init__(application)
        self._base_path = base_path

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        delegate = self._application.start_request(server_conn, request_conn)
        return RewrittenRequest(delegate, self._without_base_path)

    def _without_base_path(
        self, start_line: RequestStartLine, _headers: HTTPHeaders
    ) -> RequestStartLine:
        return start_line._replace(path=target_below(self._base_path, start_line.path))


def target_below(base_path: str, target: str) -> str:
    """Return a request's target without the base path.

    A target that is not below the base path begins with two slashes then, which match no route.
    """
    rest = target[len(base_path) :]
    if target.startswith(base_path) and rest[:1] in ("", "/", "?"):
        return rest if rest.startswith("/") else f"/{rest}"
    return target if target in _OF_THE_SERVER else f"/{target}"

"""An application that finds and starts the handler of a request in few steps.

Tornado tries the patterns of an application one after another, which took a fifth of the time of a
request.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

from tornado.escape import url_unescape
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, HTTPServerRequest
from tornado.web import Application, RequestHandler

from tornado_members.openapi.path_parameters import path_pattern

# A path with {parameters}, its handler, and the arguments of the handler's initialize().
HandlerRoute = tuple[str, type[RequestHandler], dict[str, Any]]


_running: Final = set[asyncio.Task[None]]()  # asyncio itself keeps only weak references


class RoutedApplication(Application):
    """Looks up paths without parameters, and then tries the others in their order."""

    def __init__(self, routes: Sequence[HandlerRoute], **settings: Any) -> None:
        super().__init__(**settings)
        self._literal = {
            path: (handler, arguments) for path, handler, arguments in routes if "{" not in path
        }
        self._patterns = [
            (re.compile(path_pattern(path)), handler, arguments)
            for path, handler, arguments in routes
            if "{" in path
        ]

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return the delegate of a request, as Tornado's method does."""
        if request.path in self._literal:
            return self.get_handler_delegate(request, *self._literal[request.path])
        for pattern, handler, arguments in self._patterns:
            matched = pattern.fullmatch(request.path)
            if matched is not None:
                values = [
                    url_unescape(value, None, plus=False) if "%" in value else value.encode()
                    for value in matched.groups()
                ]
                return self.get_handler_delegate(request, handler, arguments, values)
        return super().find_handler(request, **kwargs)

    def get_handler_delegate(
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> Any:
        """Return the delegate of a request to this handler, as Tornado's method does."""
        if target_class._stream_request_body or has_body(request.headers):
            return self.delegate_with_body(
                request, target_class, target_kwargs, path_args, path_kwargs
            )
        return RequestWithoutBody(self, request, target_class, target_kwargs or {}, path_args or ())

    def delegate_with_body(
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> Any:
        """Return the delegate of a request that may have a body."""
        return super().get_handler_delegate(
            request, target_class, target_kwargs, path_args, path_kwargs
        )


def has_body(headers: HTTPHeaders) -> bool:
    """True if the head announces a body."""
    if "Content-Length" in headers and announced_length(headers) > 0:
        return True
    return "Transfer-Encoding" in headers


def announced_length(headers: HTTPHeaders) -> int:
    """Return Content-Length in bytes; 0 for an invalid one, which the HTTP server refuses."""
    text = headers.get("Content-Length", "")
    if not (text.isascii() and text.isdigit()):
        return 0
    return int(text[:20])  # of a longer number, the first digits are enough


class RequestWithoutBody(HTTPMessageDelegate):
    """A request whose handler is started when it is complete.

    Tornado's delegate does the same. It also collects a body, which takes a tenth of the time of a
    short request.
    """

    def __init__(
        self,
        application: Application,
        request: HTTPServerRequest,
        handler: type[RequestHandler],
        arguments: dict[str, Any],
        path_args: Sequence[bytes],
    ) -> None:
        """`arguments` are those of the handler's initialize()."""
        self._application = application
        self._request = request
        self._handler = handler
        self._arguments = arguments
        self._path_args = path_args

    def finish(self) -> None:
        handler = self._handler(self._application, self._request, **self._arguments)
        task = asyncio.get_running_loop().create_task(handler._execute([], *self._path_args))
        _running.add(task)
        task.add_done_callback(_running.discard)

"""Limits on request bodies: checked at the head, before anything is buffered.

Tornado buffers a body and then calls the handler, whose checks come too late to save memory. Here
the checks of `AdmissionControl` run when the head has arrived. A request that fails them keeps its
connection: its body is read and discarded, and its handler then responds with the problem.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tornado.httputil import (
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import RequestHandler

from tornado_members.errors import BadRequest, BodyTooLarge, Problem
from tornado_members.http.admission import Admission, AdmissionControl, note_admission
from tornado_members.http.routed_application import (
    HandlerRoute,
    RoutedApplication,
    announced_length,
)
from tornado_members.openapi.operation import Operation

# Bytes of an unwanted body that are read, so that the client sees the response (RFC 9110 §15.5.14).
MAX_DISCARDED = 16 * 1024 * 1024


class AdmittingApplication(RoutedApplication):
    """An application whose handlers receive bodies of admitted requests only.

    Handlers with `@stream_request_body` read and check their body themselves.
    """

    def __init__(
        self, routes: Sequence[HandlerRoute], admission: AdmissionControl, **settings: Any
    ) -> None:
        self._admission = admission
        super().__init__(routes, **settings)

    def delegate_with_body(
        self,
        request: HTTPServerRequest,
        target_class: type[RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> Any:
        """Return a delegate that discards the body of a refused request."""
        delegate = super().delegate_with_body(
            request, target_class, target_kwargs, path_args, path_kwargs
        )
        if target_class._stream_request_body:
            return delegate
        operations: Mapping[str, Operation] = getattr(target_class, "operations", {})
        return _AdmittedBody(delegate, request, partial(self._admission.admit, request, operations))


def leaves_body_unread(request: HTTPServerRequest) -> bool:
    """True if the connection cannot be used again, as a part of the body is still to come."""
    return bool(vars(request).get("leaves_body_unread"))


def leave_body_unread(request: HTTPServerRequest) -> None:
    """Record that a part of the body will not be read: the response then closes the connection."""
    vars(request)["leaves_body_unread"] = True


class _AdmittedBody(HTTPMessageDelegate):
    """Passes one body to a handler, or discards it."""

    def __init__(
        self,
        handler: HTTPMessageDelegate,
        request: HTTPServerRequest,
        admit: Callable[[], Awaitable[Admission]],
    ) -> None:
        self._handler = handler
        self._request = request
        self._admit = admit
        self._limit = 0  # bytes
        self._received = 0  # bytes
        self._is_refused = False
        self._finished = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._handler.headers_received(start_line, headers)
        return self._decide()

    async def _decide(self) -> None:
        """Admit the request or refuse it; no byte of its body is read meanwhile."""
        headers = self._request.headers
        try:
            admission = await self._admit()
        except Exception as error:  # noqa: BLE001  # the handler raises it again, and responds
            self._refuse(error)
        else:
            self._limit = admission.max_body_bytes
            note_admission(self._request, admission)
            if announced_length(headers) > self._limit:
                self._refuse(self._too_large())
        if self._is_refused and ("Expect" in headers or announced_length(headers) > MAX_DISCARDED):
            self._finish_early()
            # The handler runs in the next turn of the loop. The HTTP server must see its response
            # first, or it would send "100 Continue".
            await asyncio.sleep(0)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._received += len(chunk)
        if not self._is_refused and self._received > self._limit:
            self._refuse(self._too_large())
        if not self._is_refused:
            return self._handler.data_received(chunk)
        if self._received > MAX_DISCARDED:
            self._finish_early()
        return asyncio.sleep(0)  # or the HTTP server would count the chunk as held in memory

    def finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._handler.finish()

    def on_connection_close(self) -> None:
        if not self._finished:
            self._finished = True
            self._handler.on_connection_close()

    def _too_large(self) -> Problem:
        if self._limit:
            return BodyTooLarge(self._limit)
        return BadRequest(f"{self._request.method} takes no body on this path. Send none.")

    def _refuse(self, error: Exception) -> None:
        self._is_refused = True
        note_admission(self._request, error)

    def _finish_early(self) -> None:
        leave_body_unread(self._request)
        self.finish()

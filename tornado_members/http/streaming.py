"""Responses without a length, written at the pace of their client."""

import asyncio
import socket
import struct
from asyncio import Future
from logging import getLogger
from typing import Any, ClassVar, Protocol, cast

from tornado.httputil import HTTPServerRequest

from tornado_members.errors import InternalError, Problem
from tornado_members.telemetry.logs import fields

log = getLogger(__name__)

_PIECE = 65536  # bytes that are written at once, and so the most that wait in the process
_ABORT = struct.pack("ii", 1, 0)  # for SO_LINGER: the connection ends with a reset


class ClientGone(Exception):
    """The client has disconnected, or does not read. The message states which."""


class StreamingHandler(Protocol):
    """The part of a handler that a StreamedResponse uses."""

    request: HTTPServerRequest
    route: ClassVar[str]
    request_id: str
    problem_code: str | None
    client_disconnected: bool

    @property
    def response_finished(self) -> bool: ...
    def set_status(self, status_code: int) -> None: ...
    def write(self, chunk: Any) -> None: ...
    def flush(self) -> "Future[None]": ...
    def finish(self) -> "Future[None]": ...


class StreamedResponse:
    """The body of a handler's response, whose headers are sent with the first piece."""

    def __init__(self, handler: StreamingHandler, seconds: float) -> None:
        """`seconds` is the time for which the client may leave a piece of the response unread."""
        self._handler = handler
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timeout: asyncio.Timeout | None = None  # of the piece that is being sent
        end_with_connection(handler.request)

    def set_timeout(self, seconds: float) -> None:
        """Set the time for each piece from now on, and restart that of the current one."""
        self._seconds = seconds
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._loop.time() + seconds)

    async def send(self, data: bytes) -> None:
        """Return once the system has taken all of it. Raises ClientGone."""
        for start in range(0, len(data), _PIECE):
            self._handler.write(data[start : start + _PIECE])
            await self._flush()

    async def send_headers(self) -> None:
        """Send the headers alone. Raises ClientGone."""
        await self._flush()

    async def _flush(self) -> None:
        if self._handler.client_disconnected:
            raise ClientGone("the client has disconnected")
        sent = self._handler.flush()
        try:
            async with asyncio.timeout(self._seconds) as self._timeout:
                await asyncio.wait([sent])
        except TimeoutError:
            raise ClientGone(f"the client read nothing for {self._seconds:g} seconds") from None
        finally:
            self._timeout = None
        if sent.cancelled() or sent.exception() or self._handler.client_disconnected:
            raise ClientGone("the client has disconnected")

    def end(self) -> None:
        """Complete the response."""
        handler = self._handler
        sent = handler.finish()
        if handler.request.version == "HTTP/1.0":
            sent.add_done_callback(lambda _: close_connection(handler.request))

    def abort(self, reason: object) -> None:
        """Close the connection, so that the client detects the incomplete response."""
        if not isinstance(reason, ClientGone):  # the log and the metrics show a failure
            problem = reason if isinstance(reason, Problem) else InternalError()
            self._handler.problem_code = problem.code
            self._handler.set_status(problem.status)
        extra = fields(request_id=self._handler.request_id, route=self._handler.route)
        log.warning("response aborted: %s", reason, extra=extra)
        if self._handler.request.version == "HTTP/1.0":
            stream = getattr(self._handler.request.connection, "stream", None)
            if stream is not None and stream.socket is not None:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        close_connection(self._handler.request)
        if not self._handler.response_finished:
            self._handler.finish()


def end_with_connection(request: HTTPServerRequest) -> None:
    """Let the end of the connection mark that of the response, for clients without chunks.

    HTTP/1.0 has no chunks, and the response has no length (RFC 9112 §6.3).
    """
    if request.version == "HTTP/1.0":
        request.headers["Connection"] = "close"


def close_connection(request: HTTPServerRequest) -> None:
    """Close the connection of a request."""
    # Tornado's HTTPConnection does not declare close(), but every implementation has it.
    cast(Any, request.connection).close()


def ignore_disconnect(sent: "Future[None]") -> None:
    """Retrieve the exception of a response that its client does not read."""
    if not sent.cancelled():
        sent.exception()

"""One request and its response: the `request.connection` of Tornado's handlers."""

import re
from asyncio import Future
from collections.abc import Callable
from enum import IntEnum, auto
from functools import lru_cache
from http.client import responses
from logging import getLogger
from typing import Any, Protocol

from tornado.escape import native_str
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPOutputError,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream

from tornado_members.http1.heads import RequestHead, encode_headers
from tornado_members.http1.peer import Peer, PeerStream
from tornado_members.http1.response_writer import ResponseWriter

log = getLogger(__name__)

_JOINED_BYTES = 16 * 1024  # up to this size, copying a piece costs less than another system call
_DIGITS = re.compile("[0-9]+")


class ResponseState(IntEnum):
    """The progress of a response."""

    PENDING = auto()
    STARTED = auto()  # its headers are written
    COMPLETE = auto()
    ABANDONED = auto()  # no more of it can be sent


# Python 3.11 runs Python code for each look-up of a member. These names are looked up once.
PENDING, STARTED, COMPLETE, ABANDONED = ResponseState


class Drainable(Protocol):
    """The server, as an exchange uses it."""

    is_draining: bool  # each response should be the last one on its connection


class ExchangeOwner(Protocol):
    """The connection, as an exchange uses it."""

    peer: Peer
    writer: ResponseWriter

    @property
    def server(self) -> Drainable:
        """The server of the connection."""
        ...

    def get_extra_info(self, name: str) -> Any:
        """Return the transport's extra information of this name."""
        ...

    def leaves_body_unread(self) -> bool:
        """True if the connection has to close after a response that is sent now."""
        ...

    def response_complete(self, exchange: Any) -> None:
        """Continue after the response."""
        ...

    def close(self) -> None:
        """Close the connection once everything has been sent."""
        ...

    def detach(self) -> IOStream:
        """Return the socket as a stream."""
        ...


class Exchange(HTTPConnection):
    """Has the interface of tornado.http1connection.HTTP1Connection towards the application."""

    delegate: HTTPMessageDelegate
    response = PENDING
    body_timeout: float | None = None
    is_notified = False  # the application, of the end of the request
    _close_callback: Callable[[], None] | None = None
    _chunked = False
    _left: int | None = None  # bytes of the response's body; None if that is unknown

    def __init__(self, connection: ExchangeOwner, head: RequestHead, body_bytes: int) -> None:
        """`body_bytes` is the limit of the body until the application sets another."""
        self._connection = connection
        self.head = head
        self.context = connection.peer
        self.keep_alive = head.keep_alive
        self.max_body_size = body_bytes

    @property
    def stream(self) -> PeerStream:
        """The part of an IOStream that applications use: its end, and the certificate."""
        return PeerStream(self)

    @property
    def is_closed(self) -> bool:
        """True if nothing can be sent to the client any more."""
        return self.response is ABANDONED

    def get_extra_info(self, name: str) -> Any:
        """Return the transport's extra information of this name."""
        return self._connection.get_extra_info(name)

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Set the callback for a client that disconnects before the response is complete."""
        self._close_callback = callback

    def set_max_body_size(self, max_body_size: int) -> None:
        """Set another limit for this body, in bytes, before it is read."""
        self.max_body_size = max_body_size

    def set_body_timeout(self, timeout: float) -> None:
        """Set how many seconds the whole body may take, before it is read."""
        self.body_timeout = timeout

    def close(self) -> None:
        """Close the connection, even if the request was not answered."""
        self.response = ABANDONED
        self._connection.close()

    def detach(self) -> IOStream:
        """Return the connection's socket, for another protocol; HTTP has ended on it."""
        stream = self._connection.detach()
        self.response = ABANDONED
        return stream

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> "Future[None]":
        """Start the response. Raises ValueError for headers that contain a line end.

        The future is done when the kernel has taken everything.
        """
        if not isinstance(start_line, ResponseStartLine):
            raise TypeError("a response begins with a ResponseStartLine")
        self._set_framing(start_line.code, headers, len(chunk or b""))
        is_interim = start_line.code < 200 and start_line.code != 101  # RFC 9110 §15.2
        if self.response is PENDING and not is_interim:
            self.response = STARTED
        line = _status_line(start_line.code, start_line.reason)
        data = b"%b\r\n%b\r\n" % (line, encode_headers(headers))
        if not chunk:
            return self._send(data)
        parts = self._frame(chunk)
        if len(parts) == 1 and len(chunk) <= _JOINED_BYTES:
            return self._send(data + parts[0])
        return self._send(data, *parts)

    def respond(self, code: int, header_lines: bytes, body: bytes = b"") -> "Future[None]":
        """Send a whole response whose header lines are prepared, each with its line end.

        The future is done when the kernel has taken everything. The lines are sent unchecked. They
        include the Content-Length of any response that may have a body, and neither Connection nor
        Transfer-Encoding.
        """
        if self.response is not PENDING:
            return self._connection.writer.fail()
        option = self._connection_option(asks_to_close=False, is_complete=True)
        if option is not None:
            header_lines += b"Connection: %b\r\n" % option.encode()
        line = _status_line(code, responses[code])
        self._left = 0
        self._close_callback = None
        self.response = COMPLETE
        if len(body) <= _JOINED_BYTES:
            sent = self._connection.writer.send(b"%b\r\n%b\r\n%b" % (line, header_lines, body))
        else:
            sent = self._connection.writer.send(b"%b\r\n%b\r\n" % (line, header_lines), body)
        self._connection.response_complete(self)
        return sent

    def write(self, chunk: bytes) -> "Future[None]":
        """Send more of the body. Raises HTTPOutputError beyond the response's Content-Length."""
        return self._send(*self._frame(chunk))

    def finish(self) -> None:
        """Complete the response. Raises HTTPOutputError if shorter than its Content-Length."""
        state = self.response
        if state is COMPLETE or state is ABANDONED:
            return
        if self._left:
            self.close()
            raise HTTPOutputError(f"Tried to write {self._left} bytes less than Content-Length")
        if state is PENDING:  # the client has received no response
            self.keep_alive = False
        if self._chunked:
            self._connection.writer.send(b"0\r\n\r\n")
        self.response = COMPLETE
        self._close_callback = None
        self._connection.response_complete(self)

    def _send(self, *parts: bytes) -> "Future[None]":
        if self.response >= COMPLETE:
            return self._connection.writer.fail()
        return self._connection.writer.send(*parts)

    # The connection calls these.

    def abandon(self) -> None:
        """Notify the application that the rest of the request will not arrive."""
        self.response = ABANDONED
        if self.is_notified or not hasattr(self, "delegate"):
            return
        self.is_notified = True
        try:
            self.delegate.on_connection_close()
        except Exception:
            log.exception("uncaught exception")

    def notify_close(self) -> None:
        """Notify the application that its client has disconnected."""
        callback, self._close_callback = self._close_callback, None
        if callback is not None:
            try:
                callback()
            except Exception:
                log.exception("uncaught exception")

    def _set_framing(self, code: int, headers: HTTPHeaders, written: int) -> None:
        """Choose how the client finds the end of the response (RFC 9112 §6.3, §9.3).

        `written` is the number of bytes of the body that are sent together with the headers.
        """
        if code < 200:  # interim; or another protocol follows
            self._left = 0
            return
        request = self.head.start_line
        length = headers.get("Content-Length")
        if length is not None and not _DIGITS.fullmatch(length):
            raise ValueError(f"the Content-Length of a response is {length!r}")
        self._chunked = False
        if request.method == "HEAD" or code in (204, 304):
            self._left = 0
        elif length is not None:
            self._left = int(length)
        elif request.version == "HTTP/1.1":
            self._left = None
            self._chunked = True
            headers["Transfer-Encoding"] = "chunked"
        else:
            self._left = None
            self.keep_alive = False
        self._set_connection_header(headers, is_complete=self._left == written)

    def _set_connection_header(self, headers: HTTPHeaders, *, is_complete: bool) -> None:
        asks_to_close = "Connection" in headers and "close" in headers["Connection"].lower()
        option = self._connection_option(asks_to_close=asks_to_close, is_complete=is_complete)
        if option is not None:
            headers["Connection"] = option

    def _connection_option(self, *, asks_to_close: bool, is_complete: bool) -> str | None:
        """Decide if the connection stays open; return the value of the Connection header."""
        if (
            asks_to_close
            or self._connection.server.is_draining
            or (is_complete and self.head.has_body and self._connection.leaves_body_unread())
        ):
            self.keep_alive = False
        is_current = self.head.start_line.version == "HTTP/1.1"
        if not self.keep_alive:
            return "close" if is_current else None
        return None if is_current else "Keep-Alive"

    def _frame(self, chunk: bytes) -> tuple[bytes, ...]:
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                self.close()
                raise HTTPOutputError("Tried to write more data than Content-Length")
        if self._chunked and chunk:  # an empty one would be the end
            if len(chunk) <= _JOINED_BYTES:
                return (b"%x\r\n%b\r\n" % (len(chunk), chunk),)
            return b"%x\r\n" % len(chunk), chunk, b"\r\n"
        return (chunk,)


@lru_cache(256)
def _status_line(code: int, reason: str | bytes) -> bytes:
    line = f"HTTP/1.1 {code} {native_str(reason)}"
    if "\r" in line or "\n" in line:
        raise ValueError("a reason phrase contains CR or LF")
    return line.encode("latin-1")

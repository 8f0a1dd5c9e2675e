"""One request and its answer: what Tornado's handlers hold as `request.connection`."""

import re
from asyncio import Future
from collections.abc import Callable
from functools import lru_cache
from logging import getLogger
from typing import TYPE_CHECKING

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

from tornado_members.http1.peer import Peer, PeerStream
from tornado_members.http1.request_head import RequestHead

if TYPE_CHECKING:
    from tornado_members.http1.connection import Connection

log = getLogger(__name__)

_JOINED_BYTES = 16 * 1024  # up to which copying a piece costs less than another system call
_DIGITS = re.compile("[0-9]+")


class Exchange(HTTPConnection):
    """As tornado.http1connection.HTTP1Connection is towards its application."""

    delegate: HTTPMessageDelegate

    def __init__(self, connection: "Connection", head: RequestHead, body_bytes: int) -> None:
        self._connection = connection
        self.head = head
        self.context: Peer = connection.peer
        self.no_keep_alive = not head.keep_alive
        self.max_body_size = body_bytes
        self.body_timeout: float | None = None
        self.close_callback: Callable[[], None] | None = None
        self.headers_written = False
        self.body_left = bool(head.length or head.chunked)  # of the request
        self.told = False  # the application, that the request has ended, one way or the other
        self.finished = False  # the answer
        self.closed = False  # nobody is there any more who could be answered
        self._chunked = False
        self._left: int | None = None  # bytes of the answer's body; None if that is not known

    @property
    def stream(self) -> PeerStream:
        """As much of a stream as is asked for: whether it is closed, and the peer's certificate."""
        return PeerStream(self._connection, self)

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Have it called if the client goes before its answer is complete."""
        self.close_callback = callback

    def set_max_body_size(self, max_body_size: int) -> None:
        """Another limit for this body, in bytes; before it is read."""
        self.max_body_size = max_body_size

    def set_body_timeout(self, timeout: float) -> None:
        """Seconds that the whole body may take; before it is read."""
        self.body_timeout = timeout

    def close(self) -> None:
        """Close the connection, whether it was answered or not."""
        self.closed = True
        self._connection.close()

    def detach(self) -> IOStream:
        """The connection itself, for another protocol; HTTP is over on it."""
        stream = self._connection.detach()
        self.closed = True
        return stream

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> "Future[None]":
        """Begin the answer. Raises ValueError for headers that would break out of their line.

        The future is done when the kernel has taken everything.
        """
        if not isinstance(start_line, ResponseStartLine):
            raise TypeError("an answer begins with a ResponseStartLine")
        self._choose_framing(start_line.code, headers, len(chunk or b""))
        self.headers_written = start_line.code >= 200 or start_line.code == 101
        lines = [_status_line(start_line.code, native_str(start_line.reason))]
        lines += [name + ": " + value for name, value in headers.get_all()]
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("a header has a CR or an LF in it")
        data = f"{text}\r\n\r\n".encode("latin-1")
        if not chunk:
            return self._send(data)
        parts = self._framed(chunk)
        if len(chunk) <= _JOINED_BYTES:
            return self._send(data + b"".join(parts))
        return self._send(data, *parts)

    def write(self, chunk: bytes) -> "Future[None]":
        """More of the answer's body. Raises HTTPOutputError if it is more than was announced."""
        return self._send(*self._framed(chunk))

    def finish(self) -> None:
        """The answer is complete. Raises HTTPOutputError if it is less than was announced."""
        if self.finished:
            return
        self.finished = True
        if self._left and not self.closed:
            self._connection.close()
            raise HTTPOutputError(f"Tried to write {self._left} bytes less than Content-Length")
        if not self.headers_written:  # whatever it was, it was no answer
            self.no_keep_alive = True
        if self._chunked and not self.closed:
            self._connection.out.send(b"0\r\n\r\n")
        if not self.closed:
            self._connection.answered(self)

    def _send(self, *parts: bytes) -> "Future[None]":
        if self.closed or self.finished:
            return self._connection.out.fail()
        return self._connection.out.send(*parts)

    # For the connection.

    def abandon(self) -> None:
        """Tell the application that the rest of the request will not come."""
        self.closed = True
        if self.told or not hasattr(self, "delegate"):
            return
        self.told = True
        try:
            self.delegate.on_connection_close()
        except Exception:
            log.exception("uncaught exception")

    def tell_of_close(self) -> None:
        """Tell the application that its client has gone."""
        callback, self.close_callback = self.close_callback, None
        if callback is not None:
            try:
                callback()
            except Exception:
                log.exception("uncaught exception")

    def _choose_framing(self, code: int, headers: HTTPHeaders, written: int) -> None:
        """Choose how the client finds the end of the answer (RFC 9112 §6.3), and what follows it.

        `written` is how many bytes of the answer's body are written together with its headers.
        """
        if code < 200:  # informational; or another protocol follows
            self._left = 0
            return
        request = self.head.start_line
        length = headers.get("Content-Length")
        if length is not None and not _DIGITS.fullmatch(length):
            raise ValueError(f"the Content-Length of an answer is {length!r}")
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
            self.no_keep_alive = True
        if "Connection" in headers and "close" in headers["Connection"].lower():
            self.no_keep_alive = True
        if self.body_left and self._left == written and not self._connection.can_discard(self):
            self.no_keep_alive = True  # the answer is complete before its request is
        self.no_keep_alive |= self._connection.draining
        if self.no_keep_alive:
            if request.version == "HTTP/1.1":
                headers["Connection"] = "close"
        elif request.version == "HTTP/1.0":
            headers["Connection"] = "Keep-Alive"

    def _framed(self, chunk: bytes) -> tuple[bytes, ...]:
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                self._connection.close()
                raise HTTPOutputError("Tried to write more data than Content-Length")
        if self._chunked and chunk:  # an empty one would be the end
            if len(chunk) <= _JOINED_BYTES:
                return (b"%x\r\n%b\r\n" % (len(chunk), chunk),)
            return b"%x\r\n" % len(chunk), chunk, b"\r\n"
        return (chunk,)


@lru_cache(256)
def _status_line(code: int, reason: str) -> str:
    return f"HTTP/1.1 {code} {reason}"

"""Where a body ends, and what is in it."""

from http import HTTPStatus
from typing import Protocol

from httptools import HttpParserError, HttpRequestParser

from tornado_members.transport.heads import END_OF_HEAD, Head
from tornado_members.transport.limits import Limits
from tornado_members.transport.refusals import BodyOverLimit, Refused

# llhttp is told that a chunked body follows.
_BEFORE_CHUNKS = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK_OVERHEAD = 64  # bytes round a chunk, on average: its size, and extensions nobody reads


class Body(Protocol):
    """What is still to come of one body."""

    complete: bool

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Some of the body that `data` begins with, and what follows it. Raises Refused."""


def make_body(head: Head, limits: Limits, limit: int) -> Body | None:
    """What the head announces; None if there is none. Raises Refused if it is over the limit."""
    if head.chunked:
        return ChunkedBody(limits, limit)
    if head.length > limit:
        raise BodyOverLimit(limit)
    return SizedBody(head.length, limits.piece_bytes) if head.length else None


class SizedBody:
    """A body of Content-Length bytes."""

    def __init__(self, length: int, piece_bytes: int) -> None:
        self._left = length
        self._piece_bytes = piece_bytes
        self.complete = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """As in Body."""
        size = min(self._left, self._piece_bytes)
        piece = data[:size]
        self._left -= len(piece)
        self.complete = not self._left
        return piece, data[size:]


class ChunkedBody:
    """A body in chunks (RFC 9112 §7.1), parsed by llhttp.

    llhttp would read on into the next request and tell nobody where that began. But a chunked body
    can only end with an empty line: so it is fed up to the next one, and asked.
    """

    def __init__(self, limits: Limits, limit: int) -> None:
        """`limit` in bytes, for the content."""
        self._piece_bytes = limits.piece_bytes
        self._limit = limit
        self._size = 0
        self._overhead = limits.head_bytes  # bytes that may still be anything but content
        self._pieces: list[bytes] = []
        self._fed_last = b""  # the end of an empty line may come by itself
        self.complete = False
        self._llhttp = HttpRequestParser(self)
        self._llhttp.feed_data(_BEFORE_CHUNKS)

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """As in Body."""
        size = self._feed(data[: self._piece_bytes])
        content, self._pieces = b"".join(self._pieces), []
        self._size += len(content)
        self._overhead -= size - len(content)
        if self._size > self._limit:
            raise BodyOverLimit(self._limit)
        if self._overhead < 0:
            raise Refused(HTTPStatus.BAD_REQUEST, "The chunks have too much round them.")
        return content, data[size:]

    def _feed(self, data: bytes) -> int:
        """Feed what belongs to the body; returns how much did."""
        before = len(self._fed_last)
        seen = self._fed_last + data
        fed = 0
        try:
            while not self.complete and fed < len(data):
                end = seen.find(END_OF_HEAD, max(0, before + fed - len(END_OF_HEAD) + 1))
                stop = len(data) if end < 0 else end + len(END_OF_HEAD) - before
                self._llhttp.feed_data(data[fed:stop])
                fed = stop
        except HttpParserError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"The body is malformed: {error}.") from None
        self._fed_last = seen[-len(END_OF_HEAD) + 1 :]
        return fed

    # llhttp calls these.

    def on_body(self, data: bytes) -> None:
        """Some content."""
        self._pieces.append(data)

    def on_chunk_header(self) -> None:
        """Another chunk."""
        self._overhead += _CHUNK_OVERHEAD

    def on_message_complete(self) -> None:
        """The end. Trailers were seen before; nobody reads them (RFC 9112 §7.1.2)."""
        self.complete = True

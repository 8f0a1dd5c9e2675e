"""Find the end of a request's body, and decode its content (RFC 9112 §6, §7.1)."""

import re
from enum import Enum, auto
from http import HTTPStatus
from typing import NoReturn, Protocol

from tornado_members.http1.heads import RequestHead
from tornado_members.http1.limits import Limits
from tornado_members.http1.refusals import BodyOverLimit, Refused
from tornado_members.http1.request_head import END_OF_HEAD, END_OF_LINE

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
# RFC 9112 §7.1.1. Possessive, so that no input makes it search twice.
_CHUNK_HEADER = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)(?:;%b(?:=(?:%b|%b))?+)*+" % (_TOKEN, _TOKEN, _QUOTED)
)
# The beginning of a chunk's header that has no end yet.
_PARTIAL_CHUNK_HEADER = re.compile(rb"(?:[0-9A-Fa-f]{1,16}+(?:;[^\x00\r\n]*+)?+\r?)?")
_TRAILER = re.compile(rb"(%b):[\t\x20-\x7e\x80-\xff]*+" % _TOKEN)
# RFC 9110 §6.5.1: a trailer that frames the message could only mislead.
_FRAMING_FIELDS = frozenset({b"content-length", b"transfer-encoding", b"host"})

_CHUNK_OVERHEAD = 64  # bytes around a chunk, on average: its size and extensions
_CHUNKS_PER_PIECE = 64  # a chunk costs up to 20 microseconds, however small; a piece about 1 ms


class Body(Protocol):
    """The rest of one body."""

    complete: bool

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Return some content from the start of `data`, and the data that follows it.

        The following data is `data` itself if more must arrive first. Raises Refused.
        """


def make_body(head: RequestHead, limits: Limits, limit: int) -> Body | None:
    """Return the body that the head announces; None without one.

    `limit` is in bytes of content. Raises BodyOverLimit.
    """
    if head.chunked:
        return ChunkedBody(limits, limit)
    if head.length > limit:
        raise BodyOverLimit(limit)
    return SizedBody(head.length, limits.piece_bytes) if head.length else None


class SizedBody:
    """A body of Content-Length bytes."""

    def __init__(self, length: int, piece_bytes: int) -> None:
        self.left = length
        self._piece_bytes = piece_bytes
        self.complete = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """See Body."""
        size = min(self.left, self._piece_bytes)
        piece = data if len(data) <= size else data[:size]
        self.left -= len(piece)
        self.complete = not self.left
        return piece, data[size:]


class _Expects(Enum):
    """The part of a chunked body that comes next."""

    CHUNK_HEADER = auto()
    CONTENT = auto()
    END_OF_CHUNK = auto()  # CR LF behind the content
    TRAILERS = auto()  # up to the empty line that ends the body


class ChunkedBody:
    """A body in chunks (RFC 9112 §7.1).

    Content is counted and skipped, never searched: its cost depends on the number of chunks, not
    on what they contain. One call takes a bounded number of chunks.
    """

    def __init__(self, limits: Limits, limit: int) -> None:
        """`limit` is in bytes of content."""
        self.complete = False
        self._piece_bytes = limits.piece_bytes
        self._limit = limit
        self._size = 0  # bytes of content so far
        self._overhead = limits.head_bytes  # bytes that may still be anything but content
        self._longest = limits.head_bytes  # bytes of one chunk's header, or of the trailers
        self._trailers = limits.headers  # fields
        self._expects = _Expects.CHUNK_HEADER
        self._left = 0  # bytes of content in this chunk

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """See Body."""
        pieces: list[bytes] = []
        size = position = chunks = 0
        while not self.complete and size < self._piece_bytes and chunks < _CHUNKS_PER_PIECE:
            if self._expects is _Expects.CONTENT:
                piece = data[position : position + min(self._left, self._piece_bytes - size)]
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._expects = _Expects.END_OF_CHUNK
                continue
            taken = self._take_framing(data, position)
            if not taken:
                break
            self._count_overhead(taken)
            position += taken
            chunks += self._left > 0
        return b"".join(pieces), data[position:] if position else data

    def _take_framing(self, data: bytes, start: int) -> int:
        """Return how many bytes of framing begin at `start`; 0 if more must arrive first."""
        if self._expects is _Expects.CHUNK_HEADER:
            return self._take_chunk_header(data, start)
        if self._expects is _Expects.END_OF_CHUNK:
            return self._take_end_of_chunk(data, start)
        return self._take_trailers(data, start)

    def _take_chunk_header(self, data: bytes, start: int) -> int:
        end = data.find(END_OF_LINE, start)
        if end < 0:
            self._check_overhead(len(data) - start)
            if not _PARTIAL_CHUNK_HEADER.fullmatch(data, start):
                _refuse("a chunk has no valid size")
            return 0
        header = _CHUNK_HEADER.fullmatch(data, start, end)
        if header is None:
            _refuse("a chunk has no valid size")
        self._left = int(header[1], 16)
        self._size += self._left
        if self._size > self._limit:
            raise BodyOverLimit(self._limit)
        self._overhead += _CHUNK_OVERHEAD
        self._expects = _Expects.CONTENT if self._left else _Expects.TRAILERS
        return end + len(END_OF_LINE) - start

    def _take_end_of_chunk(self, data: bytes, start: int) -> int:
        if data.startswith(END_OF_LINE, start):
            self._expects = _Expects.CHUNK_HEADER
            return len(END_OF_LINE)
        if data[start:] not in (b"", b"\r"):
            _refuse("a chunk is longer than its size")
        return 0

    def _take_trailers(self, data: bytes, start: int) -> int:
        """Check the trailers and skip them: RFC 9112 §7.1.2 lets a recipient discard them."""
        if data.startswith(END_OF_LINE, start):
            self.complete = True
            return len(END_OF_LINE)
        end = data.find(END_OF_HEAD, start)
        if end < 0:
            self._check_overhead(len(data) - start)
            return 0
        self._check_overhead(end - start)
        lines = data[start:end].split(END_OF_LINE)
        if len(lines) > self._trailers:
            _refuse("it has too many trailers")
        for line in lines:
            trailer = _TRAILER.fullmatch(line)
            if trailer is None or trailer[1].lower() in _FRAMING_FIELDS:
                _refuse("a trailer is not valid")
        self.complete = True
        return end + len(END_OF_HEAD) - start

    def _check_overhead(self, size: int) -> None:
        if size > min(self._overhead, self._longest):
            _refuse("it has too much around its chunks")

    def _count_overhead(self, size: int) -> None:
        self._check_overhead(size)
        self._overhead -= size


def _refuse(reason: str) -> NoReturn:
    raise Refused(HTTPStatus.BAD_REQUEST, f"The body is malformed: {reason}.")

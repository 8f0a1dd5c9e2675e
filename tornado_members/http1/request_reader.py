"""Bytes in, events out: the requests of one connection, without I/O.

    HEAD ── RequestHead ──> DECISION ── accept_body() ──> BODY ── EndOfMessage ──> COMPLETE
     │^                        └────── discard_body() ──> DISCARD ── EndOfMessage ─────┤│
     │└─────────────────────────────────── next_request() ─────────────────────────────┘│
     └──── RequestHead without a body, which is the whole request ──────────────────────┘

The reader stops after each head until its caller has decided about the body, and after each request
until the caller asks for the next one. Bytes that arrive in the meantime stay in its buffer.
"""

import re
from enum import Enum, auto
from typing import Final

from tornado_members.http1.bodies import Body, SizedBody, make_body
from tornado_members.http1.events import END_OF_MESSAGE, Data, Event
from tornado_members.http1.heads import RequestHead
from tornado_members.http1.limits import Limits
from tornado_members.http1.request_head import (
    END_OF_HEAD,
    HeadParser,
    PartialHeadCheck,
    find_end_of_head,
    refuse_long_head,
    skip_empty_line,
)

_ORIGIN: Final = re.compile(rb"\n(?i:origin):[ \t]*+([!-~]{1,300})[ \t]*+\r?\n")
_MAX_SEARCHED: Final = 64 * 1024  # bytes


class _Expects(Enum):
    HEAD = auto()
    DECISION = auto()
    BODY = auto()
    DISCARD = auto()
    COMPLETE = auto()


# Python 3.11 runs Python code for each look-up of a member. These names are looked up once.
_HEAD, _DECISION, _BODY, _DISCARD, _COMPLETE = _Expects


class RequestReader:
    """Parses the requests of one client. All methods that parse raise Refused."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._expects = _HEAD
        self._buffer = b""
        self._searched = 0  # bytes of the buffer in which no head ends
        self._heads = HeadParser(limits)
        self._partial: PartialHeadCheck | None = None  # of a head that arrives in pieces
        self._head: RequestHead | None = None
        self._body: Body | None = None
        self._discarding = 0  # bytes

    @property
    def buffered(self) -> int:
        """The number of bytes that wait to be parsed."""
        return len(self._buffer)

    @property
    def is_blank(self) -> bool:
        """True if no byte of a request waits; an empty line may precede one (RFC 9112 §2.2)."""
        return not self._buffer or self._buffer in (b"\r", b"\r\n")

    @property
    def has_partial_head(self) -> bool:
        """True if a head has begun to arrive."""
        return self._partial is not None

    @property
    def begins_with_head_method(self) -> bool:
        """True if the request that could not be parsed begins with the method HEAD."""
        return self._buffer.startswith(b"HEAD ")

    def find_origin(self) -> str | None:
        """Return the Origin header of the request that could not be parsed, if it has arrived."""
        found = _ORIGIN.search(self._buffer, 0, _MAX_SEARCHED)
        return found[1].decode("ascii") if found else None

    @property
    def unread_body(self) -> int | None:
        """The number of bytes of the request's body that are still to be read; None if unknown."""
        if self._expects is _COMPLETE or self._head is None:
            return 0
        if isinstance(self._body, SizedBody):
            return self._body.left
        if self._head.chunked:
            return None
        return self._head.length if self._expects is _DECISION else 0

    @property
    def is_body_complete(self) -> bool:
        """True if all content of the request has been returned."""
        return self._body is None or self._body.complete

    def feed(self, data: bytes) -> None:
        """Add bytes without parsing them."""
        self._buffer = self._buffer + data if self._buffer else data

    def receive(self, data: bytes = b"") -> Event | None:
        """Add bytes, and return the next event; None if more bytes or a decision must come first.

        There may be another event in the buffer: call again without bytes for it.
        """
        if data:
            self._buffer = self._buffer + data if self._buffer else data
        if self._expects is _HEAD:
            return self._receive_head()
        if self._expects is _BODY:
            return self._receive_body()
        if self._expects is _DISCARD:
            return self._discard()
        return None

    def accept_body(self, max_bytes: int) -> None:
        """Return the request's content as events from now on, up to a limit."""
        if self._head is not None:
            self._body = make_body(self._head, self._limits, max_bytes)
            self._expects = _BODY

    def discard_body(self) -> None:
        """Skip the rest of the request's content, whose length must be known."""
        self._discarding = self.unread_body or 0
        self._expects = _DISCARD

    def next_request(self) -> None:
        """Expect a head, after the end of a request."""
        self._expects = _HEAD
        self._head = self._body = None

    def clear(self) -> None:
        """Discard everything, at the end of the connection."""
        self._buffer = b""
        self._partial = None
        self._expects = _COMPLETE

    def _receive_head(self) -> RequestHead | None:
        if self._buffer[:1] in (b"", b"\r") and self._partial is None:
            if self.is_blank:
                return None
            self._buffer = skip_empty_line(self._buffer)
        buffer = self._buffer
        last = self._heads.last
        head = last.repeated_in(buffer, self._limits) if last else None
        if head is not None:
            self._buffer = b""
        else:
            end = find_end_of_head(buffer, self._searched)
            if end < 0:
                self._check_partial_head()
                return None
            head = self._heads.parse(buffer[:end])
            self._buffer = buffer[end:]
        self._searched = 0
        self._partial = None
        self._head = head
        self._expects = _DECISION if head.has_body else _COMPLETE
        return head

    def _check_partial_head(self) -> None:
        if len(self._buffer) > self._limits.head_bytes:
            refuse_long_head()
        self._searched = max(0, len(self._buffer) - len(END_OF_HEAD) + 1)
        if self._partial is None:
            self._partial = PartialHeadCheck()
        self._partial.check(self._buffer)

    def _receive_body(self) -> Event | None:
        body = self._body
        if body is not None and not body.complete:
            content, self._buffer = body.take(self._buffer)
            if content:
                return Data(content)
            if not body.complete:
                return None
        self._expects = _COMPLETE
        return END_OF_MESSAGE

    def _discard(self) -> Event | None:
        size = min(self._discarding, len(self._buffer))
        self._buffer = self._buffer[size:]
        self._discarding -= size
        if self._discarding:
            return None
        self._expects = _COMPLETE
        return END_OF_MESSAGE

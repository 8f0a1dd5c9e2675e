"""One client's connection: its requests, their responses in order, and its end.

State        What happens                                               Ends with
-----------  ---------------------------------------------------------  -------------------------
OPENING      the transport is being set up, with TLS by a handshake     IDLE
IDLE         no byte of a request has arrived                           HEAD CALLING
HEAD         a part of a head has arrived                               CALLING
CALLING      the application is given a head or content, and may        HELD BODY
             respond before it returns                                  RESPONDING DISCARDING
HELD         the application, or the loop's other work, comes first     BODY
             before more content                                        RESPONDING DISCARDING
BODY         more content has to arrive                                 CALLING
                                                                        RESPONDING DISCARDING
RESPONDING   the application has the whole request                      FLUSHING IDLE
DISCARDING   the response is complete; the rest of the request is       FLUSHING IDLE
             read and discarded
FLUSHING     both are complete; the client has to read the response     IDLE
LINGERING    no response will follow; received bytes are discarded, so  CLOSING
             that closing does not reset the connection (RFC 9112 §9.6)
CLOSING      the connection closes once everything has been sent        CLOSED
CLOSED       the transport is closed

From any state but OPENING and the last three, a connection can also go to LINGERING and to CLOSING.
From any state it can go to CLOSED.
"""

import asyncio
from math import inf

from tornado_members.http1.body_reading import BodyReading
from tornado_members.http1.exchange import ABANDONED, Exchange
from tornado_members.http1.heads import RequestHead
from tornado_members.http1.pace import PacedConnection
from tornado_members.http1.refusals import Refused
from tornado_members.http1.states import (
    BODY,
    CALLING,
    CLOSED,
    DISCARDING,
    ENDING,
    FLUSHING,
    HEAD,
    HELD,
    IDLE,
    LINGERING,
    RESPONDING,
)


class Connection(BodyReading, PacedConnection):
    """Drives one connection. The server calls `expire` when `deadline` has passed."""

    # asyncio calls these.

    def connection_made(  # type: ignore[override]  # asyncio declares a BaseTransport
        self, transport: asyncio.Transport
    ) -> None:
        self.transport = transport
        self.writer.begin(transport)
        self.state = IDLE
        self.deadline = self._loop.time() + self._limits.idle_seconds

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state is IDLE or state is HEAD:
            self._read_head(data)
        elif state is BODY:
            self._read_body(data)
        elif state is DISCARDING:
            self._discard(data)
        elif state not in ENDING:
            self._reader.feed(data)
            self._limit_read_ahead()

    def eof_received(self) -> bool:
        """Return True to keep the connection: the client may still read, except with TLS."""
        self._has_ended = True
        if not self.transport.can_write_eof():
            return False
        state, exchange = self.state, self.exchange
        if state is LINGERING:
            self.close()
        elif state is IDLE:  # a request that waits in the buffer has its turn soon
            return not self._reader.is_blank
        elif state is HEAD or state is DISCARDING:
            return False
        elif state is BODY:
            self._await_body()
        elif exchange is not None and exchange.is_notified:
            self._await_orphan()
            exchange.notify_close()  # the client may have disconnected; there is no way to know
        return True

    def pause_writing(self) -> None:
        self.writer.pause()

    def resume_writing(self) -> None:
        self.writer.resume()
        # Not now: asyncio would call `connection_lost` twice if the connection was closed in here.
        self._loop.call_soon(self._continue_after_flush)

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = CLOSED
        self.deadline = inf
        exchange, self.exchange = self.exchange, None
        self._reader.clear()
        self._release_body()
        if exchange is not None and not exchange.is_closed:
            if exchange.is_notified:
                exchange.response = ABANDONED
                exchange.notify_close()
            else:
                exchange.abandon()
        self.writer.lose(exc)
        self.server.forget(self)

    # Reading a request.

    def _read_head(self, data: bytes = b"") -> None:
        try:
            head = self._reader.receive(data)
        except Refused as refused:
            self.refuse(refused)
            return
        if isinstance(head, RequestHead):
            self.deadline = inf
            self._begin(head)
            return
        if self.state is IDLE and self._reader.has_partial_head:
            self.state = HEAD
            self.deadline = self._loop.time() + self._limits.head_seconds
        if self._has_ended:
            self.close()

    def _begin(self, head: RequestHead) -> None:
        exchange = self.exchange = Exchange(self, head, self._limits.body_bytes)
        self.is_known = True
        self.state = CALLING
        try:
            exchange.delegate = self.server.delegate.start_request(self, exchange)
            waiting = exchange.delegate.headers_received(head.start_line, head.headers)
        except Exception as error:  # noqa: BLE001  # any application may raise any
            self._fail(exchange, error)
        else:
            if waiting is None and self.state is CALLING:
                self._accept_body(exchange)
            else:
                self._after_call(exchange, waiting, self._accept_body)

    # From one request to the next.

    def response_complete(self, exchange: Exchange) -> None:
        """Continue after a response. In CALLING, the caller of the application does that."""
        if self.state is RESPONDING:
            self._end_exchange()
        elif self.state is BODY or self.state is HELD:
            self._end_early(exchange)

    def _end_exchange(self) -> None:
        """The request and its response are complete. The next request waits until it is read."""
        if self._body_timer is not None:
            self._release_body()
            self._body_timer = None
        if self.writer.paused:
            self.state = FLUSHING
        else:
            self._next_request()

    def _continue_after_flush(self) -> None:
        if self.state is FLUSHING and not self.writer.paused:
            self._next_request()

    def _next_request(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        exchange.response = ABANDONED
        has_more = not self._reader.is_blank
        if not exchange.keep_alive or (self.server.is_draining and not has_more):
            if has_more:
                self._linger()
            else:
                self.close()
            return
        self._reader.next_request()
        self.state = IDLE
        self.deadline = self._loop.time() + self._limits.idle_seconds
        if has_more:
            self._loop.call_soon(self._read_next)  # in its turn: other connections wait, too
        elif self._has_ended:
            self.close()
        if not self._is_reading:
            self._resume_reading()

    def _read_next(self) -> None:
        if self.state is IDLE:
            self._read_head()

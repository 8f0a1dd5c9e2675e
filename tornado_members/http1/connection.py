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
             read and dropped
FLUSHING     both are complete; the client has to read the response     IDLE
LINGERING    no response will follow; what arrives is dropped, so that  CLOSING
             closing does not reset the connection (RFC 9112 §9.6)
CLOSING      the connection closes once everything has been sent        CLOSED
CLOSED       the transport is gone

From any state but OPENING and the last three, a connection can also go to LINGERING and to CLOSING.
From any state it can go to CLOSED.
"""

import asyncio
import os
import socket
from asyncio import Future
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from logging import getLogger
from math import inf
from typing import Any, Protocol

from tornado.httputil import HTTPInputError, HTTPServerConnectionDelegate
from tornado.iostream import IOStream, StreamClosedError

from tornado_members.http1.body_timer import BodyTimer
from tornado_members.http1.budget import ByteBudget, SharedBytesBudget
from tornado_members.http1.events import Data
from tornado_members.http1.exchange import ABANDONED, COMPLETE, PENDING, STARTED, Exchange
from tornado_members.http1.limits import Limits
from tornado_members.http1.peer import Peer
from tornado_members.http1.refusals import Refused, Render, TooManyBodies, whole_response
from tornado_members.http1.request_head import RequestHead
from tornado_members.http1.request_reader import RequestReader
from tornado_members.http1.response_writer import ResponseWriter

log = getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class State(Enum):
    """See the table above."""

    OPENING = auto()
    IDLE = auto()
    HEAD = auto()
    CALLING = auto()
    HELD = auto()
    BODY = auto()
    RESPONDING = auto()
    DISCARDING = auto()
    FLUSHING = auto()
    LINGERING = auto()
    CLOSING = auto()
    CLOSED = auto()


# Python 3.11 runs Python code for each look-up of a member. These names are looked up once.
(
    OPENING,
    IDLE,
    HEAD,
    CALLING,
    HELD,
    BODY,
    RESPONDING,
    DISCARDING,
    FLUSHING,
    LINGERING,
    CLOSING,
    CLOSED,
) = State
_ENDING = frozenset({LINGERING, CLOSING, CLOSED})
_AWAITS_CONTENT = frozenset({CALLING, HELD, BODY})


class ConnectionOwner(Protocol):
    """The server, as a connection uses it."""

    delegate: HTTPServerConnectionDelegate
    limits: Limits
    render: Render
    done: "Future[None]"
    body_budget: ByteBudget
    response_budget: SharedBytesBudget
    is_draining: bool

    def refuse_slow_bodies(self) -> None:
        """Free memory in the body budget, if possible."""
        ...

    def forget(self, connection: Any) -> None:
        """Take a closed connection off the books."""
        ...


class Connection(asyncio.Protocol):
    """Drives one connection. The server calls `expire` when `deadline` has passed."""

    transport: asyncio.Transport

    def __init__(
        self, server: ConnectionOwner, loop: asyncio.AbstractEventLoop, peer: Peer
    ) -> None:
        self.peer = peer
        self.state = OPENING
        self.deadline = inf  # for the client to send something
        self.exchange: Exchange | None = None  # the request that is read or answered
        self.writer = ResponseWriter(loop, server.limits, server.done, server.response_budget)
        self.is_known = False  # to the application
        self._reader = RequestReader(server.limits)
        self._body_timer: BodyTimer | None = None
        self._body_held = 0  # bytes of this request's body that the application holds
        self._entered_at = loop.time()  # OPENING, HELD or LINGERING
        self._has_ended = False  # the client has closed its sending side
        self._is_reading = True
        self._server = server
        self._limits = server.limits
        self._loop = loop

    # What the server asks.

    @property
    def idle_since(self) -> float:
        """Return since when the connection has been idle, by the loop's clock; inf if it is not."""
        if self.state is not IDLE or not self._reader.is_blank:
            return inf
        return self.deadline - self._limits.idle_seconds

    @property
    def buffered(self) -> int:
        """The number of received bytes that wait to be parsed."""
        return self._reader.buffered

    def rate(self, now: float, settled_seconds: float) -> float | None:
        """Return at how many bytes per second the client sends or reads what is waited for.

        None if the client is not waited for, or for less than `settled_seconds`.
        """
        if self.state in (OPENING, LINGERING) and not self.writer.paused:
            return 0.0 if now - self._entered_at >= settled_seconds else None
        if self.writer.paused:
            return self.writer.rate(now, settled_seconds)
        if self.state is HEAD:
            seconds = now - (self.deadline - self._limits.head_seconds)
            return self._reader.buffered / seconds if seconds >= settled_seconds else None
        if self.state is DISCARDING and self._body_timer is not None:
            return self._body_timer.rate(now, settled_seconds)
        return self.body_rate(now, settled_seconds)

    def body_rate(self, now: float, settled_seconds: float) -> float | None:
        """Return the same for a body that the application is to get."""
        if self.state is not BODY or self._body_timer is None:
            return None
        return self._body_timer.rate(now, settled_seconds)

    # asyncio calls these.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
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
        elif state not in _ENDING:
            self._reader.feed(data)
            self._limit_read_ahead()

    def eof_received(self) -> bool:
        """Return True to keep the connection: the client may still read. TLS has no halves."""
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
        self._loop.call_soon(self._go_on_after_flush)

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
        self._server.forget(self)

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
            exchange.delegate = self._server.delegate.start_request(self, exchange)
            waiting = exchange.delegate.headers_received(head.start_line, head.headers)
        except Exception as error:  # noqa: BLE001
            self._fail(exchange, error)
        else:
            if waiting is None and self.state is CALLING:
                self._accept_body(exchange)
            else:
                self._after_call(exchange, waiting, self._accept_body)

    def _after_call(
        self,
        exchange: Exchange,
        waiting: Awaitable[None] | None,
        then: Callable[[Exchange], None],
    ) -> None:
        """Go on after a call of the application, once it is ready for more."""
        if self.state is not CALLING:  # it has closed the connection
            return
        if waiting is None:
            then(exchange)
            return
        self.state = HELD
        self.deadline = inf
        self._entered_at = self._loop.time()
        self._limit_read_ahead()
        asyncio.ensure_future(waiting).add_done_callback(partial(self._released, exchange, then))

    def _released(
        self, exchange: Exchange, then: Callable[[Exchange], None], waited: "Future[None]"
    ) -> None:
        """The application is ready for more."""
        error = None if waited.cancelled() else waited.exception()
        if self.state is not HELD or exchange is not self.exchange:
            return
        if self._body_timer is not None:
            self._body_timer.skip(self._loop.time() - self._entered_at)
        if waited.cancelled():
            self.close()
        elif isinstance(error, Exception):
            self._fail(exchange, error)
        else:
            then(exchange)

    def _accept_body(self, exchange: Exchange) -> None:
        """The application has seen the head."""
        if exchange.response is COMPLETE:
            self._end_early(exchange)
            return
        head = exchange.head
        if not head.has_body:
            self._end_request(exchange)
            return
        try:
            self._reader.accept_body(exchange.max_body_size)
        except Refused as refused:
            self.refuse(refused)
            return
        is_pending = exchange.response is PENDING
        if head.expects_continue and is_pending and not self._reader.buffered:
            self.writer.send(_CONTINUE)
        self._body_timer = BodyTimer(self._limits, self._loop.time(), exchange.body_timeout)
        self.state = BODY
        self._read_body()

    def _read_body(self, data: bytes = b"") -> None:
        exchange = self.exchange
        if exchange is None:
            return
        try:
            event = self._reader.receive(data)
        except Refused as refused:
            self.refuse(refused)
            return
        if event is None:
            self._await_body()
        elif isinstance(event, Data):
            self._deliver(exchange, event.content)
        else:
            self._end_request(exchange)

    def _deliver(self, exchange: Exchange, content: bytes) -> None:
        """Give the application content. It holds what it does not ask time to consume."""
        if self._body_timer is not None:
            self._body_timer.add(len(content))
        self.state = CALLING
        try:
            waiting = exchange.delegate.data_received(content)
            if waiting is None:
                self._hold_body(len(content))
        except Refused as refused:
            self.refuse(refused)
        except Exception as error:  # noqa: BLE001
            self._fail(exchange, error)
        else:
            self._after_call(exchange, waiting, self._go_on_with_body)

    def _go_on_with_body(self, exchange: Exchange) -> None:
        """Read on, one piece per turn of the loop: other connections are served in between."""
        if exchange.response is COMPLETE:
            self._end_early(exchange)
        elif self._reader.buffered and not self._reader.is_body_complete:
            self.state = HELD
            self._entered_at = self._loop.time()
            self._limit_read_ahead()
            self._loop.call_soon(self._resume_body, exchange)
        else:
            self.state = BODY
            self._read_body()

    def _resume_body(self, exchange: Exchange) -> None:
        if self.state is HELD and exchange is self.exchange:
            self.state = BODY
            self._read_body()

    def _await_body(self) -> None:
        if self._has_ended:
            if self.exchange is not None:
                self.exchange.abandon()
            self.close()
        elif self._body_timer is not None:
            self.deadline = self._body_timer.deadline(self._loop.time())
            self._resume_reading()

    def _end_request(self, exchange: Exchange) -> None:
        self.state = RESPONDING
        self.deadline = inf
        if self.writer.paused:
            self.writer.restart_wait(self._loop.time())
        if self._has_ended:
            self._await_orphan()
        exchange.is_notified = True
        try:
            exchange.delegate.finish()
        except Exception as error:  # noqa: BLE001
            self._fail(exchange, error)

    def _await_orphan(self) -> None:
        """Bound the wait for a response to a client that may have disconnected."""
        self.deadline = self._loop.time() + self._limits.orphan_seconds

    # From one request to the next.

    def response_complete(self, exchange: Exchange) -> None:
        """Go on after a response. In CALLING, the caller of the application does."""
        if self.state is RESPONDING:
            self._end_exchange()
        elif self.state is BODY or self.state is HELD:
            self._end_early(exchange)

    def _end_early(self, exchange: Exchange) -> None:
        """The response is complete, and the application does not know the end of the request."""
        unread = self._reader.unread_body
        if unread != 0 and not (exchange.keep_alive and self._can_discard()):
            self._linger()
            return
        exchange.abandon()
        self._reader.discard_body()
        self._body_timer = BodyTimer(self._limits, self._loop.time(), None)
        self.state = DISCARDING
        self._discard()

    def _can_discard(self) -> bool:
        """True if the rest of the request's body is short enough to be read and dropped."""
        unread, exchange = self._reader.unread_body, self.exchange
        if unread is None or exchange is None or exchange.head.expects_continue:
            return unread == 0
        return exchange.head.length <= self._limits.discard_bytes

    def leaves_body_unread(self) -> bool:
        """True if the connection has to close after a response that is sent now."""
        return self._reader.unread_body != 0 and not self._can_discard()

    def _discard(self, data: bytes = b"") -> None:
        if self._reader.receive(data) is not None:
            self._end_exchange()
        elif self._body_timer is not None:
            self._body_timer.add(len(data))
            self.deadline = self._body_timer.deadline(self._loop.time())
            self._resume_reading()

    def _end_exchange(self) -> None:
        """The request and its response are complete. The next request waits until it is read."""
        if self._body_timer is not None:
            self._release_body()
            self._body_timer = None
        if self.writer.paused:
            self.state = FLUSHING
        else:
            self._next_request()

    def _go_on_after_flush(self) -> None:
        if self.state is FLUSHING and not self.writer.paused:
            self._next_request()

    def _next_request(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        exchange.response = ABANDONED
        has_more = not self._reader.is_blank
        if not exchange.keep_alive or (self._server.is_draining and not has_more):
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

    # Memory and flow.

    def _hold_body(self, size: int) -> None:
        """Count bytes that the application holds. Raises Refused if no memory can be freed."""
        self._body_held += size
        budget = self._server.body_budget
        if not budget.add(size):
            self._server.refuse_slow_bodies()
            if budget.is_exceeded:
                raise TooManyBodies

    def _release_body(self) -> None:
        self._server.body_budget.release(self._body_held)
        self._body_held = 0

    def _limit_read_ahead(self) -> None:
        if self._reader.buffered > self._limits.read_ahead_bytes:
            self._pause_reading()

    def _pause_reading(self) -> None:
        if self._is_reading and not self._has_ended:
            self._is_reading = False
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._is_reading and self.state is not CLOSED:
            self._is_reading = True
            self.transport.resume_reading()

    # The end.

    @property
    def is_draining(self) -> bool:
        """True if each response should be the last one on its connection."""
        return self._server.is_draining

    def close(self) -> None:
        """Close the connection once everything has been sent."""
        if self.state in (OPENING, CLOSING, CLOSED):
            return
        self.state = CLOSING
        self.deadline = inf
        self._reader.clear()
        if self.writer.paused:
            self._pause_reading()
        self.writer.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.state not in (OPENING, CLOSED):
            self.state = CLOSING
            self.transport.abort()

    def drain(self) -> None:
        """Close the connection if it is idle. Others close after their response."""
        if self.state is IDLE and self._reader.is_blank:
            self.close()

    def give_way(self) -> None:
        """Close the connection of a slow client, so that another client can have one."""
        log.info("%s is too slow, and makes room for another client", self.peer)
        if self.state in (HEAD, BODY) and not self.writer.paused:
            self.refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The request arrives too slowly."))
            self.close()  # without waiting for what else the client may send
        else:
            self.abort()

    def abort_slow_reader(self) -> None:
        """Close the connection at once, and free the memory of what its client has not read."""
        log.info("%s is closed: its unread response takes too much memory", self.peer)
        self.abort()
        self.writer.lose(None)  # now, and not when the loop calls `connection_lost`

    def expire(self, now: float) -> None:
        """End what has taken too long."""
        # Many clients send all of their body before they read. It has a deadline of its own.
        reads_too_slowly = now >= self.writer.deadline and self.writer.reads_too_slowly(now)
        if reads_too_slowly and self.state not in _AWAITS_CONTENT:
            log.info("%s reads its response too slowly", self.peer)
            self.abort()
        elif now < self.deadline:
            return
        elif self.state in (HEAD, BODY):
            self.refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive."))
        elif self.state is IDLE:
            self.close()
        elif self.state in (RESPONDING, FLUSHING) and self._has_response_started:
            self.deadline = inf  # whether the client is still there, the writer finds out
        else:
            self.abort()

    @property
    def _has_response_started(self) -> bool:
        return self.exchange is not None and self.exchange.response is not PENDING

    def refuse(self, refused: Refused) -> None:
        """Respond instead of the application, unless it has started to."""
        log.debug("refused a request of %s: %s", self.peer, refused.reason)
        exchange = self.exchange
        is_head, origin = self._reader.begins_with_head_method, self._reader.find_origin()
        if exchange is not None:
            is_head = exchange.head.start_line.method == "HEAD"
            origin = exchange.head.headers.get("Origin")
            has_started = exchange.response >= STARTED
            exchange.abandon()
            if has_started:
                self.close()  # half a response must not look like a whole one
                return
        headers, body = self._server.render(refused, self.peer.remote_ip, origin)
        self.writer.send(whole_response(refused, headers, body, with_body=not is_head))
        self._linger()

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        """The application has raised an exception that it should have handled."""
        if isinstance(error, HTTPInputError) and self.state not in _ENDING:
            self.refuse(Refused(HTTPStatus.BAD_REQUEST, "The request is malformed."))
            return
        if not isinstance(error, StreamClosedError):
            log.error("uncaught exception", exc_info=error)
        exchange.abandon()
        self.close()

    def _linger(self) -> None:
        if self.exchange is not None and not self.exchange.is_closed:
            self.exchange.abandon()
        self._release_body()
        self._reader.clear()
        self.state = LINGERING
        self._entered_at = self._loop.time()
        self.deadline = inf
        if self._has_ended:
            self.close()
            return
        self._resume_reading()
        self.writer.after_all(self._write_eof)

    def _write_eof(self) -> None:
        self.deadline = self._loop.time() + self._limits.linger_seconds
        if self.transport.can_write_eof():
            with suppress(OSError):  # it was reset, which the loop has yet to notice
                self.transport.write_eof()

    # For the application.

    def get_extra_info(self, name: str) -> Any:
        """Return what the transport knows under `name`."""
        return self.transport.get_extra_info(name)

    def detach(self) -> IOStream:
        """Return the socket as one of Tornado's streams. Raises NotImplementedError.

        A stream cannot take over the state of TLS, nor bytes that have been read.
        """
        if self.transport.get_extra_info("ssl_object") or self._reader.buffered:
            raise NotImplementedError("this connection cannot be detached")
        own = self.transport.get_extra_info("socket")
        taken = socket.socket(fileno=os.dup(own.fileno()))
        self.abort()
        return IOStream(taken)

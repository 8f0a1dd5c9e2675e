"""Read the body of a request, and give it to the application."""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf

from tornado_members.http1.body_timer import BodyTimer
from tornado_members.http1.connection_base import ConnectionBase
from tornado_members.http1.events import Data
from tornado_members.http1.exchange import COMPLETE, PENDING, Exchange
from tornado_members.http1.refusals import Refused
from tornado_members.http1.states import BODY, CALLING, DISCARDING, HELD, RESPONDING

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyReading(ConnectionBase):
    """The states CALLING, HELD, BODY and DISCARDING."""

    def _after_call(
        self,
        exchange: Exchange,
        waiting: Awaitable[None] | None,
        then: Callable[[Exchange], None],
    ) -> None:
        """Continue after a call of the application, once it is ready for more."""
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
        """Continue when the application is ready for more."""
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
        """Continue after the application has received the head."""
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
        """Pass content to the application, which holds it in memory unless it returns a future."""
        if self._body_timer is not None:
            self._body_timer.add(len(content))
        self.state = CALLING
        try:
            waiting = exchange.delegate.data_received(content)
            if waiting is None:
                self._hold_body(len(content))
        except Refused as refused:
            self.refuse(refused)
        except Exception as error:  # noqa: BLE001  # any application may raise any
            self._fail(exchange, error)
        else:
            self._after_call(exchange, waiting, self._continue_body)

    def _continue_body(self, exchange: Exchange) -> None:
        """Continue to read, one piece per turn of the loop: other clients are served in between."""
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
        delegate = exchange.delegate
        # It usually refers to the exchange: their memory would wait for a garbage collection.
        del exchange.delegate
        try:
            delegate.finish()
        except Exception as error:  # noqa: BLE001  # any application may raise any
            self._fail(exchange, error)

    def _await_orphan(self) -> None:
        """Bound the wait for a response to a client that may have disconnected."""
        self.deadline = self._loop.time() + self._limits.orphan_seconds

    # A response that is complete before the body.

    def _end_early(self, exchange: Exchange) -> None:
        """End a request whose response is complete before its body was read."""
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
        """True if the rest of the request's body is short enough to be read and discarded."""
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
        """Continue once the request and its response are complete."""
        raise NotImplementedError

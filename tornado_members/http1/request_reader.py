"""The way into a connection: from bytes to requests, and to the application that takes them.

    a head ──> headers_received ──> the body, piece by piece ──> finish
                       (either may make reading wait)

A request is read once the one before it is answered. What a client sends ahead of that stays here
up to a bound, and then in its own kernel.
"""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from tornado_members.http1.bodies import Body, SizedBody, make_body
from tornado_members.http1.budget import ByteBudget
from tornado_members.http1.exchange import Exchange
from tornado_members.http1.limits import Limits
from tornado_members.http1.refusals import Refused
from tornado_members.http1.request_head import (
    HeadParser,
    PartialHeadCheck,
    find_end_of_head,
    refuse_long_head,
    skip_empty_line,
)

if TYPE_CHECKING:
    from tornado_members.http1.connection import Connection

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestReader:
    """What one client sends, and how far it was read."""

    def __init__(
        self,
        connection: "Connection",
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        budget: ByteBudget,
    ) -> None:
        """`budget` counts the bytes of bodies that the application holds."""
        self.deadline = inf
        self.unread = b""
        self.watch: PartialHeadCheck | None = None  # while a head comes in pieces
        self.body: Body | None = None  # while it is read
        self.discarding = 0  # bytes that are left of a body nobody reads
        self._discard_deadline = inf
        self.calling = False  # the application, which may answer before it returns
        self._connection = connection
        self._loop = loop
        self._limits = limits
        self._budget = budget
        self._buffered = 0  # bytes of this body that the application holds
        self._body_began = 0.0
        self._body_received = 0  # bytes
        self._heads = HeadParser(limits)
        self._body_deadline = inf  # for all of it, as the application has set it
        self._body_patience = inf  # for all of it, further off with each byte
        self._held_since = 0.0
        self._held = False  # the application wants nothing more for now
        self._paused = False

    @property
    def is_blank(self) -> bool:
        """True if no byte of a request has arrived."""
        return self.unread in (b"", b"\r", b"\r\n")

    def feed(self, data: bytes) -> None:
        """More has come."""
        self.unread = self.unread + data if self.unread else data
        exchange = self._connection.exchange
        if self.discarding:
            self._discard_more()
        elif exchange is None:
            self.read_head()
        elif not self.go_on(exchange) and len(self.unread) > self._limits.read_ahead_bytes:
            self._pause()

    def go_on(self, exchange: Exchange) -> bool:
        """Read the body, if that is what is waited for."""
        if self.body is None or self._held:
            return False
        self._read_body(exchange)
        return True

    def forget(self) -> None:
        """Read nothing any more."""
        self.unread = b""
        self.watch = None
        self.body = None
        self.discarding = 0
        self.release_body()

    def discard(self, exchange: Exchange) -> None:
        """Read the rest of a body whose request has been answered, and keep nothing of it."""
        self.discarding = (
            self.body.left if isinstance(self.body, SizedBody) else exchange.head.length
        )
        self.body = None
        self._held = False
        now = self._loop.time()
        self._discard_deadline = (
            now + self._limits.body_seconds + self.discarding / self._limits.body_bytes_per_second
        )
        self._discard_more()

    def _discard_more(self) -> None:
        size = min(self.discarding, len(self.unread))
        self.unread = self.unread[size:]
        self.discarding -= size
        exchange = self._connection.exchange
        if self.discarding:
            self.deadline = min(
                self._loop.time() + self._limits.body_seconds, self._discard_deadline
            )
            self.resume()
        elif exchange is not None:
            self._connection.discarded(exchange)

    def release_body(self) -> None:
        """Count the request's body as no longer held: its exchange has ended."""
        self._budget.release(self._buffered)
        self._buffered = 0

    def body_rate(self, now: float, settled_seconds: float) -> float | None:
        """Return at how many bytes per second the body arrives.

        None if no body is awaited, or for less than `settled_seconds`.
        """
        seconds = now - self._body_began
        if self.body is None or self._held or seconds < settled_seconds:
            return None
        return self._body_received / seconds

    def rate(self, now: float, settled_seconds: float) -> float | None:
        """Return the same for whatever is awaited, which may also be a head."""
        if self.watch is None:
            return self.body_rate(now, settled_seconds)
        seconds = now - (self.deadline - self._limits.head_seconds)
        return len(self.unread) / seconds if seconds >= settled_seconds else None

    def read_head(self) -> None:
        """Read a request, if there is a whole head."""
        if self.is_blank:
            self._connection.close_if_ended()
            return
        try:
            if self.watch is None:
                self.unread = skip_empty_line(self.unread)
            end = find_end_of_head(self.unread)
            if end < 0:
                self._await_head()
                return
            head = self._heads.parse(self.unread[:end])
        except Refused as refused:
            self._connection.refuse(refused)
            return
        self.watch = None
        self.unread = self.unread[end:]
        self.deadline = inf
        self._begin(Exchange(self._connection, head, self._limits.body_bytes))

    def _await_head(self) -> None:
        if len(self.unread) > self._limits.head_bytes:
            refuse_long_head()
        if self.watch is None:
            self.watch = PartialHeadCheck()
            self.deadline = self._loop.time() + self._limits.head_seconds
        self.watch.look(self.unread)
        self._connection.close_if_ended()

    def _begin(self, exchange: Exchange) -> None:
        head = exchange.head
        self.calling = True
        try:
            exchange.delegate = self._connection.begin(exchange)
            waiting = exchange.delegate.headers_received(head.start_line, head.headers)
        except Exception as error:  # noqa: BLE001
            self._connection.fail(exchange, error)
            return
        finally:
            self.calling = False
        if waiting is None:
            self._begin_body(exchange)
        else:
            self._hold(exchange, waiting, self._begin_body)

    def _begin_body(self, exchange: Exchange) -> None:
        if exchange.finished:
            self._connection.end_early(exchange)
            return
        try:
            self.body = make_body(exchange.head, self._limits, exchange.max_body_size)
        except Refused as refused:
            self._connection.refuse(refused)
            return
        if self.body is None:
            self._end(exchange)
            return
        if exchange.head.expects_continue and not exchange.headers_written and not self.unread:
            self._connection.out.send(_CONTINUE)
        self._body_began = self._loop.time()
        self._body_received = 0
        self._body_patience = self._body_began + self._limits.body_seconds
        if exchange.body_timeout is not None:
            self._body_deadline = self._loop.time() + exchange.body_timeout
        self._read_body(exchange)

    def _read_body(self, exchange: Exchange) -> None:
        """Hand the application one piece of the body, or the end of it.

        The next piece waits for the next turn of the loop: however much a client sends at once,
        other connections are served in between.
        """
        body = self.body
        if body is None or self._held:
            return
        if self.unread and not body.complete and not exchange.finished:
            before = self.unread
            waiting = self._take_piece(exchange, body)
            if self.body is None:  # it was refused, or the application has failed
                return
            if waiting is not None:
                self._hold(exchange, waiting, self._read_body)
                return
            if self.unread and self.unread is not before and not body.complete:
                self._yield(exchange)
                return
        if exchange.finished:
            self._connection.end_early(exchange)
        elif body.complete:
            self.body = None
            self._body_deadline = inf
            self._end(exchange)
        else:
            self._await_body(exchange)

    def _take_piece(self, exchange: Exchange, body: Body) -> Awaitable[None] | None:
        """Return what the application wants to wait for before it takes more."""
        self.calling = True
        try:
            piece, self.unread = body.take(self.unread)
            exchange.body_left = not body.complete
            self._body_patience += len(piece) / self._limits.body_bytes_per_second
            return self._hand_over(exchange, piece) if piece else None
        except Refused as refused:
            self._connection.refuse(refused)
        except Exception as error:  # noqa: BLE001
            self._connection.fail(exchange, error)
        finally:
            self.calling = False
        return None

    def _hand_over(self, exchange: Exchange, piece: bytes) -> Awaitable[None] | None:
        """Give the application content. It keeps what it does not ask time to consume."""
        self._body_received += len(piece)
        waiting = exchange.delegate.data_received(piece)
        if waiting is None:
            self._buffered += len(piece)
            self._budget.add(len(piece))
            if self._budget.is_exceeded:
                self._connection.make_room_for_body()
        return waiting

    def _yield(self, exchange: Exchange) -> None:
        """Go on with the body in the next turn of the loop."""
        self._held = True
        if len(self.unread) > self._limits.read_ahead_bytes:
            self._pause()
        self._loop.call_soon(self._go_on_after_turn, exchange)

    def _go_on_after_turn(self, exchange: Exchange) -> None:
        self._held = False
        if not exchange.closed:
            self._read_body(exchange)

    def _await_body(self, exchange: Exchange) -> None:
        if self._connection.eof:
            self._connection.abandon(exchange)
            self._connection.close()
            return
        now = self._loop.time()
        self.deadline = min(
            now + self._limits.body_seconds, self._body_patience, self._body_deadline
        )
        self.resume()

    def _end(self, exchange: Exchange) -> None:
        self.deadline = inf
        if self._connection.eof:
            self.await_orphan()
        exchange.told = True
        try:
            exchange.delegate.finish()
        except Exception as error:  # noqa: BLE001
            self._connection.fail(exchange, error)

    def await_orphan(self) -> None:
        """Wait for an answer to a client that may have gone, and not for ever."""
        self.deadline = self._loop.time() + self._limits.orphan_seconds

    def _hold(
        self, exchange: Exchange, waiting: Awaitable[None], then: Callable[[Exchange], None]
    ) -> None:
        """Read nothing more until the application is ready for it."""
        self._held = True
        self._held_since = self._loop.time()
        self.deadline = inf
        if len(self.unread) > self._limits.read_ahead_bytes:
            self._pause()
        asyncio.ensure_future(waiting).add_done_callback(partial(self._released, exchange, then))

    def _released(
        self, exchange: Exchange, then: Callable[[Exchange], None], waited: "Future[None]"
    ) -> None:
        self._held = False
        held_seconds = self._loop.time() - self._held_since
        self._body_patience += held_seconds
        self._body_began += held_seconds
        error = None if waited.cancelled() else waited.exception()
        if exchange.closed:
            return
        if waited.cancelled():
            self._connection.close()
        elif isinstance(error, Exception):
            self._connection.fail(exchange, error)
        else:
            then(exchange)

    def _pause(self) -> None:
        if not self._paused and not self._connection.eof:
            self._paused = True
            self._connection.transport.pause_reading()

    def stop(self) -> None:
        """Read nothing more: the connection is about to close."""
        self._pause()

    def resume(self) -> None:
        """Have more come, if it was to wait."""
        if self._paused and not self._connection.lost:
            self._paused = False
            self._connection.transport.resume_reading()

"""One client's connection: bytes in, requests one after the other, answers out.

A request is read once the one before it is answered, so answers are in order, and what a client
sends ahead of them stays in a buffer that has a bound, and then in its own kernel.

    waiting for a head ──> headers_received ──> body, piece by piece ──> finish ──> answered
            ^                     (either may make reading wait)                       │
            └──────────────────────────────────────────────────────────────────────────┤
                                            refused, or a body nobody reads ──> lingering ──> closed
"""

import asyncio
import os
import socket
from asyncio import Future
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from logging import getLogger
from math import inf
from typing import TYPE_CHECKING

from tornado.httputil import HTTPInputError
from tornado.iostream import IOStream, StreamClosedError

from tornado_members.transport.bodies import Body, make_body
from tornado_members.transport.exchange import Exchange
from tornado_members.transport.heads import (
    HeadParser,
    HeadWatch,
    find_end_of_head,
    refuse_long_head,
)
from tornado_members.transport.peer import Peer
from tornado_members.transport.refusals import Refused, whole_answer

if TYPE_CHECKING:
    from tornado_members.transport.server import FastServer

log = getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Drives one connection; the server looks at its deadlines from time to time."""

    transport: asyncio.Transport

    def __init__(self, server: "FastServer", loop: asyncio.AbstractEventLoop, peer: Peer) -> None:
        self.peer = peer
        self.draining = False
        self.read_deadline = inf
        self.write_deadline = inf
        self._server = server
        self._limits = server.limits
        self._loop = loop
        self._heads = HeadParser(server.limits)
        self._watch: HeadWatch | None = None  # while a head comes in pieces
        self._unread = b""
        self._exchange: Exchange | None = None  # the request that is read or answered
        self._body: Body | None = None  # while it is read
        self._body_deadline = inf  # for all of it
        self._calling = False  # the application, which may answer before it returns
        self._held = False  # the application wants nothing more for now
        self._began = False  # whether the application knows of this connection
        self._eof = False
        self._lingering = False
        self._lost = False
        self._reading_paused = False
        self._writing_paused = False
        self._unsent = 0  # bytes, when it was last looked at
        self._waiting_writes: list[Future[None]] = []

    # asyncio calls these.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        # Paused as long as a byte is unsent: futures of writes mean that the kernel has taken it.
        transport.set_write_buffer_limits(high=1, low=0)
        self.read_deadline = self._loop.time() + self._limits.idle_seconds

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        self._unread = self._unread + data if self._unread else data
        exchange = self._exchange
        if exchange is None:
            self._read_head()
        elif self._body is not None and not self._held:
            self._read_body(exchange)
        elif len(self._unread) > self._limits.read_ahead_bytes:
            self._pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; it may still read."""
        self._eof = True
        exchange = self._exchange
        if self._lingering or (exchange is None and (self._watch or not self._unread)):
            return False
        if not self.transport.can_write_eof():  # TLS has no half of a connection
            return False
        if exchange is None:
            return True  # what is unread has its turn soon
        if not exchange.told:
            if self._body is not None and not self._held:
                self._read_body(exchange)
            return True
        self.read_deadline = self._loop.time() + self._limits.orphan_seconds
        self._tell_of_close(exchange)  # it may as well have gone for good: nobody can know
        return True

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self.write_deadline = self._loop.time() + self._limits.write_seconds

    def resume_writing(self) -> None:
        self._writing_paused = False
        self.write_deadline = inf
        waiting, self._waiting_writes = self._waiting_writes, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        exchange = self._exchange
        if exchange is not None and exchange.finished and not self._lingering:
            self._next_request(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.read_deadline = self.write_deadline = inf
        self._unread = b""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.closed:
            exchange.closed = True
            if exchange.told:
                self._tell_of_close(exchange)
            else:
                self._abandon(exchange)
        waiting, self._waiting_writes = self._waiting_writes, []
        for future in waiting:
            if not future.done():
                future.set_exception(StreamClosedError(exc))
                future.exception()  # nobody has to wait for it
        self._server.forget(self, began=self._began)

    # Reading.

    def _read_head(self) -> None:
        """Read a request, if there is a whole head."""
        if self._watch is None:
            self._unread = _without_empty_lines(self._unread)
            if self._unread in (b"", b"\r"):
                self._close_if_ended()
                return
        try:
            end = find_end_of_head(self._unread)
            if end < 0:
                self._await_head()
                return
            head = self._heads.parse(self._unread[:end])
        except Refused as refused:
            self._refuse(refused)
            return
        self._watch = None
        self._unread = self._unread[end:]
        self.read_deadline = inf
        self._exchange = exchange = Exchange(self, head, self._limits.body_bytes)
        self._began = self._calling = True
        try:
            exchange.delegate = self._server.delegate.start_request(self, exchange)
            waiting = exchange.delegate.headers_received(head.start_line, head.headers)
        except Exception as error:  # noqa: BLE001
            self._fail(exchange, error)
            return
        finally:
            self._calling = False
        if waiting is None:
            self._begin_body(exchange)
        else:
            self._hold(exchange, waiting, self._begin_body)

    def _await_head(self) -> None:
        if len(self._unread) > self._limits.head_bytes:
            refuse_long_head()
        if self._watch is None:
            self._watch = HeadWatch()
            self.read_deadline = self._loop.time() + self._limits.head_seconds
        self._watch.look(self._unread)
        self._close_if_ended()

    def _begin_body(self, exchange: Exchange) -> None:
        if exchange.finished:
            self._end_early(exchange)
            return
        try:
            self._body = make_body(exchange.head, self._limits, exchange.max_body_size)
        except Refused as refused:
            self._refuse(refused)
            return
        if self._body is None:
            self._end_body(exchange)
            return
        if exchange.head.expects_continue and not exchange.headers_written and not self._unread:
            self.send(_CONTINUE)
        if exchange.body_timeout is not None:
            self._body_deadline = self._loop.time() + exchange.body_timeout
        self._read_body(exchange)

    def _read_body(self, exchange: Exchange) -> None:
        """Hand over what there is of the body, as long as the application takes it."""
        while self._body is not None and not self._held:
            if exchange.finished:
                self._end_early(exchange)
                return
            if self._body.complete:
                self._body = None
                self._body_deadline = inf
                self._end_body(exchange)
                return
            if not self._unread:
                self._await_body(exchange)
                return
            self._calling = True
            try:
                piece, self._unread = self._body.take(self._unread)
                exchange.body_left = not self._body.complete
                waiting = exchange.delegate.data_received(piece) if piece else None
            except Refused as refused:
                self._refuse(refused)
                return
            except Exception as error:  # noqa: BLE001
                self._fail(exchange, error)
                return
            finally:
                self._calling = False
            if waiting is not None:
                self._hold(exchange, waiting, self._read_body)

    def _await_body(self, exchange: Exchange) -> None:
        if self._eof:
            self._abandon(exchange)
            self.close()
            return
        now = self._loop.time()
        self.read_deadline = min(now + self._limits.body_seconds, self._body_deadline)
        self._resume_reading()

    def _end_body(self, exchange: Exchange) -> None:
        self.read_deadline = inf
        exchange.told = True
        try:
            exchange.delegate.finish()
        except Exception as error:  # noqa: BLE001
            self._fail(exchange, error)

    def _end_early(self, exchange: Exchange) -> None:
        """The answer was there before the application was told that the request had ended."""
        if exchange.body_left:
            self._linger()
        else:
            self._abandon(exchange)
            if not self._writing_paused:
                self._next_request(exchange)

    def _hold(
        self, exchange: Exchange, waiting: Awaitable[None], then: Callable[[Exchange], None]
    ) -> None:
        """Read nothing more until the application is ready for it."""
        self._held = True
        self.read_deadline = inf
        if len(self._unread) > self._limits.read_ahead_bytes:
            self._pause_reading()
        asyncio.ensure_future(waiting).add_done_callback(partial(self._released, exchange, then))

    def _released(
        self, exchange: Exchange, then: Callable[[Exchange], None], waited: "Future[None]"
    ) -> None:
        self._held = False
        error = None if waited.cancelled() else waited.exception()
        if exchange.closed or self._lingering:
            return
        if waited.cancelled():
            self.close()
        elif isinstance(error, Exception):
            self._fail(exchange, error)
        else:
            then(exchange)

    # Writing: what an exchange asks for.

    def send(self, data: bytes) -> "Future[None]":
        """Write; the future is done when the kernel has everything."""
        self.transport.write(data)
        if not self._writing_paused:
            return self._server.done
        future = self._loop.create_future()
        self._waiting_writes.append(future)
        return future

    def failed(self, error: Exception) -> "Future[None]":
        """The future of a write that is in vain."""
        future = self._loop.create_future()
        future.set_exception(error)
        future.exception()  # nobody has to wait for it
        return future

    def answered(self, exchange: Exchange) -> None:
        """The exchange is finished. What comes next has to wait until the client has read it."""
        exchange.close_callback = None
        if self._calling:
            return  # whoever calls the application now will notice
        if not exchange.told:
            self._end_early(exchange)
        elif not self._writing_paused:
            self._next_request(exchange)

    def _next_request(self, exchange: Exchange) -> None:
        self._exchange = None
        exchange.closed = True
        if exchange.no_keep_alive or (self.draining and not self._unread):
            self._finish_connection()
            return
        self.read_deadline = self._loop.time() + self._limits.idle_seconds
        if self._unread:
            # In its turn: others are waiting, too.
            self._loop.call_soon(self._read_next)
        elif self._eof:
            self.close()
        self._resume_reading()

    def _read_next(self) -> None:
        if self._exchange is None and not self._lost and not self._lingering:
            self._read_head()

    # Ends.

    def close(self) -> None:
        """Close, once what was written has left."""
        if not self._lost:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if not self._lost:
            self.transport.abort()

    def drain(self) -> None:
        """Close, as soon as nothing is under way."""
        self.draining = True
        if self._exchange is None and not self._unread:
            self.close()

    def detach(self) -> IOStream:
        """The socket, as one of Tornado's streams. Raises NotImplementedError.

        The state of TLS, and what was sent ahead of the answer, cannot be put into one.
        """
        if self.transport.get_extra_info("ssl_object") or self._unread:
            raise NotImplementedError("this connection cannot be detached")
        own = self.transport.get_extra_info("socket")
        taken = socket.socket(fileno=os.dup(own.fileno()))
        self.abort()
        return IOStream(taken)

    def expire(self, now: float) -> None:
        """End what has taken too long, if anything has."""
        if now >= self.write_deadline:
            unsent = self.transport.get_write_buffer_size()
            if unsent >= self._unsent:
                log.info("%s reads nothing", self.peer)
                self.abort()
                return
            self._unsent = unsent
            self.write_deadline = now + self._limits.write_seconds
        if now < self.read_deadline:
            return
        if self._lingering or (self._exchange is not None and self._body is None):
            self.abort()
        elif self._body is not None or self._watch is not None:
            self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to come."))
        else:
            self.close()

    def _close_if_ended(self) -> None:
        if self._eof:
            self.close()

    def _refuse(self, refused: Refused) -> None:
        """Answer in the application's place, if it has not begun to."""
        log.debug("refused a request of %s: %s", self.peer, refused.reason)
        exchange = self._exchange
        is_head = self._unread.startswith(b"HEAD ")
        if exchange is not None:
            is_head = exchange.head.start_line.method == "HEAD"
            self._abandon(exchange)
            if exchange.headers_written:
                self.close()  # half an answer must not look like a whole one
                return
        self.transport.write(whole_answer(refused, self._server.render, with_body=not is_head))
        self._linger()

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        """The application has failed where it should not."""
        if isinstance(error, HTTPInputError):
            self._refuse(Refused(HTTPStatus.BAD_REQUEST, "The request is malformed."))
            return
        if not isinstance(error, StreamClosedError):
            log.error("uncaught exception", exc_info=error)
        self._abandon(exchange)
        self.close()

    def _abandon(self, exchange: Exchange) -> None:
        """Tell the application that the rest of a request will not come."""
        self._body = None
        exchange.closed = True
        if hasattr(exchange, "delegate") and not exchange.told:
            exchange.told = True
            try:
                exchange.delegate.on_connection_close()
            except Exception:
                log.exception("uncaught exception")

    def _tell_of_close(self, exchange: Exchange) -> None:
        callback, exchange.close_callback = exchange.close_callback, None
        if callback is not None:
            try:
                callback()
            except Exception:
                log.exception("uncaught exception")

    def _finish_connection(self) -> None:
        """Close behind an answer; what was sent behind its request is not waited for."""
        if self._unread:
            self._linger()
        else:
            self.close()

    def _linger(self) -> None:
        """Say that nothing more comes, and throw away what does.

        Closing at once would make the kernel reset the connection, and the client might never see
        its answer (RFC 9112 §9.6).
        """
        exchange = self._exchange
        if exchange is not None and not exchange.closed:
            self._abandon(exchange)
        self._lingering = True
        self._unread = b""
        self._watch = None
        self.read_deadline = self._loop.time() + self._limits.linger_seconds
        if self._eof:
            self.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._resume_reading()

    # Flow.

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._eof:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._lost:
            self._reading_paused = False
            self.transport.resume_reading()


def _without_empty_lines(data: bytes) -> bytes:
    """Some clients send one behind a body (RFC 9112 §2.2)."""
    while data.startswith(b"\r\n"):
        data = data[2:]
    return data

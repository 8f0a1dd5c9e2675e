"""The parts of a connection, and the ways in which it ends."""

import asyncio
import os
import socket
from asyncio import Future
from contextlib import suppress
from http import HTTPStatus
from logging import getLogger
from math import inf
from typing import Any, Protocol

from tornado.httputil import HTTPInputError, HTTPServerConnectionDelegate
from tornado.iostream import IOStream, StreamClosedError

from tornado_members.http1.body_timer import BodyTimer
from tornado_members.http1.budget import ByteBudget, SharedBytesBudget
from tornado_members.http1.exchange import STARTED, Exchange
from tornado_members.http1.limits import Limits
from tornado_members.http1.peer import Peer
from tornado_members.http1.refusals import Refused, Render, TooManyBodies, whole_response
from tornado_members.http1.request_reader import RequestReader
from tornado_members.http1.response_writer import ResponseWriter
from tornado_members.http1.states import CLOSED, CLOSING, ENDING, LINGERING, OPENING

log = getLogger(__name__)


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
        """Remove a closed connection from the tables."""
        ...


class ConnectionBase(asyncio.Protocol):
    """The parts of a connection, and the ways to end it."""

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
        self.server = server
        self._limits = server.limits
        self._loop = loop

    def get_extra_info(self, name: str) -> Any:
        """Return the transport's extra information of this name."""
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
                self.close()  # a truncated response must not look complete
                return
        headers, body = self.server.render(refused, self.peer.remote_ip, origin)
        self.writer.send(whole_response(refused, headers, body, with_body=not is_head))
        self._linger()

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        """The application has raised an exception that it should have handled."""
        if isinstance(error, HTTPInputError) and self.state not in ENDING:
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

    # Memory and flow.

    def _hold_body(self, size: int) -> None:
        """Count bytes that the application holds. Raises Refused if no memory can be freed."""
        self._body_held += size
        budget = self.server.body_budget
        if not budget.add(size):
            self.server.refuse_slow_bodies()
            if budget.is_exceeded:
                raise TooManyBodies

    def _release_body(self) -> None:
        self.server.body_budget.release(self._body_held)
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

"""One client's connection: requests one after the other, answers in their order, and its end.

waiting ──> a request is read (reading.py) ──> it is answered (exchange.py) ──> waiting
│                     │                                 │
│          refused, or answered unread            the last one
│                     v                                 │
└──> closed <──── lingering                closed <─────┘
"""

import asyncio
import os
import socket
from contextlib import suppress
from http import HTTPStatus
from logging import getLogger
from math import inf
from typing import TYPE_CHECKING

from tornado.httputil import HTTPInputError, HTTPMessageDelegate
from tornado.iostream import IOStream, StreamClosedError

from tornado_members.http1.exchange import Exchange
from tornado_members.http1.peer import Peer
from tornado_members.http1.refusals import Refused, TooManyBodies, whole_answer
from tornado_members.http1.request_reader import RequestReader
from tornado_members.http1.response_writer import ResponseWriter

if TYPE_CHECKING:
    from tornado_members.http1.server import HTTPServer

log = getLogger(__name__)


class Connection(asyncio.Protocol):
    """Drives one connection; the server looks at its deadlines from time to time."""

    transport: asyncio.Transport

    def __init__(self, server: "HTTPServer", loop: asyncio.AbstractEventLoop, peer: Peer) -> None:
        self.peer = peer
        self.exchange: Exchange | None = None  # the request that is read or answered
        self.incoming = RequestReader(self, loop, server.limits, server.body_budget)
        self.out = ResponseWriter(loop, server.limits, server.done, server.response_budget)
        self.draining = False
        self.eof = False  # the client sends no more
        self.lost = False
        self._lingering = False
        self._began = False  # whether the application knows of this connection
        self._server = server
        self._limits = server.limits
        self._loop = loop
        self._opened_at = loop.time()
        self._lingers_since = 0.0

    @property
    def idle_since(self) -> float:
        """When the client last had nothing more to say, by the loop's clock; inf if it has."""
        if self.exchange is not None or self._lingering or self.lost or not self.incoming.is_blank:
            return inf
        return self.incoming.deadline - self._limits.idle_seconds

    def rate(self, now: float, settled_seconds: float) -> float | None:
        """Return at how many bytes per second the client sends or reads what is waited for.

        None if the client is not waited for, or for less than `settled_seconds`.
        """
        if self.lost:
            return None
        if not hasattr(self, "transport"):  # its TLS handshake is not complete
            return 0.0 if now - self._opened_at >= settled_seconds else None
        if self.out.paused:
            return self.out.rate(now, settled_seconds)
        if self._lingering:
            return 0.0 if now - self._lingers_since >= settled_seconds else None
        return self.incoming.rate(now, settled_seconds)

    def give_way(self) -> None:
        """Close the connection, so that another client can have one."""
        log.info("%s is too slow, and makes room for another client", self.peer)
        is_reading = self.incoming.body is not None or self.incoming.watch is not None
        if is_reading and not self.out.paused:
            self.refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The request arrives too slowly."))
            self.close()  # without waiting for what else the client may send
        else:
            self.abort()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.out.begin(transport)
        self.incoming.deadline = self._loop.time() + self._limits.idle_seconds

    def data_received(self, data: bytes) -> None:
        if not self._lingering:
            self.incoming.feed(data)

    def eof_received(self) -> bool:
        """Whether to go on: the client may still read, unless it is TLS, which has no halves."""
        self.eof = True
        exchange, incoming = self.exchange, self.incoming
        if not self.transport.can_write_eof():
            return False
        if self._lingering:
            self.close()
            return True
        if incoming.discarding:
            return False
        if exchange is None:  # does something unread have its turn soon?
            return not incoming.is_blank and incoming.watch is None
        if not exchange.told:
            incoming.go_on(exchange)
            return True
        incoming.await_orphan()
        exchange.tell_of_close()  # it may as well have gone for good: nobody can know
        return True

    def pause_writing(self) -> None:
        self.out.pause()

    def resume_writing(self) -> None:
        self.out.resume()
        # Not now: of a connection that is closed in here, asyncio would tell twice that it is lost.
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.lost or self.out.paused or self._lingering:
            return
        if self.exchange is not None and self.exchange.finished and not self.incoming.discarding:
            self._next_request(self.exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        exchange, self.exchange = self.exchange, None
        self.incoming.forget()
        if exchange is not None and not exchange.closed:
            exchange.closed = True
            if exchange.told:
                exchange.tell_of_close()
            else:
                self.abandon(exchange)
        self.out.lose(exc)
        self._server.forget(self, began=self._began)

    # From one request to the next.

    def begin(self, exchange: Exchange) -> HTTPMessageDelegate:
        """A head was read."""
        self.exchange = exchange
        self._began = True
        return self._server.delegate.start_request(self, exchange)

    def answered(self, exchange: Exchange) -> None:
        """The exchange is finished. What comes next has to wait until the client has read it."""
        exchange.close_callback = None
        if self.incoming.calling:
            return  # whoever calls the application now will notice
        if not exchange.told:
            self.end_early(exchange)
        elif not self.out.paused:
            self._next_request(exchange)

    def end_early(self, exchange: Exchange) -> None:
        """The answer was there before the application was told that the request had ended."""
        if exchange.body_left and not exchange.no_keep_alive and self.can_discard(exchange):
            exchange.abandon()
            self.incoming.discard(exchange)
        elif exchange.body_left:
            self._linger()
        else:
            self.abandon(exchange)
            if not self.out.paused:
                self._next_request(exchange)

    def can_discard(self, exchange: Exchange) -> bool:
        """True if the connection can be kept although a body is not wanted: it is short."""
        head = exchange.head
        is_short = not head.chunked and head.length <= self._limits.discard_bytes
        return is_short and not head.expects_continue

    def discarded(self, exchange: Exchange) -> None:
        """The body of an answered request has been read to its end."""
        if not self.out.paused:
            self._next_request(exchange)

    def make_room_for_body(self) -> None:
        """Free memory for the body that is being read. Raises Refused if that is impossible."""
        self._server.refuse_slow_bodies()
        if self._server.body_budget.is_exceeded:
            raise TooManyBodies

    def _next_request(self, exchange: Exchange) -> None:
        self.exchange = None
        self.incoming.release_body()
        exchange.closed = True
        unread = not self.incoming.is_blank
        if exchange.no_keep_alive or (self.draining and not unread):
            if unread:
                self._linger()
            else:
                self.close()
            return
        self.incoming.deadline = self._loop.time() + self._limits.idle_seconds
        if unread:
            self._loop.call_soon(self._read_next)  # in its turn: others are waiting, too
        else:
            self.close_if_ended()
        self.incoming.resume()

    def _read_next(self) -> None:
        if self.exchange is None and not self.lost and not self._lingering:
            self.incoming.read_head()

    # Ends.

    def close(self) -> None:
        """Close, once what was written has left."""
        if self.lost:
            return
        if self.out.paused:  # as a transport that closes, it reads no more meanwhile
            self.incoming.forget()
            self.incoming.deadline = inf
            self.incoming.stop()
        self.out.close()

    def close_if_ended(self) -> None:
        """Close, if nothing can come any more."""
        if self.eof:
            self.close()

    def abort(self) -> None:
        """Close at once."""
        if not self.lost:
            self.transport.abort()

    def drain(self) -> None:
        """Close, as soon as nothing is under way."""
        self.draining = True
        if self.exchange is None and self.incoming.is_blank:
            self.close()

    def detach(self) -> IOStream:
        """The socket, as one of Tornado's streams. Raises NotImplementedError.

        The state of TLS, and what was sent ahead of the answer, cannot be put into one.
        """
        if self.transport.get_extra_info("ssl_object") or self.incoming.unread:
            raise NotImplementedError("this connection cannot be detached")
        own = self.transport.get_extra_info("socket")
        taken = socket.socket(fileno=os.dup(own.fileno()))
        self.abort()
        return IOStream(taken)

    def expire(self, now: float) -> None:
        """End what has taken too long, if anything has."""
        # Many clients send all of their body before they read. It has a deadline of its own.
        if now >= self.out.deadline and self.out.reads_too_slowly(now) and not self.incoming.body:
            log.info("%s reads its answer too slowly", self.peer)
            self.abort()
        elif now < self.incoming.deadline:
            return
        elif self.incoming.body is not None or self.incoming.watch is not None:
            self.refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to come."))
        elif self._lingering or self.exchange is not None:
            self.abort()
        else:
            self.close()

    def refuse(self, refused: Refused) -> None:
        """Answer in the application's place, if it has not begun to."""
        log.debug("refused a request of %s: %s", self.peer, refused.reason)
        exchange = self.exchange
        is_head = self.incoming.unread.startswith(b"HEAD ")
        if exchange is not None:
            is_head = exchange.head.start_line.method == "HEAD"
            self.abandon(exchange)
            if exchange.headers_written:
                self.close()  # half an answer must not look like a whole one
                return
        self.out.send(whole_answer(refused, self._server.render, with_body=not is_head))
        self._linger()

    def fail(self, exchange: Exchange, error: Exception) -> None:
        """The application has failed where it should not."""
        if isinstance(error, HTTPInputError):
            self.refuse(Refused(HTTPStatus.BAD_REQUEST, "The request is malformed."))
            return
        if not isinstance(error, StreamClosedError):
            log.error("uncaught exception", exc_info=error)
        self.abandon(exchange)
        self.close()

    def abandon(self, exchange: Exchange) -> None:
        """The rest of a request will not come, and an answer not go."""
        self.incoming.body = None
        self.incoming.release_body()
        exchange.abandon()

    def _linger(self) -> None:
        """Say that nothing more comes, and throw away what does.

        Closing at once would make the kernel reset the connection, and the client might never see
        its answer (RFC 9112 §9.6).
        """
        if self.exchange is not None and not self.exchange.closed:
            self.abandon(self.exchange)
        self._lingering = True
        self._lingers_since = self._loop.time()
        self.incoming.forget()
        self.incoming.deadline = inf
        if self.eof:
            self.close()
            return
        self.incoming.resume()
        self.out.after_all(self._write_eof)

    def _write_eof(self) -> None:
        self.incoming.deadline = self._loop.time() + self._limits.linger_seconds
        if self.transport.can_write_eof():
            with suppress(OSError):  # it was reset, and that is yet to be read
                self.transport.write_eof()

"""The server: it has the connections, and looks at the clock for them."""

import asyncio
import heapq
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from logging import getLogger
from math import inf
from typing import Any

from tornado.httputil import HTTPServerConnectionDelegate

from tornado_members.http1.acceptor import Acceptor
from tornado_members.http1.addresses import AddressTable, address_key
from tornado_members.http1.budget import ByteBudget, SharedBytesBudget
from tornado_members.http1.connection import Connection
from tornado_members.http1.limits import Limits
from tornado_members.http1.peer import Peer
from tornado_members.http1.refusals import Render, TooManyBodies, render_plainly

log = getLogger(__name__)

_LOOKS = 4  # at the clock, in the time of the shortest time-out
_MOST_SECONDS = 1.0  # between two looks
_SETTLED_SECONDS = 1.0  # a connection that has been silent for less may be about to speak
_WARNING_SECONDS = 60  # between two warnings
# tcp(7): how much of what is written the kernel holds before it is sent. It bounds the memory that
# a client takes that does not read, and leaves the throughput of one that does as it is.
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_NOTSENT_BYTES = 128 * 1024
_MOST_CLOSED = 16  # at once, where others are waiting
_SLOW_BYTES_PER_SECOND = 16 * 1024  # of a client that may have to make room for another


class HTTPServer:
    """Serves one application, as tornado.httpserver.HTTPServer does."""

    def __init__(
        self,
        delegate: HTTPServerConnectionDelegate,
        *,
        limits: Limits | None = None,
        ssl_context: ssl.SSLContext | None = None,
        protocol: str | None = None,
        render: Render = render_plainly,
        is_exempt: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`protocol` is that of requests, where a proxy in front terminates TLS.

        `is_exempt` returns whether an IP address may have any number of connections, as a reverse
        proxy's may. Unix sockets have no such limit.
        """
        self.delegate = delegate
        self.limits = limits or Limits()
        self.body_budget = ByteBudget(self.limits.body_buffer_bytes)
        self.response_budget = SharedBytesBudget(self.limits.response_buffer_bytes)
        self.render = render
        self._ssl_context = ssl_context
        self._protocol = protocol
        self._is_exempt = is_exempt
        self._connections: set[Connection] = set()
        self._addresses: AddressTable[Connection] = AddressTable()
        self._opening: dict[Connection, asyncio.Task[None]] = {}
        self._listening: Acceptor | None = None
        self._look: asyncio.TimerHandle | None = None
        self._warned_at: dict[str, float] = {}  # by message
        self._empty: asyncio.Event = asyncio.Event()
        self.is_draining = False

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on sockets that listen."""
        for listener in sockets:
            self.add_socket(listener)

    def add_socket(self, listener: socket.socket) -> None:
        """Accept connections on a socket that listens."""
        if self._listening is None:
            self._loop = asyncio.get_event_loop()
            self.done: asyncio.Future[None] = self._loop.create_future()
            self.done.set_result(None)
            self._listening = Acceptor(self._loop, self._accepted, self._make_room)
            self._look_at_the_clock()
        self._listening.add(listener)

    @property
    def sockets(self) -> list[socket.socket]:
        """Those on which it listens."""
        return self._listening.sockets if self._listening else []

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def stop(self) -> None:
        """Accept no more connections; those that are open go on."""
        if self._listening:
            self._listening.stop()

    def announce_close(self) -> None:
        """Let each answer that has not begun be the last one on its connection, and say so.

        On those that are accepted from now on as well.
        """
        self.is_draining = True

    async def drain(
        self, seconds: float, *, idle_seconds: float = 0, force: asyncio.Event | None = None
    ) -> int:
        """Stop; let requests that are under way end, for at most so long, or until `force` is set.

        Connections without a request are waited for `idle_seconds`: a client may have sent one
        just now. Returns how many had to be broken off.
        """
        self.stop()
        self.announce_close()
        force = force or asyncio.Event()
        idle_seconds = min(idle_seconds, seconds)
        await self._wait(idle_seconds, force)
        for connection in [*self._connections]:
            connection.drain()
        await self._wait(seconds - idle_seconds, force)
        left = len(self._connections)
        await self.close_all_connections()
        return left

    async def close_all_connections(self) -> None:
        """Break off whatever is open, and wait until it is closed."""
        for opening in self._opening.values():
            opening.cancel()
        for connection in [*self._connections]:
            connection.abort()
        await self._until_empty()
        if self._look and not self.sockets:
            self._look.cancel()
            self._look = None

    # For connections.

    def forget(self, connection: Connection) -> None:
        """Take a closed connection off the books."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self._addresses.remove(connection.peer.key, connection)
        self._look_for_room()
        if not self._connections:
            self._empty.set()
        if connection.is_known:
            self.delegate.on_close(connection)

    def refuse_slow_bodies(self) -> None:
        """Refuse the bodies that arrive most slowly, until an eighth of the budget is free."""
        now = self._loop.time()
        rates = [
            (rate, id(connection), connection)
            for connection in self._connections
            if (rate := connection.body_rate(now, _SETTLED_SECONDS)) is not None
        ]
        rates.sort()
        for _, _, connection in rates:
            if self.body_budget.used <= self.body_budget.limit * 7 // 8:
                return
            connection.refuse(TooManyBodies())

    def _abort_slow_readers(self, now: float) -> None:
        """Close the connections that read most slowly, until an eighth of the budget is free."""
        rates = [
            (rate, id(connection), connection)
            for connection in self._connections
            if (rate := connection.writer.rate(now, _SETTLED_SECONDS)) is not None
        ]
        rates.sort()
        for _, _, connection in rates:
            if self.response_budget.used <= self.response_budget.limit * 7 // 8:
                return
            log.info("%s is closed: too much waits to be read", connection.peer)
            connection.abort()
            connection.writer.lose(None)  # now, and not when the loop tells of the end

    def _accepted(self, connected: socket.socket, address: Any) -> None:
        key = address_key(connected.family, address)
        if key is not None and not self._admits(key, address[0]):
            connected.close()
            return
        connected.setblocking(False)
        if connected.family in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError):  # it is gone already
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if _NOTSENT_LOWAT is not None:
                    connected.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _NOTSENT_BYTES)
        protocol = "https" if self._ssl_context else "http"
        peer = Peer(connected.family, address, self._protocol or protocol, key)
        connection = Connection(self, self._loop, peer)
        self._connections.add(connection)
        self._addresses.add(key, connection)
        self._empty.clear()
        self._look_for_room()
        task = self._loop.create_task(self._open(connection, connected))
        self._opening[connection] = task
        task.add_done_callback(lambda _: self._opening.pop(connection, None))

    def _admits(self, key: str, address: str) -> bool:
        """True if an address may have one connection more. Its longest idle one makes room."""
        limit = self.limits.connections_per_address
        known = self._addresses.connections(key)
        if not limit or len(known) < limit or self._is_exempt(address):
            return True
        settled = self._loop.time() - _SETTLED_SECONDS
        idle = min(known, key=lambda one: one.idle_since)
        if idle.idle_since < settled:
            idle.close()
            return True
        self._warn("%s has %d connections, and more are refused", address, len(known))
        return False

    async def _open(self, connection: Connection, connected: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                connected,
                ssl=self._ssl_context,
                ssl_handshake_timeout=self.limits.handshake_seconds if self._ssl_context else None,
            )
        except (OSError, asyncio.CancelledError) as error:  # no TLS, or gone again
            log.info("no connection with %s: %s", connection.peer, error)
            connected.close()
            self.forget(connection)

    def _make_room(self) -> None:
        """A client waits for a connection: close the longest idle ones, or else the slowest."""
        now = self._loop.time()
        self._warn("there are %d connections, and there is no room for more", self.connections)
        settled = now - _SETTLED_SECONDS
        idle = [one for one in self._connections if one.idle_since < settled]
        for one in heapq.nsmallest(_MOST_CLOSED, idle, key=lambda one: one.idle_since):
            one.close()
        if not idle:
            self._close_slowest(now)

    def _close_slowest(self, now: float) -> None:
        """Close connections whose clients send or read next to nothing."""
        rates = [
            (rate, id(connection), connection)
            for connection in self._connections
            if (rate := connection.rate(now, _SETTLED_SECONDS)) is not None
            and rate < _SLOW_BYTES_PER_SECOND
        ]
        for _, _, connection in heapq.nsmallest(_MOST_CLOSED, rates):
            if connection in self._opening:
                self._opening[connection].cancel()
            else:
                connection.give_way()

    def _look_for_room(self) -> None:
        if self._listening:
            self._listening.set_room(len(self._connections) < self.limits.connections)

    def _warn(self, message: str, *arguments: object) -> None:
        """Log a warning, at most once a minute for each message."""
        now = self._loop.time()
        if now - self._warned_at.get(message, -inf) > _WARNING_SECONDS:
            self._warned_at[message] = now
            log.warning(message, *arguments)

    async def _wait(self, seconds: float, force: asyncio.Event) -> None:
        """Until there are no connections, or somebody is in a force, for at most so long."""
        ends = [asyncio.ensure_future(self._until_empty()), asyncio.ensure_future(force.wait())]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def _until_empty(self) -> None:
        if self._connections:
            self._empty.clear()
            await self._empty.wait()

    def _look_at_the_clock(self) -> None:
        """One timer for all connections: to set one for each request would cost more."""
        now = self._loop.time()
        for connection in [*self._connections]:
            if now >= connection.deadline or now >= connection.writer.deadline:
                connection.expire(now)
        if self.response_budget.is_exceeded:
            self._abort_slow_readers(now)
        pause = min(self.limits.shortest_seconds / _LOOKS, _MOST_SECONDS)
        self._look = self._loop.call_later(pause, self._look_at_the_clock)

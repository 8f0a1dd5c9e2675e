"""The server: accepts and counts connections, and checks their deadlines."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from logging import getLogger
from math import inf
from typing import Any

from tornado.httputil import HTTPServerConnectionDelegate

from tornado_members.http1 import eviction
from tornado_members.http1.acceptor import Acceptor
from tornado_members.http1.addresses import AddressTable, address_key
from tornado_members.http1.budget import ByteBudget, SharedBytesBudget
from tornado_members.http1.connection import Connection
from tornado_members.http1.limits import Limits
from tornado_members.http1.peer import Peer
from tornado_members.http1.refusals import (
    Render,
    TooManyConnections,
    render_plainly,
    whole_response,
)
from tornado_members.http1.surplus import SurplusConnections

log = getLogger(__name__)

_CHECKS = 4  # of all deadlines, in the shortest of the times that clients have
_MOST_SECONDS = 1.0  # between two checks
_WARNING_SECONDS = 60  # between two equal warnings
# tcp(7): the unsent bytes that the kernel holds. This bounds the memory for a client that does not
# read, and does not reduce the throughput of one that does.
_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_NOTSENT_BYTES = 128 * 1024


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
        """`protocol` is that of all requests, for a proxy in front that terminates TLS.

        `render` returns the response to a request that the server refuses, given the refusal and
        the peer's IP address. `is_exempt` returns True for an IP address that may have any number
        of connections, such as a reverse proxy's. Unix sockets have no such limit.
        """
        self.delegate = delegate
        self.limits = limits or Limits()
        self.body_budget = ByteBudget(self.limits.body_buffer_bytes)
        self.response_budget = SharedBytesBudget(self.limits.response_buffer_bytes)
        self.render = render
        self.is_draining = False
        self._ssl_context = ssl_context
        self._protocol = protocol or ("https" if ssl_context else "http")
        self._is_exempt = is_exempt
        self._connections: set[Connection] = set()
        self._addresses: AddressTable[Connection] = AddressTable()
        self._opening: dict[Connection, asyncio.Task[None]] = {}
        self._acceptor: Acceptor | None = None
        self._surplus: SurplusConnections | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._warned_at: dict[str, float] = {}  # by message
        self._empty: asyncio.Event = asyncio.Event()

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on listening sockets."""
        for listener in sockets:
            self.add_socket(listener)

    def add_socket(self, listener: socket.socket) -> None:
        """Accept connections on a listening socket."""
        if self._acceptor is None:
            self._loop = asyncio.get_event_loop()
            self.done: asyncio.Future[None] = self._loop.create_future()
            self.done.set_result(None)
            self._surplus = SurplusConnections(
                self._loop, self._refuse_connection, self._ssl_context
            )
            self._acceptor = Acceptor(self._loop, self._accepted, self._make_room)
            self._check_deadlines()
        self._acceptor.add(listener)

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets."""
        return self._acceptor.sockets if self._acceptor else []

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    def stop(self) -> None:
        """Stop accepting connections. Open connections continue."""
        if self._acceptor:
            self._acceptor.stop()

    def announce_close(self) -> None:
        """Add `Connection: close` to all responses from now on, also on later connections."""
        self.is_draining = True

    async def drain(
        self, seconds: float, *, idle_seconds: float = 0, force: asyncio.Event | None = None
    ) -> int:
        """Stop, and wait up to `seconds` for requests in progress, or until `force` is set.

        Idle connections stay open for `idle_seconds`: a request may be on its way. Returns how many
        connections had to be closed at the end.
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
        """Close all connections at once, and wait until they are closed."""
        for opening in self._opening.values():
            opening.cancel()
        for connection in [*self._connections]:
            connection.abort()
        if self._surplus:
            self._surplus.close()
        await self._until_empty()
        if self._timer and not self.sockets:
            self._timer.cancel()
            self._timer = None

    # Connections call these.

    def forget(self, connection: Connection) -> None:
        """Remove a closed connection from the tables."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self._addresses.remove(connection.peer.key, connection)
        self._update_room()
        if not self._connections:
            self._empty.set()
        if connection.is_known:
            self.delegate.on_close(connection)

    def refuse_slow_bodies(self) -> None:
        """Free memory in the body budget, if there are slow bodies."""
        eviction.refuse_slow_bodies(self._connections, self._loop.time(), self.body_budget)

    # New connections.

    def _accepted(self, connected: socket.socket, address: Any) -> None:
        key = address_key(connected.family, address)
        if key is not None and not self._admits(key, address[0]):
            if self._surplus:
                self._surplus.add(connected, address[0])
            return
        connected.setblocking(False)
        if key is not None:
            with suppress(OSError):  # the client has disconnected
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if _NOTSENT_LOWAT is not None:
                    connected.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _NOTSENT_BYTES)
        peer = Peer(connected.family, address, self._protocol, key)
        connection = Connection(self, self._loop, peer)
        self._connections.add(connection)
        if self._timer is None:
            self._arm_timer()
        self._addresses.add(key, connection)
        self._empty.clear()
        self._update_room()
        task = self._loop.create_task(self._open(connection, connected))
        self._opening[connection] = task
        task.add_done_callback(partial(self._opened, connection, connected))

    def _opened(
        self, connection: Connection, connected: socket.socket, task: asyncio.Task[None]
    ) -> None:
        """The connection is open, or could not be opened."""
        self._opening.pop(connection, None)
        if task.cancelled():  # before it began
            connected.close()
            self.forget(connection)

    def _admits(self, key: str, address: str) -> bool:
        """Return True if an address may have another connection. An idle one makes room."""
        limit = self.limits.connections_per_address
        known = self._addresses.connections(key)
        if not limit or len(known) < limit or self._is_exempt(address):
            return True
        if eviction.close_idle(known, self._loop.time(), most=1):
            return True
        self._warn("%s has %d connections, and more are refused", address, len(known))
        return False

    def _refuse_connection(self, address: str, with_body: bool) -> bytes:
        """Return the response on a connection that is closed after it."""
        refused = TooManyConnections()
        headers, body = self.render(refused, address, None)
        return whole_response(refused, headers, body, with_body=with_body)

    async def _open(self, connection: Connection, connected: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                connected,
                ssl=self._ssl_context,
                ssl_handshake_timeout=self.limits.handshake_seconds if self._ssl_context else None,
            )
        except (OSError, asyncio.CancelledError) as error:  # no TLS, or disconnected
            log.info("no connection with %s: %s", connection.peer, error)
            connected.close()
            self.forget(connection)

    def _make_room(self) -> None:
        """A client waits for a connection: close idle connections, or else the slowest."""
        self._warn("all %d connections are in use", self.connections)
        now = self._loop.time()
        if not eviction.close_idle(self._connections, now):
            eviction.evict_slowest(self._connections, now, self._evict)

    def _evict(self, connection: Connection) -> None:
        if connection in self._opening:
            self._opening[connection].cancel()
        else:
            connection.evict()

    def _update_room(self) -> None:
        if self._acceptor:
            self._acceptor.set_room(len(self._connections) < self.limits.connections)

    # Time.

    def _check_deadlines(self) -> None:
        """Check all connections by one timer: a timer per request would cost more.

        It does not run without connections.
        """
        self._timer = None
        if not self._connections:
            return
        now = self._loop.time()
        for connection in [*self._connections]:
            if now >= connection.deadline or now >= connection.writer.deadline:
                connection.expire(now)
        if self.response_budget.is_exceeded:
            eviction.abort_slow_readers(self._connections, now, self.response_budget)
        self._arm_timer()

    def _arm_timer(self) -> None:
        pause = min(self.limits.shortest_seconds / _CHECKS, _MOST_SECONDS)
        self._timer = self._loop.call_later(pause, self._check_deadlines)

    def _warn(self, message: str, *arguments: object) -> None:
        """Log a warning, at most once a minute for each message."""
        now = self._loop.time()
        if now - self._warned_at.get(message, -inf) > _WARNING_SECONDS:
            self._warned_at[message] = now
            log.warning(message, *arguments)

    async def _wait(self, seconds: float, force: asyncio.Event) -> None:
        """Wait until all connections are closed or `force` is set, for at most `seconds`."""
        ends = [asyncio.ensure_future(self._until_empty()), asyncio.ensure_future(force.wait())]
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def _until_empty(self) -> None:
        if self._connections:
            self._empty.clear()
            await self._empty.wait()

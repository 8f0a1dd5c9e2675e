"""The HTTP server of a worker: Tornado's, with an end to patience and to the number of guests."""

import asyncio
import heapq
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import Any, Literal

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate, HTTPServerConnectionDelegate
from tornado.ioloop import IOLoop

from tornado_members.http.forwarded import TrustedProxies
from tornado_members.http.refusals import render_refusal
from tornado_members.serving.patience import Connection, Watched
from tornado_members.settings import Limits
from tornado_members.transport import limits as transport_limits
from tornado_members.transport.loops import find_fast_loop
from tornado_members.transport.server import FastServer

log = getLogger(__name__)

Transport = Literal["fast", "tornado"]
_ACCEPT_AT_ONCE = 16  # so that other workers get some, and other work its turn
_SETTLED_SECONDS = 1.0  # a connection that has been silent for less may be about to speak
_EVICT_AT_ONCE = 16
_OWN_DESCRIPTORS = 256  # for databases, logs, keys; half of all where there are few
_LOOK_SECONDS = 0.05


def make_server(
    application: HTTPServerConnectionDelegate,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    *,
    transport: Transport = "fast",
    proxies: TrustedProxies | None = None,
) -> "MembersServer | FastServer":
    """Return the HTTP server. It leaves the limit of each body to the application.

    Trusted proxies may have any number of connections.
    """
    limits = limits or Limits()
    if transport == "tornado":
        return MembersServer(application, limits=limits, tls=tls)
    bounds = transport_limits.Limits(
        connections=most_connections(limits.connections),
        connections_per_address=limits.connections_per_address,
        head_bytes=limits.header_bytes,
        body_bytes=sys.maxsize,
        body_buffer_bytes=limits.body_buffer_bytes,
        idle_seconds=limits.idle_seconds,
        head_seconds=limits.header_seconds,
        handshake_seconds=limits.header_seconds,
        body_seconds=limits.body_seconds,
        write_seconds=limits.write_seconds,
        response_buffer_bytes=limits.response_buffer_bytes,
    )
    return FastServer(
        application,
        limits=bounds,
        ssl_context=tls,
        render=render_refusal,
        is_exempt=(proxies or TrustedProxies()).trusts,
    )


def loop_factory(transport: Transport) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop; None stands for asyncio's own."""
    return find_fast_loop() if transport == "fast" else None


class MembersServer(HTTPServer):
    """What Tornado's server lacks: bounds on connections and on the time each may take.

    All connections are looked at together, a few times a second or less; a timer each would cost
    every request. Beyond the bound, those that have been silent for longest make room, and while
    none can, nobody is accepted: Tornado alone goes on trying, with a whole core, once descriptors
    run out.
    """

    def initialize(  # type: ignore[override]
        self,
        application: HTTPServerConnectionDelegate,
        *,
        limits: Limits,
        tls: ssl.SSLContext | None,
    ) -> None:
        super().initialize(
            application,
            max_body_size=sys.maxsize,
            max_header_size=limits.header_bytes,
            ssl_options=tls,
        )
        self.conn_params.header_timeout = None  # ours is kinder to requests, and finer
        self._limits = limits
        self._most = most_connections(limits.connections)
        self._watched: dict[object, Connection] = {}
        self._accepting = False
        self._accepts_after = 0.0
        self._warned_at = float("-inf")
        self._watching: asyncio.Task[None] | None = None

    def add_sockets(self, sockets: Sequence[socket.socket]) -> None:  # type: ignore[override]
        """Accept connections from now on."""
        self._sockets.update((listener.fileno(), listener) for listener in sockets)
        self._accept_again()
        self._watching = self._watching or asyncio.create_task(self._watch())

    def say_goodbye(self) -> None:
        """Let each answer that has not begun be the last one on its connection, and say so."""
        self.conn_params.no_keep_alive = True
        for connection in self._watched.values():
            connection.say_goodbye()

    def stop(self) -> None:
        """Accept who waits already, and then nobody any more."""
        for listener in self._sockets.values():
            while len(self._connections) < self._most and self._accept_one(listener):
                pass
        self._pause()
        for listener in self._sockets.values():
            listener.close()
        self._sockets.clear()

    async def drain(self, seconds: float, *, silent_seconds: float, hurry: asyncio.Event) -> int:
        """Wait until all connections have ended; returns how many had to be cut off.

        Those that say nothing are waited for `silent_seconds`, all others `seconds`, and nobody
        once `hurry` is set. A silent one is not closed at once: its client may have sent the next
        request just now, and would never hear of it.
        """
        begun = time.monotonic()
        while self._connections and not hurry.is_set():
            passed = time.monotonic() - begun
            busy = any(not connection.is_silent for connection in self._watched.values())
            if passed >= (seconds if busy else min(silent_seconds, seconds)):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        cut_off = sum(not connection.is_silent for connection in self._watched.values())
        await self.close_all_connections()
        return cut_off

    async def close_all_connections(self) -> None:
        """Close them, whatever they are about."""
        if self._watching:
            self._watching.cancel()
        await super().close_all_connections()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        connection = self._watched.get(server_conn)
        if connection is None:
            connection = self._watched[server_conn] = Connection(server_conn)
        delegate = super().start_request(server_conn, request_conn)
        return Watched(delegate, connection, request_conn)

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        self._watched.pop(server_conn, None)
        self._accept_again()

    def _accept_again(self) -> None:
        if self._accepting or time.monotonic() < self._accepts_after:
            return
        if len(self._connections) < self._most:
            self._accepting = True
            for listener in self._sockets.values():
                IOLoop.current().add_handler(listener, self._accept, IOLoop.READ)

    def _pause(self, seconds: float = 0.0) -> None:
        self._accepts_after = time.monotonic() + seconds
        if self._accepting:
            self._accepting = False
            for listener in self._sockets.values():
                IOLoop.current().remove_handler(listener)

    def _accept(self, listener: socket.socket, _events: int) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            if len(self._connections) >= self._most:
                self._pause()
                self._make_room()
                return
            if not self._accepting or not self._accept_one(listener):
                return

    def _accept_one(self, listener: socket.socket) -> bool:
        """Whether there was one to accept."""
        try:
            accepted, address = listener.accept()
        except ConnectionAbortedError:
            return True
        except BlockingIOError:
            return False
        except OSError as error:  # out of descriptors, or of memory
            self._warn("no connection can be accepted: %s", error.strerror)
            self._pause(1.0)
            self._make_room()
            return False
        self._handle_connection(accepted, address)
        return True

    def _make_room(self) -> None:
        """Close those that have been silent for longest."""
        self._warn("there are %d connections, and no more are accepted", len(self._connections))
        settled = time.monotonic() - _SETTLED_SECONDS
        silent = [c for c in self._watched.values() if c.is_silent and c.since < settled]
        for connection in heapq.nsmallest(_EVICT_AT_ONCE, silent, key=lambda c: c.since):
            connection.close()

    async def _watch(self) -> None:
        """Close connections whose time is up, for ever."""
        limits = self._limits
        shortest = min(
            limits.header_seconds, limits.body_seconds, limits.idle_seconds, limits.write_seconds
        )
        while True:
            await asyncio.sleep(min(1.0, shortest / 4))
            now = time.monotonic()
            for connection in list(self._watched.values()):
                connection.look(now, limits)
            if not self._accepting and self._sockets:
                if len(self._connections) >= self._most:
                    self._make_room()
                self._accept_again()

    def _warn(self, message: str, *arguments: Any) -> None:
        """Say it, but not again within a minute."""
        if time.monotonic() - self._warned_at > 60:
            self._warned_at = time.monotonic()
            log.warning(message, *arguments)


def most_connections(
    wanted: int, limit: Callable[[int], tuple[int, int]] = resource.getrlimit
) -> int:
    """As many as wanted, or as the limit on open files has room for."""
    soft, _ = limit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - min(_OWN_DESCRIPTORS, soft // 2)))


def raise_file_limit(connections: int) -> None:
    """Have as many descriptors as connections and everything else need, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

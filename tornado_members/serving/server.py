"""The HTTP server of a worker: http1, or Tornado's."""

import asyncio
import resource
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

from tornado.httpserver import HTTPServer as TornadoHTTPServer
from tornado.httputil import HTTPServerConnectionDelegate

from tornado_members import http1
from tornado_members.http.forwarded import TrustedProxies
from tornado_members.http.refusals import render_refusal
from tornado_members.http1.event_loop import find_fast_loop
from tornado_members.settings import Cors, Limits

Transport = Literal["http1", "tornado"]
_OWN_DESCRIPTORS = 256  # for databases, logs and keys; at most half of the limit
_POLL_SECONDS = 0.05


def make_server(
    application: HTTPServerConnectionDelegate,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    *,
    transport: Transport = "http1",
    proxies: TrustedProxies | None = None,
    cors: Cors | None = None,
) -> "http1.HTTPServer | DrainingHTTPServer":
    """Return the HTTP server. It leaves the limit of each body to the application.

    Trusted proxies may have any number of connections. `cors` are the rules for responses to
    requests that the server refuses itself.
    """
    limits = limits or Limits()
    if transport == "tornado":
        return DrainingHTTPServer(
            application,
            max_body_size=sys.maxsize,
            max_header_size=limits.header_bytes,
            idle_connection_timeout=limits.idle_seconds,
            ssl_options=tls,
        )
    bounds = http1.Limits(
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
    return http1.HTTPServer(
        application,
        limits=bounds,
        ssl_context=tls,
        render=partial(render_refusal, rules=cors or Cors()),
        is_exempt=(proxies or TrustedProxies()).trusts,
    )


def loop_factory(transport: Transport) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of the event loop; None for asyncio's own."""
    return find_fast_loop() if transport == "http1" else None


class _TornadoConnection(Protocol):
    """The attributes of Tornado's HTTP1ServerConnection that DrainingHTTPServer reads."""

    class Stream(Protocol):
        _read_buffer_size: int

        def writing(self) -> bool: ...

    stream: Stream


class DrainingHTTPServer(TornadoHTTPServer):
    """Tornado's server, with the same interface for a stop as http1.HTTPServer."""

    def announce_close(self) -> None:
        """Add `Connection: close` to the responses of all requests that start from now on."""
        self.conn_params.no_keep_alive = True

    async def drain(self, seconds: float, *, idle_seconds: float, force: asyncio.Event) -> int:
        """Wait for the end of all connections; return how many had to be closed while busy.

        The wait ends after `idle_seconds` for connections without unread or unsent bytes, after
        `seconds` for the others, and at once when `force` is set.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self._connections and not force.is_set():
            passed = loop.time() - began
            if passed >= (seconds if self._busy() else min(idle_seconds, seconds)):
                break
            await asyncio.sleep(_POLL_SECONDS)
        busy = self._busy()
        await self.close_all_connections()
        return busy

    def _busy(self) -> int:
        connections: set[_TornadoConnection] = self._connections  # type: ignore[assignment]
        return sum(
            connection.stream.writing() or connection.stream._read_buffer_size > 0
            for connection in connections
        )


def most_connections(
    configured: int, limit: Callable[[int], tuple[int, int]] = resource.getrlimit
) -> int:
    """Return the configured number of connections, capped by the limit on open files."""
    soft, _ = limit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return configured
    return max(1, min(configured, soft - min(_OWN_DESCRIPTORS, soft // 2)))


def raise_file_limit(connections: int) -> None:
    """Raise the soft limit on open files to what `connections` need, up to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        needed = min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

"""Connections beyond the limit of their address: each is answered once, and closed.

Closing such a connection at once would reset it, because its request is unread. Clients report a
reset as a network error, and do not receive the time after which to retry.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

MOST: Final = 512  # that wait for their client at a time; further ones are reset
MOST_TLS: Final = 32  # the same with TLS, whose handshake costs more than a request
_SECONDS: Final = 2.0  # for the client to send a request, and to read the response
_READ_BYTES: Final = 64 * 1024
_MOST_READ: Final = 16  # times; a client that sends more is reset


class SurplusConnections:
    """Answers the first request of each connection without parsing it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        respond: Callable[[str, bool], bytes],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`respond` returns the response to an IP address. It has no body if the flag is false."""
        self._loop = loop
        self._respond = respond
        self._ssl_context = ssl_context
        self._open: dict[socket.socket, asyncio.TimerHandle] = {}
        self._secured: set[asyncio.Task[None]] = set()

    def add(self, connected: socket.socket, address: str) -> None:
        """Answer a connection, which is closed then. Reset it if too many others wait."""
        if len(self._open) >= MOST or len(self._secured) >= MOST_TLS:
            connected.close()
            return
        connected.setblocking(False)
        if self._ssl_context is not None:
            task = self._loop.create_task(self._answer_secured(connected, address))
            self._secured.add(task)
            task.add_done_callback(self._secured.discard)
            return
        self._open[connected] = self._loop.call_later(_SECONDS, self._close, connected)
        self._loop.add_reader(connected, self._answer, connected, address)

    def close(self) -> None:
        """Close all connections at once."""
        for connected in [*self._open]:
            self._close(connected)
        for task in self._secured:
            task.cancel()

    async def _answer_secured(self, connected: socket.socket, address: str) -> None:
        refusal = _SecuredRefusal(lambda with_body: self._respond(address, with_body))
        try:
            async with asyncio.timeout(_SECONDS):
                await self._loop.connect_accepted_socket(
                    lambda: refusal, connected, ssl=self._ssl_context
                )
                await refusal.closed.wait()
        except (OSError, TimeoutError):  # no handshake, or the client did not close the connection
            pass
        finally:
            refusal.abort()
            connected.close()

    def _answer(self, connected: socket.socket, address: str) -> None:
        try:
            data = connected.recv(_READ_BYTES)
            if data:
                connected.send(self._respond(address, not data.startswith(b"HEAD ")))
                connected.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:  # the client has disconnected
            data = b""
        if not data:
            self._close(connected)
            return
        self._loop.add_reader(connected, self._discard, connected, [_MOST_READ])

    def _discard(self, connected: socket.socket, left: list[int]) -> None:
        """Read the rest of the request until the client closes the connection."""
        left[0] -= 1
        try:
            data = connected.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or not left[0]:
            self._close(connected)

    def _close(self, connected: socket.socket) -> None:
        self._open.pop(connected).cancel()
        with suppress(OSError, ValueError):
            self._loop.remove_reader(connected)
        connected.close()


class _SecuredRefusal(asyncio.Protocol):
    """Answers the first request of a connection with TLS, and discards everything else."""

    _transport: asyncio.Transport | None = None

    def __init__(self, respond: Callable[[bool], bytes]) -> None:
        """`respond` returns the response, without a body if the flag is false."""
        self.closed = asyncio.Event()
        self._respond = respond
        self._reads = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reads += 1
        if self._reads == 1 and self._transport is not None:
            self._transport.write(self._respond(not data.startswith(b"HEAD ")))
        elif self._reads > _MOST_READ:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # of asyncio
        self.closed.set()

    def abort(self) -> None:
        """Close the connection, if it is open."""
        if self._transport is not None:
            self._transport.abort()

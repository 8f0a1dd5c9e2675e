"""Connections beyond the limit of their address: each is answered once, and closed.

Closing such a connection at once would reset it, because its request is unread. Clients report that
as a broken network, and do not learn when to come back.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MOST: Final = 512  # that wait for their client at a time; further ones are reset
_SECONDS: Final = 2.0  # for the client to send a request, and to read the response
_READ_BYTES: Final = 64 * 1024
_MOST_READ: Final = 16  # times; a client that sends more is reset


class SurplusConnections:
    """Answers the first request of each connection without parsing it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, respond: Callable[[str, bool], bytes]
    ) -> None:
        """`respond` returns the response to an IP address. It has no body if the flag is false."""
        self._loop = loop
        self._respond = respond
        self._open: dict[socket.socket, asyncio.TimerHandle] = {}

    def add(self, connected: socket.socket, address: str) -> None:
        """Answer a connection, which is closed then. Reset it if too many others wait."""
        if len(self._open) >= MOST:
            connected.close()
            return
        connected.setblocking(False)
        self._open[connected] = self._loop.call_later(_SECONDS, self._close, connected)
        self._loop.add_reader(connected, self._answer, connected, address)

    def close(self) -> None:
        """Close all connections at once."""
        for connected in [*self._open]:
            self._close(connected)

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

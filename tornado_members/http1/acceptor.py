"""Accept connections, up to a limit, and not while the process has no file descriptors left."""

import asyncio
import errno
import socket
from collections.abc import Callable
from logging import getLogger
from typing import Any

log = getLogger(__name__)

# The machine or the process has no resources left for a connection.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# The client has disconnected (accept(2)), or another process has accepted the connection.
_GONE = (BlockingIOError, InterruptedError, ConnectionAbortedError)
_PAUSE_SECONDS = 0.25  # before the next attempt
_PER_MILLISECOND = 8  # connections, of the last turn of the loop
_MOST_PER_TURN = 64  # connections


class Acceptor:
    """Reads from listening sockets while the server has room for connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        accepted: Callable[[socket.socket, Any], None],
        make_room: Callable[[], None],
    ) -> None:
        """`accepted` receives each connection and its address.

        `make_room` is called when a client waits for a connection that it cannot get.
        """
        self._loop = loop
        self._accepted = accepted
        self._make_room = make_room
        self._sockets: list[socket.socket] = []
        self._has_room = True
        self._most = 1  # connections that are accepted in one turn of the loop
        self._pause: asyncio.TimerHandle | None = None  # while it does not accept

    @property
    def sockets(self) -> list[socket.socket]:
        """The open sockets."""
        return [*self._sockets]

    def add(self, listener: socket.socket) -> None:
        """Accept connections on one more socket."""
        listener.setblocking(False)
        self._sockets.append(listener)
        if self._pause is None:
            self._loop.add_reader(listener, self._accept, listener)

    def set_room(self, has_room: bool) -> None:
        """Set whether there is room for another connection. Without, clients wait in the kernel."""
        gained, self._has_room = has_room and not self._has_room, has_room
        if gained and self._pause:
            self._pause.cancel()
            self._resume()

    def stop(self) -> None:
        """Close the sockets."""
        for listener in self._sockets:
            self._loop.remove_reader(listener)
            listener.close()
        self._sockets = []
        if self._pause:
            self._pause.cancel()
            self._pause = None

    def _accept(self, listener: socket.socket) -> None:
        """Accept one connection, or under load as many as eight per millisecond.

        While the loop is idle, one is enough, because another listening process may be less busy.
        While it is busy, each waiting client would otherwise wait one turn of the loop for each
        client before it. In the kernel's queue, a client cannot even be refused.
        """
        if not self._has_room:
            self._wait_for_room()
            return
        for _ in range(self._most):
            if not self._accept_one(listener):
                break
        self._loop.call_soon(self._measure_turn, self._loop.time())

    def _measure_turn(self, begun: float) -> None:
        """Set the number of connections per turn by the duration of the last turn of the loop."""
        milliseconds = int((self._loop.time() - begun) * 1000)
        self._most = max(1, min(milliseconds * _PER_MILLISECOND, _MOST_PER_TURN))

    def _accept_one(self, listener: socket.socket) -> bool:
        """Return True if another one can be accepted in this turn."""
        try:
            connected, address = listener.accept()
        except _GONE:
            return False
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            log.warning("cannot accept a connection: %s", error.strerror)
            self._wait_for_room()
            return False
        self._accepted(connected, address)
        return self._has_room

    def _wait_for_room(self) -> None:
        """Stop reading: a client that waits would otherwise wake the loop all the time."""
        if self._pause is None:
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
            for listener in self._sockets:
                self._loop.remove_reader(listener)
            self._make_room()

    def _resume(self) -> None:
        self._pause = None
        for listener in self._sockets:
            self._loop.add_reader(listener, self._accept, listener)

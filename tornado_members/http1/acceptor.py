"""Accepting connections: up to a bound, and not while there are no descriptors left."""

import asyncio
import errno
import socket
from collections.abc import Callable
from logging import getLogger
from typing import Any

log = getLogger(__name__)

# The machine or the process has nothing left to make a connection of.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# Somebody connected and was gone again (accept(2)), or another process was faster.
_GONE = (BlockingIOError, InterruptedError, ConnectionAbortedError)
_PAUSE_SECONDS = 0.25  # before it is tried again

Accepted = Callable[[socket.socket, Any], None]


class Acceptor:
    """Some listening sockets, which are read from while there is room."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, accepted: Accepted, crowded: Callable[[], None]
    ) -> None:
        """`crowded` is told when somebody is waiting, and there is no room for him."""
        self._loop = loop
        self._accepted = accepted
        self._crowded = crowded
        self._sockets: list[socket.socket] = []
        self._has_room = True
        self._pause: asyncio.TimerHandle | None = None

    @property
    def sockets(self) -> list[socket.socket]:
        """Those that are open."""
        return [*self._sockets]

    def add(self, listener: socket.socket) -> None:
        """Listen on one more."""
        listener.setblocking(False)
        self._sockets.append(listener)
        if self._is_accepting:
            self._loop.add_reader(listener, self._accept, listener)

    def set_room(self, has_room: bool) -> None:
        """Whether there is room for another connection; others wait in the kernel meanwhile."""
        gained, self._has_room = has_room and not self._has_room, has_room
        if gained and self._pause:
            self._pause.cancel()
            self._go_on()

    def stop(self) -> None:
        """Close the sockets."""
        for listener in self._sockets:
            self._loop.remove_reader(listener)
            listener.close()
        self._sockets = []
        if self._pause:
            self._pause.cancel()
            self._pause = None

    @property
    def _is_accepting(self) -> bool:
        return self._pause is None

    def _accept(self, listener: socket.socket) -> None:
        """One at a time: another process may be listening, too, and have less to do."""
        if not self._has_room:
            self._wait_for_room()
            return
        try:
            connected, address = listener.accept()
        except _GONE:
            return
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            log.warning("no connection can be accepted: %s", error.strerror)
            self._wait_for_room()
            return
        self._accepted(connected, address)

    def _wait_for_room(self) -> None:
        """Somebody is waiting; the loop is not to turn for him all the time."""
        if self._pause is None:
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._go_on)
            for listener in self._sockets:
                self._loop.remove_reader(listener)
            self._crowded()

    def _go_on(self) -> None:
        self._pause = None
        for listener in self._sockets:
            self._loop.add_reader(listener, self._accept, listener)

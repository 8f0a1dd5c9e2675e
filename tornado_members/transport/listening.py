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
_PAUSE_SECONDS = 1.0

Accepted = Callable[[socket.socket, Any], None]


class Listening:
    """Some listening sockets, which are read from while there is room."""

    def __init__(self, loop: asyncio.AbstractEventLoop, accepted: Accepted) -> None:
        self._loop = loop
        self._accepted = accepted
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
        if has_room != self._has_room:
            was_accepting = self._is_accepting
            self._has_room = has_room
            self._follow(was_accepting)

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
        return self._has_room and self._pause is None

    def _follow(self, was_accepting: bool) -> None:
        if was_accepting == self._is_accepting:
            return
        for listener in self._sockets:
            if self._is_accepting:
                self._loop.add_reader(listener, self._accept, listener)
            else:
                self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        """One at a time: another process may be listening, too, and have less to do."""
        try:
            connected, address = listener.accept()
        except _GONE:
            return
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            log.warning("no connection can be accepted: %s", error.strerror)
            was_accepting = self._is_accepting
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._go_on)
            self._follow(was_accepting)
            return
        self._accepted(connected, address)

    def _go_on(self) -> None:
        was_accepting = self._is_accepting
        self._pause = None
        self._follow(was_accepting)

"""Probes a node in a thread of its own, independent of the load of the event loop.

A node may be read only if it has replied within the heartbeat. Under load, a turn of the event loop
takes longer than that. A process that probed in the event loop would mistake its own lag for an
outage, read the database instead, and become even busier.
"""

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.echoes import ECHOES

_LONGEST_REPLY = 512  # bytes


class HeartbeatThread:
    """Probes a node periodically, and notes when it replied.

    Each probe has a number, which the reply repeats (echoes.py). So a reply that was sent twice
    does not count as the reply to the next probe, to which a hanging server never replies.

    What it notes are plain numbers that one thread writes and another one reads.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        pause: float,
        timeout: float,
        heartbeat: float,
        resting_pause: float | None = None,
        is_read: Callable[[], bool] = lambda: True,
        on_broken: Callable[[], None] = lambda: None,
        other_reply_at: Callable[[], float] = lambda: float("-inf"),
        now: Callable[[], float] = clock,
    ) -> None:
        """`pause`, between two probes, `timeout` and `heartbeat` are in seconds.

        `resting_pause` is the pause while `is_read` returns False: the process does not read the
        node. `is_read` is called in the thread.
        `on_broken` is called in the thread when the connection breaks: the server may restart.
        `other_reply_at` returns when the last command was sent that the node has replied to on
        another connection.
        """
        self._other_reply_at = other_reply_at
        self._on_broken = on_broken
        self._address = (host, port)
        self._pause = pause
        self._resting_pause = pause if resting_pause is None else resting_pause
        self._is_read = is_read
        self._timeout = timeout
        self._heartbeat = heartbeat
        self._now = now
        self.last_reply_at = float("-inf")  # when the last probe with a reply was sent
        self.recovered_at = float("-inf")  # when the node replied again, after a gap
        self._echoes = cycle(ECHOES)
        self._connection: socket.socket | None = None
        self._poll: select.poll | None = None  # for the end of the connection
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"heartbeat {host}:{port}", daemon=True
        )

    def start(self) -> None:
        """Begin to probe."""
        self._thread.start()

    def stop(self) -> None:
        """Stop probing."""
        self._stopped.set()
        connection = self._connection
        if connection:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # it may be waiting for a reply
        if self._thread.is_alive():
            self._thread.join(2 * self._timeout)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._rest()
                self._probe()
            except OSError:
                if self._hang_up() and not self._stopped.is_set():
                    self._on_broken()
        self._hang_up()

    def _rest(self) -> None:
        """Wait until the next probe. Raises OSError at the end of the connection.

        To wait for an Event takes as much processor time as a probe.
        """
        if self._poll is None:
            self._stopped.wait(self._next_pause())
        elif self._poll.poll(self._next_pause() * 1000):
            raise ConnectionError("the connection has ended")

    def _next_pause(self) -> float:
        """Return the seconds until the next probe.

        They decide only how soon an outage is noticed. A gap between two replies counts as one
        (`_note_reply`), however long the pause was, so no read relies on a pause.
        """
        return self._pause if self._is_read() else self._resting_pause

    def _probe(self) -> None:
        """Send a probe and read the reply. Raises OSError for anything but a reply in time."""
        if self._stopped.is_set():
            return
        if self._connection is None:
            self._connection = socket.create_connection(self._address, self._timeout)
            self._connection.settimeout(self._timeout)
            self._poll = select.poll()
            self._poll.register(self._connection, select.POLLIN)
        sent = self._now()
        request, echo = next(self._echoes)
        self._connection.sendall(request)
        self._read_reply(self._connection, echo)
        self._note_reply(sent)

    def _read_reply(self, connection: socket.socket, echo: bytes) -> None:
        """Read a reply, which may arrive in pieces. Raises OSError for anything else."""
        reply, end = b"", self._now() + self._timeout
        while reply != echo:
            piece = connection.recv(_LONGEST_REPLY)
            reply += piece
            if not piece or not echo.startswith(reply) or self._now() > end:
                raise ConnectionError("did not reply in time with the number of the probe")

    def _note_reply(self, sent: float) -> None:
        """Record the reply to a probe that was sent at this time.

        It is no return of the node if only this thread did not run for a while, and the event loop
        has had replies meanwhile.
        """
        if sent - max(self.last_reply_at, self._other_reply_at()) > self._heartbeat:
            self.recovered_at = self._now()  # first: who sees the other one sees this one, too
        self.last_reply_at = sent

    def _hang_up(self) -> bool:
        """Close the connection; False if there was none."""
        connection, self._connection, self._poll = self._connection, None, None
        if connection:
            connection.close()
        return connection is not None

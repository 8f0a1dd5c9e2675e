"""The way out of a connection: writes that wait for the client, and not for ever."""

import asyncio
from asyncio import Future
from math import inf

from tornado.iostream import StreamClosedError

from tornado_members.transport.limits import Limits

# After so many writes that did not have to wait, the next one does: the loop has other work, such
# as to find out that a client has gone.
_MOST_IN_A_ROW = 64


class Outgoing:
    """Writes to one transport, and knows when the kernel has taken everything."""

    transport: asyncio.Transport

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: Limits, done: "Future[None]"
    ) -> None:
        """`done` is a future that is, for all writes that need not wait."""
        self.deadline = inf
        self.paused = False
        self._loop = loop
        self._limits = limits
        self._done = done
        self._in_a_row = 0  # writes that did not wait
        self._unsent = 0  # bytes, when it was last looked at
        self._waiting: list[Future[None]] = []

    def begin(self, transport: asyncio.Transport) -> None:
        """Write there. It is called paused as long as a byte is left."""
        self.transport = transport
        transport.set_write_buffer_limits(high=1, low=0)

    def send(self, data: bytes) -> "Future[None]":
        """Write; the future is done when the kernel has everything."""
        self.transport.write(data)
        if self.transport.is_closing():
            return self.fail()
        self._in_a_row += 1
        if not self.paused and self._in_a_row < _MOST_IN_A_ROW:
            return self._done
        self._in_a_row = 0
        future = self._loop.create_future()
        self._waiting.append(future)
        if not self.paused:
            self._loop.call_soon(self._let_on)
        return future

    def fail(self) -> "Future[None]":
        """The future of a write to nobody."""
        future = self._loop.create_future()
        _break(future, None)
        return future

    def pause(self) -> None:
        """Something is left to be sent."""
        self.paused = True
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self._loop.time() + self._limits.write_seconds

    def resume(self) -> None:
        """All has left."""
        self.paused = False
        self.deadline = inf
        for future in self._take_waiting():
            future.set_result(None)

    def _let_on(self) -> None:
        """The loop has had its turn."""
        if not self.paused:
            self.resume()

    def lose(self, error: Exception | None) -> None:
        """Nobody is there any more."""
        self.deadline = inf
        for future in self._take_waiting():
            _break(future, error)

    def makes_progress(self, now: float) -> bool:
        """Whether the client has taken anything since it was last asked."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        self.deadline = now + self._limits.write_seconds
        return self._unsent < before

    def _take_waiting(self) -> "list[Future[None]]":
        waiting, self._waiting = self._waiting, []
        return [future for future in waiting if not future.done()]


def _break(future: "Future[None]", error: Exception | None) -> None:
    future.set_exception(StreamClosedError(error))
    future.exception()  # nobody has to wait for it

"""Write to one connection at the client's pace, without copying the bytes that wait.

A piece of a response that the kernel does not take at once stays in a queue as it is: many
connections can wait with the same bytes, which are then in memory once. The transport below is
given one slice at a time, so that it copies at most that much.
"""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Callable
from math import inf

from tornado.iostream import StreamClosedError

from tornado_members.http1.budget import SharedBytesBudget
from tornado_members.http1.limits import Limits

_SLICE_BYTES = 32 * 1024
# After this many writes that did not wait, the next one does, so that the loop can do other work,
# such as to notice that a client has disconnected.
_WRITES_IN_A_ROW = 64


class ResponseWriter:
    """Writes to one transport. `paused` is true while the kernel has not taken everything."""

    transport: asyncio.Transport

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        done: "Future[None]",
        budget: SharedBytesBudget,
    ) -> None:
        """`done` is a finished future, for all writes that need not wait."""
        self.deadline = inf  # by which the client has to read something
        self.paused = False
        self._loop = loop
        self._limits = limits
        self._done = done
        self._budget = budget
        self._queue: deque[tuple[bytes, int]] = deque()  # and how much of each was written
        self._queued = 0  # bytes
        self._sent = 0  # bytes, ever given to `send`
        self._paused_at = 0.0
        self._taken_at_pause = 0  # bytes
        self._taken_at_check = 0
        self._in_a_row = 0  # writes that did not wait
        self._waiting: list[Future[None]] = []
        self._after: Callable[[], None] | None = None  # to call once everything has left

    def begin(self, transport: asyncio.Transport) -> None:
        """Write to `transport`, which counts as paused while it holds a byte."""
        self.transport = transport
        transport.set_write_buffer_limits(high=1, low=0)

    def send(self, *parts: bytes) -> "Future[None]":
        """Write; the future is done when the kernel has everything."""
        transport = self.transport
        if self._after is not None:
            return self.fail()
        for part in parts:
            size = len(part)
            self._sent += size
            if not self.paused and size <= _SLICE_BYTES:
                transport.write(part)
            elif part:
                self._enqueue(part)
            if transport.is_closing():  # it was before, or the client has disconnected
                return self.fail()
        self._in_a_row += 1
        if not self.paused and self._in_a_row < _WRITES_IN_A_ROW:
            return self._done
        self._in_a_row = 0
        future = self._loop.create_future()
        self._waiting.append(future)
        if not self.paused:
            self._loop.call_soon(self._finish_turn)
        return future

    def fail(self) -> "Future[None]":
        """Return the future of a write to a closed connection."""
        future = self._loop.create_future()
        _break(future, None)
        return future

    def close(self) -> None:
        """Close the transport once everything has left."""
        self.after_all(self.transport.close)

    def after_all(self, call: Callable[[], None]) -> None:
        """Accept no more writes. Run `call` once the transport has received everything."""
        if self._queue:
            self._after = call
        else:
            call()

    def pause(self) -> None:
        """The kernel has not taken everything."""
        self.paused = True
        if self.deadline != inf:  # the client has been waited for since an earlier slice
            return
        self._paused_at = self._loop.time()
        self._taken_at_pause = self._taken_at_check = self._taken()
        self.deadline = self._paused_at + self._limits.write_seconds

    def resume(self) -> None:
        """The kernel has taken everything that the transport was given."""
        self.paused = False
        self._write_slices()
        if self.paused:  # writing has called `pause`
            return
        self.deadline = inf
        for future in self._take_waiting():
            future.set_result(None)
        after, self._after = self._after, None
        if after is not None:
            after()

    def lose(self, error: Exception | None) -> None:
        """The connection is closed."""
        self.deadline = inf
        self._after = None
        while self._queue:
            self._budget.release_data(self._queue.popleft()[0])
        self._queued = 0
        for future in self._take_waiting():
            _break(future, error)

    def restart_wait(self, now: float) -> None:
        """Restart the client's time: until now it may have sent its request without reading."""
        if self.deadline != inf:
            self._paused_at = now
            self._taken_at_pause = self._taken_at_check = self._taken()
            self.deadline = now + self._limits.write_seconds

    def reads_too_slowly(self, now: float) -> bool:
        """True if the client has read nothing for write_seconds, or less than the minimum rate."""
        taken = self._taken()
        stalled = taken == self._taken_at_check
        self._taken_at_check = taken
        self.deadline = now + self._limits.write_seconds
        timed = now - self._paused_at - self._limits.write_seconds
        least = timed * self._limits.write_bytes_per_second
        return stalled or taken - self._taken_at_pause < least

    def rate(self, now: float, settled_seconds: float) -> float | None:
        """Return the client's rate of reading, in bytes per second.

        None if the server does not wait for it, or for less than `settled_seconds`.
        """
        seconds = now - self._paused_at
        if not self.paused or seconds < settled_seconds:
            return None
        return (self._taken() - self._taken_at_pause) / seconds

    def _enqueue(self, part: bytes) -> None:
        self._queue.append((part, 0))
        self._queued += len(part)
        self._budget.hold_data(part)
        if not self.paused:
            self._write_slices()

    def _write_slices(self) -> None:
        """Give the transport slices, until one of them has to wait."""
        while self._queue and not self.paused and not self.transport.is_closing():
            part, start = self._queue.popleft()
            end = min(start + _SLICE_BYTES, len(part))
            self._queued -= end - start
            if end < len(part):
                self._queue.appendleft((part, end))
            else:
                self._budget.release_data(part)
            self.transport.write(memoryview(part)[start:end])

    def _taken(self) -> int:
        """Return how many bytes the kernel has taken, ever."""
        return self._sent - self._queued - self.transport.get_write_buffer_size()

    def _finish_turn(self) -> None:
        """The loop has had its turn."""
        if not self.paused:
            self.resume()

    def _take_waiting(self) -> "list[Future[None]]":
        waiting, self._waiting = self._waiting, []
        return [future for future in waiting if not future.done()]


def _break(future: "Future[None]", error: Exception | None) -> None:
    future.set_exception(StreamClosedError(error))
    future.exception()  # it need not be awaited

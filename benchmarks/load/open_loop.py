"""Requests at a constant rate, whether or not earlier ones were answered (an open loop).

A closed loop, such as wrk's, sends less as soon as the server becomes slower, and so never shows an
overload. Latency counts from the moment when a request was due ("coordinated omission").
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil

TIMEOUT_SECONDS = 10.0
_TICK_SECONDS = 0.002
_REUSE_SECONDS = 30.0  # less than server.limits.idle_seconds


@dataclass(slots=True)
class Outcome:
    """The responses of one run."""

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry_after: int = 0  # responses 503
    resets: int = 0
    timeouts: int = 0
    admitted: list[float] = field(default_factory=list)  # seconds until each 2xx response
    refused: list[float] = field(default_factory=list)  # and each 503
    own_delay: float = 0.0  # the longest delay of the client itself, in seconds

    @property
    def successes(self) -> int:
        """The number of 2xx responses."""
        return len(self.admitted)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    transport: asyncio.Transport

    def __init__(self, client: "OpenLoop") -> None:
        self._client = client
        self._buffer = b""
        self._due: float | None = None  # None while idle
        self.last_used = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at a time of the loop's clock."""
        self._due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(self._buffer) < end + 4 + int(length or 0):
            return
        self._buffer = b""
        due, self._due = self._due, None
        if due is not None:
            status, closes = int(head[9:12]), b"connection: close" in head
            self._client.received(self, status, due, head, closes=closes)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost(self, was_waiting=self._due is not None)
        self._due = None

    def expire(self, now: float) -> bool:
        """Abort a request that has waited for too long. Return True if there was one."""
        if self._due is None or now - self._due < TIMEOUT_SECONDS:
            return False
        self._due = None
        self.transport.abort()
        return True


class OpenLoop:
    """A client that opens a connection for each request while all others wait for a response."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self._port = port
        self._requests = requests
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._again: Callable[[_Connection], None] | None = None  # in a closed loop
        self.outcome = Outcome()

    async def send_at(self, rate: float, seconds: float) -> Outcome:
        """Send `rate` requests per second, and wait for the last response."""
        self.outcome = outcome = Outcome()
        begun = self._loop.time()
        while (passed := self._loop.time() - begun) < seconds:
            for number in range(outcome.sent, ceil(passed * rate)):
                self._send(begun + number / rate)
            self._expire()
            before = self._loop.time()
            await asyncio.sleep(_TICK_SECONDS)
            outcome.own_delay = max(outcome.own_delay, self._loop.time() - before - _TICK_SECONDS)
        await self._wait()
        return outcome

    async def send_closed(self, connections: int, seconds: float) -> Outcome:
        """Send the next request of each connection after the response to its last one."""
        self.outcome = outcome = Outcome()
        end = self._loop.time() + seconds

        def again(connection: _Connection) -> None:
            now = self._loop.time()
            if now < end:
                outcome.sent += 1
                connection.send(next(self._requests), now)
            else:
                self._idle.append(connection)

        self._again = again
        for _ in range(connections):
            self._send(self._loop.time())
        await asyncio.sleep(seconds)
        await self._wait()
        self._again = None
        return outcome

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.transport.abort()

    # Connections call these.

    def received(
        self, connection: _Connection, status: int, due: float, head: bytes, *, closes: bool
    ) -> None:
        """Count a response, and use the connection again."""
        now = self._loop.time()
        self.outcome.statuses[status] += 1
        if status == 503:
            self.outcome.refused.append(now - due)
            self.outcome.without_retry_after += b"\r\nretry-after:" not in head
        elif status < 300:
            self.outcome.admitted.append(now - due)
        connection.last_used = now
        if closes:
            connection.transport.close()
        elif self._again is not None:
            self._again(connection)
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection, *, was_waiting: bool) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self.outcome.resets += was_waiting

    def _send(self, due: float) -> None:
        self.outcome.sent += 1
        request = next(self._requests)
        while self._idle:
            connection = self._idle.pop()
            if due - connection.last_used < _REUSE_SECONDS:
                connection.send(request, due)
                return
            connection.transport.close()
        task = self._loop.create_task(self._open(request, due))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, request: bytes, due: float) -> None:
        try:
            async with asyncio.timeout_at(due + TIMEOUT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self), "127.0.0.1", self._port
                )
        except TimeoutError:
            self.outcome.timeouts += 1
        except OSError:
            self.outcome.resets += 1
        else:
            self._connections.add(connection)
            connection.send(request, due)

    def _expire(self) -> None:
        now = self._loop.time()
        for connection in [*self._connections]:
            self.outcome.timeouts += connection.expire(now)

    async def _wait(self) -> None:
        while self._opening or len(self._idle) < len(self._connections):
            self._expire()
            await asyncio.sleep(_TICK_SECONDS)

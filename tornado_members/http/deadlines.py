"""Deadlines by which each response must have begun."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Protocol

_CHECKS = 4  # within the time of one request


class Request(Protocol):
    """A request whose response can be replaced by a 503."""

    def time_out(self) -> None:
        """Send ResponseTimeout, unless the response has begun."""


class Deadlines:
    """Answers a request with 503 if its response does not begin in time.

    Nothing is cancelled: every operation that a handler waits for has its own time-out
    (docs/decisions/drivers.md gives the reason). One task checks all requests periodically, because
    one timer per request would cost more than everything else here.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: dict[Request, float] = {}  # time.monotonic(), the oldest first
        self._has_requests = asyncio.Event()  # unset while the task waits for a request

    def begin(self, request: Request) -> None:
        """Start the deadline of a request."""
        self._begun[request] = time.monotonic()
        if not self._has_requests.is_set():
            self._has_requests.set()

    def end(self, request: Request) -> None:
        """Remove the deadline of a request, which was answered."""
        self._begun.pop(request, None)

    @contextmanager
    def running(self, requests: Collection[Request]) -> Iterator[None]:
        """Apply the deadline to several requests during the block."""
        for request in requests:
            self.begin(request)
        try:
            yield
        finally:
            for request in requests:
                self.end(request)

    async def watch(self) -> None:
        """Check for late requests, until cancelled."""
        while True:
            if not self._begun:
                self._has_requests.clear()
                await self._has_requests.wait()
            await asyncio.sleep(min(0.5, self._seconds / _CHECKS))
            oldest = time.monotonic() - self._seconds
            late = [request for request, begun in self._begun.items() if begun < oldest]
            for request in late:
                self.end(request)
                request.time_out()


@asynccontextmanager
async def open_deadlines(seconds: float) -> AsyncIterator[Deadlines]:
    """Yield the deadlines of requests, with the task that checks them."""
    deadlines = Deadlines(seconds)
    watching = asyncio.create_task(deadlines.watch())
    try:
        yield deadlines
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

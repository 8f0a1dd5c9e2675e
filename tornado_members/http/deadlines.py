"""A time by which each answer has begun."""

import asyncio
import time
from typing import Protocol

_LOOKS = 4  # in the time that a request has


class _Request(Protocol):
    """What can be given up."""

    def give_up(self) -> None:
        """Answer that it took too long, unless the answer has begun."""


class Deadlines:
    """Requests whose answer does not begin in time are answered with a 503.

    Nothing is cancelled: what a handler waits for has a time-out of its own, and ends by itself
    (docs/decisions/drivers.md says why it should). All are looked at together, now and then: a
    timer a request would cost more than all the rest of it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: dict[_Request, float] = {}  # time.monotonic(), the oldest first

    def begin(self, request: _Request) -> None:
        """Its time runs from now on."""
        self._begun[request] = time.monotonic()

    def end(self, request: _Request) -> None:
        """It was answered."""
        self._begun.pop(request, None)

    async def watch(self) -> None:
        """Give up what is late, for ever."""
        while True:
            await asyncio.sleep(min(0.5, self._seconds / _LOOKS))
            oldest = time.monotonic() - self._seconds
            late = [request for request, begun in self._begun.items() if begun < oldest]
            for request in late:
                self.end(request)
                request.give_up()

"""A check that runs only if no event has made it unnecessary for a while."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class Watchdog:
    """Runs a check `seconds` after the last event that made it unnecessary.

    Each event moves one timer, so that events which are more frequent never wake an idle process.
    """

    def __init__(self, seconds: float, check: Callable[[], Awaitable[None]]) -> None:
        """`check` calls `postpone` before it returns. It must not raise."""
        self._seconds = seconds
        self._check = check
        self._event_at = float("-inf")  # on the loop's clock
        self._timer: asyncio.TimerHandle | None = None  # None during a check
        self._checking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Run the check whenever it is due while the block lasts."""
        self._arm()
        try:
            yield
        finally:
            if self._timer:
                self._timer.cancel()
                self._timer = None
            elif self._checking:
                self._checking.cancel()
                await asyncio.wait([self._checking])

    def postpone(self, event_at: float) -> None:
        """Record an event at this time of the loop's clock."""
        self._event_at = max(self._event_at, event_at)
        if self._timer:
            self._timer.cancel()
            self._arm()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        due = max(self._event_at + self._seconds, loop.time())
        self._timer = loop.call_at(due, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._checking = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._check()
        self._arm()

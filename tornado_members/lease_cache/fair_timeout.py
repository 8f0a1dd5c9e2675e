"""A time-out that does not blame the server for a busy event loop, or for a large reply."""

import asyncio
from typing import Any, Final, Protocol

_PROGRESS: Final = 64 * 1024  # bytes; a server that hangs does not send them


class Receiver(Protocol):
    """A connection on which a reply arrives."""

    received: int  # bytes in all


class FairTimeout:
    """A time-out that extends itself while the event loop of this process is late.

    When the time is over, the reply may have arrived unread, so a quarter more is allowed for it.
    If this check itself is late, the event loop was busy: then the time begins again, four times at
    most. While a large reply arrives, the time begins again after each 64 KiB.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._graces = 4
        self._receiver: Receiver | None = None
        self._received = 0  # bytes, when the time began

    async def __aenter__(self) -> "FairTimeout":
        await self._timeout.__aenter__()
        self._arm(self._seconds)
        return self

    def watch(self, receiver: Receiver) -> None:
        """Extend the time while a reply arrives on this connection."""
        self._receiver, self._received = receiver, receiver.received

    async def __aexit__(self, *raised: Any) -> None:
        self._handle.cancel()
        await self._timeout.__aexit__(*raised)  # raises TimeoutError instead of its cancellation

    def _arm(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._handle = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        if self._receiver and self._receiver.received >= self._received + _PROGRESS:
            self._received = self._receiver.received
            self._arm(self._seconds)
            return
        was_late = self._loop.time() - self._due > self._seconds / 5
        if was_late and self._graces:
            self._graces -= 1
            self._arm(self._seconds)
        elif self._graces:
            self._graces = 0
            self._arm(self._seconds / 4)
        else:
            self._timeout.reschedule(self._loop.time())

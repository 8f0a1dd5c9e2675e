"""The writes of this process that may still commit."""

import asyncio
from collections.abc import Callable


class WritesUnderWay:
    """Writes from their announcement until their outcome is known or they can no longer commit."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ends: dict[bytes, float] = {}  # by writer: when it cannot commit any more
        self._ended = asyncio.Event()

    def begin(self, writer: bytes, ends_at: float) -> None:
        """Note a write before its first tombstone is sent."""
        self._ends[writer] = ends_at

    def end(self, writer: bytes, may_commit_until: float) -> None:
        """Note that the outcome of a write is known, or will be at that time."""
        if may_commit_until > self._now():
            self._ends[writer] = may_commit_until
        else:
            self._ends.pop(writer, None)  # it may have come to its end
        self._ended.set()
        self._ended.clear()

    def current(self) -> frozenset[bytes]:
        """Return the writers whose writes may still commit."""
        now = self._now()
        self._ends = {writer: ends_at for writer, ends_at in self._ends.items() if ends_at > now}
        return frozenset(self._ends)

    async def wait_for(self, writers: frozenset[bytes]) -> None:
        """Wait until none of these writes can commit any more."""
        while remaining := writers & self.current():
            rest = max(self._ends[writer] for writer in remaining) - self._now()
            try:
                async with asyncio.timeout(max(rest, 0.01)):
                    await self._ended.wait()
            except TimeoutError:
                pass

"""Facts that are expensive to determine, cached for a short time."""

import time
from collections.abc import Callable, Hashable
from typing import Final

_MAX_ITEMS: Final = 1000  # facts; about 200 KB


class RecentFacts:
    """A set whose items expire after some seconds. Above a limit, the oldest are removed."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._added_at: dict[Hashable, float] = {}  # the oldest first

    def add(self, item: Hashable) -> None:
        """Add an item, or renew it."""
        self._added_at.pop(item, None)
        self._added_at[item] = self._clock()
        if len(self._added_at) > _MAX_ITEMS:
            del self._added_at[next(iter(self._added_at))]

    def __contains__(self, item: Hashable) -> bool:
        added_at = self._added_at.get(item)
        return added_at is not None and self._clock() - added_at < self._seconds

"""Facts that are expensive to determine, cached for a short time."""

import time
from collections.abc import Callable, Hashable
from typing import Final

_MOST: Final = 1000  # facts; about 200 KB


class RecentFacts:
    """A set that forgets items after some seconds, and the oldest ones above a limit."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._added_at: dict[Hashable, float] = {}  # the oldest first

    def add(self, item: Hashable) -> None:
        """Remember an item from now on."""
        self._added_at.pop(item, None)
        self._added_at[item] = self._clock()
        if len(self._added_at) > _MOST:
            del self._added_at[next(iter(self._added_at))]

    def __contains__(self, item: Hashable) -> bool:
        added_at = self._added_at.get(item)
        return added_at is not None and self._clock() - added_at < self._seconds

"""A limit on the requests of each subject per minute, over all processes."""

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

from tornado_members.auth.caller import Caller
from tornado_members.errors import TooManyRequests
from tornado_members.lease_cache.coalescing import Batcher

_WINDOW = 60  # seconds


class Counts(Protocol):
    """Counters that all processes share."""

    def add_many(self, amounts: Mapping[bytes, int], ttl: int) -> Awaitable[Mapping[bytes, int]]:
        """Add to counters, which expire `ttl` seconds after their creation; return the sums."""


class RateLimit:
    """Counts requests in windows of one minute, aligned to the clock.

    The requests of one turn of the event loop are counted by one command to Memcached, and those
    that arrive until its reply by the next one. A subject over the limit is refused from memory
    until the window ends.
    """

    def __init__(
        self, counts: Counts, per_minute: int, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` returns seconds since the epoch."""
        self._counts = counts
        self._most = per_minute
        self._clock = clock
        self._batcher = Batcher(self._admit, in_turns=True)
        self._window = 0
        self._over: set[bytes] = set()  # keys of subjects that have used up this window

    async def check(self, caller: Caller) -> None:
        """Count one request. Raises TooManyRequests."""
        if not self.is_exceeded(caller):
            (is_admitted,) = await self.admit((caller,))
            if is_admitted:
                return
        raise TooManyRequests(self._most, math.ceil(_WINDOW - self._clock() % _WINDOW))

    def is_exceeded(self, caller: Caller) -> bool:
        """True if the caller has used up this window."""
        return _key(caller.issuer, caller.subject, self._current_window()) in self._over

    async def admit(self, callers: Sequence[Caller]) -> Sequence[bool]:
        """Count one request of each of these callers; return which of them are within the limit.

        A caller with several requests occurs several times. Its first ones are admitted.
        """
        return await self._batcher.submit(callers)

    async def _admit(self, callers: Sequence[Caller]) -> list[bool]:
        window = self._current_window()
        keys = [_key(caller.issuer, caller.subject, window) for caller in callers]
        amounts = Counter(key for key in keys if key not in self._over)
        numbers = await self._counts.add_many(amounts, _WINDOW + 1)
        left = {key: self._most - number + amounts[key] for key, number in numbers.items()}
        admitted = []
        for key in keys:
            left[key] = left.get(key, 0) - 1
            admitted.append(left[key] >= 0)
        if window == self._window:
            self._over |= {key for key, rest in left.items() if rest < 0}
        return admitted

    def _current_window(self) -> int:
        window = int(self._clock() // _WINDOW)
        if window != self._window:
            self._window = window
            self._over.clear()
        return window


@lru_cache(256)
def _key(issuer: str, subject: str, window: int) -> bytes:
    """Return a key from which the subject cannot be read."""
    digest = blake2b(digest_size=16)
    for text in (issuer, subject, str(window)):
        encoded = text.encode("utf-8", "replace")
        digest.update(b"%d:%b" % (len(encoded), encoded))
    return b"rate:" + digest.hexdigest().encode()

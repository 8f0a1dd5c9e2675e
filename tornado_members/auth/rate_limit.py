"""A limit on the requests of each subject per minute, over all processes."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

from tornado_members.auth.caller import Caller
from tornado_members.errors import TooManyRequests
from tornado_members.lease_cache.coalescing import Batcher

_WINDOW = 60  # seconds
# A subject with at least this many requests left is admitted before its requests are counted. Other
# processes admit fewer during the round trip of the count.
_UNCOUNTED_FROM = 1000


class Counts(Protocol):
    """Counters that all processes share."""

    def add_many(self, amounts: Mapping[bytes, int], ttl: int) -> Awaitable[Mapping[bytes, int]]:
        """Add to counters, which expire `ttl` seconds after their creation; return the sums."""


class RateLimit:
    """Counts requests in windows of one minute, aligned to the clock.

    One command to Memcached counts the requests of one turn of the event loop. The next command
    counts those that arrive before its reply. A subject over the limit is refused from memory until
    the window ends. Requests of a subject far below the limit do not wait for the reply.
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
        self._left: dict[bytes, int] = {}  # requests by subject, as of the last reply
        self._admitted: Counter[bytes] = Counter()  # requests that are not counted yet
        self._counting: asyncio.Task[None] | None = None
        self._over: set[bytes] = set()  # keys of subjects that are over the limit in this window

    async def check(self, caller: Caller) -> None:
        """Count one request. Raises TooManyRequests."""
        if not self.is_exceeded(caller):
            (is_admitted,) = await self.admit((caller,))
            if is_admitted:
                return
        raise TooManyRequests(self._most, math.ceil(_WINDOW - self._clock() % _WINDOW))

    def is_exceeded(self, caller: Caller) -> bool:
        """True if the caller is over the limit in this window."""
        return _key(caller.issuer, caller.subject, self._current_window()) in self._over

    async def admit(self, callers: Sequence[Caller]) -> Sequence[bool]:
        """Count one request of each of these callers; return which of them are within the limit.

        A caller with several requests occurs several times. Its first ones are admitted.
        """
        window = self._current_window()
        keys = [_key(caller.issuer, caller.subject, window) for caller in callers]
        if all(self._left.get(key, 0) >= _UNCOUNTED_FROM for key in keys):
            self._count_later(keys)
            return [True] * len(keys)
        return await self._batcher.submit(callers)

    def _count_later(self, keys: Sequence[bytes]) -> None:
        """Admit requests now, and count them together with others."""
        for key in keys:
            self._left[key] -= 1
        self._admitted.update(keys)
        if self._counting is None:
            self._counting = asyncio.create_task(self._count_admitted(), context=Context())

    async def _count_admitted(self) -> None:
        try:
            while self._admitted:
                await self._count(self._take_admitted())
        finally:
            self._counting = None

    def _take_admitted(self) -> Counter[bytes]:
        admitted, self._admitted = self._admitted, Counter()
        return admitted

    async def _count(self, amounts: Counter[bytes]) -> Mapping[bytes, int]:
        """Add to the counters; return the sums."""
        window = self._window
        numbers = await self._counts.add_many(amounts, _WINDOW + 1)
        if window == self._window:
            for key, number in numbers.items():
                self._left[key] = self._most - number - self._admitted[key]
        return numbers

    async def _admit(self, callers: Sequence[Caller]) -> list[bool]:
        window = self._current_window()
        keys = [_key(caller.issuer, caller.subject, window) for caller in callers]
        amounts = Counter(key for key in keys if key not in self._over)
        numbers = await self._count(amounts + self._take_admitted())
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
            self._left.clear()
        return window


@lru_cache(256)
def _key(issuer: str, subject: str, window: int) -> bytes:
    """Return a key that does not reveal the subject."""
    digest = blake2b(digest_size=16)
    for text in (issuer, subject, str(window)):
        encoded = text.encode("utf-8", "replace")
        digest.update(b"%d:%b" % (len(encoded), encoded))
    return b"rate:" + digest.hexdigest().encode()

"""A limit on the requests of each subject per minute, over all processes."""

import math
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

from tornado_members.auth.caller import Caller
from tornado_members.errors import TooManyRequests

_WINDOW = 60  # seconds


class Counts(Protocol):
    """Numbers that all processes share."""

    async def add(self, key: bytes, amount: int, ttl: int) -> int:
        """Add to a number that is forgotten `ttl` seconds after it was new; returns it."""


class RateLimit:
    """Counts requests in windows of one minute, aligned to the clock.

    A subject over the limit is refused from memory until the window ends, without a command to
    Memcached.
    """

    def __init__(
        self, counts: Counts, per_minute: int, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` returns seconds since the epoch."""
        self._counts = counts
        self._most = per_minute
        self._clock = clock
        self._window = 0
        self._over: set[bytes] = set()  # keys of subjects that have used up this window

    async def check(self, caller: Caller) -> None:
        """Count one request. Raises TooManyRequests."""
        now = self._clock()
        window = int(now // _WINDOW)
        if window != self._window:
            self._window = window
            self._over.clear()
        key = _key(caller, window)
        if key not in self._over:
            if await self._counts.add(key, 1, _WINDOW + 1) <= self._most:
                return
            if window == self._window:
                self._over.add(key)
        raise TooManyRequests(self._most, math.ceil(_WINDOW - now % _WINDOW))


def _key(caller: Caller, window: int) -> bytes:
    """Return a key from which the subject cannot be read."""
    digest = blake2b(digest_size=16)
    for text in (caller.issuer, caller.subject, str(window)):
        encoded = text.encode("utf-8", "replace")
        digest.update(b"%d:%b" % (len(encoded), encoded))
    return b"rate:" + digest.hexdigest().encode()

"""Numbers that every process sees, counted in Memcached, and in the process for when it is away."""

import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from logging import getLogger

from tornado_members.cache.memcached import MemcachedNode, NodeAway

log = getLogger(__name__)

MAX_OWN = 100_000  # numbers kept in the process; some 20 MB


class SharedCounts:
    """Each number lives in both places, and the higher one is told.

    A Memcached that is away, restarts or evicts makes processes forget about each other, but none
    of them forgets what it counted itself.
    """

    def __init__(
        self,
        nodes: Sequence[MemcachedNode],
        *,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Counts of different namespaces may share their servers. `clock` tells seconds."""
        self._nodes = tuple(nodes)
        self._prefix = blake2b(namespace.encode(), digest_size=6).hexdigest().encode() + b":count:"
        self._clock = clock
        self._own: dict[bytes, tuple[int, float]] = {}  # and when it is forgotten, oldest first

    async def add(self, key: bytes, amount: int, ttl: int) -> int:
        """Add to a number, which is forgotten `ttl` seconds after it was new; returns it.

        `key` is at most 200 printable ASCII bytes.
        """
        own = self._add_own(key, amount, ttl)
        if not self._nodes:
            return own
        try:
            shared = await self._node_of(key).increment(self._prefix + key, amount, ttl)
        except NodeAway as error:
            log.debug("counted here only: %s", error)
            return own
        return max(own, shared)

    async def close(self) -> None:
        """Close every connection."""
        for node in self._nodes:
            await node.close()

    def _add_own(self, key: bytes, amount: int, ttl: int) -> int:
        now = self._clock()
        count, forgotten = self._own.get(key, (0, now + ttl))
        if forgotten <= now:
            self._own.pop(key, None)
            count, forgotten = 0, now + ttl
        count = max(0, count + amount)
        self._own[key] = (count, forgotten)
        while len(self._own) > MAX_OWN:
            del self._own[next(iter(self._own))]
        return count

    def _node_of(self, key: bytes) -> MemcachedNode:
        digest = blake2b(key, digest_size=8).digest()
        return self._nodes[int.from_bytes(digest, "big") % len(self._nodes)]

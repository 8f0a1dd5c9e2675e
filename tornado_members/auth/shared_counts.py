"""Counters that all processes share in Memcached. Each process also counts, for outages of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from logging import getLogger
from typing import Any

from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.settings import Cache

log = getLogger(__name__)

_MOST_DIGITS = 20
MAX_OWN = 100_000  # counters kept in the process; about 20 MB


class SharedCounts:
    """Keeps each counter in Memcached and in the process, and returns the higher value.

    After an outage, a restart or an eviction of Memcached, each process still has its own count,
    and adds it to the shared one.
    """

    def __init__(
        self,
        nodes: Sequence[MemcachedNode],
        *,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Counts of different namespaces may share their servers. `clock` returns seconds."""
        self._nodes = tuple(nodes)
        self._prefix = blake2b(namespace.encode(), digest_size=6).hexdigest().encode() + b":count:"
        self._clock = clock
        # Counts are shared in the order in which the process counted, on all nodes. If one overtook
        # another, a reply could be lower than the process's count although Memcached lost nothing.
        # They wait here, where no time-out counts.
        self._turn = asyncio.Lock()
        self._own: dict[bytes, tuple[int, float]] = {}  # and when it expires, oldest first

    async def get(self, key: bytes, *, enough: int) -> int:
        """Return a counter. Memcached is not read if this process has counted `enough` already."""
        own = self.get_own(key)
        return own if own >= enough else (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[bytes]) -> list[int]:
        """Return counters, by one request to each Memcached."""
        shared: dict[bytes, int] = {}
        for node, its_keys in self._by_node(keys).items():
            try:
                async with self._turn:
                    found = await node.get_many([self._prefix + key for key in its_keys])
                shared |= {key: int(value) for key, value in found.items() if _is_count(value)}
            except NodeUnavailable as error:
                log.debug("read from this process only: %s", error)
        return [max(self.get_own(key), shared.get(self._prefix + key, 0)) for key in keys]

    def add(self, key: bytes, amount: int, ttl: int) -> Coroutine[Any, Any, int]:
        """Add to a counter, which expires `ttl` seconds after it was created; return the sum.

        The process counts at once, before the coroutine runs. `key` is at most 200 printable ASCII
        bytes.
        """
        return _only_value(self.add_many({key: amount}, ttl))

    def add_many(
        self, amounts: Mapping[bytes, int], ttl: int
    ) -> Coroutine[Any, Any, dict[bytes, int]]:
        """Add to several counters, by one request to each Memcached; return the sums by key."""
        own = {key: self._add_own(key, amount, ttl) for key, amount in amounts.items()}
        return self._share(amounts, ttl, own)

    async def _share(
        self, amounts: Mapping[bytes, int], ttl: int, own: Mapping[bytes, int]
    ) -> dict[bytes, int]:
        found = {**own}
        async with self._turn:
            for node, keys in self._by_node(amounts).items():
                try:
                    shared = await self._increment(node, {key: amounts[key] for key in keys}, ttl)
                    # After an outage or an eviction, the count of the process is the higher one.
                    missing = {
                        key: own[key] - count for key, count in shared.items() if count < own[key]
                    }
                    shared |= await self._increment(node, missing, ttl)
                except NodeUnavailable as error:
                    log.debug("counted in this process only: %s", error)
                else:
                    found |= {key: max(own[key], count) for key, count in shared.items()}
        return found

    async def _increment(
        self, node: MemcachedNode, amounts: Mapping[bytes, int], ttl: int
    ) -> dict[bytes, int]:
        """Return the sums. Those that Memcached refuses to count are missing."""
        prefixed = {self._prefix + key: amount for key, amount in amounts.items()}
        sums = await node.increment_many(prefixed, ttl)
        return {key.removeprefix(self._prefix): count for key, count in sums.items()}

    async def close(self) -> None:
        """Close every connection."""
        for node in self._nodes:
            await node.close()

    def get_own(self, key: bytes) -> int:
        """Return the counter as this process counted it."""
        count, expires_at = self._own.get(key, (0, 0.0))
        return count if self._clock() < expires_at else 0

    def _add_own(self, key: bytes, amount: int, ttl: int) -> int:
        now = self._clock()
        count, expires_at = self._own.get(key, (0, now + ttl))
        if expires_at <= now:
            del self._own[key]
            count, expires_at = 0, now + ttl
        self._own[key] = (count + amount, expires_at)
        while len(self._own) > MAX_OWN:
            del self._own[next(iter(self._own))]
        return count + amount

    def _by_node(self, keys: Iterable[bytes]) -> dict[MemcachedNode, list[bytes]]:
        by_node: dict[MemcachedNode, list[bytes]] = {}
        for key in keys if self._nodes else ():
            by_node.setdefault(self._node_of(key), []).append(key)
        return by_node

    def _node_of(self, key: bytes) -> MemcachedNode:
        digest = blake2b(key, digest_size=8).digest()
        return self._nodes[int.from_bytes(digest, "big") % len(self._nodes)]


@asynccontextmanager
async def open_counts(
    cache: Cache, servers: Sequence[str], *, namespace: str
) -> AsyncIterator[SharedCounts]:
    """Yield counters in these Memcached servers; nothing connects before one is used."""
    nodes = [MemcachedNode(server, timeout=cache.timeout_ms / 1000) for server in servers]
    counts = SharedCounts(nodes, namespace=namespace)
    try:
        yield counts
    finally:
        await counts.close()


def _is_count(value: bytes) -> bool:
    """True for a number of 64 bits; another program may have stored anything."""
    return value.isdigit() and len(value) <= _MOST_DIGITS


async def _only_value(numbers: Coroutine[Any, Any, dict[bytes, int]]) -> int:
    (number,) = (await numbers).values()
    return number

"""Plain cache-aside, the control of the tests: stored on a miss, removed on a write.

It is correct within one process: an entry loaded before a change is not stored after it, and reads
bypass an entry whose removal failed. It does not coordinate with other processes, so services that
use it return stale members, which the tests of the promise must detect.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from typing import TypeVar

from tests.support.unleased_cache import UnleasedCache
from tornado_members import services
from tornado_members.lease_cache import entries
from tornado_members.lease_cache.errors import NodeUnavailable
from tornado_members.lease_cache.look_ups import (
    HIT,
    STORED,
    Bypass,
    Found,
    Load,
    LookUp,
    NotHit,
    bypass,
)
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.placement import namespace_prefix, place
from tornado_members.lease_cache.reads import LoadMany
from tornado_members.settings import Settings
from tornado_members.storage.stores import Stores

log = getLogger(__name__)

T = TypeVar("T")

_CLOCK_SLACK = 5.0  # seconds; Memcached counts whole seconds, and a late command starts later
_SCHEMA = b"1"  # incremented whenever the format of an entry or of its value changes


@dataclass(frozen=True, slots=True)
class Entry:
    """A version, the bytes of a response, and the tag by which the service recognises them."""

    version: int
    body: bytes
    tag: bytes = b"-"


class _Fill:
    """A read that has not stored its entry yet."""

    def __init__(self) -> None:
        self.overtaken = False  # by a change: it may load the earlier state
        self.storing = False
        self.ended = asyncio.Event()


class NaiveCache:
    """Entries on one or more servers."""

    def __init__(self, nodes: Sequence[MemcachedNode], *, ttl: int, namespace: str) -> None:
        """`ttl` is seconds; caches of different namespaces may share their servers."""
        self.nodes = tuple(nodes)
        self._ttl = ttl
        self._prefix = namespace_prefix(namespace)
        # Keys whose removal failed, and when their entries expire.
        self._pending_removals: dict[bytes, float] = {}
        self._fills: dict[bytes, set[_Fill]] = {}

    async def read(self, key: bytes, load: Callable[[], Awaitable[Entry]]) -> Entry:
        """Return the entry of a key, from a server or from `load`, whose exceptions propagate."""
        key = self._prefix + key
        node = place(self.nodes, key)
        if node is None or (key in self._pending_removals and not await self._remove(node, key)):
            return await load()
        try:
            stored = (await node.get_many([key])).get(key)
        except NodeUnavailable:
            return await load()
        if stored is not None and (found := _decode(key, stored)):
            return found
        fill = _Fill()
        self._fills.setdefault(key, set()).add(fill)
        try:
            entry = await load()
            if not fill.overtaken:
                fill.storing = True
                await node.set(key, _encode(key, entry), self._ttl)
        except NodeUnavailable as error:
            log.debug("not stored: %s", error)
        finally:
            fill.ended.set()
            self._fills[key].discard(fill)
            if not self._fills[key]:
                del self._fills[key]
        return entry

    async def forget(self, key: bytes) -> None:
        """Remove the entry of a key, which has changed."""
        key = self._prefix + key
        node = place(self.nodes, key)
        if node is None:
            return
        under_way = list(self._fills.get(key, ()))
        for fill in under_way:
            fill.overtaken = True
        await self._remove(node, key)
        # A fill in progress may have stored its entry after the removal.
        storing = [fill for fill in under_way if fill.storing]
        for fill in storing:
            await fill.ended.wait()
        if storing:
            await self._remove(node, key)

    async def _remove(self, node: MemcachedNode, key: bytes) -> bool:
        """Remove an entry, or remember the removal; return True if the entry is gone."""
        try:
            await node.delete(key)
        except NodeUnavailable as error:
            log.debug("not removed: %s", error)
            now = time.monotonic()
            while self._pending_removals and next(iter(self._pending_removals.values())) < now:
                del self._pending_removals[next(iter(self._pending_removals))]
            self._pending_removals.pop(key, None)
            self._pending_removals[key] = now + self._ttl + _CLOCK_SLACK
            return False
        self._pending_removals.pop(key, None)
        return True

    async def close(self) -> None:
        """Close every connection."""
        for node in self.nodes:
            await node.close()


class NaiveStandIn(UnleasedCache):
    """Has the interface of LeaseCache. It caches neither names nor absent members."""

    def __init__(self, cache: NaiveCache) -> None:
        super().__init__()
        self._cache = cache

    async def close(self) -> None:
        """Close every connection."""
        await self._cache.close()

    def states(self) -> dict[str, str | None]:
        """As LeaseCache's."""
        return {
            node.address: "node-unavailable" if node.is_unavailable else None
            for node in self._cache.nodes
        }

    async def read(
        self,
        key: bytes,
        load: Load,
        *,
        rejected: object = None,
        look_up: object = None,
    ) -> Found:
        """As LeaseCache's."""
        loaded: list[entries.Entry | None] = []

        async def load_it() -> Entry:
            loaded.append(await load())
            if loaded[0] is None or loaded[0].source is not None:
                raise _NotKept
            return Entry(loaded[0].version, loaded[0].body, loaded[0].tag)

        try:
            entry = await self._cache.read(key, load_it)
        except _NotKept:
            self.counts.bypasses["naive"] += 1
            return Found(loaded[0], bypass("naive"))
        if loaded:
            self.counts.misses += 1
            return Found(loaded[0], STORED)
        self.counts.hits += 1
        return Found(entries.Entry(entry.version, entry.tag, entry.body), HIT)

    async def look_up(self, keys: Sequence[bytes]) -> list[LookUp]:
        """Look nothing up: `read` and `fill` do."""
        return [Bypass("naive")] * len(keys)

    async def fill(
        self,
        look_ups: Mapping[bytes, NotHit],
        load: LoadMany,
        *,
        unless_read: bool = False,
    ) -> dict[bytes, Found]:
        """As LeaseCache's, but each key is read on its own."""

        async def read(key: bytes) -> Found:
            async def load_it() -> entries.Entry | None:
                (entry,) = await load([key])
                return entry

            return await self.read(key, load_it)

        found = await asyncio.gather(*map(read, look_ups))
        return dict(zip(look_ups, found, strict=True))

    async def invalidate(self, keys: Iterable[bytes]) -> bool:
        """As LeaseCache's."""
        for key in keys:
            await self._cache.forget(key)
        return True

    async def renew_epochs(self) -> bool:
        """Do nothing: this cache has no epochs, and entries expire."""
        return True


class _NotKept(Exception):
    """The loaded entry is not cached."""


def _encode(key: bytes, entry: Entry) -> bytes:
    return b"%b %b %d %b\n%b" % (_SCHEMA, key, entry.version, entry.tag, entry.body)


def _decode(key: bytes, stored: bytes) -> Entry | None:
    """Return the entry; None if it has another key or format."""
    head, newline, body = stored.partition(b"\n")
    words = head.split(b" ")
    if not newline or words[:2] != [_SCHEMA, key] or len(words) != 4 or not words[2].isdigit():
        return None
    return Entry(int(words[2]), body, words[3])


def install() -> None:
    """Have every service that this process opens use plain cache-aside."""
    services.make_cache = _make_naive_cache


def _make_naive_cache(settings: Settings, servers: tuple[str, ...], stores: Stores) -> NaiveStandIn:
    timeout = settings.cache.timeout_ms / 1000
    nodes = [MemcachedNode(address, timeout=timeout, probe_interval=timeout) for address in servers]
    namespace = services.cache_namespace(settings.mongodb.database, stores.cluster_id)
    return NaiveStandIn(NaiveCache(nodes, ttl=settings.cache.ttl_seconds, namespace=namespace))

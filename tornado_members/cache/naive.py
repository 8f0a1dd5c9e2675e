"""Plain read-through caching: filled on a miss, removed on a write, gone after a time to live.

It is safe against a server that is away, hangs or talks nonsense, and against entries of another
key or format. Within one process it does not lie: what was loaded before a change is not stored
behind it, and a removal that failed is owed, so that reads go past the entry until it is gone. Of
what other processes do it knows nothing; docs/architecture.md says what that means.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from logging import getLogger

from tornado_members.cache.memcached import MemcachedNode, NodeAway

log = getLogger(__name__)

_CLOCK_SLACK = 5.0  # seconds; Memcached counts in whole ones, and a late command starts later
_SCHEMA = b"1"  # raised whenever the form of an entry, or of what it holds, changes


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache keeps: a version, and the bytes that are answered with it."""

    version: int
    body: bytes


class _Fill:
    """A read on its way to store what it loads."""

    def __init__(self) -> None:
        self.overtaken = False  # by a change: what it loads may be what was there before
        self.storing = False
        self.ended = asyncio.Event()


class NaiveCache:
    """Entries on one or more servers; with no server at all, everything is loaded each time."""

    def __init__(self, nodes: Sequence[MemcachedNode], *, ttl: int, namespace: str) -> None:
        """`ttl` is seconds; caches of different namespaces may share their servers."""
        self._nodes = tuple(nodes)
        self._ttl = ttl
        self._prefix = _digest(namespace.encode(), size=6).hex().encode()
        # Keys still to be removed, and when their entries will be gone anyway.
        self._owed: dict[bytes, float] = {}
        self._fills: dict[bytes, set[_Fill]] = {}

    async def read(self, key: bytes, load: Callable[[], Awaitable[Entry]]) -> Entry:
        """The entry of a key, from a server or else from `load`, whose exceptions pass through."""
        key = self._prefix + key
        node = self._node_of(key)
        if node is None or (key in self._owed and not await self._remove(node, key)):
            return await load()
        try:
            stored = (await node.get_many([key])).get(key)
        except NodeAway:
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
        except NodeAway as error:
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
        node = self._node_of(key)
        if node is None:
            return
        under_way = list(self._fills.get(key, ()))
        for fill in under_way:
            fill.overtaken = True
        await self._remove(node, key)
        # A fill that was storing already may have done so behind the removal.
        storing = [fill for fill in under_way if fill.storing]
        for fill in storing:
            await fill.ended.wait()
        if storing:
            await self._remove(node, key)

    async def forget_everything(self) -> None:
        """Remove every entry, also those of other namespaces on the same servers."""
        for fills in self._fills.values():
            for fill in fills:
                fill.overtaken = True
        for node in self._nodes:
            await node.flush()

    async def _remove(self, node: MemcachedNode, key: bytes) -> bool:
        """Remove an entry, or owe it; whether it is gone."""
        try:
            await node.delete(key)
        except NodeAway as error:
            log.debug("not removed: %s", error)
            now = time.monotonic()
            while self._owed and next(iter(self._owed.values())) < now:
                del self._owed[next(iter(self._owed))]
            self._owed.pop(key, None)
            self._owed[key] = now + self._ttl + _CLOCK_SLACK
            return False
        self._owed.pop(key, None)
        return True

    async def close(self) -> None:
        """Close every connection."""
        for node in self._nodes:
            await node.close()

    def _node_of(self, key: bytes) -> MemcachedNode | None:
        """Rendezvous hashing: a node that is added or removed moves only its own share of keys."""
        if len(self._nodes) < 2:
            return self._nodes[0] if self._nodes else None
        return max(self._nodes, key=lambda node: _weight(node.address.encode(), key))


def _weight(address: bytes, key: bytes) -> bytes:
    return _digest(_digest(address, size=16) + key, size=8)


def _digest(data: bytes, size: int) -> bytes:
    return blake2b(data, digest_size=size).digest()


def _encode(key: bytes, entry: Entry) -> bytes:
    return b"%b %b %d\n%b" % (_SCHEMA, key, entry.version, entry.body)


def _decode(key: bytes, stored: bytes) -> Entry | None:
    """The entry, unless it is another key's, of another format, or no entry at all."""
    head, newline, body = stored.partition(b"\n")
    words = head.split(b" ")
    if not newline or words[:2] != [_SCHEMA, key] or len(words) != 3 or not words[2].isdigit():
        return None
    return Entry(int(words[2]), body)

"""Reads of keys of one or more nodes.

Several keys may be loaded in one request. Each key is read by the rules of the lease protocol, as
if it were read alone: all leases are taken before the database is read, and each entry is stored
only under its own lease. The keys are not a snapshot: two members of a batch may be of different
moments, all of which lie within the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from tornado_members.lease_cache.cache_node import CacheNode
from tornado_members.lease_cache.coalescing import SingleFlight
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import (
    Bodies,
    Bypass,
    Fill,
    Found,
    Load,
    LookUp,
    NotHit,
    bypass,
    has_term,
)
from tornado_members.lease_cache.node_pool import NodePool
from tornado_members.lease_cache.terms import TermFence

T = TypeVar("T")
# Loads the entries of all given keys; None for each key that has none.
LoadMany = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, Entry | None]]]


SERVER_LIST_CHANGING = (
    "server-list-changing"  # the cache is not read: one list of servers replaces another
)

EndFills = Callable[
    [Mapping[bytes, Fill], Mapping[bytes, Entry | None]], Awaitable[dict[bytes, Found]]
]
GiveUpFills = Callable[[Mapping[bytes, Fill]], Awaitable[None]]


class Filler(Protocol):
    """The methods of CacheNode and LeaseProtocol that fill keys."""

    def begin_fills(  # noqa: D102
        self, look_ups: Mapping[bytes, NotHit]
    ) -> Awaitable[dict[bytes, Fill]]: ...
    @property
    def end_fills(self) -> EndFills: ...  # noqa: D102
    @property
    def give_up_fills(self) -> GiveUpFills: ...  # noqa: D102


class CacheReads:
    """The reads of LeaseCache."""

    def __init__(
        self, pool: NodePool, fence: TermFence, counts: CacheCounts, prefix: bytes
    ) -> None:
        """`prefix` is that of the namespace, in each key on a node."""
        self.counts = counts
        self._pool = pool
        self._fence = fence
        self._prefix = prefix
        self._flights: SingleFlight[Found] = SingleFlight()

    @property
    def nodes(self) -> tuple[CacheNode, ...]:
        """The nodes of the list in force."""
        return self._pool.nodes

    async def look_up(self, keys: Sequence[bytes]) -> dict[bytes, LookUp]:
        """Send one request to each node, and decide how each of these keys may be read.

        The caller counts the hits that it serves.
        """
        if not keys:
            return {}
        reason = self._bypass_reason()
        if reason:
            return dict.fromkeys(keys, Bypass(reason))
        prefixed, start = [self._prefix + key for key in keys], len(self._prefix)
        if len(self.nodes) == 1:
            looked_up = await self.nodes[0].look_up(prefixed)
            return {key[start:]: one for key, one in looked_up.items()}
        places = self._places(prefixed)
        found = await all_of([node.look_up(its_keys) for node, its_keys in places.items()])
        return {key[start:]: one for some in found for key, one in some.items()}

    async def look_up_bodies(
        self, keys: KeyList, tag_end: bytes
    ) -> dict[bytes, LookUp] | list[bytes]:
        """Send one request to each node; return the body of each key if all are hits.

        The tags of their entries end with `tag_end`. Otherwise, returns the same as `look_up`.
        """
        if self._bypass_reason():
            return await self.look_up([*keys])
        prefixed = keys.within(self._prefix)
        places = self._places_of(prefixed)
        found = await all_of(
            [node.look_up_bodies(its_keys, tag_end) for node, its_keys in places.items()]
        )
        hits = [one for one in found if isinstance(one, Bodies)]
        if len(hits) == len(found) == 1:
            return hits[0].lines.seconds
        if len(hits) == len(found):
            bodies: dict[bytes, bytes] = {}
            for one in hits:
                bodies.update(zip(one.keys, one.lines.seconds, strict=True))
            return [bodies[key] for key in prefixed]
        look_ups = [one.look_ups() if isinstance(one, Bodies) else one for one in found]
        start = len(self._prefix)
        return {key[start:]: look_up for one in look_ups for key, look_up in one.items()}

    def _places_of(self, keys: KeyList) -> Mapping[CacheNode, KeyList]:
        """Return the keys by the node from which they are read."""
        if len(self.nodes) == 1:
            return {self.nodes[0]: keys}
        start = len(keys.start)
        return {
            node: KeyList.of(keys.start, [key[start:] for key in its_keys])
            for node, its_keys in self._pool.places(keys).items()
        }

    def is_read(self, key: bytes) -> bool:
        """True if a caller of this process reads or fills the key now."""
        return self._prefix + key in self._flights.in_flight

    async def read(
        self,
        key: bytes,
        load: Load,
        *,
        rejected: Entry | None = None,
        look_up: LookUp | None = None,
    ) -> Found:
        """Return the entry of a key, from its node or else from `load`, and how it was found.

        Exceptions of `load` pass through. Readers of one key may share a request that was sent
        after each of them had asked. An entry that is equal to `rejected` counts as a miss.
        `look_up` saves a request: one of this reader's that was not a hit.
        Raises StoreUnavailable if only a deposed primary of the database replies.
        """
        key = self._prefix + key
        if key in self._flights.in_flight:  # there may be an entry when this reader has its turn
            look_up = None
        return await self._flights.run(key, lambda: self._read(key, load, rejected, look_up))

    async def load(self, keys: Sequence[bytes], load: Callable[[], Awaitable[T]]) -> T:
        """Return what `load` returns, which the entries of these keys do not replace.

        The nodes are asked for their terms only (terms.py). Raises the same as `read`.
        """
        look_ups = await self.look_up(keys)
        return await self._fence.load(load, has_term=self._have_terms(look_ups))

    async def fill(self, look_ups: Mapping[bytes, NotHit], load: LoadMany) -> dict[bytes, Found]:
        """Load keys that the caller has looked up, with one call; store them where permitted.

        Readers of one of these keys that come later wait, and then look at the node.
        Exceptions of `load` pass through. Raises StoreUnavailable if only a deposed primary of the
        database replies.
        """
        reason = self._bypass_reason()
        if reason:
            self.counts.bypasses[reason] += len(look_ups)
            are_fenced = self._have_terms(look_ups)
            loaded = await self._fence.load(lambda: load([*look_ups]), has_term=are_fenced)
            return {key: Found(entry, bypass(reason)) for key, entry in loaded.items()}
        start = len(self._prefix)
        places = self._places([self._prefix + key for key in look_ups])

        async def load_them(keys: Sequence[bytes]) -> dict[bytes, Entry | None]:
            its_own = [key[start:] for key in keys]
            are_fenced = self._have_terms(look_ups)
            loaded = await self._fence.load(lambda: load(its_own), has_term=are_fenced)
            return {self._prefix + key: entry for key, entry in loaded.items()}

        nodes = [
            (node, {key: look_ups[key[start:]] for key in keys}) for node, keys in places.items()
        ]
        with self._flights.held([key for keys in places.values() for key in keys]):
            found = await fill_many(nodes, load_them)
        return {key[start:]: one for key, one in found.items()}

    def _have_terms(self, look_ups: Mapping[bytes, LookUp]) -> bool:
        """True if each node was asked for its term. Without nodes, there is no fence."""
        return not self.nodes or all(map(has_term, look_ups.values()))

    def _places(self, keys: Sequence[bytes]) -> Mapping[CacheNode, Sequence[bytes]]:
        """Return the keys by the node from which they are read."""
        return {self.nodes[0]: keys} if len(self.nodes) == 1 else self._pool.places(keys)

    def _bypass_reason(self) -> str | None:
        """Return the reason for reading no node; None if each node decides."""
        if not self._pool.is_read:
            return SERVER_LIST_CHANGING
        return None if self.nodes else "no-node"

    async def _read(
        self, key: bytes, load: Load, rejected: Entry | None, look_up: LookUp | None
    ) -> Found:
        node, reason = self._pool.place(key), self._bypass_reason()
        if node is None or reason:
            reason = reason or "no-node"
            self.counts.bypasses[reason] += 1
            loaded = await self._fence.load(load, has_term=node is None)
            return Found(loaded, bypass(reason))
        return await node.read(key, load, rejected=rejected, look_up=look_up)


async def fill_many(
    nodes: Sequence[tuple[Filler, Mapping[bytes, NotHit]]], load: LoadMany
) -> dict[bytes, Found]:
    """Load all keys with one call, and store each on its node where this reader has the lease.

    Each node comes with this reader's look-ups on it. Exceptions of `load` pass through.
    """
    begun = await all_of([node.begin_fills(look_ups) for node, look_ups in nodes])
    fills = [(node, fills) for (node, _), fills in zip(nodes, begun, strict=True)]
    try:
        entries = await load([key for _, look_ups in nodes for key in look_ups])
    except (Exception, asyncio.CancelledError):
        await all_of([node.give_up_fills(its_own) for node, its_own in fills])
        raise
    found = await all_of([node.end_fills(its_own, entries) for node, its_own in fills])
    return {key: one for its_own in found for key, one in its_own.items()}


async def all_of(commands: Sequence[Awaitable[T]]) -> list[T]:
    """Await several commands concurrently; usually there is only one."""
    if len(commands) == 1:
        return [await commands[0]]
    return await asyncio.gather(*commands) if commands else []

"""Reads of keys of one or more nodes.

Several keys may be loaded in one request. Each key is read by the rules of the lease protocol, as
if it were read alone: all leases are taken before the database is read, and each entry is stored
only under its own lease. The keys are not a snapshot: two members of a batch may be of different
moments, all of which lie within the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Protocol, TypeVar

from tornado_members.lease_cache.cache_node import CacheNode
from tornado_members.lease_cache.coalescing import SingleFlight
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import (
    Bodies,
    Fill,
    Found,
    Load,
    LookUp,
    NotHit,
    bypass,
    bypass_all,
)
from tornado_members.lease_cache.node_pool import NodePool
from tornado_members.lease_cache.terms import TermFence

T = TypeVar("T")
# Loads the entry of each of the given keys, in their order; None for a key that has none.
LoadMany = Callable[[Sequence[bytes]], Awaitable[Sequence[Entry | None]]]


SERVER_LIST_CHANGING = (
    "server-list-changing"  # the cache is not read: one list of servers replaces another
)

EndFills = Callable[
    [Mapping[bytes, Fill], Mapping[bytes, Entry | None]], Awaitable[dict[bytes, Found]]
]
GiveUpFills = Callable[[Mapping[bytes, Fill]], Awaitable[None]]


class Filler(Protocol):
    """The methods of CacheNode and LeaseProtocol that fill keys."""

    def begin_fills(self, look_ups: Mapping[bytes, NotHit]) -> Awaitable[dict[bytes, Fill]]: ...
    @property
    def end_fills(self) -> EndFills: ...
    @property
    def give_up_fills(self) -> GiveUpFills: ...


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

    def look_up(self, keys: Sequence[bytes]) -> Awaitable[list[LookUp]]:
        """Send one request to each node; return how each of these keys may be read.

        The caller counts the hits that it serves.
        """
        reason = self._bypass_reason()
        if reason:
            return bypass_all(len(keys), reason)
        prefixed, nodes = [self._prefix + key for key in keys], self._pool.nodes
        if len(nodes) == 1:
            return nodes[0].look_up(prefixed)
        return self._look_up_on_each_node(prefixed)

    async def _look_up_on_each_node(self, keys: Sequence[bytes]) -> list[LookUp]:
        places = self._pool.places(keys)
        found = await all_of([node.look_up(its_keys) for node, its_keys in places.items()])
        look_ups = _by_key(places.values(), found)
        return [look_ups[key] for key in keys]

    async def look_up_bodies(
        self, keys: KeyList, tag_end: bytes
    ) -> tuple[list[bytes], list[LookUp]]:
        """Send one request to each node; return the body of each key if all are hits.

        The tags of their entries end with `tag_end`. Otherwise, returns no bodies, and the look-up
        of each key.
        """
        if self._bypass_reason():
            return [], await self.look_up([*keys])
        prefixed = keys.within(self._prefix)
        places = self._places_of(prefixed)
        found = await all_of(
            [node.look_up_bodies(its_keys, tag_end) for node, its_keys in places.items()]
        )
        hits = [one for one in found if isinstance(one, Bodies)]
        if len(hits) == len(found) == 1:
            return hits[0].lines.seconds, []
        if len(hits) == len(found):
            bodies = _by_key(places.values(), [one.lines.seconds for one in hits])
            return [bodies[key] for key in prefixed], []
        each = [one.look_ups() if isinstance(one, Bodies) else one for one in found]
        look_ups = _by_key(places.values(), each)
        return [], [look_ups[key] for key in prefixed]

    def _places_of(self, keys: KeyList) -> Mapping[CacheNode, KeyList]:
        """Return the keys by the node from which they are read."""
        if len(self.nodes) == 1:
            return {self.nodes[0]: keys}
        start = len(keys.start)
        return {
            node: KeyList.of(keys.start, [key[start:] for key in its_keys])
            for node, its_keys in self._pool.places(keys).items()
        }

    async def read(
        self,
        key: bytes,
        load: Load,
        *,
        rejected: Entry | None = None,
        look_up: LookUp | None = None,
    ) -> Found:
        """Return the entry of a key, from its node or else from `load`, and how it was found.

        Exceptions of `load` pass through. Readers of one key may share a request, but only one
        that was sent after each of their calls. An entry that is equal to `rejected` counts as a
        miss. `look_up` saves a request: one of this reader's that was not a hit.
        Raises StoreUnavailable if only a deposed primary of the database replies.
        """
        key = self._prefix + key
        if key in self._flights.in_flight:  # there may be an entry when this reader has its turn
            look_up = None
        return await self._flights.run(key, lambda: self._read(key, load, rejected, look_up))

    async def load(self, keys: Sequence[bytes], load: Callable[[], Awaitable[T]]) -> T:
        """Return what `load` returns, which the entries of these keys do not replace.

        The nodes are read for their terms only (terms.py). Raises the same as `read`.
        """
        look_ups = await self.look_up(keys) if keys else ()
        return await self._fence.load(load, has_term=self._have_terms(look_ups))

    async def fill(
        self, look_ups: Mapping[bytes, NotHit], load: LoadMany, *, unless_read: bool = False
    ) -> dict[bytes, Found]:
        """Load keys that the caller has looked up, with one call; store them where permitted.

        Readers of one of these keys that come later wait for this, and then read the node.
        `unless_read` leaves out keys that another caller of this process reads or fills now.
        Exceptions of `load` pass through. Raises StoreUnavailable if only a deposed primary of the
        database replies.
        """
        if unless_read:
            in_flight = self._flights.in_flight
            look_ups = {k: one for k, one in look_ups.items() if self._prefix + k not in in_flight}
        if not look_ups:
            return {}
        has_term = self._have_terms(look_ups.values())
        reason = self._bypass_reason()
        if reason:
            self.counts.bypasses[reason] += len(look_ups)
            loaded = await self._fence.load(partial(load, [*look_ups]), has_term=has_term)
            found = [Found(entry, bypass(reason)) for entry in loaded]
            return dict(zip(look_ups, found, strict=True))
        start = len(self._prefix)

        def load_fenced(keys: Sequence[bytes]) -> Awaitable[Sequence[Entry | None]]:
            its_own = [key[start:] for key in keys]
            return self._fence.load(partial(load, its_own), has_term=has_term)

        prefixed = {self._prefix + key: look_up for key, look_up in look_ups.items()}
        places = self._places([*prefixed])
        with self._flights.held([*prefixed]):
            filled = await fill_many(
                [
                    (node, {key: prefixed[key] for key in its_keys})
                    for node, its_keys in places.items()
                ],
                load_fenced,
            )
            return {key[start:]: one for key, one in filled.items()}

    def _have_terms(self, look_ups: Iterable[LookUp]) -> bool:
        """True if the term of each node is known. Without nodes, loads are not fenced."""
        return not self.nodes or all(one.has_term for one in look_ups)

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
    keys = [key for _, look_ups in nodes for key in look_ups]
    try:
        loaded = await load(keys)
    except (Exception, asyncio.CancelledError):
        await all_of([node.give_up_fills(its_own) for node, its_own in fills])
        raise
    entries = dict(zip(keys, loaded, strict=True))
    found = await all_of([node.end_fills(its_own, entries) for node, its_own in fills])
    return {key: one for its_own in found for key, one in its_own.items()}


async def all_of(commands: Sequence[Awaitable[T]]) -> list[T]:
    """Await several commands concurrently; usually there is only one."""
    if len(commands) == 1:
        return [await commands[0]]
    return await asyncio.gather(*commands) if commands else []


def _by_key(keys: Iterable[Iterable[bytes]], found: Iterable[Iterable[T]]) -> dict[bytes, T]:
    """Return what was found on each node for each of its keys, by key."""
    pairs = zip(chain.from_iterable(keys), chain.from_iterable(found), strict=True)
    return dict(pairs)

"""A linearizable read-through cache over all of its nodes."""

import asyncio
import math
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tornado_members.lease_cache.cache_node import CacheNode
from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.coalescing import SingleFlight
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.debts import Debts, Ledger
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.errors import LedgerUnavailable, NotAnnounced
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.monitored_node import MonitoredNode, Timing
from tornado_members.lease_cache.placement import namespace_prefix, place
from tornado_members.lease_cache.protocol import (
    Found,
    Hit,
    LeaseProtocol,
    Lifetimes,
    Load,
    LookUp,
    bypass,
    random_word,
)

T = TypeVar("T")

_LEASE_SECONDS = 3
_CLOCK_SLACK = 2  # Memcached counts whole seconds, and may take the first for over at once


class AnnouncedWrite:
    """A write whose tombstones are placed."""

    def __init__(self, ends_at: float, now: Callable[[], float]) -> None:
        """`ends_at` is when it must be committed, by the clock `now`."""
        self.is_void = False
        self._ends_at = ends_at
        self._now = now

    def seconds_left(self) -> float:
        """Return the seconds within which the write must be committed.

        Once they are over, its tombstones may have expired, and it must not be sent any more. A
        process that was paused between its tombstones and its commit finds that out by asking
        immediately before it sends the write.
        """
        return self._ends_at - self._now()

    def void(self) -> None:
        """Note that nothing was written, for certain."""
        self.is_void = True


class LeaseCache:
    """Entries on one or more nodes; with no node at all, everything is loaded each time.

    A key lives on one node. While that is away its keys are loaded, and never handed to another
    node: one that flaps must leave no old copies behind.
    """

    def __init__(
        self,
        nodes: Sequence[MemcachedNode],
        *,
        namespace: str,
        ttl: int,
        timing: Timing,
        write_deadline: float,
        ledger: Ledger,
        require_for_writes: bool = False,
        now: Callable[[], float] = clock,
    ) -> None:
        """`ttl`, and `write_deadline`, within which a commit is known to be or not, are seconds.

        Caches of different namespaces may share their servers; those of one share the ledger.
        `now` has to go on while the process is stopped and while the machine sleeps.
        """
        self._prefix = namespace_prefix(namespace)
        self._require = require_for_writes
        self._flights: SingleFlight[Found] = SingleFlight()
        self.counts = CacheCounts()
        self._now = now
        # Seconds from the first tombstone of a write to its commit: two attempts to announce it, of
        # two round trips each, which may take a quarter longer than their time-out; the debt; and
        # the commit itself.
        announcement = timing.noticed + 5 * timing.timeout + ledger.deadline
        self._longest_write = math.ceil(announcement + write_deadline)
        outlives = self._longest_write + _CLOCK_SLACK
        lifetimes = Lifetimes(
            entry=ttl, lease=_LEASE_SECONDS, tombstone=outlives, quarantine=outlives
        )
        self._debts = Debts(ledger, process=_process_name(), write_deadline=write_deadline, now=now)
        self.nodes = tuple(self._make_node(node, timing, lifetimes) for node in nodes)

    def _make_node(self, node: MemcachedNode, timing: Timing, lifetimes: Lifetimes) -> CacheNode:
        monitored = MonitoredNode(node, timing)
        protocol = LeaseProtocol(
            monitored, namespace=self._prefix, lifetimes=lifetimes, counts=self.counts
        )
        return CacheNode(
            monitored,
            protocol,
            timing=timing,
            counts=self.counts,
            debts=self._debts.of(node.address),
        )

    async def open(self) -> None:
        """Probe every node, and monitor it from now on."""
        await asyncio.gather(*(node.open() for node in self.nodes))
        if self.nodes:
            await self._debts.open(self.nodes)

    async def close(self) -> None:
        """Close every connection."""
        await self._debts.close()
        await asyncio.gather(*(node.close() for node in self.nodes))

    def states(self) -> dict[str, str | None]:
        """By the address of each node, why it is not read now; None if it is."""
        return {node.address: node.bypass_reason() for node in self.nodes}

    async def look_up(self, keys: Sequence[bytes]) -> dict[bytes, LookUp]:
        """Look at each node once, and decide how each of these keys may be read.

        Without nodes the result is empty.
        """
        places = self._places(keys)
        looked_up = await _all([node.look_up(its_keys) for node, its_keys in places.items()])
        start = len(self._prefix)
        found = {key[start:]: one for some in looked_up for key, one in some.items()}
        for one in found.values():
            self.counts.hits += isinstance(one, Hit) and one.entry is not None
        return found

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
        """
        key = self._prefix + key
        if self._flights.is_busy(key):  # there may be an entry when this reader has its turn
            look_up = None
        return await self._flights.ask(key, lambda: self._read(key, load, rejected, look_up))

    async def _read(
        self, key: bytes, load: Load, rejected: Entry | None, look_up: LookUp | None
    ) -> Found:
        node = place(self.nodes, key)
        if node is None:
            self.counts.bypasses["no-node"] += 1
            return Found(await load(), bypass("no-node"))
        return await node.read(key, load, rejected=rejected, look_up=look_up)

    @asynccontextmanager
    async def changing(self, *keys: bytes) -> AsyncIterator[AnnouncedWrite]:
        """Keep readers from these keys while the block writes to the database.

        Afterwards they read what it wrote. If the block raises an exception, the outcome of the
        write is unknown: readers are kept from the keys for as long as it may still commit. But if
        the block called `void`, nothing was written, and they are not.

        Raises NotAnnounced before the block is entered if readers cannot be kept away.
        """
        writer = random_word()
        places = self._places(keys)
        ends_at = self._now() + (self._longest_write if places else math.inf)
        may_commit_until = -math.inf
        try:
            ends_at = min(ends_at, await self._announce(places, writer))
            write = AnnouncedWrite(ends_at, self._now)
            try:
                yield write
            except BaseException:
                if write.is_void:
                    await self._remove_tombstones(places, writer)
                else:
                    may_commit_until = ends_at
                raise
            await self._remove_tombstones(places, writer)
        finally:
            for node in places:
                node.abandon(writer, may_commit_until)

    def _places(self, keys: Iterable[bytes]) -> dict[CacheNode, list[bytes]]:
        places: dict[CacheNode, list[bytes]] = {}
        for key in keys:
            if node := place(self.nodes, self._prefix + key):
                places.setdefault(node, []).append(self._prefix + key)
        return places

    async def _announce(self, places: dict[CacheNode, list[bytes]], writer: bytes) -> float:
        """Place tombstones, or record debts where nodes do not reply.

        Returns when the write must have ended on account of its debts, infinity without any.
        """
        placing = [node.place_tombstones(keys, writer) for node, keys in places.items()]
        certain = await _all(placing)
        if all(certain):
            return math.inf
        placed = [node for node, is_certain in zip(places, certain, strict=True) if is_certain]
        try:
            if self._require:
                raise NotAnnounced("a node of the cache does not reply")
            ends_at = await _all([node.owe() for node in places if node not in placed])
        except (LedgerUnavailable, NotAnnounced) as error:
            await self._remove_tombstones({node: places[node] for node in placed}, writer)
            raise NotAnnounced(str(error)) from error
        self.counts.unannounced_writes += 1
        return min(ends_at)

    async def _remove_tombstones(self, places: dict[CacheNode, list[bytes]], writer: bytes) -> None:
        await _all([node.remove_tombstones(keys, writer) for node, keys in places.items()])

    async def invalidate(self, keys: Iterable[bytes]) -> bool:
        """Remove what is stored under these keys, since another client changed it.

        False if a node did not do it for certain: then this is recorded, and the node gets a new
        epoch before it is read again. Raises LedgerUnavailable if it could not be recorded.
        """
        places = self._places(keys)
        return all(await _all([node.invalidate(its_keys) for node, its_keys in places.items()]))

    async def renew_epochs(self) -> bool:
        """Empty every node, for every process and at once: what changed is not known.

        False, and LedgerUnavailable, as for `invalidate`.
        """
        return all(await _all([node.renew_epoch() for node in self.nodes]))


def _process_name() -> str:
    """A name that no other process has; for operators, it says where this one runs."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


async def _all(commands: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await several at once, which mostly are one."""
    if len(commands) == 1:
        return [await commands[0]]
    return await asyncio.gather(*commands) if commands else []

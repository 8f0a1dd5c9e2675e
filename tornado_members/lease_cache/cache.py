"""A linearizable read-through cache over all of its nodes."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from tornado_members.lease_cache.cache_node import CacheNode
from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.epochs import Lifetimes, random_word
from tornado_members.lease_cache.errors import NotAnnounced, StoreUnavailable
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.node_health import NodeHealth, Timing
from tornado_members.lease_cache.node_pool import NodePool
from tornado_members.lease_cache.pending_flushes import PendingFlushStore, PendingFlushWatcher
from tornado_members.lease_cache.placement import namespace_prefix
from tornado_members.lease_cache.process_name import process_name
from tornado_members.lease_cache.protocol import LeaseProtocol
from tornado_members.lease_cache.quarantine import QuarantineWatch
from tornado_members.lease_cache.reads import SERVER_LIST_CHANGING, CacheReads, all_of
from tornado_members.lease_cache.registry import Registry
from tornado_members.lease_cache.server_lists import ServerLists
from tornado_members.lease_cache.terms import NoTerms, TermFence, Terms
from tornado_members.lease_cache.writes import WritesUnderWay

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


class LeaseCache(CacheReads):
    """Entries on one or more nodes. Without nodes, every entry is loaded each time.

    A key lives on one node. While that node is unavailable, its keys are loaded, and not moved to
    another node: a node that flaps must leave no old copies behind. All processes use the same list
    of nodes (server_lists.py).
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        connect: Callable[[str], MemcachedNode],
        namespace: str,
        ttl: int,
        timing: Timing,
        write_deadline: float,
        flush_store: PendingFlushStore,
        registry: Registry,
        terms: Terms = NoTerms(),  # noqa: B008 - it is immutable
        require_for_writes: bool = False,
        now: Callable[[], float] = clock,
    ) -> None:
        """`connect` returns the server at an address, of `servers` or of another list.

        `terms` are those of the database that the entries are loaded from.

        `ttl` and `write_deadline`, within which the outcome of a commit is known, are in seconds.
        Caches of different namespaces may share their servers; those of one share `flush_store` and
        the registry.
        `now` must advance while the process is stopped and while the machine sleeps.
        """
        counts, writes = CacheCounts(), WritesUnderWay(now)
        pool = NodePool(self._make_node, writes)
        fence = TermFence(terms, counts, pool)
        super().__init__(pool, fence, counts, namespace_prefix(namespace))
        self._require = require_for_writes
        self._failure = asyncio.Event()
        self._now = now
        # Seconds from the first tombstone of a write to its commit: two attempts to announce it, of
        # two round trips each, which may take a quarter longer than their time-out; the record; and
        # the commit itself.
        announcement = timing.noticed + 5 * timing.timeout + flush_store.deadline
        self._longest_write = math.ceil(announcement + write_deadline)
        outlives = self._longest_write + _CLOCK_SLACK
        lifetimes = Lifetimes(
            entry=ttl, lease=_LEASE_SECONDS, tombstone=outlives, quarantine=outlives
        )
        self._connect = connect
        self._timing = timing
        self._lifetimes = lifetimes
        self._writes = writes
        self._process = process = process_name()
        self._lists = ServerLists(
            registry,
            self._pool,
            process=process,
            wanted=servers,
            writes_end_after=self._longest_write,
            now=now,
        )
        self._pending_flushes = PendingFlushWatcher(
            flush_store,
            process=process,
            write_deadline=write_deadline,
            confirm=self._lists.confirm,
            now=now,
        )

    def _make_node(self, address: str) -> CacheNode:
        connected = self._connect(address)
        health = NodeHealth(connected, self._timing, on_failure=self._failure.set)
        protocol = LeaseProtocol(
            connected,
            namespace=self._prefix,
            lifetimes=self._lifetimes,
            counts=self.counts,
            may_claim=self._lists.is_fresh,
            fence=self._fence,
        )
        return CacheNode(
            health,
            protocol,
            timing=self._timing,
            counts=self.counts,
            pending_flushes=self._pending_flushes.of(address),
            quarantine=QuarantineWatch(
                protocol,
                process=self._process,
                writes=self._writes,
                registered=self._lists.registered,
                now=self._now,
            ),
            confirm_list=self._lists.confirm,
        )

    async def open(self) -> None:
        """Use the list in force; probe every node, and monitor it from now on."""
        await self._lists.open()
        await self._pending_flushes.open(self._pool)

    async def close(self) -> None:
        """Close every connection."""
        await self._pending_flushes.close()
        await self._lists.close(may_still_write=bool(self._writes.current()))
        await self._pool.close()

    def states(self) -> dict[str, str | None]:
        """By the address of each node, why it is not read now; None if it is."""
        changing = None if self._pool.is_read else SERVER_LIST_CHANGING
        return {node.address: changing or node.bypass_reason() for node in self.nodes}

    async def wait_for_failure(self) -> None:
        """Return after the next command that a node does not reply to."""
        self._failure.clear()
        await self._failure.wait()

    def server_list_conflict(self) -> str | None:
        """Describe how the list in force differs from `servers`; None if it does not."""
        return self._lists.conflict

    @asynccontextmanager
    async def changing(self, *keys: bytes) -> AsyncIterator[AnnouncedWrite]:
        """Keep readers from these keys while the block writes to the database.

        Afterwards they read what it wrote. If the block raises an exception, the outcome of the
        write is unknown: readers are kept from the keys for as long as it may still commit. But if
        the block called `void`, nothing was written, and they are not.

        Raises NotAnnounced before the block is entered if readers cannot be kept away.
        """
        try:
            await self._lists.ensure_registered()
        except StoreUnavailable as error:
            raise NotAnnounced(str(error)) from error
        writer = random_word()
        places = self._places_of_writes(keys)
        ends_at = self._now() + self._longest_write
        may_commit_until = -math.inf
        self._writes.begin(writer, ends_at)
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
            await self._fence.publish(self._fence.current())
            await self._remove_tombstones(places, writer)
        finally:
            for node in places:
                node.abandon(writer, may_commit_until)
            self._writes.end(writer, may_commit_until)

    def _places_of_writes(self, keys: Iterable[bytes]) -> dict[CacheNode, list[bytes]]:
        """Return the keys by the nodes from which any process may read them."""
        return self._pool.places_of_writes([self._prefix + key for key in keys])

    async def _announce(self, places: dict[CacheNode, list[bytes]], writer: bytes) -> float:
        """Place tombstones, or record pending flushes of the nodes that do not reply.

        Returns when a write that relies on such a record must have ended; infinity without one.
        If it raises an exception, also CancelledError, the tombstones are removed.
        """
        try:
            return await self._place_tombstones(places, writer)
        except BaseException:
            for node, keys in places.items():
                node.withdraw_tombstones(keys, writer)
            raise

    async def _place_tombstones(self, places: dict[CacheNode, list[bytes]], writer: bytes) -> float:
        placing = [node.place_tombstones(keys, writer) for node, keys in places.items()]
        certain = await all_of(placing)
        if all(certain):
            return math.inf
        if self._require:
            raise NotAnnounced("a node of the cache does not reply")
        try:
            ends_at = await all_of(
                [
                    node.record_pending_flush()
                    for node, placed in zip(places, certain, strict=True)
                    if not placed
                ]
            )
        except StoreUnavailable as error:
            raise NotAnnounced(str(error)) from error
        self.counts.unannounced_writes += 1
        return min(ends_at)

    async def _remove_tombstones(self, places: dict[CacheNode, list[bytes]], writer: bytes) -> None:
        await all_of([node.remove_tombstones(keys, writer) for node, keys in places.items()])

    async def invalidate(self, keys: Iterable[bytes]) -> bool:
        """Remove what is stored under these keys, since another client changed it.

        False if a node did not do it for certain: then this is recorded, and the node gets a new
        epoch before it is read again. Raises StoreUnavailable if it could not be recorded.
        """
        self._require_a_list()
        places = self._places_of_writes(keys)
        return all(await all_of([node.invalidate(its_keys) for node, its_keys in places.items()]))

    async def invalidate_for_all(self, keys: Iterable[bytes]) -> None:
        """Remove what is stored under these keys, and return once no process returns it any more.

        That takes a few milliseconds, and seconds if this process does not reach a node: another
        one may. Raises StoreUnavailable.
        """
        self._require_a_list()
        places = self._places_of_writes(keys)
        await all_of([node.invalidate_for_all(its_keys) for node, its_keys in places.items()])

    async def renew_epochs(self) -> bool:
        """Empty every node, for every process and at once: what changed is not known.

        False, and StoreUnavailable, as for `invalidate`.
        """
        self._require_a_list()
        return all(await all_of([node.renew_epoch() for node in self._pool]))

    def _require_a_list(self) -> None:
        """Raise StoreUnavailable if this process does not know which nodes are read."""
        if self._lists.in_force is None:
            raise StoreUnavailable("the list of servers in force is not known yet")

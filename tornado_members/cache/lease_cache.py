"""The cache that does not lie, over all of its nodes."""

import asyncio
import math
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tornado_members.cache.batching import Turnstile
from tornado_members.cache.counts import CacheCounts
from tornado_members.cache.debts import Debts, Ledger
from tornado_members.cache.entries import Entry
from tornado_members.cache.leases import Found, Lifetimes, Load, bypass, random_word
from tornado_members.cache.memcached import MemcachedNode, clock
from tornado_members.cache.nodes import Timing, WatchedNode
from tornado_members.cache.placement import namespace_prefix, place
from tornado_members.errors import DependencyUnavailable, Problem

T = TypeVar("T")
SecondsLeft = Callable[[], float]

_LEASE_SECONDS = 3
_CLOCK_SLACK = 2  # Memcached counts whole seconds, and may take the first for over at once


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
        self._turnstile: Turnstile[Found] = Turnstile()
        self.counts = CacheCounts()
        self._now = now
        self._write_deadline = write_deadline
        # Seconds from the first tombstone of a write to its commit: two attempts to announce it, of
        # two round trips each, which may take a quarter longer than their time-out; the debt; and
        # the commit itself.
        announcement = timing.noticed + 5 * timing.timeout + ledger.deadline
        self._longest_write = math.ceil(announcement + write_deadline)
        outlives = self._longest_write + _CLOCK_SLACK
        lifetimes = Lifetimes(
            entry=ttl, lease=_LEASE_SECONDS, tombstone=outlives, quarantine=outlives
        )
        self._debts = Debts(ledger, process=_process_name(), write_deadline=write_deadline)
        self.nodes = tuple(
            WatchedNode(
                node,
                namespace=self._prefix,
                timing=timing,
                lifetimes=lifetimes,
                counts=self.counts,
                debts=self._debts.of(node.address),
            )
            for node in nodes
        )

    async def open(self) -> None:
        """Hear from every node, and watch it from now on."""
        await asyncio.gather(*(node.open() for node in self.nodes))
        if self.nodes:
            await self._debts.open(self.nodes)

    async def close(self) -> None:
        """Close every connection."""
        await self._debts.close()
        await asyncio.gather(*(node.close() for node in self.nodes))

    def states(self) -> dict[str, str | None]:
        """By the address of each node, why it is not read now; None if it is."""
        return {node.address: node.reason_not_to_read() for node in self.nodes}

    async def read(self, key: bytes, load: Load, *, refuted: Entry | None = None) -> Found:
        """What is there, from a node or else from `load`, whose exceptions pass through.

        Readers of one key may be given the answer to another one's question that was asked after
        theirs. An entry that is equal to `refuted` is taken for none.
        """
        key = self._prefix + key
        return await self._turnstile.ask(key, lambda: self._read(key, load, refuted))

    async def peek(self, keys: Sequence[bytes]) -> dict[bytes, Entry]:
        """Those of these keys under which an entry is that may be answered; nothing is loaded."""
        looks = [
            node.leases.peek(its_keys)
            for node, its_keys in self._places(keys).items()
            if node.reason_not_to_read() is None
        ]
        start = len(self._prefix)
        found = await _all(looks)
        return {key[start:]: entry for some in found for key, entry in some.items()}

    async def _read(self, key: bytes, load: Load, refuted: Entry | None) -> Found:
        node = place(self.nodes, key)
        reason = node.reason_not_to_read() if node else "no-node"
        if node is None or reason is not None:
            self.counts.bypasses[reason or ""] += 1
            return Found(await load(), bypass(reason or ""))
        return await node.leases.read(key, load, refuted=refuted)

    @asynccontextmanager
    async def changing(self, *keys: bytes) -> AsyncIterator[SecondsLeft]:
        """Round a write to the database that touches these keys.

        Yields a function that returns the seconds within which the write must be committed. Once
        they are over, its tombstones may have expired, and it must not be sent any more. A process
        that was paused between its tombstones and its commit finds that out by asking just before.

        A Problem that the block raises means that nothing was written. After DependencyUnavailable
        and any other exception this is not known: readers are then kept from the keys for as long
        as the write may still commit.

        Raises DependencyUnavailable before anything is written if cache.require_for_writes is set
        and a node cannot be reached.
        """
        writer = random_word()
        places = self._places(keys)
        end = self._now() + (self._longest_write if places else math.inf)
        try:
            if not await self._announce(places, writer):
                # Other processes may have paid its debt by then, and read the node.
                end = min(end, self._now() + self._write_deadline)
            try:
                yield lambda: end - self._now()
            except Problem as problem:
                if not isinstance(problem, DependencyUnavailable):
                    await self._release(places, writer)
                raise
            await self._release(places, writer)
        finally:
            for node in places:
                node.abandon(writer)

    def _places(self, keys: Iterable[bytes]) -> dict[WatchedNode, list[bytes]]:
        places: dict[WatchedNode, list[bytes]] = {}
        for key in keys:
            if node := place(self.nodes, self._prefix + key):
                places.setdefault(node, []).append(self._prefix + key)
        return places

    async def _announce(self, places: dict[WatchedNode, list[bytes]], writer: bytes) -> bool:
        """Return True if every node has the tombstones, False if a debt is recorded instead."""
        announcing = [node.announce(keys, writer) for node, keys in places.items()]
        certain = await _all(announcing)
        if all(certain):
            return True
        told = [node for node, is_certain in zip(places, certain, strict=True) if is_certain]
        try:
            if self._require:
                raise DependencyUnavailable(
                    "The cache cannot be told of the change. Nothing was written."
                )
            await _all([node.owe() for node in places if node not in told])
        except DependencyUnavailable:
            await self._release({node: places[node] for node in told}, writer)
            raise
        self.counts.unannounced_writes += 1
        return False

    async def _release(self, places: dict[WatchedNode, list[bytes]], writer: bytes) -> None:
        await _all([node.release(keys, writer) for node, keys in places.items()])

    async def invalidate(self, keys: Iterable[bytes]) -> bool:
        """Remove what is stored under these keys, since another client changed it.

        False if a node did not do it for certain: then this is recorded, and the node gets a new
        epoch before it is read again. Raises DependencyUnavailable if it could not be recorded.
        """
        places = self._places(keys)
        return all(await _all([node.invalidate(its_keys) for node, its_keys in places.items()]))

    async def renew_epochs(self) -> bool:
        """Empty every node, for every process and at once: what changed is not known.

        False, and DependencyUnavailable, as for `invalidate`.
        """
        return all(await _all([node.renew_epoch() for node in self.nodes]))


def _process_name() -> str:
    """A name that no other process has; for operators, it says where this one runs."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


async def _all(telling: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await several at once, which mostly are one."""
    if len(telling) == 1:
        return [await telling[0]]
    return await asyncio.gather(*telling) if telling else []

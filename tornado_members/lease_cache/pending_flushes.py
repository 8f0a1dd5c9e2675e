"""Pending flushes: nodes that missed an invalidation, recorded in a store that all processes share.

A write that commits without its tombstone leaves an old entry on a node that does not reply. The
writing process flushes the node (gives it a new epoch) before it reads the node again, but it may
end before that. Therefore:
- The process records a pending flush, acknowledged by a majority, before such a write commits. The
  record covers all writes of `REUSE_SECONDS`, so an outage costs one small write per second.
- The record is removed only after the flush, and only if it was not recorded again meanwhile.
- A process reads a node that is new to it, or was down, only after a read of the store found no
  pending flush of the node. That read starts after the node has replied for `return_after`.
- Any process does a pending flush of another one, once the record has been unchanged for as long as
  a write that relies on it may take. An earlier flush could be followed by that write.
- A *fence* is a pending flush of a change that is already committed, so any process does it at
  once. After `FENCE_SECONDS`, either the node was flushed, or each process that reaches the node
  has found the fence, and reads the node only after the flush (docs/decisions/feed.md).

No clocks of two machines are compared. The reading process measures with its own clock how long a
record has been unchanged.
"""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from logging import getLogger
from typing import Protocol

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.errors import NodeUnavailable, StoreUnavailable

log = getLogger(__name__)

REUSE_SECONDS = 1.0  # for which a record covers further writes
# A process that alone is cut off from a node waits for this long before it announces a change:
# twice the sum of the pause between two reads of the store and of the time that a read takes.
FENCE_SECONDS = 5.0
_READ_SECONDS = 2.0  # between two reads of the store while every node is read
_CONFIRM_SECONDS = 5.0  # the same, of the list of servers
_FENCE_POLL_SECONDS = 0.1
_READ_SECONDS_AWAY = 1.0  # while a node does not reply
_READ_SECONDS_PENDING = 0.1  # while only a pending flush prevents reads of a node


@dataclass(frozen=True, slots=True)
class PendingFlush:
    """`process` changed, or may be changing, members of which `node` still has old entries."""

    node: str  # its address, as in cache.servers
    process: str
    nonce: str  # a new one for each recording
    # Seconds after the recording until each write that relies on it has ended; 0 for a fence.
    writes_end_after: float


class PendingFlushStore(Protocol):
    """A store that all processes share. Each method raises StoreUnavailable after a timeout."""

    deadline: float  # seconds, within which `record` returns or raises

    async def record(self, flush: PendingFlush) -> None:
        """Record a pending flush durably; it replaces the process's earlier one of the node."""

    async def remove(self, flush: PendingFlush) -> None:
        """Remove a completed flush, unless it was recorded again since it was read."""

    async def read(self) -> Sequence[PendingFlush]:
        """Return all pending flushes: usually none, and never many."""


class NodePendingFlushes:
    """The pending flushes of one node, as this process knows them."""

    def __init__(
        self,
        store: PendingFlushStore,
        new: Callable[[], PendingFlush],
        new_fence: Callable[[], PendingFlush],
        wanted: asyncio.Event,
        now: Callable[[], float],
    ) -> None:
        """`new` makes a record of this process; setting `wanted` requests a read of the store."""
        self.none_at = float("-inf")  # start of the last read of the store that found no record
        self.found = False  # by the last read of the store
        self.recorded: PendingFlush | None = None  # by this process
        self.to_remove: list[PendingFlush] = []
        self.wanted = wanted
        self._store = store
        self._new = new
        self._new_fence = new_fence
        self._now = now
        self._relied_on_until = float("-inf")
        self._writes_end_at = float("-inf")
        self._recording = asyncio.Lock()
        self._fence: PendingFlush | None = None
        # When each process that reaches the node has found the fence, if it is still in the store.
        self._fenced_at = float("inf")
        self._fencing = asyncio.Lock()

    @property
    def is_recording(self) -> bool:
        """True while a record is being sent to the store."""
        return self._recording.locked()

    async def record(self) -> float:
        """Record a pending flush of this process, after which the caller's write may commit.

        Returns the time, by the clock `now`, by which the write must have ended. After that,
        another process may flush the node. A process that was paused must check this time.

        The node must be marked as stale before. Raises StoreUnavailable.
        """
        try:
            async with asyncio.timeout(self._store.deadline), self._recording:
                if self._now() < self._relied_on_until:
                    return self._writes_end_at
                flush, sent_at = self._new(), self._now()
                await self._store.record(flush)
        except TimeoutError:
            raise StoreUnavailable from None
        self.recorded = flush
        self._relied_on_until = sent_at + REUSE_SECONDS
        self._writes_end_at = sent_at + flush.writes_end_after
        return self._writes_end_at

    async def raise_fence(self, is_flushed: Callable[[], bool]) -> None:
        """Return once no process returns what the node stored before this call.

        `is_flushed` returns True if this process itself has flushed the node since.
        Raises StoreUnavailable.
        """
        async with self._fencing:
            if self._fence and self._now() >= self._fenced_at and await self._stands(self._fence):
                return  # no process reads the node before it is flushed
            fence = self._fence = self._new_fence()
            self._fenced_at = float("inf")
            await self._store.record(fence)
            self._fenced_at = self._now() + FENCE_SECONDS
            while self._now() < self._fenced_at:
                await asyncio.sleep(_FENCE_POLL_SECONDS)
                if is_flushed():
                    await self._store.remove(fence)
                elif await self._stands(fence):
                    continue
                self._fence = None
                return

    async def _stands(self, fence: PendingFlush) -> bool:
        return fence in await self._store.read()

    def note_flushed(self) -> None:
        """Note that the node was flushed after this process's record."""
        self._relied_on_until = float("-inf")
        if self.recorded:
            self.to_remove.append(self.recorded)
            self.recorded = None
            self.wanted.set()


class FlushableNode(Protocol):
    """The part of CacheNode that a pending flush needs."""

    pending_flushes: NodePendingFlushes

    @property
    def address(self) -> str: ...
    @property
    def is_stale(self) -> bool: ...
    def mark_stale(self) -> None: ...
    def readable_at(self) -> float | None: ...
    async def flush_for_other_process(self) -> None: ...


class PendingFlushWatcher:
    """Reads the store for all nodes of this process, and does the flushes of ended processes."""

    def __init__(
        self,
        store: PendingFlushStore,
        *,
        process: str,
        write_deadline: float,
        confirm: Callable[[], Awaitable[None]],
        now: Callable[[], float] = clock,
    ) -> None:
        """`write_deadline`, in seconds, is the time within which the outcome of a commit is known.

        `confirm` raises StoreUnavailable if the list of servers of this process may have been
        replaced. It is called before each read of the store after which a node may be read again,
        and otherwise periodically.
        """
        self._confirm = confirm
        self._store = store
        self._process = process
        self._writes_end_after = REUSE_SECONDS + write_deadline
        self._now = now
        self._wanted = asyncio.Event()
        self._read_at = float("-inf")
        self._confirmed_at = float("-inf")  # start of the last call of `confirm` that succeeded
        self._seen: dict[PendingFlush, float] = {}  # those of others, and when each was first read
        self._read_seconds = _READ_SECONDS * random.uniform(0.8, 1)  # noqa: S311  # jitter
        self._watching: asyncio.Task[None] | None = None
        self._nodes: Iterable[FlushableNode] = ()

    def of(self, address: str) -> NodePendingFlushes:
        """The pending flushes of a new node."""

        def new() -> PendingFlush:
            nonce = secrets.token_hex(8)
            return PendingFlush(address, self._process, nonce, self._writes_end_after)

        def new_fence() -> PendingFlush:
            return PendingFlush(address, f"{self._process} fence", secrets.token_hex(8), 0.0)

        return NodePendingFlushes(self._store, new, new_fence, self._wanted, self._now)

    async def open(self, nodes: Iterable[FlushableNode]) -> None:
        """Read the store for the first time, and periodically from now on."""
        self._nodes = nodes
        with suppress(StoreUnavailable):
            await self._read_and_flush()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop reading the store. Other processes do the flushes that are still pending."""
        if self._watching:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._remove_completed()
                if self._now() >= self._read_at + self._pause():
                    await self._read_and_flush()
            except StoreUnavailable:  # MongoDB is unavailable, which health reports
                self._read_at = self._now()
            except Exception:
                log.exception("reading the pending flushes of the cache failed; trying again")
                self._read_at = self._now()

    def _pause(self) -> float:
        """Seconds from the last read of the store to the next one."""
        now, pause = self._now(), self._read_seconds
        for node in self._nodes:
            readable_at = node.readable_at()
            if readable_at is None or now < readable_at:
                pause = min(pause, _READ_SECONDS_AWAY)
            elif node.pending_flushes.none_at < readable_at:
                pause = 0.0 if self._read_at < readable_at else min(pause, _READ_SECONDS_PENDING)
        return pause

    async def _remove_completed(self) -> None:
        for node in self._nodes:
            while node.pending_flushes.to_remove:
                await self._store.remove(node.pending_flushes.to_remove[0])
                del node.pending_flushes.to_remove[0]

    async def _read_and_flush(self) -> None:
        """Read the store, and flush the nodes that are due. Raises StoreUnavailable."""
        began = self._read_at = self._now()
        if not list(self._nodes):
            return
        if began >= self._confirmed_at + _CONFIRM_SECONDS or not all(map(_is_read, self._nodes)):
            await self._confirm()
            self._confirmed_at = began
        flushes = await self._store.read()
        now = self._now()
        self._seen = {
            flush: self._seen.get(flush, now) for flush in flushes if flush.process != self._process
        }
        for node in self._nodes:
            pending = [flush for flush in flushes if flush.node == node.address]
            node.pending_flushes.found = bool(pending)
            if not pending:
                node.pending_flushes.none_at = began
                continue
            await self._flush_if_due(node, pending)

    async def _flush_if_due(self, node: FlushableNode, flushes: Sequence[PendingFlush]) -> None:
        """Flush the node if a record is due and the node replies."""
        for flush in flushes:
            if flush.process == self._process:
                self._adopt(node, flush)
        now = self._now()
        due = [flush for flush in flushes if now >= self._due_at(flush)]
        if not due or node.readable_at() is None:
            return
        with suppress(NodeUnavailable):
            await node.flush_for_other_process()
            for flush in due:
                await self._store.remove(flush)

    def _adopt(self, node: FlushableNode, flush: PendingFlush) -> None:
        """Make a record of this process pending again that the process does not know of.

        The node was flushed while the record was being sent, or the record was not acknowledged.
        """
        if not (
            node.is_stale or node.pending_flushes.is_recording or node.pending_flushes.to_remove
        ):
            node.pending_flushes.recorded = flush
            node.mark_stale()

    def _due_at(self, flush: PendingFlush) -> float:
        """When each write that relies on a record of another process has ended."""
        seen_at = self._seen.get(flush, float("inf"))
        if not flush.writes_end_after:
            return seen_at
        return seen_at + max(flush.writes_end_after, self._writes_end_after)


def _is_read(node: FlushableNode) -> bool:
    """True if no read of the store is needed before the node is read."""
    readable_at = node.readable_at()
    return readable_at is not None and readable_at <= node.pending_flushes.none_at

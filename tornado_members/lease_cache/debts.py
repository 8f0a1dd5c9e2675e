"""Debts: changes that a node missed, recorded where they outlive the process that knows them.

A write that commits without its tombstone leaves an old entry on a node that hangs. The process
gives the node a new epoch before it reads the node again; but the process may end first. So
- a debt is *recorded*, acknowledged by a majority, before such a write commits, and relied on for
  `RELIED_ON` seconds, so that an outage costs one small write a second and not one per write;
- it is removed only after the node's epoch was renewed, and only if it was not recorded anew;
- a process reads a node that is new to it, or was away, only after it read the ledger and found no
  debt of the node, not before the node has replied for `return_after`;
- any process pays a debt that it finds, once it has not been recorded anew for as long as a write
  that relies on it may take. Before that, the epoch might be renewed too early;
- a *fence* is a debt of a change that is committed already, so any process pays it at once. When
  `FENCE_SECONDS` have passed, either the fence was paid, or each process that can reach the node
  has found it, and reads the node only after it is paid (docs/decisions/feed.md).

No clock of two machines is compared: how long a debt has stood unchanged is measured by the
process that looks.
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
from tornado_members.lease_cache.errors import LedgerUnavailable, NodeUnavailable

log = getLogger(__name__)

RELIED_ON = 1.0  # seconds
# A process that is cut off from a node alone waits for this long before it announces a change:
# the time between two checks of the others, of a check, and as much again for a busy event loop.
FENCE_SECONDS = 5.0
_LOOK_SECONDS = 2.0  # between two reads of the ledger while every node is read
_FENCE_POLL_SECONDS = 0.1
_LOOK_SECONDS_AWAY = 1.0  # while one does not answer
_LOOK_SECONDS_OWED = 0.1  # while one waits for nothing else


@dataclass(frozen=True, slots=True)
class Debt:
    """`process` changed, or may be changing, members of which `node` still has old entries."""

    node: str  # its address, as in cache.servers
    process: str
    nonce: str  # another one each time that the debt is recorded
    # Seconds after the recording within which each write that relies on it has ended; 0 of a fence.
    writes_end_after: float


class Ledger(Protocol):
    """A store of debts that all processes share. Each method raises LedgerUnavailable in time."""

    deadline: float  # seconds, within which `record` returns or raises

    async def record(self, debt: Debt) -> None:
        """Record a debt durably, in place of the process's earlier one to the same node."""

    async def remove(self, debt: Debt) -> None:
        """Remove a debt that was paid, unless it was recorded anew since it was read."""

    async def read(self) -> Sequence[Debt]:
        """Return all debts: few, and mostly none."""


class DebtsOfNode:
    """The debts of one node, as this process knows them."""

    def __init__(
        self,
        ledger: Ledger,
        new: Callable[[], Debt],
        new_fence: Callable[[], Debt],
        wanted: asyncio.Event,
        now: Callable[[], float],
    ) -> None:
        """`new` makes a debt of this process; `wanted` is set to have the ledger looked at."""
        self.none_at = float("-inf")  # when the last look that found no debt began
        self.found = False  # by the last look
        self.recorded: Debt | None = None  # our own
        self.to_remove: list[Debt] = []
        self.wanted = wanted
        self._ledger = ledger
        self._new = new
        self._new_fence = new_fence
        self._now = now
        self._relied_on_until = float("-inf")
        self._writes_end_at = float("-inf")
        self._recording = asyncio.Lock()
        self._fence: Debt | None = None
        # When each process that reaches the node has found the fence, if it is still in the ledger.
        self._fenced_at = float("inf")
        self._fencing = asyncio.Lock()

    @property
    def is_recording(self) -> bool:
        """True while a debt is on its way to the ledger."""
        return self._recording.locked()

    async def record(self) -> float:
        """Have a debt of this process stand in the ledger; the caller's write may then commit.

        Returns when the write must have ended, by the clock `now`: another process may pay the debt
        after that. A process that is paused after the record finds out that it is too late.

        The node must be marked as stale before. Raises LedgerUnavailable.
        """
        try:
            async with asyncio.timeout(self._ledger.deadline), self._recording:
                if self._now() < self._relied_on_until:
                    return self._writes_end_at
                debt, sent_at = self._new(), self._now()
                await self._ledger.record(debt)
        except TimeoutError:
            raise LedgerUnavailable from None
        self.recorded = debt
        self._relied_on_until = sent_at + RELIED_ON
        self._writes_end_at = sent_at + debt.writes_end_after
        return self._writes_end_at

    async def raise_fence(self, is_paid: Callable[[], bool]) -> None:
        """Return once no process returns what the node stored before this call.

        `is_paid` returns True if this process itself has renewed the node's epoch since.
        Raises LedgerUnavailable.
        """
        async with self._fencing:
            if self._fence and self._now() >= self._fenced_at and await self._stands(self._fence):
                return  # no process reads the node: each has to pay the fence before
            fence = self._fence = self._new_fence()
            self._fenced_at = float("inf")
            await self._ledger.record(fence)
            self._fenced_at = self._now() + FENCE_SECONDS
            while self._now() < self._fenced_at:
                await asyncio.sleep(_FENCE_POLL_SECONDS)
                if is_paid():
                    await self._ledger.remove(fence)
                elif await self._stands(fence):
                    continue
                self._fence = None
                return

    async def _stands(self, fence: Debt) -> bool:
        return fence in await self._ledger.read()

    def pay(self) -> None:
        """Note that the node has got a new epoch since our debt was recorded."""
        self._relied_on_until = float("-inf")
        if self.recorded:
            self.to_remove.append(self.recorded)
            self.recorded = None
            self.wanted.set()


class IndebtedNode(Protocol):
    """The part of CacheNode that the debts need."""

    debts: DebtsOfNode

    @property
    def address(self) -> str: ...  # noqa: D102
    @property
    def is_stale(self) -> bool: ...  # noqa: D102
    def mark_stale(self) -> None: ...  # noqa: D102
    def readable_at(self) -> float | None: ...  # noqa: D102
    async def pay_for_another(self) -> None: ...  # noqa: D102


class Debts:
    """Reads the ledger for all nodes of this process, and pays the debts of other processes."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        process: str,
        write_deadline: float,
        confirm: Callable[[], Awaitable[None]],
        now: Callable[[], float] = clock,
    ) -> None:
        """`write_deadline`, in seconds, is the time within which the outcome of a commit is known.

        Each look also calls `confirm`, which raises LedgerUnavailable if the list of servers of
        this process may have been replaced.
        """
        self._confirm = confirm
        self._ledger = ledger
        self._process = process
        self._writes_end_after = RELIED_ON + write_deadline
        self._now = now
        self._wanted = asyncio.Event()
        self._looked_at = float("-inf")
        self._seen: dict[Debt, float] = {}  # debts of others, and when each was first seen
        self._look_seconds = _LOOK_SECONDS * random.uniform(0.8, 1)  # noqa: S311
        self._watching: asyncio.Task[None] | None = None
        self._nodes: Iterable[IndebtedNode] = ()

    def of(self, address: str) -> DebtsOfNode:
        """The debts of a node that is made."""

        def new() -> Debt:
            nonce = secrets.token_hex(8)
            return Debt(address, self._process, nonce, self._writes_end_after)

        def new_fence() -> Debt:
            return Debt(address, f"{self._process} fence", secrets.token_hex(8), 0.0)

        return DebtsOfNode(self._ledger, new, new_fence, self._wanted, self._now)

    async def open(self, nodes: Iterable[IndebtedNode]) -> None:
        """Read the ledger for the first time, and periodically from now on."""
        self._nodes = nodes
        with suppress(LedgerUnavailable):
            await self._look()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop reading the ledger. Unpaid debts stay in it, for other processes to pay."""
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
                await self._remove_paid()
                if self._now() >= self._looked_at + self._pause():
                    await self._look()
            except LedgerUnavailable:  # MongoDB is away, and health says so
                self._looked_at = self._now()
            except Exception:
                log.exception("reading the debts of the cache failed; trying again")
                self._looked_at = self._now()

    def _pause(self) -> float:
        """Seconds from the last look to the next one."""
        now, pause = self._now(), self._look_seconds
        for node in self._nodes:
            readable_at = node.readable_at()
            if readable_at is None or now < readable_at:
                pause = min(pause, _LOOK_SECONDS_AWAY)
            elif node.debts.none_at < readable_at:
                pause = 0.0 if self._looked_at < readable_at else min(pause, _LOOK_SECONDS_OWED)
        return pause

    async def _remove_paid(self) -> None:
        for node in self._nodes:
            while node.debts.to_remove:
                await self._ledger.remove(node.debts.to_remove[0])
                del node.debts.to_remove[0]

    async def _look(self) -> None:
        """Raises LedgerUnavailable."""
        began = self._looked_at = self._now()
        if not list(self._nodes):
            return
        await self._confirm()
        debts = await self._ledger.read()
        now = self._now()
        self._seen = {
            debt: self._seen.get(debt, now) for debt in debts if debt.process != self._process
        }
        for node in self._nodes:
            its = [debt for debt in debts if debt.node == node.address]
            node.debts.found = bool(its)
            if not its:
                node.debts.none_at = began
                continue
            await self._settle(node, its)

    async def _settle(self, node: IndebtedNode, debts: Sequence[Debt]) -> None:
        """Pay what is due, if the node answers."""
        for debt in debts:
            if debt.process == self._process:
                self._adopt(node, debt)
        now = self._now()
        due = [debt for debt in debts if now >= self._due_at(debt)]
        if not due or node.readable_at() is None:
            return
        with suppress(NodeUnavailable):
            await node.pay_for_another()
            for debt in due:
                await self._ledger.remove(debt)

    def _adopt(self, node: IndebtedNode, debt: Debt) -> None:
        """Owe a debt of this process that it does not know of.

        The node was paid while the record was on its way, or the record was not acknowledged.
        """
        if not (node.is_stale or node.debts.is_recording or node.debts.to_remove):
            node.debts.recorded = debt
            node.mark_stale()

    def _due_at(self, debt: Debt) -> float:
        """When each write that relies on a debt of another process has ended."""
        seen_at = self._seen.get(debt, float("inf"))
        if not debt.writes_end_after:
            return seen_at
        return seen_at + max(debt.writes_end_after, self._writes_end_after)

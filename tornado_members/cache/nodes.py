"""One cache node as this process knows it: heard from or away, to be trusted or not.

The promise is kept through outages by three rules.
- A node is read only while it has been heard from within the heartbeat, and after it has answered
  for `return_after` without a failure. A process that was stopped itself has heard from nobody.
- A node that missed something that it had to be told for certain (that a write goes on without its
  tombstone, that one ended, that another client changed a member) is *tainted*: it gets a new epoch
  before this process reads it again. The first and the last of these are recorded as *debts*
  (debts.py), which other processes pay if this one ends before.
- A write whose tombstones cannot be set waits, *before* it commits, until whoever shares the outage
  has noticed it, too, and reads the database. If the node answers meanwhile, the tombstones are
  made up for, and the write goes on at once.

`return_after` has to be longer than any process takes to notice that a node is back, which is half
a heartbeat and three time-outs: each makes up for what it owes before the others read again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from logging import getLogger
from typing import TypeVar

from tornado_members.cache.batching import LoopTurn
from tornado_members.cache.counts import CacheCounts
from tornado_members.cache.debts import DebtsOfNode
from tornado_members.cache.leases import Leases, Lifetimes
from tornado_members.cache.memcached import Held, MemcachedNode, NodeAway, Put, clock
from tornado_members.cache.pulse import Pulse
from tornado_members.together import Together

T = TypeVar("T")
log = getLogger(__name__)

_MOST_SHARED = 16  # puts; whoever has more of them would have the others wait


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    heartbeat: float
    timeout: float
    return_after: float

    @property
    def pause(self) -> float:
        """Between two looks at a node."""
        return self.heartbeat / 4

    @property
    def noticed(self) -> float:
        """How long after it began everybody who shares an outage has noticed it.

        Who hears from the node in between has not. But then the outage ended within a pause and a
        time-out, and the one who waits notices that within two pauses and another time-out. A
        time-out may be a quarter longer than its name.
        """
        return self.heartbeat + 3 * self.timeout


@dataclass(slots=True)
class _MissingMarks:
    """The keys on which a write still has no tombstone."""

    keys: set[bytes]
    is_over: bool = False  # the write has ended, and its outcome is known


class WatchedNode:
    """A node, the protocol on it, and what this process knows of its health."""

    def __init__(
        self,
        node: MemcachedNode,
        *,
        namespace: bytes,
        timing: Timing,
        lifetimes: Lifetimes,
        counts: CacheCounts,
        debts: DebtsOfNode,
        now: Callable[[], float] = clock,
    ) -> None:
        self.address = node.address
        self.debts = debts
        self.leases = Leases(self, namespace=namespace, lifetimes=lifetimes, counts=counts)
        self._node = node
        self._get_together = LoopTurn(node.get_many)
        self._gets_together = LoopTurn(node.gets_many)
        self._put_together = Together(node.put_many)
        self._timing = timing
        self._counts = counts
        self._now = now
        self._heard_at = float("-inf")
        self._away_since: float | None = now()  # until it has answered once
        self._readable_at = float("inf")
        self._failed_at = float("-inf")
        self._taints = 0
        self._owed: dict[bytes, _MissingMarks] = {}  # by writer
        self._paid = asyncio.Event()
        self._wanted = asyncio.Event()  # something is owed to the node
        self._watching: asyncio.Task[None] | None = None
        self._pulse = Pulse(
            *node.host_port,
            pause=timing.pause,
            timeout=timing.timeout,
            heartbeat=timing.heartbeat,
            now=now,
        )

    @property
    def is_tainted(self) -> bool:
        """Whether it must get a new epoch before it is read."""
        return self._taints > 0

    def reason_not_to_read(self) -> str | None:
        """Why reads go past the node now, in a word; None if they may go to it."""
        readable_at = self.readable_at()
        if readable_at is None:
            return "node-away"
        if self.is_tainted:
            return "node-tainted"
        if self._now() < readable_at:
            return "node-back"
        if self.debts.none_at < readable_at:
            return "node-owed" if self.debts.found else "node-back"
        return None

    def readable_at(self) -> float | None:
        """When the node has answered for long enough; None if it does not answer."""
        heard_at = max(self._heard_at, self._pulse.heard_at)
        if self._away_since is not None or self._now() - heard_at > self._timing.heartbeat:
            return None
        return max(self._readable_at, self._pulse.back_at + self._timing.return_after)

    async def open(self) -> None:
        """Hear from it for the first time, and watch it from now on.

        A node that may be read before the first look of the watch is waited for.
        """
        with suppress(NodeAway):
            await self.leases.probe()
            self._pulse.heard_at = self._heard_at
            if self._timing.return_after < self._timing.pause:
                await asyncio.sleep(self._timing.return_after)
        self._pulse.start()
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Close every connection."""
        if self._watching:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await asyncio.to_thread(self._pulse.stop)
        await self._node.close()

    async def announce(self, keys: Collection[bytes], writer: bytes) -> bool:
        """Put tombstones on the keys of a write, or wait until nobody reads them here.

        Returns True if they were set for certain. If not, `owe` must return before the write
        commits.
        """
        try:
            await self.leases.announce(keys, writer)
        except NodeAway:
            debt = self._owed[writer] = _MissingMarks(set(keys))
            self._wanted.set()
        else:
            return True
        away_since = self._now() if self._away_since is None else self._away_since
        end = away_since + self._timing.noticed
        while debt.keys and (rest := end - self._now()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._paid.wait()
        if debt.keys:
            # Should this process have been busy all the while, it may have missed that it answers.
            with suppress(NodeAway):
                await self.leases.announce(keys, writer)
                debt.keys.clear()
        return not debt.keys

    async def release(self, keys: Collection[bytes], writer: bytes) -> None:
        """Take the tombstones of a write away. If that fails, the node is tainted."""
        debt = self._owed.pop(writer, None)
        if debt:
            debt.keys.clear()
            debt.is_over = True
        if not await self._is_done(self.leases.release(keys, writer)):
            self.taint()

    def abandon(self, writer: bytes) -> None:
        """Leave the tombstones of a write, whose outcome is unknown, to expire."""
        self._owed.pop(writer, None)

    async def invalidate(self, keys: Collection[bytes]) -> bool:
        """Remove entries that another client changed.

        If the node does not do it for certain, records a debt and returns False.
        Raises DependencyUnavailable.
        """
        return await self._is_done(self.leases.invalidate(keys)) or await self.owe()

    async def renew_epoch(self) -> bool:
        """Empty the node.

        If the node does not do it for certain, records a debt and returns False.
        Raises DependencyUnavailable.
        """
        return await self._is_done(self.leases.renew_epoch()) or await self.owe()

    async def owe(self) -> bool:
        """Record that the node misses a change, where it outlives this process; returns False.

        Raises DependencyUnavailable if it could not be recorded in time.
        """
        self.taint()
        await self.debts.record()
        if not self.is_tainted:  # paid meanwhile, without this debt
            self.taint()
        return False

    async def pay_for_another(self) -> None:
        """Empty the node, since a process that ended owed it that. Raises NodeAway."""
        await self.leases.renew_epoch()
        log.warning("Memcached %s got a new epoch: another process had owed it one", self.address)

    def taint(self) -> None:
        """Remember that the node missed something."""
        self._taints += 1
        self._counts.taints += 1
        self._wanted.set()

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """As MemcachedNode's; reads of one turn of the loop share a request."""
        return await self._hearing(self._get_together.get_many(keys))

    async def gets_many(self, keys: Sequence[bytes]) -> Mapping[bytes, Held]:
        """As MemcachedNode's; reads of one turn of the loop share a request."""
        return await self._hearing(self._gets_together.get_many(keys))

    async def put_many(self, puts: Sequence[Put]) -> Sequence[bool | None]:
        """As MemcachedNode's; the few puts of many in one turn of the loop share a request."""
        if len(puts) > _MOST_SHARED:
            return await self._hearing(self._node.put_many(puts))
        return await self._hearing(self._put_together.ask(puts))

    async def _is_done(self, command: Awaitable[object]) -> bool:
        """True if the node did it for certain."""
        try:
            await command
        except NodeAway as error:
            log.debug("tainted: %s", error)
            return False
        return True

    async def _hearing(self, command: Awaitable[T]) -> T:
        began = self._now()
        try:
            result = await command
        except NodeAway:
            # Between failures that lie far apart it may have been well without our noticing.
            if self._away_since is None or began - self._failed_at > self._timing.heartbeat:
                self._away_since = self._now()
            self._failed_at = self._now()
            raise
        # Not when the command began: it may have waited for its turn since.
        began = max(began, self._node.heard_at)
        heard_at = max(self._heard_at, self._pulse.heard_at)
        if self._away_since is not None or began - heard_at > self._timing.heartbeat:
            self._away_since = None
            self._readable_at = self._now() + self._timing.return_after
        self._heard_at = max(self._heard_at, began)
        return result

    async def _watch(self) -> None:
        """Hear from the node, and pay it what it is owed as soon as it answers."""
        while True:
            try:
                if self._owed or self._taints:
                    await self._pay()
                elif self._now() - self._heard_at >= self._timing.pause:
                    await self.leases.probe()
            except NodeAway:
                pass
            except Exception:  # what is owed to the node stays owed: it is looked after for ever
                log.exception("looking after Memcached %s failed; it goes on", self.address)
            if self.reason_not_to_read() in ("node-back", "node-owed"):
                self.debts.wanted.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.pause):
                    await self._wanted.wait()
            self._wanted.clear()

    async def _pay(self) -> None:
        """Set the tombstones of writes that are still under way; then a new epoch, if tainted."""
        for writer, debt in list(self._owed.items()):
            if debt.keys:
                keys = frozenset(debt.keys)
                await self.leases.announce(keys, writer)
                debt.keys.clear()
                if debt.is_over:  # it ended meanwhile, and may have found no tombstone to remove
                    await self.leases.release(keys, writer)
        self._paid.set()
        self._paid.clear()
        taints = self._taints
        if taints:
            await self.leases.renew_epoch()
            self._taints -= taints
            if not self._taints:
                self.debts.pay()
            log.warning("Memcached %s got a new epoch: it had missed something", self.address)

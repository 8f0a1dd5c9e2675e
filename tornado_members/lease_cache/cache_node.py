"""One cache node: read only while it can be trusted, and invalidated if it missed a change.

Three rules keep the guarantee through outages.
- A node is read only while it has replied within the heartbeat, and after it has replied for
  `return_after` without a failure. A process that was stopped itself has had no reply.
- A node that missed a required command (a tombstone of a write that goes on, its removal, an
  invalidation) is *stale*: it gets a new epoch before this process reads it again.
  A missed tombstone or invalidation is recorded as a pending flush (pending_flushes.py), which
  another process does if this one ends before.
- A write whose tombstones cannot be placed waits, *before* it commits, until every process that
  shares the outage has noticed it, too, and reads the database. If the node replies meanwhile, the
  tombstones are placed late, and the write goes on at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from logging import getLogger

from tornado_members.lease_cache.clock import clock
from tornado_members.lease_cache.counts import CacheCounts
from tornado_members.lease_cache.entries import Entry
from tornado_members.lease_cache.epochs import OTHER_SERVER_LIST
from tornado_members.lease_cache.errors import NodeUnavailable, StoreUnavailable
from tornado_members.lease_cache.key_list import KeyList
from tornado_members.lease_cache.look_ups import (
    Bodies,
    Bypass,
    Fill,
    Found,
    Load,
    LookUp,
    NotHit,
    bypass_all,
)
from tornado_members.lease_cache.node_health import NodeHealth, Timing
from tornado_members.lease_cache.pending_flushes import NodePendingFlushes
from tornado_members.lease_cache.protocol import LeaseProtocol
from tornado_members.lease_cache.quarantine import QuarantineWatch
from tornado_members.lease_cache.unconfirmed_tombstones import UnconfirmedTombstones

log = getLogger(__name__)

_PROBE_SECONDS = 1.0  # between two probes of a node
_RESTING_PROBE_SECONDS = 4.0  # the same, while the process does not read the node


class CacheNode:
    """A node, the protocol on it, and the invalidations that it missed."""

    def __init__(
        self,
        health: NodeHealth,
        protocol: LeaseProtocol,
        *,
        timing: Timing,
        counts: CacheCounts,
        pending_flushes: NodePendingFlushes,
        quarantine: QuarantineWatch,
        confirm_list: Callable[[], Awaitable[None]],
        now: Callable[[], float] = clock,
    ) -> None:
        """`protocol` is the protocol on this node.

        `confirm_list` raises StoreUnavailable if the list of servers of this process may have been
        replaced.
        """
        protocol.on_unusable = self._note_unusable
        self.address = health.address
        self.protocol = protocol
        self.end_fills = protocol.end_fills
        self.give_up_fills = protocol.give_up_fills
        self.pending_flushes = pending_flushes
        self._health = health
        self._timing = timing
        self._counts = counts
        self._now = now
        self._confirm_list = confirm_list
        self._belongs_to_another_list = False
        self._watch = quarantine
        self._is_quarantined = False  # according to the last probe, or to a read since
        self._saw_quarantine = False  # since the last probe began
        self._quarantine: bytes | None = None  # the last one that this process has seen
        self._unusable_at = float("-inf")  # when it saw that for the first time
        self._missed = 0  # how often it missed something, since its last new epoch
        self._unconfirmed = UnconfirmedTombstones(protocol, now)
        self._flushed = asyncio.Event()
        self._read_at = float("-inf")  # when this process last read the epoch
        self._wanted = health.probe_wanted  # also if there is something to flush
        self._monitoring: asyncio.Task[None] | None = None

    @property
    def is_stale(self) -> bool:
        """True if the node must get a new epoch before it is read."""
        return self._missed > 0

    def bypass_reason(self) -> str | None:
        """Return why reads bypass the node now, in a word; None if they may use it.

        If only the store of pending flushes was not read yet, this requests a read.
        """
        readable_at = self.readable_at()
        if readable_at is None:
            return "node-unavailable"
        if self._belongs_to_another_list:
            return OTHER_SERVER_LIST
        if self._missed:
            return "node-stale"
        if self._now() < readable_at:
            return "node-recovering"
        if self.pending_flushes.none_at < readable_at:
            self.pending_flushes.wanted.set()
            return "node-flush-pending" if self.pending_flushes.found else "node-recovering"
        return None

    def readable_at(self) -> float | None:
        """When the node will have replied for long enough; None if it does not reply.

        A node that was in quarantine has restarted. It may have lost the id of another list, so
        this process has to confirm its own list before it reads the node.
        """
        health, timing = self._health, self._timing
        # The heartbeat's thread sets `recovered_at` before `last_reply_at`.
        last_reply_at = max(health.node.last_reply_at, health.heartbeat.last_reply_at)
        if health.down_since is not None or self._now() - last_reply_at > timing.heartbeat:
            return None
        recovered_at = max(health.recovered_at, health.heartbeat.recovered_at)
        return max(recovered_at + timing.return_after, self._unusable_at)

    def _note_unusable(self, reason: str, quarantine: bytes | None) -> None:
        if reason == OTHER_SERVER_LIST:
            self._belongs_to_another_list = True
            self._wanted.set()
            return
        self._saw_quarantine = True
        if not self._is_quarantined:  # the next probes find it again; they must not hurry
            self._is_quarantined = True
            self._wanted.set()
        if quarantine is not None:
            self._watch.notice(quarantine)
        if quarantine is None or quarantine != self._quarantine:
            self._quarantine, self._unusable_at = quarantine, self._now()

    async def open(self) -> None:
        """Probe the node, and monitor it from now on.

        A node that may be read before its first probe by the monitor is waited for.
        """
        with suppress(NodeUnavailable):
            await self.protocol.probe()
            if self._timing.return_after < self._timing.pause:
                await asyncio.sleep(self._timing.return_after)
        self._health.start()
        self._monitoring = asyncio.create_task(self._monitor())

    async def close(self) -> None:
        """Close every connection."""
        if self._monitoring:
            self._monitoring.cancel()
            await asyncio.wait([self._monitoring])
        await self._health.close()

    def look_up(self, keys: Sequence[bytes]) -> Awaitable[list[LookUp]]:
        """Like the method of LeaseProtocol; bypasses the node while it must not be read."""
        self._health.last_read_at = now = self._now()
        reason = self.bypass_reason()
        if reason:
            return bypass_all(len(keys), reason)
        self._read_at = now
        return self.protocol.look_up(keys)

    def look_up_bodies(self, keys: KeyList, tag_end: bytes) -> Awaitable[list[LookUp] | Bodies]:
        """Like the method of LeaseProtocol; bypasses the node while it must not be read."""
        self._health.last_read_at = now = self._now()
        reason = self.bypass_reason()
        if reason:
            return bypass_all(keys.count, reason)
        self._read_at = now
        return self.protocol.look_up_bodies(keys, tag_end)

    def read(
        self,
        key: bytes,
        load: Load,
        *,
        rejected: Entry | None = None,
        look_up: LookUp | None = None,
    ) -> Awaitable[Found]:
        """Like the method of LeaseProtocol; bypasses the node while it must not be read."""
        self._health.last_read_at = self._now()
        reason = self.bypass_reason()
        if reason:
            look_up = Bypass(reason)
        return self.protocol.read(key, load, rejected=rejected, look_up=look_up)

    def begin_fills(self, look_ups: Mapping[bytes, NotHit]) -> Awaitable[dict[bytes, Fill]]:
        """Like the method of LeaseProtocol; bypasses the node while it must not be read."""
        reason = self.bypass_reason()
        if reason:
            look_ups = dict.fromkeys(look_ups, Bypass(reason))
        return self.protocol.begin_fills(look_ups)

    async def place_tombstones(self, keys: Collection[bytes], writer: bytes) -> bool:
        """Place the tombstones of a write, or wait until no process reads its keys here.

        Returns True if they were placed for certain. If not, `record_pending_flush` must return
        before the write commits.
        """
        try:
            await self.protocol.place_tombstones(keys, writer)
        except NodeUnavailable:
            unplaced = self._unconfirmed.place_later(keys, writer)
            self._wanted.set()
        else:
            return True
        down_since = self._now() if self._health.down_since is None else self._health.down_since
        end = down_since + self._timing.noticed
        while unplaced.keys and (rest := end - self._now()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._flushed.wait()
        if unplaced.keys:
            # If this process was busy meanwhile, it may have missed that the node replies.
            with suppress(NodeUnavailable):
                await self.protocol.place_tombstones(keys, writer)
                unplaced.keys.clear()
        return not unplaced.keys

    async def remove_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        """Remove the tombstones of a write. If that fails, the node is stale."""
        self._unconfirmed.end(writer)
        if not await self._is_done(self.protocol.remove_tombstones(keys, writer)):
            self._unconfirmed.remove_later(keys, writer)
            self.mark_stale()

    def withdraw_tombstones(self, keys: Collection[bytes], writer: bytes) -> None:
        """Remove the tombstones of a write that was not sent, as soon as the node replies."""
        self._unconfirmed.remove_later(keys, writer)
        self._wanted.set()

    def abandon(self, writer: bytes, may_commit_until: float) -> None:
        """Leave the tombstones of a write to expire, and forget it.

        While it may commit, tombstones that it still lacks are placed before the epoch is renewed.
        """
        self._unconfirmed.abandon(writer, may_commit_until)

    async def invalidate(self, keys: Collection[bytes]) -> bool:
        """Remove entries that another client changed.

        Unless the node confirms that, records a pending flush and returns False.
        Raises StoreUnavailable.
        """
        return await self._is_done(self.protocol.invalidate(keys)) or await self._record_failure()

    async def invalidate_for_all(self, keys: Collection[bytes]) -> None:
        """Remove entries that another client changed, so that no process returns them any more.

        If this process does not reach the node, waits until another one has emptied the node, or
        no process reads it. Raises StoreUnavailable.
        """
        if not await self.invalidate(keys):
            await self.pending_flushes.raise_fence(lambda: not self.is_stale)

    async def renew_epoch(self) -> bool:
        """Empty the node.

        Unless the node confirms that, records a pending flush and returns False.
        Raises StoreUnavailable.
        """
        return await self._is_done(self.protocol.renew_epoch()) or await self._record_failure()

    async def record_pending_flush(self) -> float:
        """Record that the node misses a change, in the store that all processes share.

        Returns when a write that relies on the record must have ended.
        Raises StoreUnavailable if it could not be recorded in time.
        """
        self.mark_stale()
        ends_at = await self.pending_flushes.record()
        if not self.is_stale:  # flushed meanwhile, before this record
            self.mark_stale()
        return ends_at

    async def _record_failure(self) -> bool:
        """Record a pending flush; return False."""
        await self.record_pending_flush()
        return False

    async def claim(self) -> None:
        """Empty the node, and store the id of our list with its epoch.

        If it does not reply, returns when no process reads it. A process that finds that it replies
        again reads the list in force first. Raises StoreUnavailable if our list may have been
        replaced.
        """
        await self._confirm_list()
        if await self._is_done(self.protocol.renew_epoch()):
            self._belongs_to_another_list = False
            return
        self.mark_stale()
        down_since = self._now() if self._health.down_since is None else self._health.down_since
        await asyncio.sleep(max(0.0, down_since + self._timing.noticed - self._now()))

    async def flush_for_other_process(self) -> None:
        """Empty the node, because a process ended before it did so. Raises NodeUnavailable."""
        await self.protocol.renew_epoch()
        log.warning(
            "Memcached %s got a new epoch: a process ended with a pending flush of the node",
            self.address,
        )

    async def raise_term(self) -> None:
        """Implement FencedNode; does nothing while the node does not reply."""
        if self.readable_at() is not None:
            await self.protocol.raise_term()

    async def check_term(self) -> None:
        """Implement FencedNode; does nothing while the node does not reply."""
        if self.readable_at() is not None:
            await self.protocol.check_term()

    def mark_stale(self) -> None:
        """Remember that the node missed something."""
        self._missed += 1
        self._counts.marked_stale += 1
        self._wanted.set()

    async def _is_done(self, command: Awaitable[object]) -> bool:
        """True if the node did it for certain."""
        try:
            await command
        except NodeUnavailable as error:
            log.debug("missed: %s", error)
            return False
        return True

    async def _monitor(self) -> None:
        """Probe the node, and send the invalidations that it missed as soon as it replies."""
        while True:
            try:
                if self._belongs_to_another_list:
                    self._belongs_to_another_list = False
                    await self.protocol.probe()  # this process may use that list by now
                    if self._belongs_to_another_list:
                        await self.claim()
                elif self._unconfirmed or self._missed:
                    await self._catch_up()
                elif self._is_quarantined or self._now() - self._read_at >= self._timing.pause:
                    await self._probe()
                await self._watch.advance()
            except (NodeUnavailable, StoreUnavailable):
                pass
            except Exception:  # missed invalidations stay pending: the monitor never ends
                log.exception("monitoring Memcached %s failed; trying again", self.address)
            self.bypass_reason()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.align(self._probe_pause())):
                    await self._wanted.wait()
            self._wanted.clear()

    async def _probe(self) -> None:
        """Ask for the epoch. Raises NodeUnavailable."""
        self._read_at = self._now()
        self._saw_quarantine = False
        await self.protocol.probe()
        self._is_quarantined = self._saw_quarantine

    def _probe_pause(self) -> float:
        """Seconds until the next probe: short only while reads bypass the node.

        The heartbeat thread notices an outage and a restart of the node, and the first command that
        fails ends the pause. The probe then only finds out that the node was emptied (`flush_all`),
        or that its quarantine is too short for writes of this process. Any quarantine is longer
        than the pause, and each read asks for the epoch itself.
        """
        if self.bypass_reason() is not None or self._unconfirmed or self._is_quarantined:
            return self._timing.pause
        seconds = _PROBE_SECONDS if self._health.is_read() else _RESTING_PROBE_SECONDS
        return max(self._timing.pause, seconds)

    async def _catch_up(self) -> None:
        """Send the node what it missed. Tombstones of writes under way come before a new epoch."""
        await self._unconfirmed.place()
        self._flushed.set()
        self._flushed.clear()
        missed = self._missed
        if missed:
            await self.protocol.renew_epoch()
            self._missed -= missed
            if not self._missed:
                self.pending_flushes.note_flushed()
            log.warning("Memcached %s got a new epoch: it had missed something", self.address)
        await self._unconfirmed.remove()

"""Invalidation of the cache by the change stream, for changes by any program.

One process of all is the leader. It reads the change stream of the members, invalidates the cache
for each event, and stores its position only after that. After a crash an event may be processed
twice, and none is skipped.
"""

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import getLogger
from typing import Protocol

from tornado_members.errors import DependencyUnavailable
from tornado_members.storage.changes import (
    Batch,
    Change,
    ChangesUnavailable,
    HistoryLost,
    MemberChanges,
    NotReplicated,
    Token,
)
from tornado_members.storage.leader_election import LeaderElection
from tornado_members.ticks import seconds_to_tick

log = getLogger(__name__)

_CLAIM_SECONDS = 0.5  # between two attempts to take the lease
# It is renewed at each tick, and so is the position stored.
_RETRY_SECONDS = 0.2  # after a renewal that failed
_LOOK_SECONDS = 0.1  # between two checks by the leader of nodes that fail
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before the stream is reopened
_NOT_REPLICATED_PAUSE = 60.0
_REST_SECONDS = 0.75  # after handing over: longer than another process takes to claim the lease
_HANDS_OVER_EVERY = 10.0  # seconds, at least; the stream continues if no process does better
# Seconds without progress, by whichever process, before it is reported. An idle replica set makes
# progress every ten seconds: the primary writes a no-op to its oplog (periodicNoopIntervalSecs).
STANDSTILL_SECONDS = 60.0
_ATTEMPTS_AT_KEYS = 5  # before the whole cache is flushed instead


class _HandOver(Exception):
    """A node does not respond to this process. It may respond to another one."""


class Forgets(Protocol):
    """The cache of the members: MemberDirectory."""

    async def invalidate_members(self, changes: Sequence[Change]) -> bool:
        """Remove what was read before these changes.

        Returns False if a node does not respond. A pending flush is then recorded: the
        node is emptied before it is read. Raises DependencyUnavailable if recording it failed.
        """

    async def flush_cache(self) -> bool:
        """Remove everything. Returns and raises the same."""

    def reaches_all_nodes(self) -> bool:
        """True if every node of the cache responds to this process."""

    async def wait_for_failure(self) -> None:
        """Return after the next command that a node does not respond to."""


@dataclass(slots=True)
class InvalidatorNumbers:
    """Figures for operators; the counts are of this process."""

    is_holder: bool = False
    events: int = 0
    lag_seconds: float | None = None  # from the last event to its removal, by two clocks
    reopened: int = 0
    lost_histories: int = 0
    failed_removals: int = 0
    standstill_seconds: float = 0.0  # since the stream was last followed further, by any process
    # Why changes may go unnoticed; None while a process follows the stream.
    problem: str | None = "is not followed yet"

    def reason_for_concern(self) -> str | None:
        """Return why changes may go unnoticed; None while the stream is followed."""
        if self.problem is None and self.standstill_seconds > STANDSTILL_SECONDS:
            return f"has made no progress for {self.standstill_seconds:.0f} s"
        return self.problem


@asynccontextmanager
async def invalidating(
    changes: MemberChanges, lease: LeaderElection, cache: Forgets, numbers: InvalidatorNumbers
) -> AsyncIterator[None]:
    """Take part in the election during the block; release the lease at its end."""
    invalidator = Invalidator(changes, lease, cache, numbers)
    running = asyncio.create_task(invalidator.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        with suppress(DependencyUnavailable):  # the lease then expires
            await invalidator.give_back()


class Invalidator:
    """Waits for the lease, and follows the change stream while it holds it."""

    def __init__(
        self,
        changes: MemberChanges,
        lease: LeaderElection,
        cache: Forgets,
        numbers: InvalidatorNumbers,
    ) -> None:
        self._changes = changes
        self._lease = lease
        self._cache = cache
        self._numbers = numbers
        # The position: up to here each node was invalidated, or its flush is pending.
        self._token: Token | None = None
        self._handed_over_at = float("-inf")
        self._reached_all_nodes = False  # at any time since it became the leader
        self._warned = False

    async def run(self) -> None:
        """Run until cancelled, through all errors."""
        while True:
            if await self._attempt(self._lease.acquire):
                self._token = self._lease.progress
                log.info("this process follows the change stream now")
                await self._hold()
                self._numbers.problem = "its leader is unknown"
                log.warning("lost the lease to follow the change stream")
            resting = self._handed_over_at + _REST_SECONDS - asyncio.get_running_loop().time()
            if not self._cache.reaches_all_nodes():  # others come first
                resting = max(resting, _REST_SECONDS)
            await asyncio.sleep(max(_CLAIM_SECONDS, resting))

    async def give_back(self) -> None:
        """Release the lease, so that another process continues. Raises DependencyUnavailable."""
        if self._lease.is_leader:
            await self._lease.release(self._token)

    async def _hold(self) -> None:
        """Tail the stream until the lease is lost."""
        self._numbers.is_holder = True
        self._reached_all_nodes = False
        tail = asyncio.create_task(self._tail())
        try:
            while self._lease.is_leader and not tail.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._lease.valid_until):
                        renewed = await self._attempt(lambda: self._lease.renew(self._token))
                        now = asyncio.get_running_loop().time()
                        await self._wait(tail, seconds_to_tick(now) if renewed else _RETRY_SECONDS)
                if self._should_hand_over():
                    break
        finally:
            self._numbers.is_holder = False
            handed_over = tail.done() or self._should_hand_over()
            tail.cancel()
            try:
                if handed_over:
                    await self._hand_over()
            finally:
                await _end(tail)  # which waits for the reply to its last read

    async def _hand_over(self) -> None:
        """Release the lock. The stream may still be read: two followers do no harm."""
        self._handed_over_at = asyncio.get_running_loop().time()
        with suppress(DependencyUnavailable):
            await self._lease.release(self._token)

    async def _attempt(self, claim: Callable[[], Awaitable[bool]]) -> bool:
        try:
            taken = await claim()
        except DependencyUnavailable:  # requests report it
            self._numbers.problem = "its leader is unknown: MongoDB does not respond"
            return False
        except Exception:  # MongoDB refuses it, for example without the permission
            log.exception("cannot claim the lease to follow the change stream")
            self._numbers.problem = "its lease cannot be claimed"
            return False
        self._note_standstill()
        if not taken:  # another process holds it
            self._numbers.problem = None
        return taken

    def _note_standstill(self) -> None:
        """Measure how long no process has followed the stream further; log it when it begins."""
        progressed_at = self._lease.progressed_at
        if progressed_at is None:
            return
        before = self._numbers.standstill_seconds
        seconds = asyncio.get_running_loop().time() - progressed_at
        self._numbers.standstill_seconds = seconds
        if before <= STANDSTILL_SECONDS < seconds:
            log.warning("the change stream has made no progress for %.0f s", seconds)

    async def _tail(self) -> None:
        """Read the stream, and reopen it where it broke, until another process should do so."""
        pause = _FIRST_PAUSE
        while True:
            before = self._token
            try:
                async with aclosing(self._changes.since(self._token)) as batches:
                    async for batch in batches:
                        await self._forget(batch)
                        self._numbers.problem = None
                        self._token = batch.token
                log.info("the members' collection was dropped, renamed or replaced")
            except _HandOver:
                log.warning(
                    "a node does not respond to invalidations; handing over to another process"
                )
                self._numbers.problem = "a node of the cache does not respond"
                return
            except HistoryLost as error:
                self._numbers.lost_histories += 1
                self._token = before = None
                self._numbers.problem = "events were lost"
                log.warning("events of the change stream were lost; flushing the cache: %s", error)
            except NotReplicated as error:
                if not self._warned:
                    log.warning(
                        "changes by other programs stay cached for cache.ttl_seconds: %s", error
                    )
                self._warned = True
                self._numbers.problem = "MongoDB is not a replica set"
                pause = _NOT_REPLICATED_PAUSE
            except ChangesUnavailable as error:
                log.warning("the change stream broke; reopening it: %s", error)
                self._numbers.problem = "broke, and is being reopened"
            except Exception:
                log.exception("the change stream failed; reopening it")
                self._numbers.problem = "broke, and is being reopened"
            if self._token != before:  # it had worked
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self._numbers.reopened += 1

    async def _forget(self, batch: Batch) -> None:
        """Try until each node removed the changed members, or its flush is recorded as pending.

        Flushes the cache if keys cannot be removed in several attempts. Raises _HandOver.
        """
        pause = _FIRST_PAUSE
        attempts = 0
        while True:
            everything = batch.everything or attempts >= _ATTEMPTS_AT_KEYS
            try:
                if everything:
                    forgotten = await self._cache.flush_cache()
                else:
                    forgotten = await self._cache.invalidate_members(batch.changes)
                if not forgotten:
                    self._consider_handing_over()
                break
            except _HandOver:
                raise
            except Exception:
                attempts += 1
                self._numbers.failed_removals += 1
                log.exception("cannot remove changed members from the cache; trying again")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._numbers.events += batch.events
        if batch.happened:
            lag = (datetime.now(UTC) - batch.happened).total_seconds()
            self._numbers.lag_seconds = max(lag, 0.0)

    async def _wait(self, tail: "asyncio.Task[None]", seconds: float) -> None:
        """Wait, at most until the stream ends or a node stops responding."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not tail.done() and not self._should_hand_over():
            left = end - loop.time()
            if left <= 0:
                return
            failure = asyncio.create_task(self._cache.wait_for_failure())
            try:
                await asyncio.wait([tail, failure], timeout=left, return_when=FIRST_COMPLETED)
            finally:
                failure.cancel()
            if failure.done() and not self._should_hand_over():
                # Many commands may fail: the next look is later.
                await asyncio.wait([tail], timeout=_LOOK_SECONDS)

    def _should_hand_over(self) -> bool:
        """True if a node does not respond: another process may reach it.

        This is not left to the first event that fails. A write of this process waits before its
        commit until all processes have noticed an outage that they share. If they do not share it,
        another process should follow the stream by then.
        """
        if self._cache.reaches_all_nodes():
            self._reached_all_nodes = True
            return False
        return self._reached_all_nodes or self._may_hand_over()

    def _may_hand_over(self) -> bool:
        """False if this process did so recently: then no process does better."""
        return asyncio.get_running_loop().time() - self._handed_over_at > _HANDS_OVER_EVERY

    def _consider_handing_over(self) -> None:
        """Raise _HandOver, unless this process did so recently."""
        self._numbers.failed_removals += 1
        if self._may_hand_over():
            raise _HandOver


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end, also when the caller is cancelled meanwhile."""
    task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled

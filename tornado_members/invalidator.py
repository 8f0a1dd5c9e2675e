"""Invalidation of the cache by the change stream, for changes by any program.

One process of the service is the leader. It reads the change stream of the members, invalidates the
cache for each event, and only then stores its position. After a crash, an event may be processed
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
from tornado_members.storage.change_reader import (
    ChangesUnavailable,
    HistoryLost,
    NotReplicated,
    Token,
)
from tornado_members.storage.changes import Batch, Change, MemberChanges
from tornado_members.storage.leader_election import LeaderElection
from tornado_members.ticks import seconds_to_tick

log = getLogger(__name__)

# The leader renews its lock, and stores its position, at each tick.
_RETRY_SECONDS = 0.2  # after a renewal that failed
_NODE_CHECK_SECONDS = 0.1  # between two checks of failing nodes by the leader
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before the stream is reopened
_NOT_REPLICATED_PAUSE = 60.0
_REST_SECONDS = 1.0  # after handing over: longer than another process takes to acquire the lock
_HAND_OVER_SECONDS = 10.0  # at least, between two times that this process hands over
# Seconds without progress by any process before they are reported. An idle replica set makes
# progress every ten seconds: the primary writes a no-op to its oplog (periodicNoopIntervalSecs).
STALLED_SECONDS = 60.0
_KEY_ATTEMPTS = 5  # to invalidate single members, before the whole cache is flushed instead


class _HandOver(Exception):
    """A node does not respond to this process, but may respond to another one."""


class InvalidatedCache(Protocol):
    """The methods of MemberDirectory that invalidate its cache."""

    async def invalidate_members(self, changes: Sequence[Change]) -> bool:
        """Remove entries that were read before these changes.

        Returns False if a node does not respond. A pending flush is then recorded: the node is
        emptied before it is read again. Raises DependencyUnavailable if it cannot be recorded.
        """

    async def flush_cache(self) -> bool:
        """Remove all entries. Returns and raises the same as invalidate_members."""

    def reaches_all_nodes(self) -> bool:
        """True if every node of the cache responds to this process."""

    async def wait_for_failure(self) -> None:
        """Return after the next command that a node does not respond to."""


@dataclass(slots=True)
class InvalidatorStatus:
    """The state of the change stream, and the counts of this process, for operators."""

    is_leader: bool = False
    events: int = 0
    lag_seconds: float | None = None  # from the last change to its invalidation, by two clocks
    reopened: int = 0
    lost_histories: int = 0
    failed_invalidations: int = 0
    stalled_seconds: float = 0.0  # since any process last advanced on the stream
    # Why changes by other programs may stay cached; None while a process follows the stream.
    problem: str | None = "is not followed yet"

    def current_problem(self) -> str | None:
        """Return why changes by other programs may stay cached; None if they do not."""
        if self.problem is None and self.stalled_seconds > STALLED_SECONDS:
            return f"has made no progress for {self.stalled_seconds:.0f} s"
        return self.problem


@asynccontextmanager
async def invalidating(
    changes: MemberChanges,
    election: LeaderElection,
    cache: InvalidatedCache,
    status: InvalidatorStatus,
) -> AsyncIterator[None]:
    """Take part in the election during the block; release the lock at its end."""
    invalidator = Invalidator(changes, election, cache, status)
    running = asyncio.create_task(invalidator.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        with suppress(DependencyUnavailable):  # the lock then expires
            await invalidator.release()


class Invalidator:
    """Waits for the lock, and follows the change stream while it holds it."""

    def __init__(
        self,
        changes: MemberChanges,
        election: LeaderElection,
        cache: InvalidatedCache,
        status: InvalidatorStatus,
    ) -> None:
        self._changes = changes
        self._election = election
        self._cache = cache
        self._status = status
        # The position: up to here each node was invalidated, or its flush is pending.
        self._token: Token | None = None
        self._handed_over_at = float("-inf")
        self._reached_all_nodes = False  # at any time since it became the leader
        self._warned = False

    async def run(self) -> None:
        """Run until cancelled, through all errors."""
        while True:
            if await self._attempt(self._election.acquire):
                self._token = self._election.progress
                log.info("acquired the leader lock of the change stream")
                await self._lead()
                self._status.problem = "its leader is unknown"
                log.warning("lost the leader lock of the change stream")
            now = asyncio.get_running_loop().time()
            resting = self._handed_over_at + _REST_SECONDS - now
            if not self._cache.reaches_all_nodes():  # a process that does should be the leader
                resting = max(resting, _REST_SECONDS)
            await asyncio.sleep(max(seconds_to_tick(now), resting))

    async def release(self) -> None:
        """Release the lock, so that another process continues. Raises DependencyUnavailable."""
        if self._election.is_leader:
            await self._election.release(self._token)

    async def _lead(self) -> None:
        """Tail the stream until the lock is lost."""
        self._status.is_leader = True
        self._reached_all_nodes = False
        tail = asyncio.create_task(self._tail())
        try:
            while self._election.is_leader and not tail.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._election.valid_until):
                        renewed = await self._attempt(lambda: self._election.renew(self._token))
                        now = asyncio.get_running_loop().time()
                        await self._wait(tail, seconds_to_tick(now) if renewed else _RETRY_SECONDS)
                if self._should_hand_over():
                    break
        finally:
            self._status.is_leader = False
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
            await self._election.release(self._token)

    async def _attempt(self, claim: Callable[[], Awaitable[bool]]) -> bool:
        try:
            taken = await claim()
        except DependencyUnavailable:  # requests report it
            self._status.problem = "its leader is unknown: MongoDB does not respond"
            return False
        except Exception:  # MongoDB refuses it, for example without the permission
            log.exception("cannot acquire the leader lock of the change stream")
            self._status.problem = "its leader lock cannot be acquired"
            return False
        self._measure_progress()
        if not taken:  # another process holds it
            self._status.problem = None
        return taken

    def _measure_progress(self) -> None:
        """Measure how long no process has advanced on the stream; log when it counts as stalled."""
        progressed_at = self._election.progressed_at
        if progressed_at is None:
            return
        before = self._status.stalled_seconds
        seconds = asyncio.get_running_loop().time() - progressed_at
        self._status.stalled_seconds = seconds
        if before <= STALLED_SECONDS < seconds:
            log.warning("the change stream has made no progress for %.0f s", seconds)

    async def _tail(self) -> None:
        """Read the stream, and reopen it after errors, until another process should read it."""
        pause = _FIRST_PAUSE
        while True:
            before = self._token
            try:
                async with aclosing(self._changes.since(self._token)) as batches:
                    async for batch in batches:
                        await self._invalidate(batch)
                        self._status.problem = None
                        self._token = batch.token
                log.info("the members' collection was dropped, renamed or replaced")
            except _HandOver:
                log.warning(
                    "a node does not respond to invalidations; handing over to another process"
                )
                self._status.problem = "a node of the cache does not respond"
                return
            except HistoryLost as error:
                self._status.lost_histories += 1
                self._token = before = None
                self._status.problem = "events were lost"
                log.warning("events of the change stream were lost; flushing the cache: %s", error)
            except NotReplicated as error:
                if not self._warned:
                    log.warning(
                        "changes by other programs stay cached for cache.ttl_seconds: %s", error
                    )
                self._warned = True
                self._status.problem = "MongoDB is not a replica set"
                pause = _NOT_REPLICATED_PAUSE
            except ChangesUnavailable as error:
                log.warning("the change stream broke; reopening it: %s", error)
                self._status.problem = "broke, and is being reopened"
            except Exception:
                log.exception("the change stream failed; reopening it")
                self._status.problem = "broke, and is being reopened"
            if self._token != before:  # it has advanced since it was opened
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self._status.reopened += 1

    async def _invalidate(self, batch: Batch) -> None:
        """Retry until each node has removed the changed members, or its flush is pending.

        Flushes the whole cache after several failed attempts. Raises _HandOver.
        """
        pause = _FIRST_PAUSE
        attempts = 0
        while True:
            everything = batch.everything or attempts >= _KEY_ATTEMPTS
            try:
                if everything:
                    is_complete = await self._cache.flush_cache()
                else:
                    is_complete = await self._cache.invalidate_members(batch.changes)
                if not is_complete:
                    self._hand_over_if_allowed()
                break
            except _HandOver:
                raise
            except Exception:
                attempts += 1
                self._status.failed_invalidations += 1
                log.exception("cannot remove changed members from the cache; retrying")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._status.events += batch.events
        if batch.happened:
            lag = (datetime.now(UTC) - batch.happened).total_seconds()
            self._status.lag_seconds = max(lag, 0.0)

    async def _wait(self, tail: "asyncio.Task[None]", seconds: float) -> None:
        """Wait, at most until the stream ends or a node stops responding."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not tail.done() and not self._should_hand_over():
            failure = asyncio.create_task(self._cache.wait_for_failure())
            try:
                done, _ = await asyncio.wait(
                    [tail, failure], timeout=end - loop.time(), return_when=FIRST_COMPLETED
                )
            finally:
                failure.cancel()
            if not done:
                return
            if failure in done and not self._should_hand_over():
                # Many commands may fail at once: wait before the next check.
                await asyncio.wait([tail], timeout=_NODE_CHECK_SECONDS)

    def _should_hand_over(self) -> bool:
        """True if a node does not respond: another process may reach it.

        The leader does not wait for the first invalidation that fails. A write of this process
        waits before its commit until all processes have noticed an outage that they share. If they
        do not share it, another process should follow the stream by then.
        """
        if self._cache.reaches_all_nodes():
            self._reached_all_nodes = True
            return False
        return self._reached_all_nodes or self._may_hand_over()

    def _may_hand_over(self) -> bool:
        """False if this process handed over recently: then no other process reaches the node."""
        return asyncio.get_running_loop().time() - self._handed_over_at > _HAND_OVER_SECONDS

    def _hand_over_if_allowed(self) -> None:
        """Raise _HandOver, unless this process handed over recently."""
        self._status.failed_invalidations += 1
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

"""What changed in MongoDB, by whatever hand, is removed from the cache.

One process of all does it: who holds the lease reads the members' change stream, has each change
forgotten, and only then counts it as done. So after a crash something may be removed twice, and
nothing is left out.
"""

import asyncio
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

log = getLogger(__name__)

_CLAIM_SECONDS = 0.25  # between two attempts to take the lease
_RENEW_SECONDS = 1.0  # between two renewals, each of which notes how far we got
_RETRY_SECONDS = 0.2  # after a renewal that failed
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before the stream is opened again
_NOT_REPLICATED_PAUSE = 60.0
_REST_SECONDS = 0.75  # after handing over: longer than another one takes to ask
_HANDS_OVER_EVERY = 10.0  # seconds, at most: should nobody do better, the stream has to go on
# Seconds without progress, by whichever process, before it is reported. An idle replica set makes
# progress every ten seconds: the primary writes a no-op to its oplog (periodicNoopIntervalSecs).
STANDSTILL_SECONDS = 60.0
_ATTEMPTS_AT_KEYS = 5  # before everything is forgotten in place of some keys that cannot be


class _HandOver(Exception):
    """A node cannot be told of a change from here. Perhaps it can from elsewhere."""


class Forgets(Protocol):
    """What has the cache: MemberDirectory."""

    async def invalidate_members(self, changes: Sequence[Change]) -> bool:
        """Have nothing that was read before these changes.

        False if a node does not answer. It is then on record that the node must be emptied before
        it is read. Raises DependencyUnavailable if that could not be recorded.
        """

    async def flush_cache(self) -> bool:
        """Have nothing that was read before now. False, and DependencyUnavailable, as above."""


@dataclass(slots=True)
class InvalidatorNumbers:
    """How it goes, for operators; counts are of this process."""

    is_holder: bool = False
    events: int = 0
    lag_seconds: float | None = None  # from the last event to its removal, by two clocks
    reopened: int = 0
    lost_histories: int = 0
    failed_removals: int = 0
    standstill_seconds: float = 0.0  # since the stream was last followed further, by any process
    # Why changes may go unnoticed; None while somebody follows the stream.
    problem: str | None = "nobody has followed it yet"

    def reason_for_concern(self) -> str | None:
        """Return why changes may go unnoticed; None while the stream is followed."""
        if self.problem is None and self.standstill_seconds > STANDSTILL_SECONDS:
            return f"has made no progress for {self.standstill_seconds:.0f} s"
        return self.problem


@asynccontextmanager
async def invalidating(
    changes: MemberChanges, lease: LeaderElection, cache: Forgets, numbers: InvalidatorNumbers
) -> AsyncIterator[None]:
    """Take part for as long as the block lasts; at its end the lease is another's to take."""
    invalidator = Invalidator(changes, lease, cache, numbers)
    running = asyncio.create_task(invalidator.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        with suppress(DependencyUnavailable):  # it then runs out by itself
            await invalidator.give_back()


class Invalidator:
    """Waits for the lease, and while it is ours, sees to it that changes are forgotten."""

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
        self._token: Token | None = None  # each node was told up to here, or its debt is recorded
        self._handed_over_at = float("-inf")
        self._warned = False

    async def run(self) -> None:
        """Go on until cancelled, whatever happens."""
        while True:
            if await self._attempt(self._lease.acquire):
                self._token = self._lease.progress
                log.info("this process now removes from the cache what changes in MongoDB")
                await self._hold()
                self._numbers.problem = "it is not known who follows it"
                log.warning("this process has the lease to remove changes from the cache no more")
            resting = self._handed_over_at + _REST_SECONDS - asyncio.get_running_loop().time()
            await asyncio.sleep(max(_CLAIM_SECONDS, resting))

    async def give_back(self) -> None:
        """Let another process go on at once. Raises DependencyUnavailable."""
        if self._lease.is_leader:
            await self._lease.release(self._token)

    async def _hold(self) -> None:
        """Tail the stream until the lease is lost."""
        self._numbers.is_holder = True
        tail = asyncio.create_task(self._tail())
        try:
            while self._lease.is_leader and not tail.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._lease.valid_until):
                        renewed = await self._attempt(lambda: self._lease.renew(self._token))
                        await asyncio.wait(
                            [tail], timeout=_RENEW_SECONDS if renewed else _RETRY_SECONDS
                        )
        finally:
            self._numbers.is_holder = False
            handed_over = tail.done()
            await _end(tail)
        if handed_over:
            self._handed_over_at = asyncio.get_running_loop().time()
            with suppress(DependencyUnavailable):
                await self._lease.release(self._token)

    async def _attempt(self, claim: Callable[[], Awaitable[bool]]) -> bool:
        try:
            taken = await claim()
        except DependencyUnavailable:  # whoever is asking for a member is told
            self._numbers.problem = "MongoDB does not say who follows it"
            return False
        except Exception:  # a refusal, such as for want of a permission
            log.exception("the lease to remove changes from the cache cannot be had")
            self._numbers.problem = "its lease cannot be had"
            return False
        self._note_standstill()
        if not taken:  # it is another's
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
        """Read the stream again and again, from where it broke; until another should do it."""
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
                log.warning("a node cannot be told of changes from here; perhaps from elsewhere")
                self._numbers.problem = "a node of the cache cannot be told"
                return
            except HistoryLost as error:
                self._numbers.lost_histories += 1
                self._token = before = None
                self._numbers.problem = "changes were lost"
                log.warning("changes were lost, so all of the cache is forgotten: %s", error)
            except NotReplicated as error:
                if not self._warned:
                    log.warning("what others change in MongoDB stays cached for a while: %s", error)
                self._warned = True
                self._numbers.problem = "MongoDB is no replica set"
                pause = _NOT_REPLICATED_PAUSE
            except ChangesUnavailable as error:
                log.warning("the change stream broke and is opened again: %s", error)
                self._numbers.problem = "it broke, and is opened again"
            except Exception:
                log.exception("the change stream is opened again")
                self._numbers.problem = "it broke, and is opened again"
            if self._token != before:  # it had been well
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            self._numbers.reopened += 1

    async def _forget(self, batch: Batch) -> None:
        """Try until each node forgot the changes, or it is on record that one did not.

        What cannot be removed by its keys is removed with everything else. Raises _HandOver.
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
                log.exception("changes could not be removed from the cache")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._numbers.events += batch.events
        if batch.happened:
            lag = (datetime.now(UTC) - batch.happened).total_seconds()
            self._numbers.lag_seconds = max(lag, 0.0)

    def _consider_handing_over(self) -> None:
        """Raises _HandOver, unless that was tried a moment ago: the node is away for everybody."""
        self._numbers.failed_removals += 1
        if asyncio.get_running_loop().time() - self._handed_over_at > _HANDS_OVER_EVERY:
            raise _HandOver


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and see it end; being cancelled meanwhile waits for that."""
    task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled

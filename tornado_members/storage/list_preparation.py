"""Prepares lists while the service serves: their indexes, and the fields that find members.

    NAMED ──create indexes──> INDEXED ──fill in what is missing──> FILLED_IN ──every ten seconds──┐
                                                                       └───────────fill in────────┘

Each process creates the indexes: MongoDB lets concurrent requests wait for one build. One process
of all fills in, by a lock that another process takes over if that one dies. The work needs no
record of its progress, because the documents that are left are found by an index.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from logging import getLogger
from typing import Final

from pymongo.errors import PyMongoError

from tornado_members.errors import DependencyUnavailable
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.folding import Folding
from tornado_members.storage.indexes import Indexes
from tornado_members.storage.leader_election import LeaderElection
from tornado_members.storage.list_indexes import list_indexes
from tornado_members.storage.list_readiness import ListReadiness, Stage
from tornado_members.storage.mongo import Mongo
from tornado_members.storage.outages import describe_failure

log = getLogger(__name__)

START_SECONDS: Final = 1.0  # a start waits this long, so that few services start unprepared
_SCAN_SECONDS: Final = 10.0  # between two scans
_LEAST_REST: Final = 20  # times the duration of a scan, so that scans take 5 % of the time at most
_RENEW_SECONDS: Final = 1.0  # a third of the time for which the lock is valid
_LOCK_POLL_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 1.0  # after an outage of MongoDB
_FAULT_RETRY_SECONDS: Final = 60.0  # after an error that an operator has to correct


class ListPreparation:
    """Prepares the lists of this process, and reports the progress."""

    def __init__(self, mongo: Mongo, codec: MemberCodec) -> None:
        self.readiness = ListReadiness(Stage.NAMED)
        self.folding = Folding(mongo, codec)
        self._wanted = list_indexes(codec.fields)
        self._indexes = Indexes(mongo, "members")
        self._lock = LeaderElection(mongo, "list-preparation")
        self._fault: str | None = None

    def detail(self) -> str | None:
        """Describe what is left to do; None if all lists are complete."""
        if self._fault is not None:
            return f"cannot be prepared: {self._fault}"
        if self.readiness.stage == Stage.NAMED:
            return "their indexes are being created"
        if self.readiness.stage == Stage.INDEXED:
            progress = self._lock.last_progress or {}
            done, total = progress.get("filled_in", 0), progress.get("total", 0)
            return f"{done} of {total} members have the fields that filters use"
        return None

    async def prepare(self) -> None:
        """Create missing indexes, and fill in what members lack. Another process may do that.

        Raises DependencyUnavailable, and pymongo.errors.OperationFailure if an index exists with
        other options.
        """
        await self._indexes.create(self._wanted)
        self._reached(Stage.INDEXED)
        await self.folding.declare()
        while not await self._fill_in():  # noqa: ASYNC110  # of another process, in MongoDB
            await asyncio.sleep(_LOCK_POLL_SECONDS)
        self._reached(Stage.FILLED_IN)
        self._fault = None

    async def run(self, first: asyncio.Task[None]) -> None:
        """Await the first preparation, repeat it until it succeeds, and scan from then on."""
        attempt = first
        while True:
            began = time.monotonic()
            try:
                await attempt
            except DependencyUnavailable:  # requests for members report it, too
                pause = _RETRY_SECONDS
            except Exception as error:  # noqa: BLE001  # an operator has to correct it
                pause = _FAULT_RETRY_SECONDS
                self._note(error)
            else:
                pause = max(_SCAN_SECONDS, _LEAST_REST * (time.monotonic() - began))
            await asyncio.sleep(pause)
            is_prepared = self.readiness.stage == Stage.FILLED_IN
            attempt = asyncio.create_task(self._scan() if is_prepared else self.prepare())

    async def _scan(self) -> None:
        await self._fill_in()
        self._fault = None

    def _reached(self, stage: Stage) -> None:
        self.readiness.stage = max(self.readiness.stage, stage)

    def _note(self, error: Exception) -> None:
        if self._fault is None:
            log.error("lists cannot be prepared", exc_info=error)
        is_refusal = isinstance(error, PyMongoError)
        self._fault = describe_failure(error) if is_refusal else type(error).__name__

    async def _fill_in(self) -> bool:
        """Fill in what members lack. False if another process is doing so."""
        if not await self.folding.is_lacking():
            return True
        if not await self._lock.acquire():
            return False
        async with self._renewing():
            return await self.folding.fill_in(lambda: self._lock.is_leader)

    @asynccontextmanager
    async def _renewing(self) -> AsyncIterator[None]:
        """Keep the lock during the block, with the progress for other processes."""
        renewing = asyncio.create_task(self._keep_renewing())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with suppress(DependencyUnavailable, PyMongoError):
                await self._lock.release(self.folding.progress())

    async def _keep_renewing(self) -> None:
        while True:
            with suppress(DependencyUnavailable, PyMongoError):
                await self._lock.renew(self.folding.progress())
            await asyncio.sleep(_RENEW_SECONDS)


@asynccontextmanager
async def preparing_lists(
    preparation: ListPreparation, max_wait: float | None = START_SECONDS
) -> AsyncIterator[None]:
    """Prepare lists during the block, which begins after `max_wait` seconds at the latest.

    None waits until lists are prepared. Raises what `ListPreparation.prepare` raises within that
    time.
    """
    first = asyncio.create_task(preparation.prepare())
    tasks = [first]
    try:
        await asyncio.wait(tasks, timeout=max_wait)
        if first.done():
            first.result()
        else:
            log.info("lists are prepared while the service serves; some are 503 until then")
        tasks.append(asyncio.create_task(preparation.run(first)))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""An import: rows in as they come, batches to the loader, results out as they are known."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from logging import getLogger

from tornado_members.bulk.loader import BATCH, Loader, Outcome
from tornado_members.bulk.results import encode_end, encode_outcome
from tornado_members.bulk.rows import Refusal, Rows
from tornado_members.errors import DependencyUnavailable, Problem, WriteConflict
from tornado_members.model.member import MemberDraft

log = getLogger(__name__)

Checked = tuple[int, MemberDraft | Refusal]  # the line of a row, and what is in it

_STRIDE = 25  # rows that are checked before others have their turn: some two milliseconds
_SLICE = 4096  # bytes that are cut into rows before others have their turn
_LONGEST_PAUSE = 1.0  # seconds between two attempts at a batch


class ImportJob:
    """While one batch is loaded the next one is read. `async with` runs it.

    So a fast sender has batches of 500, and a slow one has each result at once.
    """

    def __init__(
        self,
        rows: Rows,
        loader: Loader,
        tell: Callable[[bytes], Awaitable[None]],
        *,
        patience: float,
    ) -> None:
        """`tell` takes results, and may have whoever loads wait.

        `patience` is for how many seconds a batch is tried again when MongoDB is away.
        """
        self._rows = rows
        self._loader = loader
        self._tell = tell
        self._patience = patience
        self._batch: list[Checked] = []
        self._changed = asyncio.Event()  # the batch, or whether there will be another
        self._taken = asyncio.Event()  # there is room in the batch
        self._is_over = False  # no more rows come
        self._is_abandoned = False
        self._line = 0  # on which the last row whose result is known began
        self.failure: Exception | None = None
        self._loading = asyncio.create_task(self._load())

    @property
    def is_running(self) -> bool:
        """Whether more rows make sense."""
        return not self._loading.done()

    async def push(self, data: bytes) -> None:
        """More of the source; returns when more can be taken. Raises UnreadableFile."""
        for start in range(0, len(data), _SLICE):
            if self._is_over or not self.is_running:
                return
            self._rows.push(data[start : start + _SLICE])
            await self._check_ready()
            await asyncio.sleep(0)

    async def end(self) -> None:
        """The source is complete; returns when all of it is loaded. Raises UnreadableFile."""
        self._rows.close()
        await self._check_ready()
        self.stop()
        await self.ended()

    async def fail(self, problem: Problem) -> None:
        """The source breaks off here: what is there is loaded, and the problem is the last line."""
        self.stop()
        await self.ended()
        if self.failure is None:
            self.failure = problem
            await self._tell(encode_end(self._line + 1, problem))

    def stop(self) -> None:
        """The batch that is under way is the last one, with the rows that wait to be in it."""
        self._is_over = True
        self._changed.set()

    def abandon(self) -> None:
        """Nobody wants to know any more: the batch under way is ended, and nothing else begun."""
        self._is_abandoned = True
        self._batch.clear()
        self.stop()

    async def ended(self) -> None:
        """Return when nothing is under way any more."""
        await asyncio.wait([self._loading])

    async def _check_ready(self) -> None:
        """Check rows, which takes the most time of all, in turns with everybody else."""
        for count, row in enumerate(self._rows.ready(), 1):
            if self._is_over or not self.is_running:
                return
            self._batch.append((row.line, row.content))
            self._changed.set()
            if count % _STRIDE == 0:
                await asyncio.sleep(0)
            if len(self._batch) >= BATCH:
                self._taken.clear()
                await self._taken.wait()

    async def _load(self) -> None:
        batch: list[Checked] = []
        try:
            while await self._has_rows():
                batch, self._batch = self._batch, []
                self._taken.set()
                outcomes = iter(await self._load_patiently(batch))
                results = [
                    encode_outcome(line, row if isinstance(row, Refusal) else next(outcomes))
                    for line, row in batch
                ]
                self._line = batch[-1][0]
                await self._tell(b"".join(results))
        except Exception as error:
            self.failure = error
            is_known = isinstance(error, Problem)
            log.log(
                logging.WARNING if is_known else logging.ERROR,
                "an import is broken off: %s",
                error,
                exc_info=None if is_known else error,
            )
            problem = error if isinstance(error, Problem) else None
            await self._tell(encode_end(batch[0][0] if batch else self._line + 1, problem))
        finally:
            self._taken.set()

    async def _has_rows(self) -> bool:
        while not self._batch and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._batch)

    async def _load_patiently(self, batch: list[Checked]) -> list[Outcome]:
        """Raises DependencyUnavailable, WriteConflict, once patience has run out."""
        drafts = [row for _, row in batch if isinstance(row, MemberDraft)]
        if not drafts:
            return []
        deadline = time.monotonic() + self._patience
        pause = 0.05
        while True:
            try:
                return await self._loader.load(drafts)
            except (DependencyUnavailable, WriteConflict):
                if time.monotonic() + pause > deadline or self._is_abandoned:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

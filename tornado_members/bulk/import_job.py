"""An import: reads rows as bytes arrive, loads them in batches, and writes their results."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from logging import getLogger

from tornado_members.bulk.loader import BATCH, Loader, Outcome
from tornado_members.bulk.pipeline import BatchPipeline
from tornado_members.bulk.results import ResultWriter
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.bulk.sources import ByteQueue
from tornado_members.errors import DependencyUnavailable, InternalError, Problem, WriteConflict
from tornado_members.model.member import MemberDraft

log = getLogger(__name__)

# A request of another client takes several turns of the event loop. After each slice, the import
# therefore pauses for longer than one turn.
_SLICE_SECONDS = 0.002  # of reading rows
_PAUSE_SECONDS = 0.001
_STRIDE = 100  # results that are encoded before other tasks may run
_LONGEST_PAUSE = 1.0  # seconds between two attempts at a batch


class ImportJob:
    """Loads some batches while it reads the next one.

    A fast sender gets batches of 500, and a slow one gets each result at once.
    """

    def __init__(
        self,
        source: ByteQueue,
        rows: Iterator[Row | None],
        loader: Loader,
        results: ResultWriter,
        write: Callable[[bytes], Awaitable[None]],
        *,
        retry_seconds: float,
    ) -> None:
        """`rows` are read from `source`. `write` sends results, and may make the loader wait.

        `retry_seconds` is how long a batch is tried again while MongoDB is unavailable.
        """
        self._source = source
        self._rows = rows
        self._loader = loader
        self._pipeline = BatchPipeline(self._load_with_retries)
        self._results = results
        self._write = write
        self._retry_seconds = retry_seconds
        self._batch: list[Row] = []
        self._changed = asyncio.Event()  # a batch has rows, or no more rows will be read
        self._filled = asyncio.Event()  # the same for a batch that is full
        self._taken = asyncio.Event()  # there is space in the batch
        self._is_over = False  # no more rows will be read
        self._is_abandoned = False
        self._is_complete = False  # the whole source was read
        self._problem: Problem | None = None  # that ends the source early
        self._has_rows = False
        self._line = 0  # of the last row with a result
        self.failure: Exception | None = None
        self._loading = asyncio.create_task(self._load())

    @property
    def is_running(self) -> bool:
        """True while more rows can be loaded."""
        return not self._loading.done()

    async def push(self, data: bytes) -> None:
        """Read rows from these bytes; return when there is space for more.

        Raises a Problem if the file cannot be read and none of it was loaded.
        """
        if not self._is_over and self.is_running:
            self._source.push(data)
            await self._read()

    async def end(self) -> None:
        """Read the rest, and return when everything is loaded. Raises what `push` raises."""
        self._source.close()
        await self._read()
        self._is_complete = True
        self.stop()
        await self.ended()

    async def fail(self, problem: Problem) -> None:
        """Load the rows that were read, and write the problem as the last line."""
        self._problem = self._problem or problem
        self.stop()
        await self.ended()

    def stop(self) -> None:
        """Load the rows that were read, and no others."""
        self._is_over = True
        self._changed.set()
        self._filled.set()

    def abandon(self) -> None:
        """Complete the batch in progress, and begin no other."""
        self._is_abandoned = True
        self._batch.clear()
        self.stop()

    async def ended(self) -> None:
        """Wait until no batch is in progress."""
        await asyncio.wait([self._loading])

    async def _read(self) -> None:
        """Read the rows that are complete, in slices of time."""
        try:
            await self._read_slices()
        except Problem as problem:
            if not self._has_rows:
                raise
            await self.fail(problem)
        except Exception as error:
            log.exception("import failed while reading rows")
            if not self._has_rows:
                raise InternalError from error
            await self.fail(InternalError())

    async def _read_slices(self) -> None:
        slice_end = time.perf_counter() + _SLICE_SECONDS
        for row in self._rows:
            if self._is_over or not self.is_running:
                return
            if row is not None:
                self._has_rows = True
                self._batch.append(row)
                self._changed.set()
            elif self._source.is_starved:
                return
            if len(self._batch) >= BATCH:
                self._filled.set()
                self._taken.clear()
                await self._taken.wait()
            elif time.perf_counter() > slice_end:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                continue
            slice_end = time.perf_counter() + _SLICE_SECONDS

    async def _load(self) -> None:
        try:
            while self._pipeline or await self._has_batch():
                if self._may_start() and self._pipeline.start(self._batch):
                    self._batch = []
                    self._filled.clear()
                    self._taken.set()
                elif await self._is_first_done():
                    await self._report_first()
            await self._write_last_line()
        except Exception as error:
            self.failure = error
            is_problem = isinstance(error, Problem)
            log.log(
                logging.WARNING if is_problem else logging.ERROR,
                "import aborted: %s",
                error,
                exc_info=None if is_problem else error,
            )
            problem = error if isinstance(error, Problem) else InternalError()
            line = self._pipeline.first_line or self._line + 1
            await self._pipeline.settle()
            await self._write(self._results.end(line, problem))
        finally:
            self._taken.set()

    def _may_start(self) -> bool:
        """True if a batch may begin: with any rows if no other is in progress, else a full one."""
        if not self._pipeline:
            return bool(self._batch)
        return len(self._batch) >= BATCH or (self._is_over and bool(self._batch))

    async def _is_first_done(self) -> bool:
        """Wait until the oldest batch is loaded, or another one may begin. True for the first."""
        first = self._pipeline.first
        if self._pipeline.has_room and not self._is_over and len(self._batch) < BATCH:
            filled = asyncio.ensure_future(self._filled.wait())
            await asyncio.wait([first, filled], return_when=asyncio.FIRST_COMPLETED)
            filled.cancel()
        else:
            await asyncio.wait([first])
        return first.done()

    async def _report_first(self) -> None:
        """Write the results of the oldest batch."""
        rows, loaded = await self._pipeline.finish_first()
        outcomes, results = iter(loaded), []
        for count, row in enumerate(rows, 1):
            if count % _STRIDE == 0:
                await asyncio.sleep(0)
            content = row.content
            outcome = content if isinstance(content, Refusal) else next(outcomes)
            results.append(self._results.outcome(row, outcome))
        self._line = rows[-1].line
        await self._write(b"".join(results))

    async def _write_last_line(self) -> None:
        if self._problem:
            self.failure = self._problem
            await self._write(self._results.end(self._line + 1, self._problem))
        elif self._is_complete and not self._is_abandoned:
            await self._write(self._results.summary())

    async def _has_batch(self) -> bool:
        while not self._batch and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._batch)

    async def _load_with_retries(self, drafts: list[MemberDraft]) -> list[Outcome]:
        """Raises DependencyUnavailable or WriteConflict after the time for retries."""
        deadline = time.monotonic() + self._retry_seconds
        pause = 0.05
        while True:
            try:
                return await self._loader.load(drafts)
            except (DependencyUnavailable, WriteConflict):
                if time.monotonic() + pause > deadline or self._is_abandoned:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

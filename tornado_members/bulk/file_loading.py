"""Loads opened files of members one after another, with a progress bar and a report of each."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from tornado_members.bulk.dry_run import DryRunDirectory
from tornado_members.bulk.loader import BATCH, Directory, Loader, OnConflict
from tornado_members.bulk.pipeline import BatchPipeline
from tornado_members.bulk.report import Report, print_above_bar, print_result
from tornado_members.bulk.rows import Refusal, Row
from tornado_members.directory import MemberDirectory
from tornado_members.model.history import Actor

_STRIDE = 100  # rows that are processed before other tasks may run


@dataclass(slots=True)
class OpenFile:
    """A file whose header was read."""

    path: Path
    stream: BinaryIO
    rows: Iterator[Row | None]
    report: Report


async def load_files(
    directory: MemberDirectory,
    files: Sequence[OpenFile],
    on_conflict: OnConflict,
    actor: Actor,
    *,
    dry_run: bool,
) -> None:
    """Load the files one after another. A name in two of them is a duplicate, as within a file."""
    target: Directory = directory
    with ExitStack() as stack:
        if dry_run:
            target = dry_run_directory = DryRunDirectory(directory, lambda _: True)
            stack.callback(dry_run_directory.close)
            print_above_bar("dry run: no member is changed; the counts are those of a real run")
        loader = Loader(target, on_conflict, actor)
        for file in files:
            prefix = f"{file.path}: " if len(files) > 1 else ""
            try:
                await _load_rows(loader, file)
            except BaseException:
                print_result(prefix + file.report.summary(complete=False))
                raise
            print_result(prefix + file.report.summary(complete=True))


async def _load_rows(loader: Loader, file: OpenFile) -> None:
    try:
        size = os.fstat(file.stream.fileno()).st_size or None  # a pipe has none
    except OSError:
        size = None
    done = 0
    pipeline = BatchPipeline(loader.load)

    async def report_first() -> None:
        nonlocal done
        done += await _report_first(pipeline, file.report)
        bar.set_postfix_str(f"{done:,} rows", refresh=False)

    with tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        try:
            async for batch in _batches(file.rows):
                while not pipeline.start(batch):
                    await report_first()
                if size:
                    bar.update(file.stream.tell() - bar.n)
            while pipeline:
                await report_first()
        except asyncio.CancelledError:  # Ctrl-C: the batches in progress will be loaded
            while pipeline:
                await report_first()
            raise
        finally:
            await pipeline.settle()


async def _report_first(pipeline: BatchPipeline, report: Report) -> int:
    """Report the results of the oldest batch; return the number of its rows."""
    rows, loaded = await pipeline.finish_first()
    outcomes = iter(loaded)
    for number, row in enumerate(rows, 1):
        if number % _STRIDE == 0:
            await asyncio.sleep(0)
        report.note(row, row.content if isinstance(row.content, Refusal) else next(outcomes))
    return len(rows)


async def _batches(rows: Iterable[Row | None]) -> AsyncIterator[list[Row]]:
    """Yield rows in batches, and let the tasks of batches in progress run meanwhile."""
    batch: list[Row] = []
    for row in rows:
        if row is None:
            continue
        batch.append(row)
        if len(batch) % _STRIDE == 0:
            await asyncio.sleep(0)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch

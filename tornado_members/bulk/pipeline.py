"""Loads several batches of rows at the same time, and returns their outcomes in order.

A batch spends most of its time waiting for MongoDB and the cache. Meanwhile, other batches proceed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tornado_members.bulk.loader import Outcome
from tornado_members.bulk.rows import Row
from tornado_members.model.member import MemberDraft

_MOST_BATCHES: Final = 4


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: Sequence[Row]
    names: frozenset[str]
    task: asyncio.Task[list[Outcome]]


class BatchPipeline:
    """The batches in progress, in the order of the source.

    Batches that share a name are loaded one after another, so that the first row of a name is the
    one that is loaded.
    """

    def __init__(self, load: Callable[[list[MemberDraft]], Awaitable[list[Outcome]]]) -> None:
        """`load` loads one batch, such as Loader.load."""
        self._load = load
        self._batches: deque[_Batch] = deque()

    def __len__(self) -> int:
        """Return the number of batches in progress."""
        return len(self._batches)

    @property
    def has_room(self) -> bool:
        """True if another batch may begin."""
        return len(self._batches) < _MOST_BATCHES

    @property
    def first(self) -> asyncio.Task[list[Outcome]]:
        """The batch whose outcomes are returned next."""
        return self._batches[0].task

    @property
    def first_line(self) -> int | None:
        """The line at which the oldest batch begins; None if no batch is in progress."""
        return self._batches[0].rows[0].line if self._batches else None

    def start(self, rows: Sequence[Row]) -> bool:
        """Begin to load a batch. False if that has to wait until another batch is finished."""
        if not self.has_room:
            return False
        drafts = [row.content for row in rows if isinstance(row.content, MemberDraft)]
        names = frozenset([draft.name for draft in drafts])
        if not all(names.isdisjoint(batch.names) for batch in self._batches):
            return False
        task = asyncio.create_task(self._run(drafts))
        self._batches.append(_Batch(rows, names, task))
        return True

    async def finish_first(self) -> tuple[Sequence[Row], list[Outcome]]:
        """Return the oldest batch and an outcome for each of its drafts, when it is loaded.

        Raises what `load` raises; the batch is then still the first one.
        """
        batch = self._batches[0]
        outcomes = await asyncio.shield(batch.task)
        self._batches.popleft()
        return batch.rows, outcomes

    async def settle(self) -> None:
        """Return when no batch is in progress. Their outcomes are lost."""
        if self._batches:
            await asyncio.wait([batch.task for batch in self._batches])
        while self._batches:
            task = self._batches.popleft().task
            if not task.cancelled():
                task.exception()  # else asyncio logs that it was never retrieved

    async def _run(self, drafts: list[MemberDraft]) -> list[Outcome]:
        return await self._load(drafts) if drafts else []

"""The batcher sends the items of one turn of the loop together, after the last was added."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from tornado_members.lease_cache.coalescing import Batcher


class Doubler:
    """Doubles each number, once it may answer."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.is_called = asyncio.Event()
        self.may_return = asyncio.Event()
        self.may_return.set()
        self.error: BaseException | None = None

    async def double(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append([*numbers])
        self.is_called.set()
        await self.may_return.wait()
        if self.error:
            raise self.error
        return [2 * number for number in numbers]


async def test_batcher_sends_items_of_one_turn_together() -> None:
    doubler = Doubler()
    batcher = Batcher(doubler.double)
    answers = await asyncio.gather(*(batcher.submit([i, i + 100]) for i in range(5)))
    assert [[*answer] for answer in answers] == [[2 * i, 2 * i + 200] for i in range(5)]
    assert doubler.batches == [[0, 100, 1, 101, 2, 102, 3, 103, 4, 104]]


async def test_batcher_adds_nothing_to_a_batch_in_flight() -> None:
    doubler = Doubler()
    batcher = Batcher(doubler.double)
    doubler.may_return.clear()
    first = asyncio.create_task(batcher.submit([1]))
    await doubler.is_called.wait()
    doubler.is_called.clear()
    second = asyncio.create_task(batcher.submit([1]))
    await doubler.is_called.wait()
    doubler.may_return.set()
    assert [[*await first], [*await second]] == [[2], [2]]
    assert doubler.batches == [[1], [1]]


async def test_batcher_answers_other_callers_when_one_is_cancelled() -> None:
    doubler = Doubler()
    batcher = Batcher(doubler.double)
    doubler.may_return.clear()
    tasks = [asyncio.create_task(batcher.submit([i])) for i in range(3)]
    await doubler.is_called.wait()
    tasks[0].cancel()
    doubler.may_return.set()
    assert [[*await task] for task in tasks[1:]] == [[2], [4]]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert doubler.batches == [[0, 1, 2]]


async def test_batcher_raises_an_error_in_every_caller() -> None:
    doubler = Doubler()
    batcher = Batcher(doubler.double)
    doubler.error = LookupError("gone")
    results = await asyncio.gather(*(batcher.submit([i]) for i in range(3)), return_exceptions=True)
    assert [repr(result) for result in results] == ["LookupError('gone')"] * 3
    doubler.error = None
    assert [*await batcher.submit([4])] == [8]


async def test_batcher_cancels_callers_of_a_cancelled_batch() -> None:
    doubler = Doubler()
    batcher = Batcher(doubler.double)
    doubler.may_return.clear()
    waiting = asyncio.create_task(batcher.submit([1]))
    await doubler.is_called.wait()
    (task,) = batcher._tasks
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_batcher_runs_a_batch_outside_its_callers_contexts() -> None:
    caller: ContextVar[str] = ContextVar("caller", default="no caller")
    seen = []

    async def look(_: Sequence[int]) -> list[int]:
        seen.append(caller.get())
        return [0]

    caller.set("Ada")
    await Batcher(look).submit([1])
    assert seen == ["no caller"]

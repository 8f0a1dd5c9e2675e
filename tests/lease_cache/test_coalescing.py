"""The batcher sends the items of one turn of the loop together, after the last was added."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from tornado_members.lease_cache.coalescing import Batcher


class Oracle:
    """Doubles each number, once it may answer."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: BaseException | None = None

    async def double(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append([*numbers])
        self.is_asked.set()
        await self.may_answer.wait()
        if self.error:
            raise self.error
        return [2 * number for number in numbers]


async def test_batcher_sends_items_of_one_turn_together() -> None:
    oracle = Oracle()
    batcher = Batcher(oracle.double)
    answers = await asyncio.gather(*(batcher.ask([i, i + 100]) for i in range(5)))
    assert [[*answer] for answer in answers] == [[2 * i, 2 * i + 200] for i in range(5)]
    assert oracle.asked == [[0, 100, 1, 101, 2, 102, 3, 103, 4, 104]]


async def test_batcher_adds_nothing_to_a_batch_in_flight() -> None:
    oracle = Oracle()
    batcher = Batcher(oracle.double)
    oracle.may_answer.clear()
    first = asyncio.create_task(batcher.ask([1]))
    await oracle.is_asked.wait()
    oracle.is_asked.clear()
    second = asyncio.create_task(batcher.ask([1]))
    await oracle.is_asked.wait()
    oracle.may_answer.set()
    assert [[*await first], [*await second]] == [[2], [2]]
    assert oracle.asked == [[1], [1]]


async def test_batcher_answers_other_callers_when_one_is_cancelled() -> None:
    oracle = Oracle()
    batcher = Batcher(oracle.double)
    oracle.may_answer.clear()
    tasks = [asyncio.create_task(batcher.ask([i])) for i in range(3)]
    await oracle.is_asked.wait()
    tasks[0].cancel()
    oracle.may_answer.set()
    assert [[*await task] for task in tasks[1:]] == [[2], [4]]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert oracle.asked == [[0, 1, 2]]


async def test_batcher_raises_an_error_in_every_caller() -> None:
    oracle = Oracle()
    batcher = Batcher(oracle.double)
    oracle.error = LookupError("gone")
    results = await asyncio.gather(*(batcher.ask([i]) for i in range(3)), return_exceptions=True)
    assert [repr(result) for result in results] == ["LookupError('gone')"] * 3
    oracle.error = None
    assert [*await batcher.ask([4])] == [8]


async def test_batcher_cancels_callers_of_a_cancelled_batch() -> None:
    oracle = Oracle()
    batcher = Batcher(oracle.double)
    oracle.may_answer.clear()
    waiting = asyncio.create_task(batcher.ask([1]))
    await oracle.is_asked.wait()
    (asking,) = batcher._asking
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_batcher_runs_a_batch_outside_its_callers_contexts() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen = []

    async def look(_: Sequence[int]) -> list[int]:
        seen.append(who.get())
        return [0]

    who.set("Ada")
    await Batcher(look).ask([1])
    assert seen == ["nobody"]

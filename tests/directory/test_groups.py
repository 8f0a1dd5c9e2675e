"""Requests that come while others are under way form groups."""

import asyncio
from collections.abc import Sequence

import pytest

from tornado_members.directory.groups import Groups


class NumberGroups(Groups[int, str]):
    """Groups of numbers, which end when the event is set. Numbers above 100 are not written."""

    def __init__(self, *, patience: float = 60, largest: int = 4) -> None:
        super().__init__(self._end, most_under_way=1, patience=patience, largest=largest)
        self.begun: list[list[int]] = []
        self.free = asyncio.Event()

    async def _end(self, group: Sequence[int]) -> list[str | None]:
        self.begun.append([*group])
        await self.free.wait()
        if 0 in group:
            raise ValueError("a fault")
        return [f"wrote {number}" if number <= 100 else None for number in group]

    async def write_or_be_alone(self, one: int) -> str:
        written = await self.join(one)
        if written is not None:
            return written
        with self.alone():
            self.begun.append([one])
            await self.free.wait()
            return f"wrote {one} alone"

    def write_all(self, *numbers: int) -> "asyncio.Future[list[str | BaseException]]":
        writes = [self.write_or_be_alone(number) for number in numbers]
        return asyncio.gather(*writes, return_exceptions=True)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_groups_form_while_a_write_is_under_way() -> None:
    groups = NumberGroups()
    first = groups.write_all(1)
    await turns()
    assert groups.begun == [[1]]
    second, third = groups.write_all(2, 3), groups.write_all(4, 105, 6)
    await turns()
    assert groups.begun == [[1]]
    groups.free.set()
    assert await first == ["wrote 1 alone"]
    assert await second == ["wrote 2", "wrote 3"]
    assert await third == ["wrote 4", "wrote 105 alone", "wrote 6 alone"]
    assert groups.begun[:2] == [[1], [2, 3, 4, 105]]
    assert sorted(groups.begun[2:]) == [[6], [105]]
    assert groups._under_way == 0


async def test_writes_of_one_turn_form_a_group() -> None:
    groups = NumberGroups()
    groups.free.set()
    assert await groups.write_all(1, 2) == ["wrote 1", "wrote 2"]


async def test_group_begins_although_others_hang() -> None:
    groups = NumberGroups(patience=0.01)
    hanging, other = groups.write_all(1, 2), groups.write_all(3)
    async with asyncio.timeout(60):
        while len(groups.begun) < 1:
            await asyncio.sleep(0.001)
        late = groups.write_all(4, 5)
        while [4, 5] not in groups.begun:
            await asyncio.sleep(0.001)
    groups.free.set()
    await asyncio.gather(hanging, other, late)
    assert groups._under_way == 0


async def test_exception_reaches_each_writer_of_the_group() -> None:
    groups = NumberGroups()
    groups.free.set()
    results = await groups.write_all(0, 1)
    assert [str(result) for result in results] == ["a fault", "a fault"]
    assert await groups.write_all(2, 3) == ["wrote 2", "wrote 3"]


async def test_writer_that_was_cancelled_before_the_group_began_is_not_in_it() -> None:
    groups = NumberGroups()
    first = groups.write_all(1)
    await turns()
    cancelled = asyncio.create_task(groups.write_or_be_alone(2))
    others = groups.write_all(3, 4)
    await turns()
    cancelled.cancel()
    groups.free.set()
    await asyncio.gather(first, others)
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert groups.begun == [[1], [3, 4]]

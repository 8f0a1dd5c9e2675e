"""Several batches at the same time: the outcomes are those of one batch after another."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.support.api import Api, parsed
from tests.support.members import make_draft
from tornado_members.bulk.loader import Loader, Outcome, Result
from tornado_members.bulk.pipeline import BatchPipeline
from tornado_members.bulk.rows import Row
from tornado_members.errors import DependencyUnavailable
from tornado_members.model.member import MemberDraft
from tornado_members.services import Services

pytestmark = pytest.mark.shared_services


def rows(*names: str, line: int = 2, phone: str | None = None) -> list[Row]:
    return [
        Row(line + i, (), make_draft(name=name, email=None, phone=phone))
        for i, name in enumerate(names)
    ]


async def load_all(pipeline: BatchPipeline, batches: Sequence[list[Row]]) -> list[Outcome]:
    """Load batches as an import does."""
    outcomes: list[Outcome] = []
    for batch in batches:
        while not pipeline.start(batch):
            outcomes += (await pipeline.finish_first())[1]
    while pipeline:
        outcomes += (await pipeline.finish_first())[1]
    return outcomes


async def test_ids_and_outcomes_follow_the_order_of_the_rows(services: Services) -> None:
    loader = Loader(services.directory, "reject")
    batches = [rows(*(f"Person {i:04}" for i in range(n, n + 50))) for n in range(0, 1000, 50)]
    outcomes = await load_all(BatchPipeline(loader.load), batches)
    assert [outcome.member_id for outcome in outcomes] == list(range(1, 1001))
    assert {outcome.result for outcome in outcomes} == {Result.CREATED}
    again = await load_all(BatchPipeline(Loader(services.directory, "reject").load), batches)
    assert {outcome.result for outcome in again} == {Result.UNCHANGED}


@pytest.mark.parametrize("on_conflict", ["reject", "replace"])
async def test_first_row_of_a_name_in_several_batches_is_loaded(
    api: Api, services: Services, on_conflict: str
) -> None:
    loader = Loader(services.directory, on_conflict)  # type: ignore[arg-type]
    batches = [rows("Ada", f"Person {i}", phone=f"555-000{i}") for i in range(8)]
    outcomes = await load_all(BatchPipeline(loader.load), batches)
    results = [outcome.result for outcome in outcomes[::2]]
    assert results == [Result.CREATED, *[Result.TAKEN] * 7]
    assert all(outcome.twice for outcome in outcomes[2::2])
    assert parsed(await api("GET", "/members/1"))["phone"] == "555-0000"


async def test_batches_are_loaded_at_the_same_time() -> None:
    begun: list[str] = []
    go_on = asyncio.Event()

    async def load(drafts: list[MemberDraft]) -> list[Outcome]:
        begun.append(drafts[0].name)
        await go_on.wait()
        return [Outcome(Result.CREATED, 1)] * len(drafts)

    pipeline = BatchPipeline(load)
    for name in ("Ada", "Bob"):
        pipeline.start(rows(name))
    await asyncio.sleep(0)
    assert begun == ["Ada", "Bob"]
    assert not pipeline.start(rows("Carl", "Bob"))
    assert pipeline.start(rows("Carl"))
    go_on.set()
    finished = [(await pipeline.finish_first())[0] for _ in range(3)]
    assert finished == [rows("Ada"), rows("Bob"), rows("Carl")]


async def test_failed_batch_stays_the_first_until_all_have_settled() -> None:
    ended: list[str] = []

    async def load(drafts: list[MemberDraft]) -> list[Outcome]:
        if drafts[0].name == "Bob":
            raise DependencyUnavailable
        await asyncio.sleep(0.01)
        ended.append(drafts[0].name)
        return [Outcome(Result.CREATED, 1)]

    pipeline = BatchPipeline(load)
    for line, name in enumerate(("Ada", "Bob", "Carl"), 2):
        pipeline.start(rows(name, line=line))
    assert (await pipeline.finish_first())[0][0].line == 2
    with pytest.raises(DependencyUnavailable):
        await pipeline.finish_first()
    assert pipeline.first_line == 3
    await pipeline.settle()
    assert (ended, len(pipeline)) == (["Ada", "Carl"], 0)

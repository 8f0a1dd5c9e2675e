"""Many members at once."""

import asyncio

import pytest

from tests.support.api import Api, parsed
from tornado_members.handlers.base import Services
from tornado_members.loading.loader import Loader, OnConflict, Result
from tornado_members.loading.made_up import made_up_members
from tornado_members.member import MemberDraft


def drafts(*names: str, phone: str | None = None) -> list[MemberDraft]:
    return [MemberDraft(name=name, email=None, phone=phone) for name in names]


async def load(services: Services, on_conflict: OnConflict, *batches: list[MemberDraft]) -> str:
    """The first letters of what became of each: c, r, u, s, t."""
    loader = Loader(services.directory, on_conflict)
    outcomes = [outcome for batch in batches for outcome in await loader.load(batch)]
    return "".join(outcome.result[0] for outcome in outcomes)


async def test_members_get_ids_in_their_order(api: Api, services: Services) -> None:
    names = [f"Person {i:03}" for i in range(100)]
    outcomes = await Loader(services.directory, "reject").load(drafts(*names))
    assert [outcome.member_id for outcome in outcomes] == list(range(1, 101))
    assert parsed(await api("GET", "/members/42"))["name"] == "Person 041"


@pytest.mark.parametrize(
    ("on_conflict", "expected"),
    [("reject", "cct uut ttu"), ("skip", "ccs uus ssu"), ("replace", "cct uut rrt")],
)
async def test_a_second_run_changes_nothing_and_a_changed_one_does_as_told(
    api: Api, services: Services, on_conflict: OnConflict, expected: str
) -> None:
    first, again, changed = expected.split()
    source = [*drafts("Ada", "Bob"), *drafts("Ada", phone="555-0199")]
    assert await load(services, on_conflict, source) == first
    before = (await api("GET", "/members")).body
    assert await load(services, on_conflict, source[:1], source[1:]) == again
    assert (await api("GET", "/members")).body == before
    after = [*drafts("Ada", "Bob", phone="555-0000"), *drafts("Ada")]
    assert await load(services, on_conflict, after) == changed


async def test_what_is_replaced_is_seen_at_once(api: Api, services: Services) -> None:
    await load(services, "reject", drafts("Ada"))
    await api("GET", "/members/1")
    assert await load(services, "replace", drafts("Ada", phone="555-0123")) == "r"
    assert parsed(await api("GET", "/members/1"))["phone"] == "555-0123"


async def test_what_a_source_does_not_speak_of_stays(api: Api, services: Services) -> None:
    await api.create("Ada", email="ada@example.org", phone="555-0100")
    silent = MemberDraft(name="Ada")
    assert await load(services, "replace", [silent]) == "u"
    assert await load(services, "replace", [MemberDraft(name="Ada", phone=None)]) == "r"
    ada = parsed(await api("GET", "/members/1"))
    assert (ada["email"], ada["phone"]) == ("ada@example.org", None)


async def test_two_loaders_at_once_load_each_member_once(api: Api, services: Services) -> None:
    source = drafts(*(f"Person {i}" for i in range(300)))
    results = await asyncio.gather(*(load(services, "skip", source) for _ in range(4)))
    assert sum(result.count("c") for result in results) == 300
    seen = parsed(await api("GET", "/members?limit=1000"))["items"]
    assert len({member["memberId"] for member in seen}) == 300


async def test_made_up_members_are_members_of_different_names(services: Services) -> None:
    people = made_up_members()
    batch = [next(people) for _ in range(2000)]
    assert len({draft.name for draft in batch}) == 2000
    outcomes = await Loader(services.directory, "reject").load(batch)
    assert all(outcome.result is Result.CREATED for outcome in outcomes)

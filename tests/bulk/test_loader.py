"""Loading many members at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from tests.support.api import Api, parsed
from tests.support.members import make_draft
from tornado_members.bulk.fake_members import fake_members
from tornado_members.bulk.id_set import IdSet
from tornado_members.bulk.loader import Loader, OnConflict, Outcome, Result
from tornado_members.errors import DependencyUnavailable
from tornado_members.model.member import Member, MemberDraft
from tornado_members.services import Services

pytestmark = pytest.mark.shared_services


def drafts(*names: str, phone: str | None = None) -> list[MemberDraft]:
    return [make_draft(name=name, email=None, phone=phone) for name in names]


async def load(services: Services, on_conflict: OnConflict, *batches: list[MemberDraft]) -> str:
    """Return the first letter of each row's result: c, r, u, s, t."""
    loader = Loader(services.directory, on_conflict)
    outcomes = [outcome for batch in batches for outcome in await loader.load(batch)]
    return "".join(outcome.result[0] for outcome in outcomes)


async def test_ids_follow_the_order_of_drafts(api: Api, services: Services) -> None:
    names = [f"Person {i:03}" for i in range(100)]
    outcomes = await Loader(services.directory, "reject").load(drafts(*names))
    assert [outcome.member_id for outcome in outcomes] == list(range(1, 101))
    assert parsed(await api("GET", "/members/42"))["name"] == "Person 041"


@pytest.mark.parametrize(
    ("on_conflict", "expected"),
    [("reject", "cct uut ttu"), ("skip", "ccs uus ssu"), ("replace", "cct uut rrt")],
)
async def test_second_run_changes_nothing_and_conflicts_follow_the_option(
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


async def test_replaced_member_is_visible_at_once(api: Api, services: Services) -> None:
    await load(services, "reject", drafts("Ada"))
    await api("GET", "/members/1")
    assert await load(services, "replace", drafts("Ada", phone="555-0123")) == "r"
    assert parsed(await api("GET", "/members/1"))["phone"] == "555-0123"


async def test_replace_keeps_fields_that_the_source_omits(api: Api, services: Services) -> None:
    await api.create("Ada", email="ada@example.org", phone="555-0100")
    silent = make_draft(name="Ada")
    assert await load(services, "replace", [silent]) == "u"
    assert await load(services, "replace", [make_draft(name="Ada", phone=None)]) == "r"
    ada = parsed(await api("GET", "/members/1"))
    assert (ada["email"], ada["phone"]) == ("ada@example.org", None)


async def test_concurrent_loaders_create_each_member_once(api: Api, services: Services) -> None:
    source = drafts(*(f"Person {i}" for i in range(300)))
    results = await asyncio.gather(*(load(services, "skip", source) for _ in range(4)))
    assert sum(result.count("c") for result in results) == 300
    seen = parsed(await api("GET", "/members?limit=1000"))["items"]
    assert len({member["memberId"] for member in seen}) == 300


async def test_fake_members_are_members_of_different_names(services: Services) -> None:
    people = fake_members()
    batch = [next(people) for _ in range(2000)]
    assert len({draft.name for draft in batch}) == 2000
    outcomes = await Loader(services.directory, "reject").load(batch)
    assert all(outcome.result is Result.CREATED for outcome in outcomes)


class Failing:
    """A directory that loses its connection after each write, a given number of times."""

    def __init__(self, services: Services, failures: int) -> None:
        self._directory = services.directory
        self._failures = failures
        self.find_by_names = services.directory.find_by_names
        self.take_ids = services.directory.take_ids

    async def create_many(self, drafts: Sequence[MemberDraft], first: int, **by: Any) -> Any:
        return self._fail(await self._directory.create_many(drafts, first, **by))

    async def replace_if_unchanged(self, member: Member, draft: MemberDraft, **by: Any) -> Any:
        return self._fail(await self._directory.replace_if_unchanged(member, draft, **by))

    def _fail(self, done: Any) -> Any:
        self._failures -= 1
        if self._failures >= 0:
            raise DependencyUnavailable
        return done


@pytest.mark.parametrize("failures", [1, 2, 3, 4])
async def test_batch_that_failed_half_way_can_be_repeated(
    api: Api, services: Services, failures: int
) -> None:
    await api.create("Ada")
    await api.create("Bob")
    batch = [
        *drafts("New"),
        *drafts("Ada", "Bob", "Ada", "New", phone="555-0100"),
        *drafts("Other"),
    ]
    loader = Loader(Failing(services, failures), "replace")
    with pytest.raises(DependencyUnavailable):
        await loader.load(batch)
    await api("PUT", "/members/by-name/New", {"phone": "555-0177"})  # a change by another client
    outcomes: list[Outcome] = []
    while not outcomes:
        with suppress(DependencyUnavailable):
            outcomes = await loader.load(batch)
    assert "".join(outcome.result[0] for outcome in outcomes) == "crrttc"
    ada = await api("GET", "/members/1")
    assert (ada.headers["ETag"], parsed(ada)["phone"]) == ('"2"', "555-0100")
    assert parsed(await api("GET", "/members/by-name/New"))["phone"] == "555-0177"
    assert len(parsed(await api("GET", "/members"))["items"]) == 4
    again = await loader.load(batch)
    assert "".join(outcome.result[0] for outcome in again) == "tttttt"


class Interfering:
    """A directory whose members another client changes between the look-up and the replacement."""

    def __init__(self, services: Services, interfere: Callable[[], Awaitable[Any]]) -> None:
        self._directory = services.directory
        self._interfere = interfere
        self._is_first = True
        self.find_by_names = services.directory.find_by_names
        self.take_ids = services.directory.take_ids
        self.create_many = services.directory.create_many

    async def replace_if_unchanged(self, member: Member, draft: MemberDraft, **by: Any) -> bool:
        if self._is_first:
            self._is_first = False
            await self._interfere()
        return await self._directory.replace_if_unchanged(member, draft, **by)


@pytest.mark.parametrize(
    ("write", "results", "member"),
    [
        # A field that the source omits keeps the value of the other client.
        (("PUT", "/members/1", {"name": "Ada", "phone": "555-0199"}), "rt", (1, "555-0199")),
        # The other client wrote the same values: nothing was replaced.
        (("PUT", "/members/1", {"name": "Ada", "email": "ada@example.org"}), "ut", (1, None)),
        (("PUT", "/members/1", {"name": "Ida"}), "ct", (2, None)),
        (("DELETE", "/members/1"), "ct", (2, None)),
    ],
)
async def test_replace_starts_anew_when_another_writer_was_faster(
    api: Api,
    services: Services,
    write: Sequence[Any],
    results: str,
    member: tuple[int, str | None],
) -> None:
    await api.create("Ada", phone="555-0100")
    directory = Interfering(services, lambda: api(*write))
    batch = [make_draft(name="Ada", email="ada@example.org"), make_draft(name="Ada", phone=None)]
    outcomes = await Loader(directory, "replace").load(batch)
    assert "".join(outcome.result[0] for outcome in outcomes) == results
    assert {outcome.member_id for outcome in outcomes} == {member[0]}
    ada = parsed(await api("GET", "/members/by-name/Ada"))
    assert (ada["memberId"], ada["phone"], ada["email"]) == (*member, "ada@example.org")


def test_many_ids_take_little_memory() -> None:
    ids = IdSet()
    for number in [*range(1, 20_000), 2**53 - 1, -1, -70_000]:
        assert number not in ids
        ids.add(number)
        assert number in ids
    assert 20_000 not in ids
    assert -2 not in ids
    assert sum(map(len, ids._pages.values())) < 5000

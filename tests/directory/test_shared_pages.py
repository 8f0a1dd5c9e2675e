"""Pages that are requested at once share a command, and are what each would be alone."""

import asyncio
from typing import Any

import pymongo
import pytest

from tests.directory.test_groups import turns
from tests.storage.test_listing import profiled
from tests.support.api import Api
from tests.support.mongodb import failing
from tornado_members.model.list_query import ListQuery
from tornado_members.services import Services

Admin = pymongo.MongoClient[dict[str, Any]]

PAGES = [
    "/members?limit=2",
    "/members?limit=3&sort=-memberId",
    "/members?limit=4&sort=name",
    "/members?limit=100&sort=-name",
    "/members?limit=2&q=ada",  # which has a command of its own
]


async def read_each(api: Api) -> list[tuple[int, bytes]]:
    """Create members, and read each page alone."""
    for i in range(9):
        await api.create(f"Ada {i}")
    return [(200, (await api("GET", path)).body) for path in PAGES]


async def read_at_once(api: Api) -> list[tuple[int, bytes]]:
    answers = await asyncio.gather(*(api("GET", path) for path in PAGES))
    return [(answer.code, answer.body) for answer in answers]


async def test_pages_at_once_share_a_command(
    api: Api, services: Services, admin: Admin, database_name: str
) -> None:
    alone = await read_each(api)
    groups = services.directory._pages._groups
    groups._most_under_way, groups._patience = 0, 60
    with profiled(admin, database_name) as entries:
        reading = asyncio.create_task(read_at_once(api))
        async with asyncio.timeout(60):
            while len(groups._waiting) < len(PAGES) - 1:
                await asyncio.sleep(0.001)
        groups._begin()
        assert await reading == alone
    commands = [next(iter(entry["command"])) for entry in entries]
    assert commands.count("aggregate") == 1
    assert "find" in commands  # of the search
    assert len([command for command in commands if command == "find"]) <= 2


async def test_page_is_not_older_than_its_request(services: Services, api: Api) -> None:
    """A page joins no group that has begun."""
    await read_each(api)
    directory = services.directory
    pages = directory._pages._groups
    pages._most_under_way = 1
    first = [asyncio.create_task(directory.page_json(ListQuery(limit=limit))) for limit in (98, 99)]
    await turns()  # the group of both has begun
    await api.create("Grace")
    later = [asyncio.create_task(directory.page_json(ListQuery(limit=limit))) for limit in (96, 97)]
    assert {len((await page).keys) for page in first} <= {9, 10}
    assert {len((await page).keys) for page in later} == {10}


@pytest.mark.parametrize("how", [{"errorCode": 13436}, {"closeConnection": True}])
async def test_pages_are_read_although_their_group_fails(
    api: Api, admin: Admin, how: dict[str, Any]
) -> None:
    alone = await read_each(api)
    with failing(admin, 1, failCommands=["aggregate"], **how):
        assert await read_at_once(api) == alone
    assert await read_at_once(api) == alone

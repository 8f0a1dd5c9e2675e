"""Writes at once have the results that they would have one after another."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from bson import Int64
from tornado.httpclient import HTTPResponse

from tests.support.api import Api, parsed
from tornado_members.services import Services
from tornado_members.settings import Settings

PATCH = {"Content-Type": "application/merge-patch+json"}
TAKEN = "Grace Hopper"

# A method, the number of the member among those that exist, a body, and headers.
Write = tuple[str, int, dict[str, Any], dict[str, str]]
WRITES: Sequence[Write] = [
    ("PUT", 1, {"name": "Ada 1", "phone": "555-0101"}, {}),
    ("PATCH", 2, {"phone": "555-0102"}, PATCH),
    ("PUT", 3, {"name": "Ada 3"}, {}),  # changes nothing
    ("PATCH", 4, {"name": "Ada 4"}, PATCH),  # neither
    ("PUT", 5, {"name": "Ada King"}, {"If-Match": '"1"'}),
    ("PUT", 6, {"name": "Ada 6", "phone": "555-0106"}, {"If-Match": '"2"'}),
    ("PATCH", 7, {"phone": "555-0107"}, {**PATCH, "If-None-Match": '"1"'}),
    ("PUT", 8, {"name": TAKEN}, {}),
    ("PATCH", 9, {"name": TAKEN}, PATCH),
    ("PUT", 99, {"name": "Nobody"}, {}),
    ("PATCH", 99, {"phone": "555-0110"}, PATCH),
    ("PUT", 10, {"name": "$name", "phone": None}, {}),
    ("PUT", 11, {"name": "Ada 11"}, {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}),
    ("PUT", 12, {"name": "Ada 12", "email": "ada@example.org"}, {"Prefer": "return=minimal"}),
]


async def send(api: Api, writes: Sequence[Write], first: int, *, at_once: bool) -> list[Any]:
    async def one(write: Write) -> HTTPResponse:
        method, number, body, headers = write
        return await api(method, f"/members/{first + number}", body, headers=headers)

    if at_once:
        answers = list(await asyncio.gather(*map(one, writes)))
    else:
        answers = [await one(write) for write in writes]
    return [described(answer, first) for answer in answers]


def described(answer: HTTPResponse, first: int) -> Any:
    """Return what a client sees, apart from the id of the member."""
    body = parsed(answer) if answer.body else {}
    if "memberId" in body and answer.code == 200:
        body["memberId"] -= first
    shown = {name: body.get(name) for name in ("memberId", "name", "email", "phone", "code")}
    names = ("Etag", "Content-Type", "Last-Modified", "Preference-Applied")
    return answer.code, shown, {name: answer.headers.get(name) for name in names}


async def group_of(services: Services, count: int) -> None:
    """Begin a group when so many writes wait for one."""
    groups = services.directory._replacements._groups
    assert groups is not None
    groups._most_under_way, groups._patience = 0, 60
    async with asyncio.timeout(60):
        while len(groups._waiting) < count:
            await asyncio.sleep(0.001)
    groups._begin()
    groups._most_under_way = 4


@pytest.fixture
def commands(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the groups that are written."""
    members, sizes = services.directory._replacements._members, list[int]()
    assert members is not None
    replace = members.replace

    async def counted(replacements: Any) -> Any:
        sizes.append(len(replacements))
        return await replace(replacements)

    monkeypatch.setattr(members, "replace", counted)
    return sizes


async def test_writes_at_once_are_answered_like_those_one_after_another(
    api: Api, services: Services, commands: list[int]
) -> None:
    members = services.dependencies.mongo.database["members"]
    await api.create(TAKEN)
    for first in (100, 200):
        await members.insert_many(
            [
                {"_id": Int64(first + i), "name": f"Ada {i}", "version": Int64(1)}
                | ({"email": None, "phone": None} if i != 3 else {"email": 5})
                for i in range(1, 13)
            ]
        )
        if first == 100:
            alone = await send(api, WRITES, first, at_once=False)
            stored = [
                document
                async for document in members.find({"_id": {"$gt": 100}}, sort=[("_id", 1)])
            ]
            assert not commands
            await members.delete_many({"_id": {"$gt": 100}})
    at_once = []
    for writes, count in ((WRITES[:7], 6), (WRITES[7:], 6)):  # the client has ten connections
        # Of each half, a PATCH is refused when the member is read.
        beginning = asyncio.create_task(group_of(services, count))
        at_once += await send(api, writes, 200, at_once=True)
        await beginning
    for one, other in zip(at_once, alone, strict=True):
        assert one == other
    assert commands == [5, 5]  # all that are not refused as soon as the members are read
    async for document in members.find({"_id": {"$gt": 200}}, sort=[("_id", 1)]):
        expected = stored.pop(0)
        assert ("updatedAt" in document) == ("updatedAt" in expected)
        for one in (document, expected):
            one.pop("updatedAt", None)
        assert {**document, "_id": document["_id"] - 100} == expected
    assert not stored


async def test_members_that_others_change_meanwhile_are_written_alone(
    api: Api, services: Services, commands: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process renames, deletes and replaces members after the group was read."""
    groups = services.directory._replacements._members
    assert groups is not None
    members = services.dependencies.mongo.database["members"]
    ids = [(await api.create(f"Ada {i}"))["memberId"] for i in range(5)]
    replace = groups.replace

    async def overtaken(replacements: Any) -> Any:
        await members.update_one({"_id": ids[0]}, {"$inc": {"version": 1}})
        await members.delete_one({"_id": ids[1]})
        await members.update_one({"_id": ids[2]}, {"$set": {"name": 5}})
        return await replace(replacements)

    monkeypatch.setattr(groups, "replace", overtaken)
    beginning = asyncio.create_task(group_of(services, len(ids)))
    answers = await asyncio.gather(
        api("PUT", f"/members/{ids[0]}", {"name": "Ada 0", "phone": "555-0100"}),
        *(
            api("PATCH", f"/members/{member_id}", {"phone": "555-0100"}, headers=PATCH)
            for member_id in ids[1:]
        ),
    )
    await beginning
    assert commands == [5]
    assert [answer.code for answer in answers] == [200, 404, 404, 200, 200]
    assert [answer.headers.get("Etag") for answer in answers if answer.code == 200] == [
        '"3"',
        '"2"',
        '"2"',
    ]
    assert await members.find_one({"_id": ids[1]}) is None
    changed = await members.find_one({"_id": ids[2]})
    assert changed is not None
    assert changed["phone"] is None


async def test_group_has_each_member_once(
    api: Api, services: Services, commands: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that has waited for its turn for too long is in the group of the one before it."""
    monkeypatch.setattr(services.directory._turns, "_patience", 0.0)
    paths = [f"/members/{(await api.create(name))['memberId']}" for name in ("Ada", "Grace")]
    beginning = asyncio.create_task(group_of(services, 3))
    answers = await asyncio.gather(
        api("PUT", paths[0], {"name": "Ada", "phone": "555-0100"}),
        api("PUT", paths[0], {"name": "Ada", "phone": "555-0101"}),
        api("PUT", paths[1], {"name": "Grace", "phone": "555-0102"}),
    )
    await beginning
    assert commands == [2]
    assert sorted(answer.headers["Etag"] for answer in answers) == ['"2"', '"2"', '"3"']
    last = parsed(await api("GET", paths[0]))
    assert last in [parsed(answer) for answer in answers if answer.headers["Etag"] == '"3"']


class TestWithoutOneNode:
    """A service whose writes must be announced, while one of two nodes does not reply."""

    @pytest.fixture
    def cache_servers(self, cache_servers: Sequence[str]) -> tuple[str, ...]:
        return (cache_servers[0], "127.0.0.1:1")

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        wanted = {"require_for_writes": True, "heartbeat_ms": 100, "timeout_ms": 100}
        cache = settings.cache.model_copy(update=wanted)
        return settings.model_copy(update={"cache": cache})

    async def test_group_refuses_only_members_of_that_node(
        self, api: Api, services: Services
    ) -> None:
        ids = range(1, 81)  # of each, two keys are on one of the nodes
        await services.dependencies.mongo.database["members"].insert_many(
            [{"_id": Int64(i), "name": f"Ada {i}", "version": Int64(1)} for i in ids]
        )

        async def put(member_id: int, phone: str) -> int:
            body = {"name": f"Ada {member_id}", "phone": phone}
            return (await api("PUT", f"/members/{member_id}", body)).code

        async with asyncio.timeout(60):  # until the other node is known to reply
            while 200 not in (alone := {i: await put(i, "555-0100") for i in ids}).values():
                pass
        written = [i for i in ids if alone[i] == 200][:5]
        refused = [i for i in ids if alone[i] == 503][:5]
        beginning = asyncio.create_task(group_of(services, len(written + refused)))
        at_once = await asyncio.gather(*(put(i, "555-0101") for i in written + refused))
        await beginning
        assert refused
        assert at_once == [alone[i] for i in written + refused]

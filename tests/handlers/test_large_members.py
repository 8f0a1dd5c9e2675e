"""Responses with many large members: `quick_callbacks` finds those that stall others."""

import random
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from tornado.httpclient import HTTPResponse

from tests.handlers.test_attributes import declaring
from tests.support.api import Api
from tornado_members.services import Services
from tornado_members.settings import Settings

Admin = pymongo.MongoClient[dict[str, Any]]
COUNT = 500
NOTES = {"notes": {"type": "string", "list": True, "max_length": 1000}}
IDS = [*range(1, COUNT + 1)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return declaring(settings, NOTES)


def large_documents() -> list[dict[str, Any]]:
    """Return members with 15 KB of text each, which compresses badly."""
    generator = random.Random(5)
    letters = [chr(code) for code in range(0x4E00, 0x5E00)]
    text = "".join(generator.choices(letters, k=100_000))

    def notes(number: int) -> list[str]:
        start = number * 150
        return [text[start + place : start + place + 500] for place in range(0, 5000, 500)]

    return [
        {
            "_id": number,
            "name": f"Member {number}",
            "version": 1,
            "updatedAt": datetime.now(UTC),
            "attributes": {"notes": notes(number)},
        }
        for number in IDS
    ]


@pytest.fixture
def large_members(services: Services, admin: Admin) -> None:
    admin["test"]["members"].insert_many(large_documents())


async def look_up(api: Api, **headers: str) -> HTTPResponse:
    return await api("POST", "/members/lookup", {"memberIds": IDS}, headers=headers)


@pytest.mark.usefixtures("large_members")
async def test_large_members_do_not_stall_other_requests(api: Api) -> None:
    gzip = {"Accept-Encoding": "gzip"}
    for headers in ({}, {}, gzip, {"Cache-Control": "no-cache"}):
        answer = await look_up(api, **headers)
        assert answer.code == 200
    listed = ",".join(map(str, IDS[:200]))
    for path in (f"/members?limit={COUNT}", f"/members?memberId={listed}"):
        for headers in ({}, gzip):
            assert (await api("GET", path, headers=headers)).code == 200
    for accept in ("text/csv", "application/x-ndjson"):
        exported = await api("GET", "/members", headers={"Accept": accept, **gzip})
        assert exported.code == 200

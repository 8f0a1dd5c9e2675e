"""A field that is added to the field table is supported everywhere."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pymongo
import pytest

from tests.support.api import Api, parsed, problem
from tornado_members.app import openapi_document
from tornado_members.bulk.fake_members import fake_members
from tornado_members.model.fields import Field, FieldTable
from tornado_members.model.member import MEMBER_FIELDS, apply_merge_patch
from tornado_members.services import Services, open_directory
from tornado_members.settings import Audit, Settings
from tornado_members.storage.stores import open_stores

Admin = pymongo.MongoClient[dict[str, Any]]
ADA = {"memberId": 1, "name": "Ada", "email": None, "phone": None, "birthday": "1815-12-10"}


def check_birthday(text: str) -> str:
    """Return a date in the form of RFC 3339."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError("is not a date such as 1815-12-10")
    return date.fromisoformat(text).isoformat()


BIRTHDAY = Field(
    name="birthday",
    description="the day of birth",
    example="1815-12-10",
    check=check_birthday,
    json_schema={"format": "date"},
    csv_headings=("dateofbirth",),
    fake=lambda person: str(person.birthdate()),
)


@pytest.fixture
def member_fields() -> FieldTable:
    return MEMBER_FIELDS.with_field(BIRTHDAY)


@pytest.fixture
def settings(settings: Settings, admin: Admin) -> Settings:
    admin[settings.mongodb.database]["audit"].delete_many({})
    return settings.model_copy(update={"audit": Audit(enabled=True)})


async def test_added_field_is_written_read_and_patched(api: Api, admin: Admin) -> None:
    assert await api.create("Ada", birthday="1815-12-10") == ADA
    for status in ("fwd=miss; stored", "hit"):
        answer = await api("GET", "/members/1")
        assert (parsed(answer), answer.headers["Cache-Status"]) == (ADA, f"memcached; {status}")
    assert parsed(await api("GET", "/members/by-name/Ada")) == ADA
    assert parsed(await api("GET", "/members"))["items"] == [ADA]
    assert admin["test"]["members"].find_one({"_id": 1})["birthday"] == "1815-12-10"  # type: ignore[index]
    headers = {"Content-Type": "application/merge-patch+json"}
    patched = await api("PATCH", "/members/1", {"birthday": None}, headers=headers)
    assert parsed(patched) == {**ADA, "birthday": None}
    wrong = await api("PUT", "/members/1", {"name": "Ada", "birthday": "yesterday"})
    assert problem(wrong, 422, "invalid-member")["errors"] == [
        {"pointer": "/birthday", "detail": "is not a date such as 1815-12-10"}
    ]
    history = parsed(await api("GET", "/members/1/history"))["items"]
    assert [record["before"] for record in history] == [{"birthday": "1815-12-10"}, None]
    assert history[1]["after"] == {name: ADA[name] for name in ADA if name != "memberId"}


async def test_added_field_is_exported_and_imported(api: Api) -> None:
    await api.create("Ada", birthday="1815-12-10")
    csv_file = await api("GET", "/members", headers={"Accept": "text/csv"})
    assert csv_file.body == b"memberId,name,email,phone,birthday\r\n1,Ada,,,1815-12-10\r\n"
    lines = await api("GET", "/members", headers={"Accept": "application/x-ndjson"})
    assert json.loads(lines.body) == ADA
    for media_type, body in (
        ("text/csv", csv_file.body),
        ("text/csv", b"Name;Date of birth\nAda;1815-12-10"),
        ("application/x-ndjson", lines.body),
    ):
        await api(
            "DELETE", f"/members/{parsed(await api('GET', '/members/by-name/Ada'))['memberId']}"
        )
        headers = {"Content-Type": media_type}
        answer = await api("POST", "/members/import", raw=body, headers=headers)
        result = json.loads(answer.body.splitlines()[0])
        assert result["code"] == "created"
        assert parsed(await api("GET", result["member"]))["birthday"] == "1815-12-10"


async def test_added_field_is_described_and_made_up(
    services: Services, member_fields: FieldTable
) -> None:
    description = json.loads(openapi_document(services).plain)
    schemas = description["components"]["schemas"]
    assert schemas["Member"]["properties"]["birthday"] == {
        "anyOf": [{"format": "date", "type": "string"}, {"type": "null"}],
        "description": "the day of birth",
        "examples": ["1815-12-10"],
    }
    for name in ("MemberDraft", "MemberDetails", "MemberPatch"):
        assert "birthday" in schemas[name]["properties"]
    assert "birthday" in schemas["Change"]["properties"]["before"]["properties"]
    content = description["paths"]["/members"]["get"]["responses"]["200"]["content"]
    assert "birthday" in content["application/json"]["example"]["items"][0]
    assert content["text/csv"]["example"].splitlines()[0].endswith(",birthday")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", next(fake_members(member_fields)).values["birthday"])


@asynccontextmanager
async def service_without_birthdays(
    settings: Settings, servers: Any, cache_servers: tuple[str, ...]
) -> AsyncIterator[Any]:
    async with (
        open_stores(settings, servers.mongodb_uri) as stores,
        open_directory(settings, stores, cache_servers) as directory,
    ):
        yield directory


async def test_services_with_other_fields_share_no_entries_and_lose_no_values(
    api: Api, settings: Settings, servers: Any, cache_servers: tuple[str, ...]
) -> None:
    """As during the replacement of an old version of the service by a new one."""
    await api.create("Ada", birthday="1815-12-10")
    without = {name: ADA[name] for name in ADA if name != "birthday"}
    async with service_without_birthdays(settings, servers, cache_servers) as other:
        for _ in range(3):
            assert parsed(await api("GET", "/members/1")) == ADA
            assert parsed(await api("GET", "/members/by-name/Ada")) == ADA
            for found in (await other.get(1), await other.get_by_name("Ada")):
                assert json.loads(found.body) == without
            assert parsed(await api("GET", "/members?memberId=1"))["items"] == [ADA]
            batch = await other.get_many([1])
            assert [json.loads(body) for body in batch.bodies] == [without]
        cached = (await other.get_cached([1])).find(1)
        assert cached
        assert json.loads(cached.body) == without
        await other.patch(1, lambda member: apply_merge_patch(member, {"phone": "555"}))
        assert parsed(await api("GET", "/members/1")) == {**ADA, "phone": "555"}

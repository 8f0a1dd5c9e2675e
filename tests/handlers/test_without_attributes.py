"""Without declared attributes, the service behaves as versions without attributes did."""

import json
from typing import Any

import pymongo

from tests.support.api import Api, parsed, problem
from tornado_members.app import openapi_document
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.services import Services
from tornado_members.settings import Settings

Admin = pymongo.MongoClient[dict[str, Any]]
PATCH = {"Content-Type": "application/merge-patch+json"}
ADA = b'{"memberId":1,"name":"Ada","email":null,"phone":"555"}'


async def test_table_of_fields_and_description_are_those_of_the_product(
    services: Services, settings: Settings
) -> None:
    assert services.fields is settings.members.fields() is MEMBER_FIELDS
    assert services.fields.digest == b"64ee2aec"  # services of earlier versions share the cache
    assert b"ttribute" not in openapi_document(services).plain


async def test_members_without_attributes_have_the_same_json_and_document(
    api: Api, admin: Admin
) -> None:
    members = admin["test"]["members"]
    members.insert_one({"_id": 1, "name": "Ada", "phone": "555", "attributes": {"level": "gold"}})
    for path in ("/members/1", "/members/1", "/members/by-name/Ada"):
        assert (await api("GET", path)).body == ADA
    assert (await api("GET", "/members")).body == b'{"items":[' + ADA + b'],"next":null}'
    for accept, body in (
        ("text/csv", b"memberId,name,email,phone\r\n1,Ada,,555\r\n"),
        ("application/x-ndjson", ADA + b"\n"),
    ):
        assert (await api("GET", "/members", headers={"Accept": accept})).body == body
    await api("PUT", "/members/1", {"name": "Ada", "phone": "556"})
    await api("PATCH", "/members/1", {"phone": "555"}, headers=PATCH)
    stored = members.find_one({"_id": 1})
    assert stored is not None
    assert stored["attributes"] == {"level": "gold"}


async def test_attributes_are_unknown(api: Api) -> None:
    await api.create("Ada")
    unknown = [{"pointer": "/attributes", "detail": "is not a field of a member"}]
    for value in (None, {}, {"level": "gold"}):
        created = await api("POST", "/members", {"name": "Bob", "attributes": value})
        patched = await api("PATCH", "/members/1", {"attributes": value}, headers=PATCH)
        assert problem(created, 422, "invalid-member")["errors"] == unknown
        assert problem(patched, 422, "invalid-member")["errors"] == unknown
    refused = problem(await api("GET", "/members?attributes.level=gold"), 400, "bad-parameter")
    assert refused["detail"].startswith(
        "attributes.level: is not a parameter; parameters are memberId,"
    )
    too_large = await api("POST", "/members", raw=b"{" + b" " * 16 * 1024 + b"}")
    problem(too_large, 413, "body-too-large")
    headers = {"Content-Type": "application/x-ndjson"}
    row = b'{"name": "Bob", "attributes": {"level": "gold"}}'
    imported = await api("POST", "/members/import", raw=row, headers=headers)
    assert json.loads(imported.body.splitlines()[-1])["ignored"] == ["attributes"]
    strict = await api("POST", "/members/import?strict=true", raw=row, headers=headers)
    assert json.loads(strict.body.splitlines()[0])["errors"] == unknown
    assert parsed(await api("GET", "/members/2")) == {
        "memberId": 2,
        "name": "Bob",
        "email": None,
        "phone": None,
    }

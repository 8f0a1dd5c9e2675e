"""Attributes in exports and imports, in made-up members, and in the description of the API."""

import json
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.handlers.test_attributes import DECLARED, declaring
from tests.support.api import Api, parsed
from tornado_members.app import openapi_document
from tornado_members.bulk.fake_attributes import NoExample
from tornado_members.bulk.fake_members import fake_members
from tornado_members.model.member import parse_draft
from tornado_members.services import Services
from tornado_members.settings import Audit, Settings

pytestmark = pytest.mark.shared_services

CSV, NDJSON = "text/csv", "application/x-ndjson"
FULL: dict[str, Any] = {
    "birthday": "1815-12-10",
    "level": "gold",
    "score": 7,
    "ratio": 0.1,
    "tags": ["=1+1", "a;b", "c\nd"],
    "vip": True,
    "seen": "2026-11-22T11:05:42.123Z",
    "code": "AB1",
    "site": "https://example.org/",
    "visits": ["2026-11-22T11:05:42.000Z", "1999-01-01T00:00:00.000Z"],
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    audited = settings.model_copy(update={"audit": Audit(enabled=True)})
    return declaring(audited, DECLARED)


async def imported(api: Api, body: bytes, media_type: str, query: str = "") -> list[Any]:
    """Import a file; return the results of its rows, and the summary."""
    headers = {"Content-Type": media_type}
    answer = await api("POST", f"/members/import{query}", raw=body, headers=headers)
    assert answer.code == 200, answer.body
    return [json.loads(line) for line in answer.body.splitlines()]


async def delete_all(api: Api) -> None:
    """Delete all members."""
    for member in parsed(await api("GET", "/members"))["items"]:
        await api("DELETE", f"/members/{member['memberId']}")


@pytest.mark.parametrize(
    ("contact", "media_type"),
    [
        (b"BEGIN:VCARD\nFN:Ada\nEND:VCARD\n", "text/vcard"),
        (b"dn: cn=Ada\nobjectclass: person\ncn: Ada\n", "text/x-ldif"),
    ],
)
async def test_contacts_have_the_defaults_of_attributes(
    api: Api, contact: bytes, media_type: str
) -> None:
    result, _ = await imported(api, contact, media_type)
    assert result["code"] == "created"
    created = await api.create("Without attributes")
    read = parsed(await api("GET", result["member"]))
    assert read["attributes"] == created["attributes"] != {}


@pytest.mark.parametrize("query", ["", "?delimiter=;&bom=true"])
async def test_exports_can_be_imported_without_loss(api: Api, query: str) -> None:
    members = [
        await api.create("Ada", attributes=FULL),
        await api.create("Bob", attributes={"tags": [], "vip": None}),
        await api.create("Cy", attributes={"tags": ["plain", "text"]}),
    ]
    table = (await api("GET", f"/members{query}", headers={"Accept": CSV})).body
    heading = table.removeprefix(b"\xef\xbb\xbf").splitlines()[0].decode()
    columns = ["memberId", "name", "email", "phone", *(f"attributes.{name}" for name in DECLARED)]
    assert heading == (";" if query else ",").join(columns)
    lines = (await api("GET", "/members", headers={"Accept": NDJSON})).body
    assert [json.loads(line) for line in lines.splitlines()] == members
    array = json.dumps(members).encode()
    for body, media_type in ((table, CSV), (lines, NDJSON), (array, "application/json")):
        await delete_all(api)
        *_, end = await imported(api, body, media_type)
        assert end == {"summary": {"created": 3}}, media_type
        loaded = parsed(await api("GET", "/members"))["items"]
        expected: list[Any] = [member["attributes"] for member in members]
        if media_type != CSV:  # what NDJSON leaves out gets its default; an empty cell does not
            expected[1] = {**expected[1], "vip": False}
        assert [member["attributes"] for member in loaded] == expected
        again = await imported(api, body, media_type, "?on_conflict=replace")
        assert again[-1] == {"summary": {"unchanged": 3}}


async def test_imports_recognize_headings_and_replace_only_what_files_have(api: Api) -> None:
    table = b"Name;DATE OF BIRTH;Level;Attributes Score;Rank;shoe\nAda;1815-12-10;gold;7;x;9\n"
    result, _ = await imported(api, table, CSV, "?column=attributes.code=Rank")
    assert result["errors"] == [
        {"pointer": "/attributes/code", "detail": "does not match the pattern ^[A-Z]{2}[0-9]+$"}
    ]
    await imported(api, table.replace(b"x;9", b"AB1;9"), CSV, "?column=attributes.code=Rank")
    attributes = {
        "birthday": "1815-12-10",
        "level": "gold",
        "score": 7,
        "vip": False,
        "code": "AB1",
    }
    assert parsed(await api("GET", "/members/1"))["attributes"] == attributes
    for body, media_type, change in (
        (b"name,vip,level\nAda,Yes,\n", CSV, {"vip": True, "level": None}),
        (b'{"name": "Ada", "attributes": {"score": 8}}', NDJSON, {"score": 8}),
        (b'{"name": "Ada", "attributes": {"tags": ["a"], "x": 1}}', NDJSON, {"tags": ["a"]}),
        (b'{"name": "Ada", "phone": "555"}', NDJSON, {}),
    ):
        end = (await imported(api, body, media_type, "?on_conflict=replace"))[-1]
        assert end["summary"] == {"replaced": 1}
        assert end.get("ignored", []) == (["attributes.x"] if b'"x"' in body else [])
        attributes = {**attributes, **change}
        attributes = {name: value for name, value in attributes.items() if value is not None}
        assert parsed(await api("GET", "/members/1"))["attributes"] == attributes


async def test_faults_of_rows_point_into_attributes(api: Api) -> None:
    table = b"name,vip,score,tags\nAda,maybe,5.5,a;;b\nBob,1,1001,[1]\nCy,0,7,[broken\n"
    *rows, end = await imported(api, table, CSV)
    assert [[error["pointer"] for error in row["errors"]] for row in rows] == [
        ["/attributes/score", "/attributes/vip"],
        ["/attributes/score", "/attributes/tags/0"],
        ["/attributes/tags"],
    ]
    assert end == {"summary": {"refused": {"invalid-member": 3}}}
    lines = (
        b'{"name": "Ada", "attributes": 5}\n'
        b'{"name": "Bob", "attributes": {"x": 1, "score": "7"}}\n'
        b'{"name": "Cy", "attributes": null}\n'
    )
    *rows, _ = await imported(api, lines, NDJSON, "?strict=true")
    assert [[error["pointer"] for error in row.get("errors", [])] for row in rows] == [
        ["/attributes"],
        ["/attributes/x", "/attributes/score"],
        [],
    ]
    assert parsed(await api("GET", "/members/1"))["attributes"] == {}


async def test_description_has_the_exact_rules(services: Services) -> None:
    description = json.loads(openapi_document(services).plain)
    validate(description)
    schemas = description["components"]["schemas"]
    for name in ("Attributes", "AttributesDraft", "AttributesPatch", "ChangedAttributes"):
        assert [*schemas[name]["properties"]] == [*DECLARED]
    shown = schemas["Attributes"]["properties"]
    assert shown["birthday"] == {
        "type": "string",
        "format": "date",
        "description": "Day of birth",
        "examples": ["1815-12-10"],
    }
    assert shown["score"] == {"type": "integer", "minimum": 0, "maximum": 1000, "examples": [1]}
    assert shown["tags"]["maxItems"] == 3
    assert shown["code"]["allOf"] == [{"pattern": "^[A-Z]{2}[0-9]+$"}]
    drafted = schemas["AttributesDraft"]["properties"]
    assert drafted["vip"]["default"] is False
    assert schemas["Member"]["properties"]["attributes"] == {
        "$ref": "#/components/schemas/Attributes"
    }
    listing = description["paths"]["/members"]["get"]
    filters = [
        parameter["name"]
        for parameter in listing["parameters"]
        if "attributes." in parameter.get("name", "")
    ]
    assert filters == [f"attributes.{name}" for name, one in DECLARED.items() if one.get("indexed")]
    content = listing["responses"]["200"]["content"]
    assert content["text/csv"]["example"].splitlines()[0].endswith(",attributes.visits")
    example = content["application/json"]["example"]["items"][0]
    body = {name: value for name, value in example.items() if name != "memberId"}
    assert parse_draft(body, fields=services.fields).values == body


def test_made_up_members_have_attributes(settings: Settings) -> None:
    fields = settings.members.fields()
    people = fake_members(fields)
    for draft in (next(people) for _ in range(50)):
        assert set(draft.values["attributes"]) == set(DECLARED)
        assert parse_draft(draft.values, fields=fields) == draft
    pattern = {"code": {"type": "string", "pattern": "^x$", "required": True}}
    with pytest.raises(NoExample, match=r"members\.attributes\.code"):
        next(fake_members(declaring(settings, pattern).members.fields()))

"""Attributes that the settings declare: validation, storage, patches, filters and the cache."""

import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pymongo
import pytest

from tests.support.api import Api, parsed, problem
from tornado_members.errors import InvalidMember
from tornado_members.model.list_query import ListQuery
from tornado_members.model.member import apply_merge_patch, parse_draft
from tornado_members.services import Services, open_directory
from tornado_members.settings import Audit, Members, Settings
from tornado_members.storage.documents import MemberCodec
from tornado_members.storage.folding import Folding
from tornado_members.storage.stores import open_lists, open_stores

pytestmark = pytest.mark.shared_services

Admin = pymongo.MongoClient[dict[str, Any]]
DECLARED: dict[str, Any] = {
    "birthday": {"type": "date", "description": "Day of birth", "csv_headings": ["Date of birth"]},
    "level": {"type": "string", "enum": ["bronze", "silver", "gold"], "indexed": True},
    "score": {"type": "integer", "minimum": 0, "maximum": 1000, "indexed": True},
    "ratio": {"type": "number"},
    "tags": {"type": "string", "list": True, "max_items": 3, "indexed": True},
    "vip": {"type": "boolean", "default": False, "indexed": True},
    "seen": {"type": "datetime", "indexed": True},
    "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$", "example": "AB1"},
    "site": {"type": "string", "format": "uri"},
    "visits": {"type": "datetime", "list": True},
}
PATCH = {"Content-Type": "application/merge-patch+json"}
ADA = {"memberId": 1, "name": "Ada", "email": None, "phone": None}


def declaring(settings: Settings, attributes: dict[str, Any]) -> Settings:
    """Return settings with these attributes."""
    members = Members.model_validate({"attributes": attributes})
    return settings.model_copy(update={"members": members})


@pytest.fixture
def settings(settings: Settings, admin: Admin) -> Settings:
    admin[settings.mongodb.database]["audit"].delete_many({})
    audited = settings.model_copy(update={"audit": Audit(enabled=True)})
    return declaring(audited, DECLARED)


async def patch(api: Api, member: int, body: Any) -> Any:
    return await api("PATCH", f"/members/{member}", body, headers=PATCH)


async def test_attributes_are_stored_typed_and_shown_in_one_form(api: Api, admin: Admin) -> None:
    sent = {
        "birthday": "1815-12-10",
        "score": 7.0,
        "ratio": 5,
        "tags": ["b", "a"],
        "seen": "2026-11-22T12:05:42.1239+01:00",
        "code": "AB12",
        "site": "https://example.org/?q=%20",
        "visits": ["2026-11-22 11:05:42z"],
    }
    shown = {
        "birthday": "1815-12-10",
        "score": 7,
        "ratio": 5,
        "tags": ["b", "a"],
        "vip": False,
        "seen": "2026-11-22T11:05:42.123Z",
        "code": "AB12",
        "site": "https://example.org/?q=%20",
        "visits": ["2026-11-22T11:05:42.000Z"],
    }
    created = await api("POST", "/members", {"name": "Ada", "attributes": sent})
    assert parsed(created) == {**ADA, "attributes": shown}
    for cached in ("fwd=miss; stored", "hit"):
        answer = await api("GET", "/members/1")
        assert answer.headers["Cache-Status"] == f"memcached; {cached}"
        assert answer.body == created.body
    assert list(parsed(created)["attributes"]) == [name for name in DECLARED if name in shown]
    stored = admin["test"]["members"].find_one({"_id": 1})
    assert stored is not None
    assert stored["attributes"]["seen"].isoformat() == "2026-11-22T11:05:42.123000"


async def test_faults_of_attributes_are_listed_at_once(api: Api) -> None:
    attributes = {
        "birthday": "1815-02-30",
        "level": "iron",
        "score": 1001,
        "ratio": True,
        "tags": ["a", 5, ""],
        "vip": "yes",
        "seen": "yesterday",
        "code": "ab12",
        "site": "example",
        "unknown": 1,
        "visits": ["2026-11-22T11:05:42Z"] * 101,
    }
    answer = await api("POST", "/members", {"name": "", "age": 1, "attributes": attributes})
    faults = {
        fault["pointer"]: fault["detail"]
        for fault in problem(answer, 422, "invalid-member")["errors"]
    }
    assert faults == {
        "/age": "is not a field of a member",
        "/name": "is empty",
        "/attributes/unknown": "is not an attribute of a member",
        "/attributes/birthday": "is a day that does not exist",
        "/attributes/level": "must be one of bronze, silver, gold",
        "/attributes/score": "is 1001; at most 1000 is allowed",
        "/attributes/ratio": "must be a number or null",
        "/attributes/tags/1": "must be a string",
        "/attributes/tags/2": "is empty",
        "/attributes/vip": "must be true or false or null",
        "/attributes/seen": "is not a time of RFC 3339, such as 2026-11-22T11:05:42Z",
        "/attributes/code": "does not match the pattern ^[A-Z]{2}[0-9]+$",
        "/attributes/site": "is not a URI (RFC 3986), such as https://example.org/",
        "/attributes/visits": "has 101 items; at most 100 are allowed",
    }
    for wrong in ("5", "[]", '"x"'):
        raw = f'{{"name": "Ada", "attributes": {wrong}}}'.encode()
        answer = await api("POST", "/members", raw=raw)
        assert problem(answer, 422, "invalid-member")["errors"] == [
            {"pointer": "/attributes", "detail": "must be an object or null"}
        ]


async def test_merge_patch_reaches_into_attributes(api: Api) -> None:
    await api.create("Ada", attributes={"level": "gold", "tags": ["a"], "score": 5})
    for change, attributes in (
        ({"score": 6}, {"level": "gold", "score": 6, "tags": ["a"], "vip": False}),
        ({"score": None, "vip": True}, {"level": "gold", "tags": ["a"], "vip": True}),
        ({"tags": []}, {"level": "gold", "tags": [], "vip": True}),
        ({}, {"level": "gold", "tags": [], "vip": True}),
        (None, {}),
        ({"vip": False}, {"vip": False}),
    ):
        answer = await patch(api, 1, {"attributes": change})
        assert parsed(answer) == {**ADA, "attributes": attributes}, change
        assert parsed(await api("GET", "/members/1"))["attributes"] == attributes
    assert (await patch(api, 1, {"attributes": {}})).headers["ETag"] == '"6"'
    history = parsed(await api("GET", "/members/1/history"))["items"]
    assert [(change["before"], change["after"]) for change in history[:3]] == [
        ({"attributes": {"vip": None}}, {"attributes": {"vip": False}}),
        (
            {"attributes": {"level": "gold", "tags": [], "vip": True}},
            {"attributes": {"level": None, "tags": None, "vip": None}},
        ),
        ({"attributes": {"tags": ["a"]}}, {"attributes": {"tags": []}}),
    ]
    assert history[-1]["after"]["attributes"]["level"] == "gold"
    wrong = await patch(api, 1, {"name": None, "attributes": {"score": -1, "x": None}})
    assert [fault["pointer"] for fault in problem(wrong, 422, "invalid-member")["errors"]] == [
        "/name",
        "/attributes/x",
        "/attributes/score",
    ]


async def test_values_that_contradict_the_declaration_are_shown_and_kept(
    services: Services, admin: Admin
) -> None:
    draft = parse_draft({"name": "Ada", "attributes": {"level": "gold"}}, fields=services.fields)
    directory = services.directory
    await directory.create(draft)
    stored = {"level": "iron", "score": "?", "tags": {"a": 1.0}, "vip": float("nan"), "old": 1}
    admin["test"]["members"].update_one({"_id": 1}, {"$set": {"attributes": stored}})
    shown = {"level": "iron", "score": "?", "tags": {"a": 1}}
    assert json.loads((await directory.get(1)).body)["attributes"] == shown

    def change(patch: dict[str, Any]) -> Any:
        return partial(apply_merge_patch, merge_patch=patch, fields=services.fields)

    for body, changed in (
        ({"phone": "555"}, {}),
        ({"attributes": {"level": "iron", "score": 5}}, {"score": 5}),
    ):
        found = await directory.patch(1, change(body))
        assert json.loads(found.body)["attributes"] == {**shown, **changed}
    document = admin["test"]["members"].find_one({"_id": 1})
    assert document is not None
    assert {**document["attributes"], "vip": None} == {**stored, "score": 5, "vip": None}
    with pytest.raises(InvalidMember):
        await directory.patch(1, change({"attributes": {"level": "steel"}}))


@pytest.mark.parametrize("stored", ["text", [{"level": "gold"}], None])
async def test_attributes_that_are_not_an_object_count_as_none(
    api: Api, admin: Admin, stored: Any
) -> None:
    admin["test"]["members"].insert_one({"_id": 1, "name": "Ada", "attributes": stored})
    assert parsed(await api("GET", "/members/1")) == {**ADA, "attributes": {}}
    await patch(api, 1, {"phone": "555"})
    document = admin["test"]["members"].find_one({"_id": 1})
    assert document is not None
    assert document["attributes"] == stored
    found = parsed(await patch(api, 1, {"attributes": {"score": 1}}))
    assert found["attributes"] == {"score": 1}


async def test_put_replaces_attributes_and_keeps_undeclared_values(api: Api, admin: Admin) -> None:
    members = admin["test"]["members"]
    await api.create("Ada", attributes={"level": "gold", "score": 5})
    members.update_one({"_id": 1}, {"$set": {"attributes.old": {"x": 1}}})
    answer = await api("PUT", "/members/1", {"name": "Ada", "attributes": {"level": "silver"}})
    assert parsed(answer)["attributes"] == {"level": "silver", "vip": False}
    stored = members.find_one({"_id": 1})
    assert stored is not None
    assert stored["attributes"] == {"old": {"x": 1}, "level": "silver", "vip": False}
    await api("PUT", "/members/by-name/Ada", {"attributes": None})
    stored = members.find_one({"_id": 1})
    assert stored is not None
    assert stored["attributes"] == {"old": {"x": 1}}


async def test_bodies_of_members_have_room_for_attributes(api: Api) -> None:
    attributes = {"tags": ["\u00e9" * 255] * 3, "visits": ["2026-11-22T11:05:42Z"] * 100}
    body = json.dumps({"name": "Ada", "attributes": attributes}, indent=150).encode()
    assert len(body) > 16 * 1024
    assert (await api("POST", "/members", raw=body)).code == 201
    answer = await api("POST", "/members", raw=b"{" + b" " * 64 * 1024 + b"}")
    problem(answer, 413, "body-too-large")


@pytest.mark.parametrize("sort", ["memberId", "-name"])
async def test_lists_filter_by_indexed_attributes(api: Api, sort: str) -> None:
    seen = "2026-11-22T11:05:42.000Z"
    for i, name in enumerate(("Ada", "Bob", "Cy", "Di")):
        level = "gold" if i % 2 else "bronze"
        attributes = {"level": level, "score": i, "tags": ["x", name], "vip": i > 1, "seen": seen}
        await api.create(name, attributes=attributes)
    for query, names in (
        ("attributes.level=gold", {"Bob", "Di"}),
        ("attributes.level=iron", set()),
        ("attributes.level=gold&attributes.vip=true", {"Di"}),
        ("attributes.tags=x&name_prefix=b", {"Bob"}),
        ("attributes.score=2", {"Cy"}),
        ("attributes.vip=false", {"Ada", "Bob"}),
        ("attributes.seen=2026-11-22T12:05:42%2B01:00", {"Ada", "Bob", "Cy", "Di"}),
    ):
        headers = {"Prefer": "count=exact"}
        answer = await api("GET", f"/members?{query}&sort={sort}&limit=1", headers=headers)
        assert answer.headers["X-Total-Count"] == str(len(names)), query
        found, following = parsed(answer)["items"], parsed(answer)["next"]
        while following:
            answer = await api("GET", following)
            found += parsed(answer)["items"]
            following = parsed(answer)["next"]
        assert [member["name"] for member in found] == sorted(names, reverse=sort[0] == "-"), query


async def test_search_finds_words_of_indexed_strings(
    api: Api, settings: Settings, servers: Any
) -> None:
    await api.create(
        "Ada", attributes={"tags": ["Río Grande", "b"], "level": "gold", "code": "AB1"}
    )
    await api.create("Bob", attributes={"tags": ["rio"]})

    async def found(q: str) -> list[str]:
        answer = await api("GET", f"/members?q={q}&sort=name", headers={"Prefer": "count=exact"})
        names = [member["name"] for member in parsed(answer)["items"]]
        assert answer.headers["X-Total-Count"] == str(len(names))
        return names

    assert await found("rio") == ["Ada", "Bob"]
    assert await found("gra+ada+gol") == ["Ada"]
    assert await found("ab1") == []  # it is not indexed
    assert await found("rio&attributes.level=gold") == ["Ada"]
    assert await found("rio+ad&attributes.vip=false") == ["Ada"]
    # A service without the declaration replaces the words; those with it make them anew.
    without, uri = declaring(settings, {}), servers.mongodb_uri
    fields = without.members.fields()
    async with open_stores(without, uri) as stores:
        await stores.members.replace(1, parse_draft({"name": "Ada"}, fields=fields))
        assert await found("rio") == ["Bob"]
        async with open_stores(settings, uri) as ours, open_lists(ours, uri, None):
            assert await found("rio") == ["Ada", "Bob"]
    other = declaring(settings, {"tags": DECLARED["tags"]})
    async with open_stores(other, uri) as stores, open_lists(stores, uri, None):
        for fields in (stores.members.fields, settings.members.fields()):
            assert not await Folding(stores.mongo, MemberCodec(fields)).is_lacking()
    assert await found("gol") == []


async def test_filters_that_are_not_possible_are_refused(api: Api) -> None:
    for query, detail in (
        ("attributes.birthday=1815-12-10", "attributes.birthday: is not indexed"),
        ("attributes.shoe=5", "attributes.shoe: is not a parameter"),
        ("attributes.score=five", "attributes.score: must be an integer"),
        ("attributes.level=", "attributes.level: is empty"),
        ("attributes.vip=1&attributes.vip=1", "attributes.vip: is given more than once"),
    ):
        refused = problem(await api("GET", f"/members?{query}"), 400, "bad-parameter")
        assert refused["detail"].startswith(detail)
        assert refused["parameter"] == query.partition("=")[0]
    page = parsed(await api("GET", "/members?attributes.level=gold"))
    assert page["items"] == []


async def test_services_with_other_declarations_share_no_entries(
    api: Api, settings: Settings, servers: Any, cache_servers: tuple[str, ...]
) -> None:
    await api.create("Ada", attributes={"level": "gold", "score": 5})
    other = declaring(settings, {"score": {"type": "integer"}, "vip": {"type": "boolean"}})
    async with (
        open_stores(other, servers.mongodb_uri) as stores,
        open_directory(other, stores, cache_servers) as directory,
    ):
        for _ in range(3):
            assert parsed(await api("GET", "/members/1"))["attributes"]["level"] == "gold"
            body = (await directory.get(1)).body
            assert body.endswith(b'"attributes":{"score":5,"vip":false}}')


async def test_description_is_that_of_the_declaration(services: Services) -> None:
    assert services.fields.attributes.names == tuple(DECLARED)


async def test_page_consists_of_the_bytes_of_single_reads(
    services: Services, admin: Admin, settings: Settings
) -> None:
    """Also of documents that other programs wrote, which need not meet /openapi.json."""
    texts = ['"\\/', "\u2028\u2029", "\x00\x1f\x7f\b\t", "👩‍👩‍👧 é", "%s %d %", "</script>", ""]
    values = [1e16, 5e-324, -0.0, 2**53, True, None, "5", [1], {"a": 1}]
    documents: list[dict[str, Any]] = [
        {"_id": i, "name": f"{i} {text}", "email": text, "phone": text, "version": value}
        for i, (text, value) in enumerate(zip(texts * 2, values * 2, strict=False), 1)
    ]
    for document, value in zip(documents, values, strict=False):
        others = {"tags": texts, "vip": True, "seen": datetime(1, 1, 1, tzinfo=UTC)}
        document["attributes"] = {"ratio": value, "score": value, **others}
    documents += [{"_id": 20.0, "name": "a float"}, {"_id": 21, "name": "odd", "email": ["a"]}]
    documents += [{"_id": "22", "name": "no member"}, {"_id": 23}, {"_id": 24, "name": ["list"]}]
    admin[settings.mongodb.database]["members"].insert_many(documents)
    directory = services.directory
    by_id = await directory.page_json(ListQuery())
    assert by_id.keys == [*range(1, 15), 20, 21]
    bodies = [(await directory.get(int(member_id))).body for member_id in by_id.keys]
    assert by_id.items == b",".join(bodies)
    by_name = await directory.page_json(ListQuery(field="name"))
    bodies.sort(key=lambda body: str(json.loads(body)["name"]).encode())
    assert by_name.items == b",".join(bodies)
    assert by_name.keys == [json.loads(body)["name"] for body in bodies]

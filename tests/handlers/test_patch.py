"""PATCH: JSON merge patches (RFC 7396)."""

import asyncio
from typing import Any

import pytest

from tests.support.api import Api, parsed, problem

pytestmark = pytest.mark.shared_services

TYPE = {"Content-Type": "application/merge-patch+json"}
ADA = {"name": "Ada", "email": "ada@example.org", "phone": "555-0100"}


async def patch(api: Api, body: Any, path: str = "/members/1", **options: Any) -> Any:
    return await api("PATCH", path, body, headers=TYPE, **options)


@pytest.mark.parametrize(
    ("merge_patch", "changed"),
    [
        ({}, {}),
        ({"phone": "555-0199"}, {"phone": "555-0199"}),
        ({"phone": None}, {"phone": None}),
        ({"email": None, "name": " Ada  King "}, {"email": None, "name": "Ada  King"}),
        ({"memberId": 1, "phone": "555-0199"}, {"phone": "555-0199"}),
        ({"phone": "$email"}, None),
        ({"name": "$email"}, {"name": "$email"}),  # text, not a field path of MongoDB
    ],
)
async def test_patch_changes_the_given_fields(
    api: Api, merge_patch: dict[str, Any], changed: dict[str, Any] | None
) -> None:
    await api.create(**ADA)
    answer = await patch(api, merge_patch)
    if changed is None:
        problem(answer, 422, "invalid-member")
        return
    assert answer.code == 200
    assert parsed(answer) == {"memberId": 1, **ADA, **changed}
    assert answer.headers["ETag"] == ('"2"' if changed else '"1"')
    read = await api("GET", "/members/1")
    assert (read.body, read.headers["ETag"]) == (answer.body, answer.headers["ETag"])


@pytest.mark.parametrize(
    ("merge_patch", "pointers"),
    [
        ({"name": None}, ["/name"]),
        ({"name": "", "email": "x", "phone": 5}, ["/name", "/email", "/phone"]),
        ({"memberId": 2}, ["/memberId"]),
        ({"memberId": None}, ["/memberId"]),
        ({"colour": "red"}, ["/colour"]),
        ({"colour": None}, ["/colour"]),
        ({"email": {"work": "x@example.org"}}, ["/email"]),
    ],
)
async def test_patch_to_an_invalid_member_is_refused(
    api: Api, merge_patch: dict[str, Any], pointers: list[str]
) -> None:
    await api.create(**ADA)
    faults = problem(await patch(api, merge_patch), 422, "invalid-member")["errors"]
    assert [fault["pointer"] for fault in faults] == pointers
    assert parsed(await api("GET", "/members/1")) == {"memberId": 1, **ADA}


async def test_patch_to_a_taken_name_is_409(api: Api) -> None:
    await api.create("Ada")
    await api.create("Grace")
    answer = await patch(api, {"name": "Ada"}, "/members/2")
    assert problem(answer, 409, "name-taken")["member"] == "/members/1"


async def test_patch_loses_no_concurrent_change(api: Api) -> None:
    """Two clients change one field each, concurrently: each field keeps its own last value."""
    await api.create("Ada")

    async def change(field: str, values: list[str]) -> None:
        for value in values:
            assert (await patch(api, {field: value})).code == 200

    await asyncio.gather(
        change("email", [f"ada{n}@example.org" for n in range(15)]),
        change("phone", [f"555-01{n:02}" for n in range(15)]),
        change("name", [f"Ada {n}" for n in range(15)]),
    )
    answer = await api("GET", "/members/1")
    expected = {"memberId": 1, "name": "Ada 14", "email": "ada14@example.org", "phone": "555-0114"}
    assert (parsed(answer), answer.headers["ETag"]) == (expected, '"46"')


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain", "application/merge-patch+json; charset=utf-16"],
)
async def test_patch_accepts_only_a_merge_patch(api: Api, content_type: str) -> None:
    answer = await api("PATCH", "/members/1", {}, headers={"Content-Type": content_type})
    problem(answer, 415, "unsupported-media-type")
    assert answer.headers["Accept-Patch"] == "application/merge-patch+json"


async def test_patch_that_is_not_an_object_is_refused(api: Api) -> None:
    for body in (b"[]", b"null", b'"x"', b"{", b""):
        answer = await api("PATCH", "/members/1", raw=body, headers=TYPE)
        problem(answer, 400, "malformed-body")


async def test_patch_needs_the_permission_to_write(api: Api) -> None:
    problem(await patch(api, {}, rights=1), 403, "permission-missing")

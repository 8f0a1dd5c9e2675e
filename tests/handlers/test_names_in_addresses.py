"""Names in the query and in the path of an address."""

from typing import Any
from urllib.parse import quote

import pymongo
import pytest

from tests.support.api import Api, parsed, problem
from tests.support.cases import cases

pytestmark = pytest.mark.shared_services

Admin = pymongo.MongoClient[dict[str, Any]]
DOTS = (".", "..", " ..", "\u200b.")


@cases(
    "segment",
    [*("a/b", "a%2Fb", "a%2fb", "/", "%2F"), *("a%5Cb", "..%5c68"), *(".", "..", "%2e", "%2E%2e")],
)
async def test_ambiguous_name_in_a_path_is_400(api: Api, segment: str) -> None:
    for method, body in (("GET", None), ("HEAD", None), ("PUT", {})):
        response = await api(method, f"/members/by-name/{segment}", body)
        if method == "HEAD":
            assert response.code == 400
        else:
            found = problem(response, 400, "ambiguous-address")
            assert "/by-name?name=" in found["detail"]
    problem(await api("GET", f"/members/by-name/{segment}", rights=None), 401, "token-missing")


async def test_query_without_a_valid_name_is_400(api: Api) -> None:
    for query in ("", "?", "?name", "?name=", "?name=%ff", "?name=a&name=b"):
        response = await api("GET", f"/members/by-name{query}")
        assert problem(response, 400, "bad-parameter")["parameter"] == "name"
        response = await api("PUT", f"/members/by-name{query}", {})
        problem(response, 400, "bad-parameter")
    other = problem(await api("GET", "/members/by-name?name=a&sort=name"), 400, "bad-parameter")
    assert other["parameter"] == "sort"
    problem(await api("GET", "/members/by-name?name=%00"), 404, "member-not-found")
    problem(await api("GET", "/members/by-name?name=+"), 404, "member-not-found")
    problem(await api("DELETE", "/members/by-name?name=a"), 405, "method-not-allowed")


async def test_put_by_name_in_the_query_creates_and_replaces(api: Api) -> None:
    address = "/members/by-name?name=AC%2FDC+%2B+%26%3D"
    for status in (201, 200):
        response = await api("PUT", address, {"name": "AC/DC + &=", "phone": "555-0100"})
        assert (response.code, parsed(response)["name"]) == (status, "AC/DC + &=")
    refused = await api("PUT", address, {}, headers={"If-None-Match": "*"})
    problem(refused, 412, "precondition-failed")
    problem(await api("PUT", address, {"name": "Other"}), 422, "invalid-member")


@pytest.mark.parametrize("name", DOTS)
async def test_dots_are_not_a_name(api: Api, name: str) -> None:
    await api.create("Ada")
    reason = "which proxies remove from URLs"
    for method, path, body in (
        ("POST", "/members", {"name": name}),
        ("PUT", "/members/1", {"name": name}),
        ("PUT", f"/members/by-name?name={quote(name)}", {}),
    ):
        (error,) = problem(await api(method, path, body), 422, "invalid-member")["errors"]
        assert error["pointer"] == "/name"
        assert reason in error["detail"]
    for kind, rows in (
        ("text/csv", f"name\n{name}\n"),
        ("application/x-ndjson", f'{{"name": "{name}"}}\n'),
    ):
        headers = {"Content-Type": kind}
        answer = await api("POST", "/members/import", raw=rows.encode(), headers=headers)
        assert reason in answer.body.decode()
    await api.create("...")
    await api.create("..a")


async def test_dots_that_are_stored_are_read_by_id_and_by_query(api: Api, admin: Admin) -> None:
    documents = [{"_id": 1, "name": "..", "version": 1}, {"_id": 2, "name": ".", "version": 1}]
    admin["test"]["members"].insert_many(documents)
    for member_id, name in ((1, ".."), (2, ".")):
        member = {"memberId": member_id, "name": name, "email": None, "phone": None}
        for _ in range(2):
            assert parsed(await api("GET", f"/members/{member_id}")) == member
            assert parsed(await api("GET", f"/members/by-name?name={name}")) == member
            assert parsed(await api("GET", f"/members?name={name}"))["items"] == [member]
        in_path = await api("GET", f"/members/by-name/{name}")  # although the cache has it
        problem(in_path, 400, "ambiguous-address")
    headers = {"Content-Type": "application/merge-patch+json"}
    renamed = await api("PATCH", "/members/1", {"name": "Dots"}, headers=headers)
    assert parsed(renamed)["name"] == "Dots"

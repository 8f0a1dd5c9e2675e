"""Lists, page by page."""

import base64
import json
from typing import Any

import pytest

from tests.support.api import Api, parsed, problem


async def walk(api: Api, path: str) -> list[dict[str, Any]]:
    """Every member of a list, following `next` and checking that `Link` agrees."""
    items: list[dict[str, Any]] = []
    following: str | None = path
    while following:
        response = await api("GET", following)
        assert response.code == 200, response.body
        page = parsed(response)
        items += page["items"]
        following = page["next"]
        link = response.headers.get("Link")
        assert link == (f'<{following}>; rel="next"' if following else None)
    return items


NAMES = ["Émile", "ada", "Zoë", "Ada", "👩‍👩‍👧", "$x", "Bob", "عادل"]


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 9])
async def test_pages_together_are_the_whole_list(api: Api, limit: int) -> None:
    for name in NAMES:
        await api.create(name)
    by_id = await walk(api, f"/members?limit={limit}")
    assert [member["memberId"] for member in by_id] == list(range(1, 9))
    backwards = await walk(api, f"/members?limit={limit}&sort=-memberId")
    assert backwards == by_id[::-1]
    by_name = await walk(api, f"/members?limit={limit}&sort=name")
    assert [member["name"] for member in by_name] == sorted(NAMES)
    assert await walk(api, f"/members?limit={limit}&sort=-name") == by_name[::-1]


async def test_an_empty_list(api: Api) -> None:
    response = await api("GET", "/members")
    assert parsed(response) == {"items": [], "next": None}


async def test_a_page_stays_right_when_members_come_and_go(api: Api) -> None:
    for i in range(6):
        await api.create(f"Member {i}")
    first = parsed(await api("GET", "/members?limit=3"))
    await api("DELETE", "/members/3")  # the one at which the cursor stands
    await api("DELETE", "/members/5")
    await api.create("Newcomer")
    rest = parsed(await api("GET", first["next"]))
    assert [member["memberId"] for member in rest["items"]] == [4, 6, 7]


def cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1e2", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=9" + "0" * 5000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("sort=email", "sort"),
        ("sort=", "sort"),
        ("sort=%ff", "sort"),
        ("skip=10", "skip"),
        ("%ff=1", "�"),
        ("after=", "after"),
        ("after=!!!", "after"),
        ("after=" + cursor(None), "after"),
        ("after=" + cursor(["memberId"]), "after"),
        ("after=" + cursor({"a": 1, "b": 2}), "after"),
        ("after=" + cursor(["name", "x"]), "after"),
        ("after=" + cursor(["memberId", "x"]), "after"),
        ("after=" + cursor(["memberId", 2**70]), "after"),
        ("after=" + cursor(["memberId", True]), "after"),
        ("after=" + cursor(["memberId", {"$gt": 0}]), "after"),
        ("sort=name&after=" + cursor(["name", 3]), "after"),
        ("sort=name&after=" + cursor(["name", "\ud800"]), "after"),
        ("sort=-name&after=" + cursor(["name", "x"]), "after"),
        ("after=" + base64.urlsafe_b64encode(b"[" * 5000).decode(), "after"),
    ],
)
async def test_a_query_that_makes_no_sense_is_told(api: Api, query: str, parameter: str) -> None:
    found = problem(await api("GET", f"/members?{query}"), 400, "bad-parameter")
    assert found["parameter"] == parameter

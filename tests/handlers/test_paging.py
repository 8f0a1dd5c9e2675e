"""The pages of the list."""

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.api import Api, parsed, problem
from tornado_members.model.list_query import ListQuery
from tornado_members.services import Services

pytestmark = pytest.mark.shared_services


async def walk(api: Api, path: str) -> list[dict[str, Any]]:
    """Return every member of a list by following `next`, and check that `Link` agrees."""
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


async def test_list_without_members_is_empty(api: Api) -> None:
    response = await api("GET", "/members")
    assert parsed(response) == {"items": [], "next": None}


async def test_pages_stay_correct_while_members_change(api: Api) -> None:
    for i in range(6):
        await api.create(f"Member {i}")
    first = parsed(await api("GET", "/members?limit=3"))
    await api("DELETE", "/members/3")  # the member at the cursor
    await api("DELETE", "/members/5")
    await api.create("Newcomer")
    rest = parsed(await api("GET", first["next"]))
    assert [member["memberId"] for member in rest["items"]] == [4, 6, 7]


# The digest of no filters. A cursor that is forged with it passes the most checks.
NONE = blake2b(json.dumps([None] * 4).encode(), digest_size=6).hexdigest()


def cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


NONSENSE = [
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
    ("after=" + cursor(["memberId", NONE]), "after"),
    ("after=" + cursor({"a": 1, "b": 2}), "after"),
    ("after=" + cursor(["name", NONE, "x"]), "after"),
    ("after=" + cursor(["memberId", NONE, "x"]), "after"),
    ("after=" + cursor(["memberId", NONE, 2**70]), "after"),
    ("after=" + cursor(["memberId", NONE, True]), "after"),
    ("after=" + cursor(["memberId", NONE, {"$gt": 0}]), "after"),
    ("sort=name&after=" + cursor(["name", NONE, 3]), "after"),
    ("sort=name&after=" + cursor(["name", NONE, "\ud800"]), "after"),
    ("sort=-name&after=" + cursor(["name", NONE, "x"]), "after"),
    ("after=" + base64.urlsafe_b64encode(b"[" * 5000).decode(), "after"),
]


async def test_list_refuses_an_invalid_query(api: Api, subtests: pytest.Subtests) -> None:
    for query, parameter in NONSENSE:
        with subtests.test(query=query[:50]):
            found = problem(await api("GET", f"/members?{query}"), 400, "bad-parameter")
            assert found["parameter"] == parameter
            assert "filters" not in found["detail"]  # the service decoded the cursor


async def test_unknown_parameter_error_names_the_known_ones(api: Api) -> None:
    found = problem(await api("GET", "/members?offset=5"), 400, "bad-parameter")
    known = "memberId, name, name_prefix, q, email, phone, limit, sort, bom, delimiter and after"
    assert found["detail"] == f"offset: is not a parameter; parameters are {known}"


async def test_cursor_is_valid_for_its_own_list_only(api: Api) -> None:
    for name in ("Ada", "Adam"):
        await api.create(name)
    next_page = parsed(await api("GET", "/members?name_prefix=ad&limit=1"))["next"]
    cursor_of_it = parse_qs(urlsplit(next_page).query)["after"][0]
    for query, reason in [
        ("name_prefix=ad&sort=-memberId", "another sort"),
        ("name_prefix=a", "other filters"),
        ("name_prefix=ad&q=ad", "other filters"),
        ("email=ad", "other filters"),
        ("", "other filters"),
    ]:
        response = await api("GET", f"/members?{query}&after={cursor_of_it}")
        assert reason in problem(response, 400, "bad-parameter")["detail"]
    response = await api("GET", f"/members?limit=9&name_prefix=ad&after={cursor_of_it}")
    assert [member["name"] for member in parsed(response)["items"]] == ["Adam"]


async def test_pages_show_each_remaining_member_once_during_changes(api: Api) -> None:
    """By id, which never changes: with a filter, and while each member is renamed."""
    for i in range(30):
        await api.create(f"Old {i:02}")
    seen: list[int] = []
    following = "/members?name_prefix=OLD&limit=3"
    for turn in range(100):
        page = parsed(await api("GET", following))
        seen += [member["memberId"] for member in page["items"]]
        if not (following := page["next"]):
            break
        here = seen[-1]
        if turn < 5:
            await api.create(f"old newcomer {turn}")
        # Delete the member at the cursor and a later one; rename their neighbours.
        for gone in (here, here + 3):
            await api("DELETE", f"/members/{gone}")
        for renamed in (here - 1, here + 1):
            await api("PUT", f"/members/{renamed}", {"name": f"OLD renamed {turn} {renamed}"})
    left = [member["memberId"] for member in await walk(api, "/members?limit=100")]
    assert len(left) > 15
    assert seen == sorted(set(seen))
    assert set(left) <= set(seen)


async def test_callers_of_the_same_page_share_a_query(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page is older than its request, so later pages contain a write in between."""
    for name in ("Ada", "Grace"):
        await api.create(name)
    queried: list[ListQuery] = []
    may_go_on = asyncio.Event()
    store = services.directory._store
    page, group = store.page_json, store.page_groups.read

    async def slow_page(query: ListQuery) -> Any:
        queried.append(query)
        found = await page(query)
        await may_go_on.wait()
        return found

    async def slow_group(queries: Sequence[ListQuery]) -> Any:
        queried.extend(queries)
        found = await group(queries)
        await may_go_on.wait()
        return found

    monkeypatch.setattr(store, "page_json", slow_page)
    monkeypatch.setattr(store.page_groups, "read", slow_group)
    directory, query = services.directory, ListQuery()
    first = [asyncio.create_task(directory.page_json(query)) for _ in range(10)]
    other = asyncio.create_task(directory.page_json(replace(query, limit=1)))
    await asyncio.sleep(0.2)
    await api.create("Jean")
    second = [asyncio.create_task(directory.page_json(query)) for _ in range(10)]
    await asyncio.sleep(0)
    may_go_on.set()
    assert len((await other).keys) == 1
    assert len((await first[0]).keys) == 2
    assert {len((await page).keys) for page in second} == {3}
    assert {len((await page).keys) for page in first[1:]} == {3}  # they waited for the second query
    assert sorted(query.limit for query in queried) == [1, 50, 50]

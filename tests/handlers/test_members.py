"""The resource of members over real HTTP, on real MongoDB and Memcached."""

import asyncio
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from tests.support.api import Api, parsed, problem

pytestmark = pytest.mark.shared_services

ADA = {"name": "Ada Lovelace", "email": "ada@example.org", "phone": "+44 20 7946 0018"}


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_create_returns_an_id_a_location_and_a_version(api: Api, method: str) -> None:
    response = await api(method, "/members", ADA)
    assert response.code == 201
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["ETag"] == '"1"'
    member = parsed(response)
    assert response.headers["Location"] == f"/members/{member['memberId']}"
    assert member == {"memberId": 1, **ADA}


async def test_get_returns_a_member_as_created(api: Api) -> None:
    added = await api.create(**ADA)
    for _ in range(2):  # from the database, then from the cache
        response = await api("GET", f"/members/{added['memberId']}", rights=1)
        assert response.code == 200
        assert parsed(response) == added
        assert response.headers["ETag"] == '"1"'
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert response.headers["Vary"] == "Authorization, Accept"


async def test_head_is_get_without_the_body(api: Api) -> None:
    await api.create(**ADA)
    for path in ("/members/1", "/members", "/members/by-name/Ada%20Lovelace"):
        get, head = await api("GET", path), await api("HEAD", path)
        assert head.code == 200
        assert head.body == b""
        for name in ("Content-Length", "Content-Type", "Cache-Control"):
            assert head.headers[name] == get.headers[name]
        assert head.headers.get("ETag") == get.headers.get("ETag")


async def test_get_after_a_write_returns_the_write(api: Api) -> None:
    member = await api.create("Grace Hopper")
    path = f"/members/{member['memberId']}"
    for round_ in range(5):
        await api("GET", path)
        changed = await api("PUT", path, {"name": "Grace Hopper", "phone": f"555-000{round_}"})
        assert changed.code == 200
        seen = await api("GET", path)
        assert parsed(seen)["phone"] == f"555-000{round_}"
        assert seen.headers["ETag"] == changed.headers["ETag"] == f'"{round_ + 2}"'


async def test_get_is_never_older_than_an_acknowledged_write(api: Api) -> None:
    """One writer, many readers: no read is older than the last write acknowledged before it."""
    await api.create("Ada")
    acknowledged = 1

    async def write() -> None:
        nonlocal acknowledged
        for i in range(30):
            changed = await api("PUT", "/members/1", {"name": "Ada", "phone": f"555-{i:04}"})
            acknowledged = int(changed.headers["ETag"].strip('"'))

    async def read(writing: asyncio.Task[None]) -> int:
        reads = 0
        while not writing.done():
            least = acknowledged
            seen = await api("GET", "/members/1")
            assert int(seen.headers["ETag"].strip('"')) >= least
            reads += 1
        return reads

    writing = asyncio.create_task(write())
    assert sum(await asyncio.gather(*(read(writing) for _ in range(8)))) > 30
    await writing


async def test_put_replaces_omitted_fields_with_null(api: Api) -> None:
    await api.create(**ADA)
    response = await api("PUT", "/members/1", {"name": "Ada King"})
    assert parsed(response) == {"memberId": 1, "name": "Ada King", "email": None, "phone": None}


async def test_put_without_a_change_keeps_the_version(api: Api) -> None:
    await api.create(**ADA)
    response = await api("PUT", "/members/1", ADA)
    assert response.headers["ETag"] == '"1"'


async def test_put_accepts_a_representation_that_was_read(api: Api) -> None:
    member = await api.create(**ADA)
    by_id = await api("PUT", "/members/1", {**member, "phone": None})
    assert by_id.code == 200
    by_name = await api("PUT", "/members/by-name/Ada%20Lovelace", member)
    assert by_name.code == 200
    assert parsed(by_name) == member


async def test_delete_removes_a_member(api: Api) -> None:
    await api.create(**ADA)
    await api("GET", "/members/1")
    response = await api("DELETE", "/members/1")
    assert (response.code, response.body) == (204, b"")
    for method in ("GET", "DELETE"):
        problem(await api(method, "/members/1"), 404, "member-not-found")
    problem(await api("PUT", "/members/1", ADA), 404, "member-not-found")


async def test_create_never_reuses_an_id(api: Api) -> None:
    await api.create("One")
    two = await api.create("Two")
    await api("DELETE", f"/members/{two['memberId']}")
    three = await api.create("Three")
    assert three["memberId"] > two["memberId"]


NO_IDS = ["0", "-1", "01", "1.0", "abc", "9007199254740993", "1" + "0" * 30, "%00", "1%20"]


async def test_id_that_no_member_can_have_is_404(api: Api, subtests: pytest.Subtests) -> None:
    for member_id in NO_IDS:
        with subtests.test(member_id=member_id):
            answer = await api("GET", f"/members/{member_id}")
            assert "9007199254740991" in problem(answer, 404, "member-not-found")["detail"]
            assert "Cache-Status" not in answer.headers  # it was not looked up
            problem(await api("PUT", f"/members/{member_id}", ADA), 404, "member-not-found")
            problem(await api("DELETE", f"/members/{member_id}"), 404, "member-not-found")


async def test_name_conflict_names_the_owner(api: Api) -> None:
    ada = await api.create(**ADA)
    other = await api.create("Grace Hopper")
    answers = [
        await api("PUT", "/members", ADA),
        await api("PUT", f"/members/{other['memberId']}", ADA),
    ]
    for answer in answers:
        found = problem(answer, 409, "name-taken")
        assert found["member"] == f"/members/{ada['memberId']}"
        assert b"E11000" not in answer.body
        assert b"index" not in answer.body


async def test_create_gives_one_name_to_one_of_twenty_callers(api: Api) -> None:
    answers = await asyncio.gather(*(api("PUT", "/members", ADA) for _ in range(20)))
    assert sorted(answer.code for answer in answers) == [201] + [409] * 19


async def test_create_gives_concurrent_callers_distinct_ids(api: Api) -> None:
    members = await asyncio.gather(*(api.create(f"Member {i}") for i in range(20)))
    assert len({member["memberId"] for member in members}) == 20


AWKWARD_NAMES = [
    "Ada Lovelace",
    "AC/DC",
    "50% off?",
    "a#b&c=d+e",
    "$where",
    "name.first",
    "../etc/passwd",
    "עדה לאבלייס",
    "👩‍👩‍👧 family",
    "\U0001d49c" * 255,
    "José",
    "'; DROP TABLE members; --",
]


@pytest.mark.parametrize("name", AWKWARD_NAMES)
async def test_name_round_trips_in_bodies_and_addresses(api: Api, name: str) -> None:
    member = await api.create(name)
    assert member["name"] == name
    for phone, form in enumerate((quote(name, safe=""), quote_plus(name))):
        address = f"/members/by-name?name={form}"
        for _ in range(2):  # the second answer comes from the cache
            response = await api("GET", address)
            assert (parsed(response)["memberId"], parsed(response)["name"]) == (1, name)
            assert response.headers["Content-Location"] == "/members/1"
        again = await api("PUT", address, {"phone": f"555-000{phone}"})
        assert (again.code, parsed(again)["memberId"]) == (200, 1)
    for _ in range(2):  # so that the cache has it by name
        await api("GET", f"/members/by-name?name={quote(name, safe='')}")
    in_path = await api("GET", f"/members/by-name/{quote(name, safe='')}")
    if "/" in name or "\\" in name:
        problem(in_path, 400, "ambiguous-address")
    else:
        assert parsed(in_path)["memberId"] == 1


async def test_get_by_name_accepts_any_normal_form(api: Api) -> None:
    await api.create("  Jose\u0301  ")
    for form in ("José", "Jose\u0301", " José "):
        response = await api("GET", f"/members/by-name/{quote(form)}")
        assert parsed(response)["name"] == "José"


async def test_put_by_name_creates_once(api: Api) -> None:
    path = "/members/by-name/Ada%20Lovelace"
    first = await api("PUT", path, {"email": "ada@example.org"})
    assert (first.code, first.headers["Location"]) == (201, "/members/1")
    for _ in range(2):
        again = await api("PUT", path, {"email": "ada@example.org"})
        assert (again.code, again.headers["ETag"]) == (200, '"1"')
        assert again.headers["Content-Location"] == "/members/1"
    changed = await api("PUT", path, {"name": "Ada Lovelace"})
    assert (changed.code, changed.headers["ETag"]) == (200, '"2"')


async def test_put_by_name_creates_one_member_concurrently(api: Api) -> None:
    path = "/members/by-name/Ada"
    answers = await asyncio.gather(*(api("PUT", path, {}) for _ in range(20)))
    assert sorted(answer.code for answer in answers) == [200] * 19 + [201]
    assert len({parsed(answer)["memberId"] for answer in answers}) == 1


async def test_put_by_name_does_not_rename(api: Api) -> None:
    answer = await api("PUT", "/members/by-name/Ada", {"name": "Grace"})
    assert problem(answer, 422, "invalid-member")["errors"][0]["pointer"] == "/name"


@pytest.mark.parametrize("member_id", [7, True, "1", None])
async def test_put_by_name_accepts_only_the_id_of_that_member(api: Api, member_id: Any) -> None:
    await api.create("Ada")
    answer = await api("PUT", "/members/by-name/Ada", {"memberId": member_id})
    assert problem(answer, 422, "invalid-member")["errors"][0]["pointer"] == "/memberId"


async def test_id_in_a_body_may_have_a_fraction_of_zero(api: Api) -> None:
    await api.create("Ada")
    for path in ("/members/by-name/Ada", "/members/1"):
        answer = await api("PUT", path, {"memberId": 1.0, "name": "Ada"})
        assert (answer.code, parsed(answer)["memberId"]) == (200, 1)
        answer = await api("PUT", path, {"memberId": 1.5, "name": "Ada"})
        problem(answer, 422, "invalid-member")


async def test_unknown_name_is_404(api: Api) -> None:
    problem(await api("GET", "/members/by-name/Nobody"), 404, "member-not-found")
    problem(await api("GET", "/members/by-name/%00"), 404, "member-not-found")


async def test_path_that_is_not_utf8_is_400(api: Api) -> None:
    problem(await api("GET", "/members/by-name/%ff%fe"), 400, "bad-request")
    problem(await api("GET", "/members/by-name/%ED%A0%80"), 400, "bad-request")


HOSTILE_BODIES: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"not json", 400),
    (b"\xff\xfe", 400),
    (b"[]", 400),
    (b'"Ada"', 400),
    (b"null", 400),
    (b'{"name": "Ada",}', 400),
    (b'{"name": "Ada"} {}', 400),
    (b'{"name": "Ada", "name": "Grace"}', 400),
    (b'{"name": "Ada", "phone": {"a": 1, "a": 2}}', 400),
    (b'{"name": NaN}', 400),
    (b'{"name": -Infinity}', 400),
    (b'{"name": 1' + b"0" * 5000 + b"}", 400),
    (b'{"name": ' + b"[" * 2000 + b"]" * 2000 + b"}", 400),
    (b'{"name":' + b'{"a":' * 2000 + b"1" + b"}" * 2001, 400),
    (b'{"name": ' + b"[" * 10_000, 400),
    (b"{}", 422),
    (b'{"name": null}', 422),
    (b'{"name": 5}', 422),
    (b'{"name": true}', 422),
    (b'{"name": 9223372036854775808}', 422),
    (b'{"name": 1e400}', 422),
    (b'{"name": {"$gt": ""}}', 422),
    (b'{"name": ["Ada"]}', 422),
    (b'{"name": "Ada", "email": {"$ne": null}}', 422),
    (b'{"name": "Ada", "$set": {"version": 9}}', 422),
    (b'{"name": "Ada", "a.b": 1}', 422),
    (b'{"name": "Ada", "version": 7}', 422),
    (b'{"name": "Ada", "_id": 7}', 422),
    (b'{"name": "Ada", "memberId": 7}', 422),
    (b'{"name": "Ada", "memberId": 99999999999999999999999}', 422),
    (b'{"name": "Ada", "": 1}', 422),
    (b'{"name": "Ada", "\\ud800": 1}', 422),
    (b'{"name": "Ada", "' + b"k" * 10_000 + b'": 1}', 422),
    (b'{"name": "\\ud800"}', 422),
    (b'{"name": "Ada", "email": "\\udfff@example.org"}', 422),
    (b'{"name": "A\\u0000da"}', 422),
    (b'{"name": "A\\nda"}', 422),
    (b'{"name": "   "}', 422),
    (b'{"name": "' + b"a" * 256 + b'"}', 422),
    (b'{"name": "Ada", "phone": "12"}', 422),
    (b'{"name": "Ada", "phone": "\\u0000123"}', 422),
    (b'{"name": "Ada", "email": "nobody"}', 422),
]


async def test_invalid_member_is_refused_and_nothing_is_stored(
    api: Api, subtests: pytest.Subtests
) -> None:
    for body, status in HOSTILE_BODIES:
        with subtests.test(body=body[:50]):
            code = "malformed-body" if status == 400 else "invalid-member"
            for method, path in (("PUT", "/members"), ("POST", "/members"), ("PUT", "/members/1")):
                if not (path == "/members/1" and b"memberId" in body):
                    problem(await api(method, path, raw=body), status, code)
            if body != b"{}":
                problem(await api("PUT", "/members/by-name/Ada", raw=body), status, code)
            assert parsed(await api("GET", "/members"))["items"] == []


async def test_invalid_member_reports_every_fault(api: Api) -> None:
    body = {"name": "", "email": "x", "phone": "y", "a/b~c": 1, "memberId": 3}
    found = problem(await api("POST", "/members", body), 422, "invalid-member")
    pointers = [fault["pointer"] for fault in found["errors"]]
    assert sorted(pointers) == ["/a~1b~0c", "/email", "/memberId", "/name", "/phone"]
    assert all(fault["detail"] for fault in found["errors"])


async def test_invalid_member_counts_faults_beyond_a_hundred(api: Api) -> None:
    body = {f"field{i}": i for i in range(500)}
    found = problem(await api("POST", "/members", body), 422, "invalid-member")
    assert len(found["errors"]) == 100
    assert "501 faults" in found["detail"]


async def test_text_that_looks_like_an_operator_is_text(api: Api) -> None:
    member = await api.create("$name")
    path = f"/members/{member['memberId']}"
    answer = await api("PUT", path, {"name": "$$ROOT", "phone": "#123 (45)"})
    assert parsed(answer)["name"] == "$$ROOT"
    assert parsed(await api("GET", path)) == parsed(answer)


async def test_write_that_prefers_minimal_is_204(api: Api) -> None:
    patch = "application/merge-patch+json"
    writes: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", "/members", {"name": "Ada"}, "Location"),
        ("PUT", "/members/1", {"name": "Ada", "phone": "555-0100"}, ""),
        ("PUT", "/members/1", {"name": "Ada", "phone": "555-0100"}, ""),  # unchanged
        ("PATCH", "/members/1", {"phone": None}, ""),
        ("PUT", "/members/by-name?name=Ada", {"phone": "555-0101"}, "Content-Location"),
        ("PUT", "/members/by-name/Bob", {}, "Location"),
    ]
    tags = []
    for method, path, body, location in writes:
        headers = {"Prefer": "respond-async, return=minimal"}
        if method == "PATCH":
            headers["Content-Type"] = patch
        response = await api(method, path, body, headers=headers)
        assert (response.code, response.body) == (204, b"")
        assert response.headers["Preference-Applied"] == "return=minimal"
        assert "Content-Type" not in response.headers
        if location:
            assert response.headers[location] == f"/members/{2 if 'Bob' in path else 1}"
        tags.append(response.headers["ETag"])
    assert tags == ['"1"', '"2"', '"2"', '"3"', '"4"', '"1"']
    for preference in ("return=representation", "return=minimal; x, return", 'return="Minimal"'):
        response = await api("PUT", "/members/1", {"name": "Ada"}, headers={"Prefer": preference})
        assert response.code == (204 if "=minimal" in preference else 200)
    invalid = await api("PUT", "/members", {}, headers={"Prefer": "return=minimal"})
    problem(invalid, 422, "invalid-member")
    read = await api("GET", "/members/1", headers={"Prefer": "return=minimal"})
    assert read.code == 200

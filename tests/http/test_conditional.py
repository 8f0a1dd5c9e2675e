"""Conditional requests: 304 for reads, 412 for writes (RFC 9110 §13)."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from tornado.httputil import HTTPHeaders, format_timestamp

from tests.support.api import Api, parsed, problem
from tests.support.cases import cases
from tornado_members.errors import BadRequest
from tornado_members.http.conditional import is_not_modified, parse_precondition
from tornado_members.model.precondition import Precondition
from tornado_members.settings import Settings

pytestmark = pytest.mark.shared_services

Admin = pymongo.MongoClient[dict[str, Any]]
PAST, FUTURE = "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
BY_ID, BY_NAME = "/members/1", "/members/by-name/Ada"
ADA = {"name": "Ada", "phone": "555-0100"}


@pytest.fixture
def version_3(admin: Admin, database_name: str) -> datetime:
    """Member 1, Ada, in version 3, changed an hour ago."""
    now = datetime.now(UTC) - timedelta(hours=1)
    fields: dict[str, Any] = {"email": None, "phone": None, "createdAt": now, "updatedAt": now}
    # Otherwise, the start of the service may still add them while a test compares documents.
    fields |= {"nameFold": "ada", "emailFold": None, "searchWords": ["ada"]}
    admin[database_name]["members"].insert_one({"_id": 1, "name": "Ada", "version": 3, **fields})
    return now


READS: list[tuple[dict[str, str], int]] = [
    ({}, 200),
    ({"If-None-Match": '"3"'}, 304),
    ({"If-None-Match": 'W/"3"'}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": '"1", W/"x,y" ,, "3"'}, 304),
    ({"If-None-Match": '"2"'}, 200),
    ({"If-None-Match": '"03"'}, 200),
    ({"If-None-Match": "3"}, 200),
    ({"If-None-Match": '"x'}, 200),
    ({"If-Modified-Since": FUTURE}, 304),
    ({"If-Modified-Since": PAST}, 200),
    ({"If-Modified-Since": "yesterday"}, 200),
    ({"If-None-Match": '"2"', "If-Modified-Since": FUTURE}, 200),  # only the tag counts
    ({"If-None-Match": '"3"', "If-Modified-Since": PAST}, 304),
    ({"If-Match": '"3"'}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": '"2"'}, 412),
    ({"If-Match": 'W/"3"'}, 412),
    ({"If-Match": '"2"', "If-None-Match": '"3"'}, 412),  # §13.2.2: If-Match comes first
    ({"If-Match": '"3"', "If-None-Match": '"3"'}, 304),
    ({"If-Match": "3"}, 400),
    ({"If-Unmodified-Since": PAST}, 412),
    ({"If-Unmodified-Since": FUTURE}, 200),
]


async def test_conditions_of_a_read_decide_its_status(api: Api, version_3: datetime) -> None:
    for path in (BY_ID, BY_NAME):
        for method in ("GET", "HEAD"):
            for headers, status in READS:
                answer = await api(method, path, headers=headers)
                assert answer.code == status, (method, path, headers)
                if status in (200, 304):
                    assert answer.headers["ETag"] == '"3"'
                    assert answer.headers["Vary"] == "Authorization, Accept"
                    assert answer.headers["Last-Modified"] == format_timestamp(version_3)
                if status == 304:
                    assert answer.body == b""


WRITES: list[tuple[dict[str, str], int]] = [
    ({}, 200),
    ({"If-Match": '"3"'}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": '"1", "3"'}, 200),
    ({"If-Match": '"2"'}, 412),
    ({"If-Match": 'W/"3"'}, 412),
    ({"If-Match": '"99999999999999999999"'}, 412),
    ({"If-Match": '"9223372036854775808"'}, 412),
    ({"If-Match": '"' + "9" * 5000 + '"'}, 412),
    ({"If-Match": "3"}, 400),
    ({"If-Match": ""}, 412),  # an empty list of tags
    ({"If-Match": '"3" "4"'}, 400),
    ({"If-None-Match": "*"}, 412),
    ({"If-None-Match": '"3"'}, 412),
    ({"If-None-Match": 'W/"3"'}, 412),
    ({"If-None-Match": '"2"'}, 200),
    ({"If-Match": '"3"', "If-None-Match": '"2"'}, 200),
    ({"If-Match": '"3"', "If-None-Match": '"3"'}, 412),
    ({"If-Unmodified-Since": FUTURE}, 200),
    ({"If-Unmodified-Since": PAST}, 412),
    ({"If-Unmodified-Since": "tomorrow"}, 200),
    ({"If-Match": '"3"', "If-Unmodified-Since": PAST}, 200),  # §13.1.4: only the tag counts
]

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


@pytest.mark.usefixtures("version_3")
@pytest.mark.parametrize(
    ("method", "path"), [("PUT", BY_ID), ("PUT", BY_NAME), ("PATCH", BY_ID), ("DELETE", BY_ID)]
)
async def test_conditions_of_a_write_decide_its_status(
    api: Api, admin: Admin, method: str, path: str
) -> None:
    members = admin["test"]["members"]
    before = members.find_one({"_id": 1})
    assert before
    for headers, status in WRITES:
        sent = {**(MERGE_PATCH if method == "PATCH" else {}), **headers}
        answer = await api(method, path, None if method == "DELETE" else ADA, headers=sent)
        assert answer.code == (204 if method == "DELETE" and status == 200 else status), headers
        after = members.find_one({"_id": 1})
        if status == 200:
            assert (after is None) == (method == "DELETE")
            assert answer.headers.get("ETag") == (None if method == "DELETE" else '"4"')
        else:
            assert after == before
        members.replace_one({"_id": 1}, before, upsert=True)


@cases(
    ("method", "headers", "status"),
    [
        ("PUT", {"If-Match": '"1"'}, 412),
        ("PUT", {"If-Match": "*"}, 412),
        ("PUT", {"If-None-Match": "*"}, 404),
        ("PATCH", {"If-Match": '"1"'}, 412),
        ("PATCH", {}, 404),
        ("DELETE", {"If-Match": "*"}, 412),
        ("DELETE", {"If-None-Match": '"1"'}, 404),
        ("DELETE", {"If-Unmodified-Since": PAST}, 404),
    ],
)
async def test_deleted_member_matches_nothing(
    api: Api, method: str, headers: dict[str, str], status: int
) -> None:
    sent = {**(MERGE_PATCH if method == "PATCH" else {}), **headers}
    body = None if method == "DELETE" else ADA
    answer = await api(method, BY_ID, body, headers=sent)
    problem(answer, status, "precondition-failed" if status == 412 else "member-not-found")


async def test_put_by_name_may_create_only_or_replace_only(api: Api) -> None:
    refused = await api("PUT", BY_NAME, ADA, headers={"If-Match": "*"})
    problem(refused, 412, "precondition-failed")
    assert (await api("PUT", BY_NAME, ADA, headers={"If-None-Match": "*"})).code == 201
    again = await api("PUT", BY_NAME, ADA, headers={"If-None-Match": "*"})
    problem(again, 412, "precondition-failed")


async def test_if_none_match_lets_one_of_many_callers_create(api: Api) -> None:
    headers = {"If-None-Match": "*"}
    answers = await asyncio.gather(*(api("PUT", BY_NAME, ADA, headers=headers) for _ in range(20)))
    assert sorted(answer.code for answer in answers) == [201] + [412] * 19


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_if_match_lets_one_of_fifty_writers_succeed(api: Api, method: str) -> None:
    await api.create("Ada")
    headers = {"If-Match": '"1"', **(MERGE_PATCH if method == "PATCH" else {})}
    writers = [
        api(
            method,
            BY_ID,
            None if method == "DELETE" else {"name": "Ada", "phone": f"555-{n:04}"},
            headers=headers,
        )
        for n in range(50)
    ]
    codes = sorted(answer.code for answer in await asyncio.gather(*writers))
    assert codes == [204 if method == "DELETE" else 200] + [412] * 49


async def test_document_without_a_version_has_the_first_one(api: Api, admin: Admin) -> None:
    """A document of another program, without version and date."""
    admin["test"]["members"].insert_one({"_id": 1, "name": "Ada"})
    read = await api("GET", BY_ID)
    assert (read.headers["ETag"], "Last-Modified" in read.headers) == ('"1"', False)
    for headers, status in (
        ({"If-Match": '"2"'}, 412),
        ({"If-None-Match": '"1"'}, 412),
        ({"If-Unmodified-Since": PAST, "If-Match": '"1"'}, 200),
    ):
        assert (await api("PUT", BY_ID, ADA, headers=headers)).code == status
    assert (await api("GET", BY_ID)).headers["ETag"] == '"2"'


async def test_last_modified_is_cached_as_well(api: Api, version_3: datetime) -> None:
    reads = [await api("GET", BY_ID) for _ in range(3)]
    for answer in reads:
        assert answer.headers["Last-Modified"] == format_timestamp(version_3)
    assert "hit" in reads[-1].headers["Cache-Status"]


class TestWhereItIsRequired:
    """members.require_if_match: true"""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(
            update={"members": settings.members.model_copy(update={"require_if_match": True})}
        )

    @pytest.mark.parametrize(
        ("method", "path"), [("PUT", BY_ID), ("PUT", BY_NAME), ("PATCH", BY_ID), ("DELETE", BY_ID)]
    )
    async def test_write_without_a_condition_is_refused(
        self, api: Api, method: str, path: str
    ) -> None:
        await api.create("Ada")  # a new member needs no condition
        body = None if method == "DELETE" else ADA
        headers = MERGE_PATCH if method == "PATCH" else {}
        problem(await api(method, path, body, headers=headers), 428, "precondition-required")
        answer = await api(method, path, body, headers={**headers, "If-Match": '"1"'})
        assert answer.code in (200, 204)


def test_headers_are_parsed_to_a_precondition() -> None:
    def demanded(**headers: str) -> Precondition:
        return parse_precondition(
            HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
        )

    assert demanded() == Precondition()
    assert demanded(If_Match='"1",W/"2"') == Precondition(must_exist=True, one_of=frozenset({1}))
    assert demanded(If_None_Match='"1", W/"2", "x"') == Precondition(none_of=frozenset({1, 2}))
    assert demanded(If_None_Match=" * ") == Precondition(must_not_exist=True)
    since = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
    assert demanded(If_Unmodified_Since=PAST) == Precondition(unmodified_since=since)
    for bad in ("1", "W/", '"1', '*, "1"', "'1'", '"1" "2"', '"a b"'):
        with pytest.raises(BadRequest):
            demanded(If_Match=bad)


def test_precondition_date_has_whole_seconds() -> None:
    headers = HTTPHeaders({"If-Modified-Since": PAST})
    modified = datetime(1994, 11, 6, 8, 49, 37, 999_000, tzinfo=UTC)
    assert is_not_modified(headers, 1, modified)
    assert not is_not_modified(headers, 1, modified.replace(second=38, microsecond=0))
    assert not is_not_modified(headers, 1, None)
    assert Precondition(unmodified_since=modified.replace(microsecond=0)).allows(1, modified)


async def test_hostile_tags_are_parsed_fast(api: Api) -> None:
    for text in ('"' * 7_000, ", " * 7_000 + "x", '"a",' * 3_500 + "x", "W/" * 7_000):
        async with asyncio.timeout(60):  # a pattern that backtracks would take years
            headers = {"If-Match": text}
            assert (await api("PUT", BY_ID, ADA, headers=headers)).code == 400
    answer = await api("GET", BY_ID, headers={"If-None-Match": '"1",' * 3_500})
    assert parsed(answer)["status"] == 404


async def test_distant_dates_are_valid(api: Api, version_3: datetime) -> None:
    for date, read, write in (
        ("Fri, 31 Dec 9999 23:59:59 GMT", 304, 200),
        ("Fri, 31 Dec 9999 23:59:59 -0800", 200, 200),  # beyond the range of dates
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 200, 200),
    ):
        assert (await api("GET", BY_ID, headers={"If-Modified-Since": date})).code == read
        headers = {"If-Unmodified-Since": date}
        assert (await api("PUT", BY_NAME, {"name": "Ada"}, headers=headers)).code == write


async def test_member_has_no_last_modified_within_the_second_of_its_change(api: Api) -> None:
    added = await api("PUT", "/members", ADA)
    read = await api("GET", BY_ID)
    assert "Last-Modified" not in added.headers
    assert "Last-Modified" not in read.headers


@cases("version", [0, -1, True, "x", None, 2.5, float("inf"), 2.0, [3], 2**40])
async def test_member_with_any_foreign_version_can_be_matched_and_changed(
    api: Api, admin: Admin, database_name: str, version: Any
) -> None:
    admin[database_name]["members"].delete_many({})
    for round_, (method, headers) in enumerate(
        (("PATCH", MERGE_PATCH), ("PUT", {}), ("DELETE", {})), start=1
    ):
        document = {"_id": round_, "name": f"Ada {round_}", "version": version, "email": 5}
        admin[database_name]["members"].insert_one(document)
        path = f"/members/{round_}"
        read = await api("GET", path, headers={"Cache-Control": "no-cache"})
        assert parsed(read)["email"] is None
        body = None if method == "DELETE" else {"name": f"Ada {round_}", "phone": "555-0100"}
        async with asyncio.timeout(60):  # there was an endless loop
            answer = await api(
                method, path, body, headers={**headers, "If-Match": read.headers["ETag"]}
            )
        if version == 2.5:  # its ETag is "2", which is not its version
            assert answer.code in (200, 204, 503)
        else:
            assert answer.code == (204 if method == "DELETE" else 200)
    assert (await api("GET", "/members")).code == 200


async def test_member_with_a_date_beyond_python_is_served(
    api: Api, admin: Admin, database_name: str
) -> None:
    far = {"$add": [{"$toDate": "2024-01-01"}, 9_000_000_000_000_000]}
    admin[database_name]["members"].insert_one({"_id": 1, "name": "Ada"})
    admin[database_name]["members"].update_one({"_id": 1}, [{"$set": {"updatedAt": far}}])
    for path in (BY_ID, BY_NAME, "/members"):
        for _ in range(2):
            assert (await api("GET", path)).code == 200


async def test_empty_list_of_tags_is_a_list(api: Api) -> None:
    """RFC 9110 §13.1.1: `"*" / #entity-tag`; the list may be empty."""
    await api.create("Ada")
    for empty in ("", " , "):
        refused = await api("DELETE", "/members/1", headers={"If-Match": empty})
        problem(refused, 412, "precondition-failed")
        assert (await api("GET", "/members/1", headers={"If-None-Match": empty})).code == 200
    changed = await api("PUT", "/members/1", {"name": "Eva"}, headers={"If-None-Match": ""})
    assert changed.code == 200


async def test_read_ignores_only_an_invalid_if_none_match(api: Api) -> None:
    """An invalid If-None-Match is ignored, also beside other conditions."""
    await api.create("Ada")
    headers = {"If-None-Match": "nonsense", "If-Match": '"1"'}
    assert (await api("GET", "/members/1", headers=headers)).code == 200
    problem(await api("GET", "/members/1", headers={"If-Match": "nonsense"}), 400, "bad-request")

"""Documents in the members' collection that another program wrote."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import pymongo
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, encode
from bson.raw_bson import RawBSONDocument

from tests.support.api import Api, parsed, problem
from tests.support.histories import UNNAMED, Operation, find_anomalies
from tornado_members.services import Services
from tornado_members.settings import Audit, Settings

pytestmark = pytest.mark.shared_services

Admin = pymongo.MongoClient[dict[str, Any]]
T = TypeVar("T")

# Documents that hold a name and are not members.
NOT_MEMBERS: dict[str, Any] = {
    "ObjectId": ObjectId("0123456789abcdef01234567"),
    "fraction": 7.5,
    "text": "1",
    "negative": -3,
    "zero": 0,
    "too large": 2**60,
    "decimal": Decimal128("15"),
    "decimal fraction": Decimal128("9.5"),
    "decimal infinity": Decimal128("-Infinity"),
    "not a number": float("nan"),
    "infinity": float("inf"),
    "boolean": True,
    "null": None,
    "object": {"memberId": 7},
    "binary": Binary(b"7"),
}
LISTS: dict[str, list[Any]] = {
    "list of one name": ["list of one name"],
    "list of names": ["Other", "list of names", 5, None],
}
HELD = [*NOT_MEMBERS, *LISTS]
HELD_BY_EACH_KIND = ["ObjectId", "decimal", "list of names"]
# Documents that hold no name that a member could have.
NAMELESS: list[Any] = [5, None, {"first": "Ada"}, [1, 2], []]
PATHS = [f"/members/{number}" for number in range(1, 17)]
PATHS_OF_EACH_KIND = ["/members/1", "/members/13", "/members/15"]


@pytest.fixture
def members(admin: Admin, database_name: str) -> Any:
    """The collection itself, as another program sees it."""
    return admin[database_name]["members"]


@pytest.fixture
def is_recorded() -> bool:
    """True if changes are recorded. Tests of both ways to write them override this."""
    return False


@pytest.fixture
def settings(settings: Settings, *, is_recorded: bool) -> Settings:
    return settings.model_copy(update={"audit": Audit(enabled=is_recorded)})


# For tests in which a document that is not a member meets a write. Recorded writes, which differ
# from plain ones by their transaction only, meet three cases of each table.
# The scope groups them, so that they share services.
both_writes = pytest.mark.parametrize(
    "is_recorded", [False, True], ids=["plain", "recorded"], scope="module"
)


def of_table(table: Sequence[T], representatives: Sequence[T], *, is_recorded: bool) -> Sequence[T]:
    """Return the cases of a table for one way to write."""
    assert {*representatives} <= {*table}
    return representatives if is_recorded else table


@pytest.fixture
def documents(members: Any) -> list[Any]:
    """Documents that are not members, present when the service starts."""
    members.insert_many([{"_id": key, "name": name} for name, key in NOT_MEMBERS.items()])
    members.insert_many([{"_id": i, "name": name} for i, name in enumerate(LISTS.values(), 13)])
    return list(members.find())


def name_taken(response: Any) -> None:
    """A 409 that names no member."""
    assert "member" not in problem(response, 409, "name-taken")


async def patch(api: Api, path: str, body: Any, **headers: str) -> Any:
    merge_patch = {"Content-Type": "application/merge-patch+json"}
    return await api("PATCH", path, body, headers={**merge_patch, **headers})


async def is_not_found(api: Api, path: str) -> None:
    """No method finds a member there."""
    for answer in (
        await api("GET", path),
        await api("PUT", path, {"name": "Another"}),
        await patch(api, path, {"phone": None}),
        await api("DELETE", path),
    ):
        problem(answer, 404, "member-not-found")


@both_writes
async def test_documents_that_are_not_members_are_not_found(
    documents: list[Any], api: Api, members: Any, *, is_recorded: bool
) -> None:
    for name in of_table(HELD, HELD_BY_EACH_KIND, is_recorded=is_recorded):
        by_name = f"/members/by-name/{quote(name)}"
        for _ in range(2):  # from the database, then from the cache
            problem(await api("GET", by_name), 404, "member-not-found")
        assert parsed(await api("GET", f"/members?name={quote(name)}"))["items"] == []
    for path in of_table(PATHS, PATHS_OF_EACH_KIND, is_recorded=is_recorded):
        await is_not_found(api, path)
    assert parsed(await api("GET", "/members"))["items"] == []
    assert repr(list(members.find())) == repr(documents)  # NaN is not equal to itself


@both_writes
@pytest.mark.usefixtures("documents")
async def test_names_of_such_documents_are_taken(api: Api, *, is_recorded: bool) -> None:
    ada = await api.create("Ada")
    path = f"/members/{ada['memberId']}"
    for name in of_table(HELD, HELD_BY_EACH_KIND, is_recorded=is_recorded):
        by_name = f"/members/by-name/{quote(name)}"
        name_taken(await api("PUT", "/members", {"name": name}))
        name_taken(await api("PUT", by_name, {"phone": "555-0100"}))
        name_taken(await api("PUT", path, {"name": name}))
        name_taken(await patch(api, path, {"name": name}))
        conditional = await api("PUT", by_name, {}, headers={"If-Match": "*"})
        problem(conditional, 412, "precondition-failed")
    assert parsed(await api("GET", "/members"))["items"] == [ada]


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize(
    ("on_conflict", "is_recorded"),
    [("reject", False), ("skip", False), ("replace", False), ("replace", True)],
    scope="module",
)
async def test_import_refuses_their_names_and_goes_on(api: Api, on_conflict: str) -> None:
    names = ["New", *HELD, "Last"]
    lines = [json.dumps({"name": name, "phone": "555-0100"}).encode() for name in names]
    for query in ("&dry_run=true", ""):
        answer = await api(
            "POST",
            f"/members/import?on_conflict={on_conflict}{query}",
            raw=b"\n".join(lines),
            headers={"Content-Type": "application/x-ndjson"},
        )
        first, *held, last, _ = map(json.loads, answer.body.splitlines())
        assert (first["status"], last["status"]) == (201, 201)
        skipped = {"status": 200, "code": "skipped"}
        refused = {"status": 409, "code": "name-taken"}
        expected = skipped if on_conflict == "skip" else refused
        assert held == [{"line": i, **expected} for i in range(2, len(names))]


async def test_documents_without_a_name_are_not_changed(members: Any, api: Api) -> None:
    for name in NAMELESS:
        members.insert_one({"_id": 20, "name": name})
        await is_not_found(api, "/members/20")
        assert members.find_one_and_delete({"_id": 20}) == {"_id": 20, "name": name}


@both_writes
@pytest.mark.own_services  # one that has taken no ids yet
@pytest.mark.usefixtures("documents")
async def test_ids_are_given_past_numbers_that_are_not_member_ids(members: Any, api: Api) -> None:
    """MongoDB compares numbers of all types, so Decimal128 15 is a duplicate of 15."""
    assert (await api.create("First"))["memberId"] == 16
    members.insert_one({"_id": 20.0, "name": "A double"})
    assert parsed(await api("GET", "/members/20"))["name"] == "A double"


VERSIONS: dict[str, tuple[Any, int]] = {
    "1.5": (1.5, 1),
    "2.7": (2.7, 2),
    "decimal": (Decimal128("3"), 3),
    "decimal fraction": (Decimal128("4.9"), 4),
    "int": (5, 5),
    "double": (6.0, 6),
    "zero": (0, 1),
    "below one": (0.5, 1),
    "negative": (Int64(-3), 1),
    "too large": (1e30, 1),
    "decimal too large": (Decimal128("1E+40"), 1),
    "infinity": (float("inf"), 1),
    "NaN": (float("nan"), 1),
    "decimal NaN": (Decimal128("NaN"), 1),
    "text": ("8", 1),
    "list": ([9], 1),
    "boolean": (True, 1),
    "null": (None, 1),
}


@both_writes
async def test_version_in_etag_is_the_one_that_conditions_compare(
    members: Any, api: Api, *, is_recorded: bool
) -> None:
    kinds = of_table([*VERSIONS], ["2.7", "decimal fraction", "text"], is_recorded=is_recorded)
    documents = [
        {"_id": i, "name": kind, "email": None, "phone": None, "version": VERSIONS[kind][0]}
        for i, kind in enumerate(kinds, 1)
    ]
    members.insert_many(documents)
    for i, kind in enumerate(kinds, 1):
        version = VERSIONS[kind][1]
        path, tag = f"/members/{i}", f'"{version}"'
        assert (await api("GET", path)).headers["ETag"] == tag, kind
        other = await patch(api, path, {}, **{"If-Match": '"17", "19"'})
        problem(other, 412, "precondition-failed")
        same = await api("DELETE", path, headers={"If-None-Match": tag})
        problem(same, 412, "precondition-failed")
        unchanged = await patch(api, path, {})
        assert (unchanged.code, unchanged.headers["ETag"]) == (200, tag), kind
        body = {"name": kind, "phone": "555"}
        changed = await api("PUT", path, body, headers={"If-Match": tag})
        assert (changed.code, changed.headers["ETag"]) == (200, f'"{version + 1}"'), kind
        deletion = await api("DELETE", path, headers={"If-Match": changed.headers["ETag"]})
        assert deletion.code == 204, kind


async def test_list_of_dates_is_no_date_of_a_change(members: Any, api: Api) -> None:
    """A condition on the date holds where a response has no Last-Modified."""
    members.insert_one({"_id": 5, "name": "Ada", "updatedAt": [datetime(2038, 1, 1, tzinfo=UTC)]})
    assert "Last-Modified" not in (await api("GET", "/members/5")).headers
    early = {"If-Unmodified-Since": "Fri, 01 Jan 2010 00:00:00 GMT"}
    assert (await patch(api, "/members/5", {"phone": "555"}, **early)).code == 200


async def test_get_shows_text_that_is_not_utf_8_with_replacements(members: Any, api: Api) -> None:
    """The driver of another program may write any bytes."""
    broken = encode({"_id": 5, "name": "QQQQ"}).replace(b"QQQQ", b"\xffda\xfe")
    members.insert_one(RawBSONDocument(broken))
    found = parsed(await api("GET", "/members/5"))
    assert found["name"] == "\ufffdda\ufffd"
    assert parsed(await api("GET", "/members"))["items"] == [found]
    assert (await patch(api, "/members/5", {"name": "Ada"})).code == 200
    assert parsed(await api("GET", "/members/by-name/Ada"))["memberId"] == 5


@both_writes
async def test_put_by_name_is_read_at_once_whoever_added_the_member(
    members: Any, api: Api, services: Services
) -> None:
    """The cached absence of a name ends with the PUT, not with the change stream."""
    loop, history = asyncio.get_running_loop(), []

    async def read(name: str) -> None:
        start = loop.time()
        answer = await api("GET", f"/members/by-name/{name}")
        version = UNNAMED if answer.code == 404 else 1
        history.append(Operation(start, loop.time(), "a", "read", name, version, answer.code))

    for number, body in enumerate(({"phone": "555-0100"}, {}), 5):
        name = f"Name{number}"
        await read(name)
        members.insert_one({"_id": number, "name": name})  # by another program
        start = loop.time()
        answer = await api("PUT", f"/members/by-name/{name}", body)
        history.append(Operation(start, loop.time(), "a", "write", name, 1, answer.code))
        assert answer.code == 200
        await read(name)
    assert find_anomalies(history) == []
    assert services.directory.cache_counts.misses > 0


@both_writes
async def test_ids_that_other_programs_took_are_skipped(members: Any, api: Api) -> None:
    """Also after the start, which raises the counter past all ids."""
    assert (await api.create("First"))["memberId"] == 1
    members.insert_many([{"_id": n, "name": f"By hand {n}"} for n in (2, 3, Decimal128("70"))])
    assert (await api.create("Second"))["memberId"] == 71
    members.insert_many([{"_id": n, "name": f"By hand {n}"} for n in (72, 75)])
    lines = b"".join(b'{"name":"Import %d"}\n' % number for number in range(5))
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await api("POST", "/members/import", raw=lines, headers=headers)
    results = [json.loads(line) for line in answer.body.splitlines()][:5]
    assert [result["status"] for result in results] == [201] * 5
    for number, result in enumerate(results):
        assert parsed(await api("GET", result["member"]))["name"] == f"Import {number}"
    assert members.find_one({"_id": 72})["name"] == "By hand 72"

"""The history of a member, where audit.enabled records changes."""

import asyncio
from datetime import datetime
from typing import Any

import pymongo
import pytest

from tests.support.api import Api, parsed, problem
from tests.support.suspension import suspend
from tests.support.tokens import ISSUER
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.settings import Audit, Settings

pytestmark = pytest.mark.shared_services

Admin = pymongo.MongoClient[dict[str, Any]]

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
ADA = {"name": "Ada", "email": "ada@example.org", "phone": None}


@pytest.fixture
def settings(settings: Settings, admin: Admin, database_name: str) -> Settings:
    admin[database_name]["audit"].delete_many({})
    return settings.model_copy(update={"audit": Audit(enabled=True)})


@pytest.fixture
def driver() -> Any:
    """Use PyMongo: most tests of handlers run on Motor."""
    return "pymongo"


@pytest.fixture(autouse=True)
def garbage(collected: None) -> None:
    """Find lost sockets in the test that lost them."""


async def history(api: Api, member_id: int = 1) -> list[dict[str, Any]]:
    response = await api("GET", f"/members/{member_id}/history")
    assert response.code == 200, response.body
    items: list[dict[str, Any]] = parsed(response)["items"]
    return items


async def test_history_records_every_change_of_a_member(api: Api) -> None:
    requests: list[tuple[str, str, Any, dict[str, str]]] = [
        ("PUT", "/members", {"name": "Ada", "email": "ada@example.org"}, {}),
        ("PUT", "/members/1", {"name": "Ada"}, {}),
        ("PATCH", "/members/1", {"phone": "555-0100"}, MERGE_PATCH),
        ("PUT", "/members/by-name/Ada", {"email": "ada@example.org", "phone": None}, {}),
        ("PUT", "/members/by-name/Ada", {"email": "ada@example.org", "phone": None}, {}),
        ("DELETE", "/members/1", None, {}),
        ("PUT", "/members/by-name/Ada", {}, {}),
    ]
    for n, (method, path, body, headers) in enumerate(requests):
        sent = {**headers, "X-Request-Id": f"request-{n}"}
        answer = await api(method, path, body, headers=sent)
        assert answer.code in (200, 201, 204), answer.body
    found = await history(api)
    assert [(r["version"], r["kind"], r["requestId"], r["before"], r["after"]) for r in found] == [
        (5, "deleted", "request-5", ADA, None),
        (
            4,
            "changed",
            "request-3",
            {"email": None, "phone": "555-0100"},
            {"email": "ada@example.org", "phone": None},
        ),
        (3, "changed", "request-2", {"phone": None}, {"phone": "555-0100"}),
        (2, "changed", "request-1", {"email": "ada@example.org"}, {"email": None}),
        (1, "created", "request-0", None, ADA),
    ]
    for record in found:
        assert record["by"] == {"issuer": ISSUER, "subject": "somebody"}
        assert record["at"].endswith("Z")
        datetime.fromisoformat(record["at"])
    assert [record["kind"] for record in await history(api, 2)] == ["created"]


async def test_history_pages_together_are_the_whole_history(api: Api) -> None:
    await api.create("Ada")
    for n in range(6):
        await api("PUT", "/members/1", {"name": "Ada", "phone": f"555-{n:04}"})
    for limit in (1, 3, 6, 7, 8):
        path, items = f"/members/1/history?limit={limit}", []
        while path:
            response = await api("GET", path)
            items += parsed(response)["items"]
            path = parsed(response)["next"]
            assert response.headers.get("Link") == (f'<{path}>; rel="next"' if path else None)
            await api("PUT", "/members/1", {"name": "Ada"})  # new changes come before the page
        seen = [item["version"] for item in items]
        assert seen == list(range(seen[0], 0, -1))


async def test_history_needs_the_permission_to_delete(api: Api) -> None:
    await api.create("Ada")
    for rights in (1, 2):
        refused = await api("GET", "/members/1/history", rights=rights)
        assert problem(refused, 403, "permission-missing")["permission"] == "members:delete"
    problem(await api("GET", "/members/1/history", rights=None), 401, "token-missing")
    answer = await api("GET", "/members/1/history")
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert "ETag" not in answer.headers
    head = await api("HEAD", "/members/1/history")
    assert (head.code, head.body) == (200, b"")
    problem(await api("PUT", "/members/1/history", {}), 405, "method-not-allowed")


async def test_history_remains_after_a_deletion(api: Api, admin: Admin, database_name: str) -> None:
    await api.create("Ada")
    await api("DELETE", "/members/1")
    assert len(await history(api)) == 2
    admin[database_name]["members"].insert_one({"_id": 5, "name": "By another program"})
    assert await history(api, 5) == []
    for path in ("2", "9007199254740991", "99999999999999999999", "0", "x"):
        found = problem(await api("GET", f"/members/{path}/history"), 404, "member-not-found")
        assert "history" not in found["detail"]
    problem(await api("GET", "/members/1/history/1"), 404, "not-found")


async def test_history_is_a_valid_member_name(api: Api) -> None:
    await api.create("history")
    assert parsed(await api("GET", "/members/by-name/history"))["memberId"] == 1


NONSENSE = [
    ("limit=0", "limit"),
    ("limit=1001", "limit"),
    ("limit=%D9%A3", "limit"),
    ("limit=1&limit=2", "limit"),
    ("sort=version", "sort"),
    ("%ff=1", "�"),
    ("after=", "after"),
    ("after=3", "after"),
    ("after=3-xyz", "after"),
    (f"after=3-{'A' * 24}", "after"),
    (f"after=99999999999999999999-{'a' * 24}", "after"),
]


async def test_history_refuses_an_invalid_query(api: Api, subtests: pytest.Subtests) -> None:
    for query, parameter in NONSENSE:
        with subtests.test(query=query[:50]):
            found = problem(await api("GET", f"/members/1/history?{query}"), 400, "bad-parameter")
            assert found["parameter"] == parameter


async def test_history_cursor_beyond_the_end_gives_an_empty_page(api: Api) -> None:
    await api.create("Ada")
    page = await api("GET", f"/members/1/history?after=1-{'0' * 24}")
    assert parsed(page) == {"items": [], "next": None}
    page = await api("GET", f"/members/1/history?after={'9' * 19}-{'f' * 24}")
    assert len(parsed(page)["items"]) == 1


async def test_recorded_change_is_visible_at_once(api: Api) -> None:
    """The cache does not use transactions, and need not."""
    await api.create("Ada")
    for n in range(10):
        for _ in range(2):
            assert parsed(await api("GET", "/members/1"))["phone"] == (f"555-{n:04}" if n else None)
        changed = await api("PUT", "/members/1", {"name": "Ada", "phone": f"555-{n + 1:04}"})
        seen = await api("GET", "/members/1")
        assert seen.headers["ETag"] == changed.headers["ETag"] == f'"{n + 2}"'
    assert "hit" in (await api("GET", "/members/1")).headers["Cache-Status"]
    await api("DELETE", "/members/1")
    assert (await api("GET", "/members/1")).code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_if_match_lets_one_of_twenty_recorded_writers_succeed(api: Api, method: str) -> None:
    await api.create("Ada")
    headers = {"If-Match": '"1"'}
    body = None if method == "DELETE" else {"name": "Ada", "phone": "555-0100"}
    writers = [api(method, "/members/1", body, headers=headers) for _ in range(20)]
    codes = sorted(answer.code for answer in await asyncio.gather(*writers))
    assert codes == [204 if method == "DELETE" else 200] + [412] * 19
    assert len(await history(api)) == 2


async def test_history_records_an_import_row_by_row(api: Api) -> None:
    csv = {"Content-Type": "text/csv", "X-Request-Id": "import-1"}
    first = await api("POST", "/members/import", raw=b"name\nAda\nGrace\n", headers=csv)
    again = await api(
        "POST",
        "/members/import?on_conflict=replace",
        raw=b"name,phone\nAda,555-0100\n",
        headers={**csv, "X-Request-Id": "import-2"},
    )
    await api("POST", "/members/import?dry_run=true", raw=b"name\nEdsger\n", headers=csv)
    assert (first.code, again.code) == (200, 200)
    assert [(r["kind"], r["requestId"], r["by"]["subject"]) for r in await history(api)] == [
        ("changed", "import-2", "somebody"),
        ("created", "import-1", "somebody"),
    ]
    assert len(await history(api, 2)) == 1
    problem(await api("GET", "/members/3/history"), 404, "member-not-found")


class TestWhereChangesAreNotRecorded:
    """audit.enabled: false, the default"""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"audit": Audit(enabled=False)})

    async def test_service_without_audit_has_no_history_and_no_transaction(
        self, api: Api, admin: Admin, database_name: str
    ) -> None:
        def begun() -> int:
            transactions: dict[str, int] = admin.admin.command("serverStatus")["transactions"]
            return transactions["totalStarted"]

        before = begun()
        await api.create("Ada")
        await api("PUT", "/members/1", {"name": "Ada", "phone": "555-0100"})
        await api("PUT", "/members/by-name/Ada", {})
        await api("DELETE", "/members/1")
        assert begun() == before
        assert admin[database_name]["audit"].count_documents({}) == 0
        problem(await api("GET", "/members/1/history"), 404, "not-found")


class TestWhereAWriteMayTakeHalfASecond:
    """mongodb.timeout_ms: 500"""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        mongodb = settings.mongodb.model_copy(update={"timeout_ms": 500})
        return settings.model_copy(update={"mongodb": mongodb})

    async def test_write_of_unknown_outcome_leaves_its_tombstone(
        self, api: Api, admin: Admin, servers: PrivateServers
    ) -> None:
        """A write that only conflicts with others leaves none: its outcome is known."""
        await api.create("Ada")
        with admin.start_session() as session, session.start_transaction():
            admin["test"]["members"].update_one(
                {"_id": 1}, {"$inc": {"version": 1}}, session=session
            )
            refused = await api("PUT", "/members/1", {"name": "Ada", "phone": "555-0100"})
            problem(refused, 503, "write-conflict")
            session.abort_transaction()
        status = (await api("GET", "/members/1")).headers["Cache-Status"]
        assert "tombstone" not in status
        (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
        suspend(mongod)
        try:
            unknown = await api("PUT", "/members/1", {"name": "Ada", "phone": "555-0100"})
        finally:
            mongod.resume()
        problem(unknown, 503, "dependency-unavailable")
        status = (await api("GET", "/members/1")).headers["Cache-Status"]
        assert "tombstone" in status


async def test_erased_history_keeps_author_time_and_kind(api: Api, admin: Admin) -> None:
    await api.create("Ada", email="ada@example.org")
    await api.create("Bob")
    await api("PUT", "/members/1", {"name": "Ada King"})
    await api("DELETE", "/members/1")
    before = await history(api)
    for _ in range(2):  # it can be repeated
        assert (await api("DELETE", "/members/1/history")).code == 204
    after = await history(api)
    columns = ("version", "kind", "at", "by", "requestId")
    assert [[change[name] for name in columns] for change in after] == [
        [change[name] for name in columns] for change in before
    ]
    assert [(change["before"], change["after"]) for change in after] == [
        ({}, None),
        ({}, {}),
        (None, {}),
    ]
    assert "Ada" not in str(list(admin["test"]["audit"].find({"memberId": 1})))
    assert (await history(api, 2))[0]["after"]["name"] == "Bob"
    await api("PUT", "/members/2", {"name": "Bobby"})
    await api("DELETE", "/members/2/history")
    await api("PUT", "/members/2", {"name": "Rob"})  # later changes are recorded as before
    assert [change["before"] for change in await history(api, 2)] == [{"name": "Bobby"}, {}, None]


async def test_history_that_does_not_exist_cannot_be_erased(api: Api, admin: Admin) -> None:
    problem(await api("DELETE", "/members/7/history"), 404, "member-not-found")
    problem(await api("DELETE", "/members/x/history"), 404, "member-not-found")
    admin["test"]["members"].insert_one({"_id": 9, "name": "Of another program"})
    assert (await api("DELETE", "/members/9/history")).code == 204
    problem(await api("DELETE", "/members/9/history", rights=2), 403, "permission-missing")
    assert parsed(await api("GET", "/members/9"))["name"] == "Of another program"

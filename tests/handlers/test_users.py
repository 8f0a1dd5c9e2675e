"""/users: the users of the login, managed by administrators."""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from argon2 import PasswordHasher

from tests.handlers import test_login
from tests.support.api import Api, parsed, problem
from tests.support.cases import cases
from tests.support.shared_services import load_revocations
from tests.support.tokens import make_token
from tornado_members.app import USER_ROUTES
from tornado_members.auth import passwords
from tornado_members.services import Services
from tornado_members.settings import Login, Settings

pytestmark = pytest.mark.shared_services

PASSWORD = test_login.PASSWORD
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
keys = test_login.keys
key_file = test_login.key_file
settings = test_login.settings
fast_polls = test_login.fast_polls


@pytest.fixture(autouse=True)
def fast_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        passwords, "PasswordHasher", partial(PasswordHasher, **test_login.LITTLE_CARE)
    )


async def add(api: Api, username: str = "ada", **fields: Any) -> Any:
    body = {"username": username, "password": PASSWORD, "accessRights": 2, **fields}
    return await api("POST", "/users", body)


async def patch(api: Api, user: str, **fields: Any) -> Any:
    return await api("PATCH", f"/users/{quote(user, safe='')}", fields, headers=MERGE_PATCH)


async def log_in(api: Api, username: str, password: str = PASSWORD) -> Any:
    return await api("POST", "/login", {"username": username, "password": password}, rights=None)


async def wait_for_status(api: Api, headers: dict[str, str], status: int) -> None:
    async with asyncio.timeout(60):
        while (await api("GET", "/members", headers=headers)).code != status:
            await asyncio.sleep(0.05)


async def test_user_is_added_read_changed_and_removed(api: Api) -> None:
    added = await add(api, " Zoe\u0308/.. ", memberId=7)
    name = "Zoë/.."
    user = {"username": name, "accessRights": 2, "memberId": 7}
    assert (added.code, parsed(added)) == (201, user)
    assert added.headers["Location"] == f"/users/{quote(name, safe='')}"
    path = added.headers["Location"]
    assert parsed(await api("GET", path)) == user
    assert (await log_in(api, name)).code == 200
    changed = await patch(api, name, accessRights=1, password="other horse", memberId=None)
    assert parsed(changed) == {"username": name, "accessRights": 1, "memberId": None}
    assert (await log_in(api, name)).code == 401
    assert (await log_in(api, name, "other horse")).code == 200
    assert (await api("DELETE", path)).code == 204
    for method in ("GET", "DELETE"):
        problem(await api(method, path), 404, "user-not-found")
    problem(await patch(api, name, accessRights=1), 404, "user-not-found")
    assert (await log_in(api, name, "other horse")).code == 401


async def test_user_of_a_taken_name_is_refused_and_changes_nothing(api: Api) -> None:
    await add(api)
    problem(await add(api, accessRights=3), 409, "username-taken")
    assert parsed(await api("GET", "/users/ada"))["accessRights"] == 2


async def test_list_of_users_has_pages_by_name_and_no_passwords(api: Api) -> None:
    for name in ("eve", "ada", "bob & co", "Zoë"):
        await add(api, name)
    found, address = [], "/users?limit=3"
    while address:
        page = await api("GET", address)
        assert page.headers["Cache-Control"] == "no-store"
        assert PASSWORD.encode() not in page.body
        assert b"argon2" not in page.body
        found += [user["username"] for user in parsed(page)["items"]]
        address = parsed(page)["next"]
    assert found == ["Zoë", "ada", "bob & co", "eve"]
    too_long = f"limit={'0' * 8}1{'9' * 20}"
    for query in (
        *("limit=0", "limit=x", "limit=", "limit=1001", too_long),
        *("after=%ff", "limit=1&limit=2", "q=1"),
    ):
        problem(await api("GET", f"/users?{query}"), 400, "bad-parameter")


@cases(
    ("body", "pointers"),
    [
        ({}, {"/username", "/password", "/accessRights"}),
        ({"username": "a\nb", "password": "short", "accessRights": 4}, "all"),
        ({"username": " ", "password": "x" * 1025, "accessRights": True}, "all"),
        ({"username": 1, "password": None, "accessRights": "2"}, "all"),
        (
            {"username": "a", "password": "\ud800" * 8, "accessRights": -1},
            "/password /accessRights",
        ),
        ({"username": "a", "password": PASSWORD, "accessRights": 0, "memberId": 0}, {"/memberId"}),
        (
            {"username": "a", "password": PASSWORD, "accessRights": 0, "memberId": 2**53},
            "/memberId",
        ),
        ({"username": "a", "password": PASSWORD, "accessRights": 0, "a/b": 1}, {"/a~1b"}),
        ({"username": " ..", "password": PASSWORD, "accessRights": 0}, {"/username"}),
        ({"username": ".", "password": PASSWORD, "accessRights": 0}, {"/username"}),
    ],
)
async def test_faults_of_a_user_are_reported_together(
    api: Api, body: dict[str, Any], pointers: Any
) -> None:
    if pointers == "all":
        pointers = {"/username", "/password", "/accessRights"}
    found = problem(await api("POST", "/users", body), 422, "invalid-user")
    expected = set(pointers.split()) if isinstance(pointers, str) else pointers
    assert {error["pointer"] for error in found["errors"]} == expected
    assert parsed(await api("GET", "/users")) == {"items": [], "next": None}


async def test_numbers_of_a_user_may_be_written_with_a_fraction_of_zero(api: Api) -> None:
    added = await add(api, accessRights=2.0, memberId=42.0)
    assert parsed(added) == {"username": "ada", "accessRights": 2, "memberId": 42}
    assert b".0" not in added.body


async def test_patch_of_a_user_refuses_another_name_and_invalid_values(api: Api) -> None:
    await add(api)
    for fields in ({"username": "eve"}, {"accessRights": None}, {"password": None}, {"x": 1}):
        problem(await patch(api, "ada", **fields), 422, "invalid-user")
    assert parsed(await api("GET", "/users/ada"))["accessRights"] == 2
    assert (await log_in(api, "ada")).code == 200


async def test_users_are_for_callers_with_members_delete_only(api: Api) -> None:
    paths = {path: path.format(username="ada") for path, _ in USER_ROUTES}
    body = {"username": "ada", "password": PASSWORD, "accessRights": 3}
    for path, handler in USER_ROUTES:
        for method, operation in handler.operations.items():
            sent = {"PATCH": {"accessRights": 3}, "POST": body}.get(method)
            headers = dict(MERGE_PATCH) if method == "PATCH" else {}
            for scope in ("", "members:read members:write", "members:read:own members:write:own"):
                token = {"Authorization": f"Bearer {make_token(scope=scope)}"}
                response = await api(method, paths[path], sent, headers={**headers, **token})
                assert response.code == 403, (method, path, scope)
                assert operation.permission == "members:delete"
            anonymous = await api(method, paths[path], sent, rights=None, headers=headers)
            assert anonymous.code == 401
    assert parsed(await api("GET", "/users")) == {"items": [], "next": None}


async def test_changes_that_reduce_rights_revoke_tokens_and_others_do_not(
    api: Api, services: Services
) -> None:
    await add(api, accessRights=1, memberId=7)
    headers = test_login.bearer(await log_in(api, "ada"))
    await patch(api, "ada", accessRights=2, memberId=7)
    await load_revocations(services)
    assert (await api("GET", "/members", headers=headers)).code == 200
    for change in ({"password": "new password"}, {"memberId": 8}, {"accessRights": 1}):
        password = "new password" if "password" not in change else PASSWORD
        token = test_login.bearer(await log_in(api, "ada", password))
        await patch(api, "ada", **change)
        await wait_for_status(api, token, 401)


@pytest.fixture
def without_login(settings: Settings) -> Settings:
    return settings.model_copy(update={"login": Login(enabled=False)})


class TestWithoutLogin:
    """The service has no login, so it has no users."""

    @pytest.fixture
    def settings(self, without_login: Settings) -> Settings:
        return without_login

    async def test_users_do_not_exist_without_a_login(self, api: Api, services: Services) -> None:
        assert services.accounts is None
        problem(await api("GET", "/users"), 404, "not-found")

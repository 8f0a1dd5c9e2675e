"""Callers that may reach their own member only, compared with every other kind."""

import json
from collections.abc import Mapping
from itertools import product
from typing import Any

import pymongo
import pytest
from tornado.httpclient import HTTPResponse
from tornado.ioloop import IOLoop

from tests.support.api import Api, parsed, problem
from tests.support.tokens import make_token
from tornado_members.app import HISTORY_ROUTE, ROUTES
from tornado_members.auth.permissions import OWN
from tornado_members.handlers.base import BaseHandler
from tornado_members.handlers.member_cache import MemberCacheApplication
from tornado_members.openapi.operation import CSV, NDJSON, Operation
from tornado_members.services import Services
from tornado_members.settings import Audit, Settings

pytestmark = pytest.mark.shared_services

READ, WRITE, DELETE = "members:read", "members:write", "members:delete"
READ_OWN, WRITE_OWN = "members:read:own", "members:write:own"
OWN_ID, OTHER_ID, ABSENT_ID = 1, 2, 999
MERGE_PATCH = "application/merge-patch+json"


@pytest.fixture
def settings(
    settings: Settings, admin: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> Settings:
    admin[database_name]["audit"].delete_many({})
    issuer = settings.auth.issuers[0].model_copy(update={"member_claim": ("member",)})
    auth = settings.auth.model_copy(update={"issuers": (issuer,)})
    return settings.model_copy(update={"auth": auth, "audit": Audit(enabled=True)})


def caller(*scope: str, member: Any = OWN_ID, **claims: Any) -> str:
    return make_token(scope=" ".join(scope), member=member, **claims)


CALLERS: dict[str, str | None] = {
    "none": None,
    "blocked": caller(READ, READ_OWN, WRITE_OWN, access_rights=0),
    "own": caller(READ_OWN),
    "own-write": caller(WRITE_OWN),
    "own-both": caller(READ_OWN, WRITE_OWN),
    "own-unnamed": caller(READ_OWN, WRITE_OWN, member=None),
    "read": caller(READ, member=None),
    "write": caller(WRITE, member=None),
    "delete": caller(DELETE, member=None),
    "read-named": caller(READ, WRITE_OWN),
}


@pytest.fixture
def members(io_loop: IOLoop, api: Api) -> Api:
    """Two members: the caller's own, and another."""

    async def create() -> None:
        for name in ("Own", "Other"):
            await api.create(name)

    io_loop.run_sync(create)
    return api


def bearer(token: str | None) -> dict[str, str]:
    return {"X-Request-Id": "fixed"} | ({"Authorization": f"Bearer {token}"} if token else {})


def body_of(operation: Operation, name: str = "New") -> tuple[bytes | None, str]:
    """Return a body that the operation accepts, and its type."""
    if operation.body is None:
        return None, ""
    media_type = operation.body.media_type
    if operation.name == "lookUpMembers":
        return b'{"memberIds": [1, 2]}', media_type
    bodies = {CSV: b"name\r\nNew\r\n", MERGE_PATCH: b'{"email": "new@example.org"}'}
    return bodies.get(media_type, json.dumps({"name": name}).encode()), media_type


async def send(
    api: Api, token: str | None, method: str, path: str, operation: Operation, name: str
) -> HTTPResponse:
    raw, media_type = body_of(operation, name)
    headers = bearer(token)
    if media_type:
        headers["Content-Type"] = media_type
    return await api(method, path, raw=raw, rights=None, headers=headers)


BY_NAME = ("/members/by-name?name={name}", "/members/by-name/{name}")
OPERATIONS = [
    (BY_NAME[0] if path == "/members/by-name" else path, method, handler.operations[method])
    for path, handler in [*ROUTES, HISTORY_ROUTE]
    if issubclass(handler, BaseHandler)
    for method in handler.operations
    # The GET of the feed does not end, and admits the callers of its HEAD.
    if not path.startswith("/docs") and (path, method) != ("/members/changes", "GET")
]


def reaches(path: str, permission: str, kind: str, target: int) -> bool:
    """True if the API permits a kind of caller an operation on a member."""
    full = {
        "read": {READ},
        "write": {WRITE},
        "delete": {DELETE},
        "read-named": {READ},
    }.get(kind, set())
    own = {
        "own": {READ},
        "own-write": {WRITE},
        "own-both": {READ, WRITE},
        "read-named": {WRITE},
    }.get(kind, set())
    one_member = path in ("/members/{memberId}", *BY_NAME, "/members/me", "/members/changes")
    return permission in full or (permission in own and one_member and target == OWN_ID)


async def test_each_route_and_method_admits_the_right_callers(members: Api) -> None:
    names = {OWN_ID: "Own", OTHER_ID: "Other", ABSENT_ID: "Absent"}
    for kind, (path, method, operation) in product(CALLERS, OPERATIONS):
        if method == "DELETE" and kind == "delete":
            continue  # it would delete the members of the following rows
        assert operation.permission
        is_one = "{" in path
        for target in names if is_one else (OWN_ID,):
            address = path.format(memberId=target, name=names[target])
            name = names[target] if is_one or path == "/members/me" else "New"
            response = await send(members, CALLERS[kind], method, address, operation, name)
            where = (kind, method, address, response.code, response.body)
            if CALLERS[kind] is None:
                assert response.code == 401, where
            elif not reaches(path, operation.permission, kind, target):
                assert response.code == 403, where
            elif (is_one and target == ABSENT_ID) or (path == "/members/me" and "own" not in kind):
                assert response.code in (200, 201, 404), where
            else:
                assert response.code in (200, 201, 409 if path == "/members" else 200), where


async def test_refused_member_looks_like_one_that_does_not_exist(members: Api) -> None:
    """Byte for byte: status, headers and body, whatever else the request contains."""
    extras: list[Mapping[str, str]] = [
        {},
        {"If-None-Match": '"1"'},
        {"If-Match": "nonsense"},
        {"Accept": "text/html"},
        {"Content-Type": "text/plain"},
    ]
    for path, method, operation in OPERATIONS:
        if path not in ("/members/{memberId}", *BY_NAME, HISTORY_ROUTE[0]):
            continue
        for kind in ("own", "own-both"):
            for extra in extras:
                seen = set()
                for target, name in ((OTHER_ID, "Other"), (ABSENT_ID, "Absent"), (10**14, "x")):
                    address = path.format(memberId=target, name=name)
                    raw, media_type = body_of(operation)
                    headers = {**bearer(CALLERS[kind]), "Content-Type": media_type, **extra}
                    response = await members(method, address, raw=raw, rights=None, headers=headers)
                    # A handler compares names after the checks of Accept and other headers.
                    assert response.code in ((403, 406) if "by-name" in path else (403,))
                    kept = sorted((n, v) for n, v in response.headers.get_all() if n != "Date")
                    seen.add((response.code, response.body, str(kept)))
                assert len(seen) == 1, (method, path, kind, extra)


async def test_lists_exports_and_filters_are_refused_in_any_case(
    members: Api,
) -> None:
    for query in ("", "?name=Own", "?name=Other", "?limit=1", "?email=x", "?after=x", "?x=1"):
        for accept in ("application/json", CSV, NDJSON):
            headers = {**bearer(CALLERS["own-both"]), "Accept": accept}
            response = await members("GET", f"/members{query}", rights=None, headers=headers)
            found = problem(response, 403, "permission-missing")
            assert found["permission"] == READ
            assert found["detail"] == (
                "This request requires the permission members:read. The token grants only "
                "members:read:own, members:write:own. For this token, a permission that ends in "
                ":own covers member 1 only."
            )


async def test_batches_of_own_callers_are_refused_as_a_whole(members: Api) -> None:
    """Byte for byte, whether or not the other members exist, and nothing is looked up."""
    own = {**bearer(CALLERS["own-both"]), "Content-Type": "application/json"}
    expected = parsed(await members("GET", f"/members/{OWN_ID}", rights=None, headers=own))
    batches: list[tuple[list[Any], int]] = [([OWN_ID], 200), ([OWN_ID, OWN_ID], 200)]
    for other in (OTHER_ID, ABSENT_ID, 10**14):
        batches += [([other], 403), ([OWN_ID, other], 403), ([other, OWN_ID], 403)]
    seen = set()
    for ids, status in batches:
        query = ",".join(map(str, ids))
        raw = json.dumps({"memberIds": ids}).encode()
        for answer in (
            await members("GET", f"/members?memberId={query}", rights=None, headers=own),
            await members("HEAD", f"/members?memberId={query}", rights=None, headers=own),
            await members("POST", "/members/lookup", raw=raw, rights=None, headers=own),
        ):
            assert answer.code == status, ids
            method = answer.request.method
            if status == 403:
                kept = sorted((n, v) for n, v in answer.headers.get_all() if n != "Date")
                seen.add((method, answer.body, str(kept)))
            elif method != "HEAD":
                assert parsed(answer) == {"items": [expected], "missing": [], "next": None}
    assert len(seen) == 3  # one per method
    for query in ("memberId=1&memberId=2", "memberId=", "memberId=1,", "memberId=%31,x"):
        answer = await members("GET", f"/members?{query}", rights=None, headers=own)
        problem(answer, 403, "permission-missing")
    for query in ("memberId=1&limit=1", "memberId=1&memberId=1"):
        answer = await members("GET", f"/members?{query}", rights=None, headers=own)
        problem(answer, 400, "bad-parameter")
    for kind in ("own-write", "own-unnamed", "write"):
        headers = {**own, **bearer(CALLERS[kind])}
        answer = await members("GET", "/members?memberId=1", rights=None, headers=headers)
        problem(answer, 403, "permission-missing")
        body = {"memberIds": [OWN_ID]}
        answer = await members("POST", "/members/lookup", body, rights=None, headers=headers)
        problem(answer, 403, "permission-missing")


async def test_me_is_the_callers_own_member(members: Api) -> None:
    own = bearer(CALLERS["own-both"])
    me = await members("GET", "/members/me", rights=None, headers=own)
    same = await members("GET", f"/members/{OWN_ID}", rights=None, headers=own)
    assert me.body == same.body
    assert me.headers["Content-Location"] == f"/members/{OWN_ID}"
    assert me.headers["Etag"] == same.headers["Etag"]
    unchanged = {**own, "If-None-Match": me.headers["Etag"]}
    assert (await members("GET", "/members/me", rights=None, headers=unchanged)).code == 304
    fields = {"name": "Own", "phone": "123"}
    changed = await members("PUT", "/members/me", fields, rights=None, headers=own)
    assert (changed.code, parsed(changed)["phone"]) == (200, "123")
    stale = {**own, "If-Match": me.headers["Etag"], "Content-Type": MERGE_PATCH}
    patch: dict[str, Any] = {"raw": b'{"phone": null}', "rights": None}
    problem(
        await members("PATCH", "/members/me", headers=stale, **patch), 412, "precondition-failed"
    )
    merge = {**own, "Content-Type": MERGE_PATCH}
    assert (await members("PATCH", "/members/me", headers=merge, **patch)).code == 200
    repeated = {"memberId": OTHER_ID, "name": "Own"}
    problem(
        await members("PUT", "/members/me", repeated, rights=None, headers=own),
        422,
        "invalid-member",
    )
    deletion = await members("DELETE", "/members/me", rights=None, headers=own)
    assert problem(deletion, 405, "method-not-allowed")
    assert "DELETE" not in deletion.headers["Allow"]
    staff = bearer(make_token(access_rights=3))
    problem(
        await members("GET", "/members/me", rights=None, headers=staff), 404, "member-not-found"
    )
    assert (await members("DELETE", f"/members/{OWN_ID}", rights=None, headers=staff)).code == 204
    problem(await members("GET", "/members/me", rights=None, headers=own), 404, "member-not-found")
    by_name = await members("GET", "/members/by-name/Own", rights=None, headers=own)
    problem(by_name, 403, "permission-missing")


async def test_name_conflict_hides_the_owner(members: Api) -> None:
    """Unless the caller may read all members anyway."""
    own = bearer(CALLERS["own-both"])
    for method, path in (("PUT", "/members/me"), ("PUT", f"/members/{OWN_ID}")):
        refused = problem(
            await members(method, path, {"name": "Other"}, rights=None, headers=own),
            409,
            "name-taken",
        )
        assert "member" not in refused
        assert str(OTHER_ID) not in refused["detail"]
    reader = bearer(CALLERS["read-named"])
    known = await members("PUT", "/members/me", {"name": "Other"}, rights=None, headers=reader)
    assert parsed(known)["member"] == f"/members/{OTHER_ID}"


async def test_own_caller_does_not_write_the_member_that_takes_its_name(
    members: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_by_name = services.directory.put_by_name

    async def put_late(*arguments: Any, **options: Any) -> Any:
        await members("PUT", f"/members/{OWN_ID}", {"name": "Mine"})
        await members("PUT", f"/members/{OTHER_ID}", {"name": "Own", "phone": "5551234"})
        return await put_by_name(*arguments, **options)

    monkeypatch.setattr(services.directory, "put_by_name", put_late)
    body = {"memberId": OTHER_ID, "email": "mine@example.org"}
    own = bearer(caller(WRITE_OWN))
    refused = await members("PUT", "/members/by-name/Own", body, rights=None, headers=own)
    problem(refused, 422, "invalid-member")
    other = parsed(await members("GET", f"/members/{OTHER_ID}"))
    assert other["email"] is None


async def test_by_name_reaches_the_own_member_by_its_current_name(members: Api) -> None:
    own = bearer(CALLERS["own-both"])
    for name in ("Own", "%20Own%20"):
        found = await members("GET", f"/members/by-name/{name}", rights=None, headers=own)
        assert found.headers["Content-Location"] == f"/members/{OWN_ID}"
    renamed = await members("PUT", "/members/me", {"name": "Mine"}, rights=None, headers=own)
    assert renamed.code == 200
    for name, status in (("Own", 403), ("Mine", 200)):
        for method, sent in (("GET", None), ("PUT", {"phone": "12345"})):
            path = f"/members/by-name/{name}"
            response = await members(method, path, sent, rights=None, headers=own)
            assert response.code == status, (method, name)
    contradicting = await members(
        "PUT", "/members/by-name/Mine", {"memberId": OTHER_ID}, rights=None, headers=own
    )
    problem(contradicting, 422, "invalid-member")


async def test_member_claim_that_is_not_an_id_grants_nothing(members: Api) -> None:
    ids = [1, "1"]
    others = [None, 0, -1, 1.0, True, "01", "+1", "1 ", "1\n", "\u0661", "1e0", "", [1], {"1": 1}]
    for claim in [*ids, *others, 10**30, "9" * 17]:
        headers = bearer(caller(READ_OWN, WRITE_OWN, member=claim))
        for path in ("/members/1", "/members/me", "/members/by-name/Own"):
            response = await members("GET", path, rights=None, headers=headers)
            is_id = any(claim is own_id for own_id in ids)
            assert response.code == (200 if is_id else 403), claim


async def test_fast_path_serves_the_own_member_and_no_other(
    members: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[int] = []
    answer = MemberCacheApplication._respond

    def recording(self: MemberCacheApplication, request: Any, member: Any) -> None:
        served.append(request.selector)
        answer(self, request, member)

    monkeypatch.setattr(MemberCacheApplication, "_respond", recording)
    for member_id in (OWN_ID, OTHER_ID):  # both are in the cache
        staff = bearer(make_token(access_rights=1))
        await members("GET", f"/members/{member_id}", rights=None, headers=staff)
    for _ in range(3):
        for kind, member_id, status in (
            ("own", OWN_ID, 200),
            ("own", OTHER_ID, 403),
            ("own-write", OWN_ID, 403),
            ("own-unnamed", OWN_ID, 403),
        ):
            response = await members(
                "GET", f"/members/{member_id}", rights=None, headers=bearer(CALLERS[kind])
            )
            assert response.code == status, (kind, member_id)
    assert set(served) == {OWN_ID}


async def test_fast_path_decodes_a_path_as_the_handler_does(
    members: Api,
) -> None:
    headers = bearer(CALLERS["own"])
    addresses = {"1": 200, "%31": 200, "%32": 403, "1%2F": 403, "%2531": 403, "1%00": 403}
    for text, status in addresses.items():
        response = await members("GET", f"/members/{text}", rights=None, headers=headers)
        assert response.code == status, text


def test_operations_on_the_own_member_are_declared() -> None:
    declared = {(path, method) for path, method, operation in OPERATIONS if operation.is_own}
    assert {
        *(("/members/{memberId}", method) for method in ("GET", "HEAD", "PUT", "PATCH")),
        *((path, method) for path in BY_NAME for method in ("GET", "HEAD", "PUT")),
        *(("/members/me", method) for method in ("GET", "HEAD", "PUT", "PATCH")),
        *(("/members", "GET"), ("/members", "HEAD"), ("/members/lookup", "POST")),
    } <= declared
    assert all(operation.permission in OWN for _, _, operation in OPERATIONS if operation.is_own)

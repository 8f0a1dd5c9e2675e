"""server.base_path: all addresses of the API, in requests and in responses, begin with it."""

import json
import re
from typing import Any

import pymongo
import pytest

from tests.handlers.test_paging import walk
from tests.support.api import Api, parsed, problem, token_of
from tests.support.wire import AnyServer, bare_connection, on_both
from tornado_members.app import openapi_document
from tornado_members.services import Services
from tornado_members.settings import Settings
from tornado_members.settings.server import Server

BASE = "/api/v1"
ADA = {"memberId": 1, "name": "Ada", "email": None, "phone": None}


@pytest.fixture
def settings(
    settings: Settings, admin: pymongo.MongoClient[dict[str, Any]], database_name: str
) -> Settings:
    admin[database_name]["audit"].delete_many({})
    server = settings.server.model_copy(update={"base_path": BASE})
    whole = settings.model_copy(update={"server": server})
    return Settings.model_validate({**whole.model_dump(), "audit": {"enabled": True}})


@on_both
async def test_addresses_in_responses_begin_with_the_base_path(
    api: Api, services: Services
) -> None:
    created = await api("PUT", f"{BASE}/members", {"name": "Ada"})
    assert (created.code, created.headers["Location"]) == (201, f"{BASE}/members/1")
    conflict = problem(await api("PUT", f"{BASE}/members", {"name": "Ada"}), 409, "name-taken")
    assert conflict["member"] == f"{BASE}/members/1"
    for path in ("by-name/Ada", "by-name?name=Ada"):
        for _ in range(3):  # at last from the cache
            found = await api("GET", f"{BASE}/members/{path}")
            assert found.headers["Content-Location"] == f"{BASE}/members/1"
        assert found.headers["Cache-Status"] == "memcached; hit"
    bob = (await api("PUT", f"{BASE}/members/by-name?name=Bob", {})).headers["Location"]
    await api("PUT", bob, {"name": "Bo"})
    pages = await walk(api, f"{BASE}/members?limit=1")
    assert [member["name"] for member in pages] == ["Ada", "Bo"]
    first = await api("GET", f"{bob}/history?limit=1")
    assert parsed(first)["next"].startswith(f"{bob}/history?")
    assert len(await walk(api, f"{bob}/history?limit=1")) == 2
    imported = await api(
        "POST",
        f"{BASE}/members/import",
        raw=b"name\nAda\nEve\n",
        headers={"Content-Type": "text/csv"},
    )
    addresses = re.findall(rb'"member": "([^"]*)"', imported.body)
    assert addresses[0] == b"/api/v1/members/1"
    assert (await api("GET", addresses[1].decode())).code == 200
    described = json.loads(openapi_document(services).plain)
    assert described["servers"] == [{"url": BASE}]
    assert "/members/{memberId}" in described["paths"]


async def test_fast_path_serves_below_the_base_path(
    api: Api, http_server: AnyServer, services: Services
) -> None:
    await api("PUT", f"{BASE}/members", {"name": "Ada"})
    await api("GET", f"{BASE}/members/1")
    before = services.tokens.counts.remembered
    for path in ("/members/1", "/members/by-name/Ada", "/members/by-name?name=Ada"):
        await api("GET", BASE + path)
        assert parsed(await api("GET", BASE + path)) == ADA
    assert services.tokens.counts.remembered > before
    async with bare_connection(http_server) as (reader, writer):
        head = f"Host: x\r\nAuthorization: Bearer {token_of(3)}\r\nConnection: close\r\n\r\n"
        writer.write(f"GET /members/1 HTTP/1.1\r\n{head}".encode())
        assert b" 404 " in await reader.readline()


async def test_other_paths_do_not_exist(api: Api, services: Services) -> None:
    await api("PUT", f"{BASE}/members", {"name": "Ada"})
    for path in ("/members", "/members/1", "/openapi.json", "/docs", "/api/members/1"):
        for method in ("GET", "DELETE"):
            problem(await api(method, path), 404, "not-found")
    for path in (
        f"{BASE}x/members/1",
        f"{BASE}members/1",
        f"/{BASE}/members/1",
        f"{BASE}//members/1",
        BASE,
    ):
        problem(await api("GET", path), 404, "not-found")
    for path in ("/", BASE, f"{BASE}/"):
        assert (await api("OPTIONS", path)).code == 204
    for path in ("/openapi.json", "/docs", "/docs/docs.js"):
        assert (await api("GET", BASE + path, rights=None)).code == 200
    assert services.base_path == BASE


@pytest.mark.parametrize(
    "path",
    ["/", "api", "/api/", "//api", "/a//b", "/a/../b", "/./a", "/a b", "/a%20b", "/a?b"],
)
def test_setting_refuses_paths_that_proxies_change(path: str) -> None:
    with pytest.raises(ValueError, match="should be empty, or begin with /"):
        Server(base_path=path)
    assert Server(base_path="/a/b-c.d_~").base_path == "/a/b-c.d_~"

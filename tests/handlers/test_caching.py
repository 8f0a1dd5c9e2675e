"""The effect of the cache on requests, and Cache-Status (RFC 9211)."""

import asyncio
import re
from collections.abc import Callable
from functools import partial

import pytest
from tornado.httpclient import HTTPResponse

from tests.support.api import Api, parsed, problem
from tests.support.memcached import send_to_memcached
from tornado_members.lease_cache.cache import LeaseCache
from tornado_members.member_entries import id_key, name_key
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.services import Services
from tornado_members.settings import Settings
from tornado_members.storage.changes import Change

pytestmark = pytest.mark.shared_services

HIT = "memcached; hit"
STORED = "memcached; fwd=miss; stored"
ON_REQUEST = "memcached; fwd=request"


def status(response: HTTPResponse) -> str:
    return str(response.headers["Cache-Status"])


async def test_get_by_id_is_cached(api: Api) -> None:
    ada = await api.create("Ada")
    for expected in (STORED, HIT, HIT):
        answer = await api("GET", "/members/1")
        assert (parsed(answer), answer.headers["ETag"], status(answer)) == (ada, '"1"', expected)
    assert status(await api("HEAD", "/members/1")) == HIT
    unchanged = await api("GET", "/members/1", headers={"If-None-Match": '"1"'})
    assert (unchanged.code, status(unchanged)) == (304, HIT)


async def test_get_by_name_is_cached(api: Api) -> None:
    ada = await api.create("Ada")
    statuses = []
    for _ in range(4):
        answer = await api("GET", "/members/by-name/Ada")
        assert (parsed(answer), answer.headers["Content-Location"]) == (ada, "/members/1")
        statuses.append(status(answer))
    assert statuses == [STORED, STORED, HIT, HIT]  # the name, then the member, then both


@pytest.mark.parametrize("path", ["/members/1", "/members/by-name/Ada"])
async def test_get_caches_absence_until_the_member_exists(api: Api, path: str) -> None:
    for expected in (STORED, HIT):
        answer = await api("GET", path)
        problem(answer, 404, "member-not-found")
        assert status(answer) == expected
    ada = await api.create("Ada")
    assert parsed(await api("GET", path)) == ada


async def test_get_returns_a_change_at_once(api: Api) -> None:
    await api.create("Ada")
    for i in range(5):
        for path in ("/members/1", "/members/by-name/Ada"):
            await api("GET", path)
        changed = await api("PUT", "/members/1", {"name": "Ada", "phone": f"555-{i:04}"})
        for path in ("/members/1", "/members/by-name/Ada"):
            assert parsed(await api("GET", path)) == parsed(changed)
    changed = await api("PUT", "/members/by-name/Ada", {"email": "ada@example.org"})
    assert parsed(await api("GET", "/members/1")) == parsed(changed)


async def test_get_by_name_follows_a_name_that_moves(api: Api) -> None:
    await api.create("Ada")
    for _ in range(3):
        await api("GET", "/members/by-name/Ada")
        problem(await api("GET", "/members/by-name/Countess"), 404, "member-not-found")
    await api("PUT", "/members/1", {"name": "Countess"})
    assert parsed(await api("GET", "/members/by-name/Countess"))["memberId"] == 1
    for expected in (STORED, HIT):
        answer = await api("GET", "/members/by-name/Ada")
        problem(answer, 404, "member-not-found")
        assert status(answer) == expected
    other = await api.create("Ada")
    for _ in range(3):
        assert parsed(await api("GET", "/members/by-name/Ada")) == other
    await api("DELETE", f"/members/{other['memberId']}")
    for path in ("/members/by-name/Ada", f"/members/{other['memberId']}"):
        problem(await api("GET", path), 404, "member-not-found")


async def test_get_with_no_cache_reads_the_database(api: Api, services: Services) -> None:
    await api.create("Ada")
    hits = services.directory.cache_counts.hits
    for path in ("/members/1", "/members/by-name/Ada"):
        await api("GET", path)
        for value in ("no-cache", "max-age=0, No-Cache"):
            answer = await api("GET", path, headers={"Cache-Control": value})
            assert (answer.code, status(answer)) == (200, ON_REQUEST)
    for path in ("/members/7", "/members/by-name/Bob"):
        answer = await api("GET", path, headers={"Cache-Control": "no-cache"})
        problem(answer, 404, "member-not-found")
        assert status(answer) == ON_REQUEST
    assert services.directory.cache_counts.hits == hits


async def test_writes_have_no_cache_status(api: Api) -> None:
    for answer in (
        await api("PUT", "/members", {"name": "Ada"}),
        await api("PUT", "/members/1", {"name": "Ada"}),
        await api("PUT", "/members/2", {"name": "Bob"}),
        await api("GET", "/members"),
        await api("DELETE", "/members/1"),
    ):
        assert "Cache-Status" not in answer.headers


async def test_invalidated_members_are_removed_from_the_cache(api: Api, services: Services) -> None:
    await api.create("Ada")
    await api.create("Bob")
    paths = ("/members/1", "/members/2", "/members/by-name/Eve")
    for path in paths:
        await api("GET", path)
    await services.directory.invalidate_members([Change(1, "Eve"), Change(3, None)])
    assert [status(await api("GET", path)) for path in paths] == [STORED, HIT, STORED]
    await services.directory.flush_cache()
    assert [status(await api("GET", path)) for path in paths] == [STORED, STORED, STORED]


async def test_concurrent_gets_cost_the_database_one_read(api: Api, services: Services) -> None:
    await api.create("Ada")
    misses = services.directory.cache_counts.misses
    answers = await asyncio.gather(*(api("GET", "/members/1") for _ in range(8)))
    assert {answer.code for answer in answers} == {200}
    assert services.directory.cache_counts.misses == misses + 1


@pytest.mark.own_services  # its list of servers would replace that of the others
class TestRequired:
    """A service whose writes require an announcement, and whose node is unavailable."""

    @pytest.fixture
    def cache_servers(self) -> tuple[str, ...]:
        return ("127.0.0.1:1",)

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        strict = {"require_for_writes": True, "heartbeat_ms": 100, "timeout_ms": 100}
        cache = settings.cache.model_copy(update=strict)
        return settings.model_copy(update={"cache": cache})

    async def test_writes_are_refused_and_reads_are_not(self, api: Api) -> None:
        problem(await api("PUT", "/members", {"name": "Ada"}), 503, "dependency-unavailable")
        answer = await api("GET", "/members/by-name/Ada")
        problem(answer, 404, "member-not-found")
        assert status(answer) == "memcached; fwd=bypass; detail=node-unavailable"


SCHEMA = b"@" + MEMBER_FIELDS.digest


@pytest.mark.parametrize("date", [b"@99999999999999", b"abcd@xyz", b"abcd", b"@", b"abcd@-5"])
async def test_entry_with_an_invalid_date_has_no_last_modified(
    api: Api, services: Services, cache_servers: tuple[str, ...], date: bytes
) -> None:
    ada = await api.create("Ada")
    await api("GET", "/members/1")
    rewrite(
        services,
        cache_servers[0],
        id_key(1),
        lambda stored: re.sub(rb"\S+\Z", date + SCHEMA, stored),
    )
    answer = await api("GET", "/members/1")
    assert (parsed(answer), status(answer)) == (ada, HIT)
    assert "Last-Modified" not in answer.headers
    assert parsed(await api("GET", "/members/by-name/Ada")) == ada


@pytest.mark.parametrize("tag", [b"@", b"abcd@1@00000000", b"abcd" + SCHEMA + b"0"])
async def test_entry_of_another_schema_is_not_served(
    api: Api, services: Services, cache_servers: tuple[str, ...], tag: bytes
) -> None:
    ada = await api.create("Ada")
    await api("GET", "/members/1")
    address, key = cache_servers[0], id_key(1)
    rewrite(services, address, key, lambda stored: re.sub(rb"\S+\Z", tag, stored))
    for expected in (STORED, HIT):
        answer = await api("GET", "/members/1")
        assert (parsed(answer), status(answer)) == (ada, expected)
    assert parsed(await api("GET", "/members/by-name/Ada")) == ada


@pytest.mark.parametrize("lead", [b"", b"nobody", b"-1", b"1.0", b"9" * 400, b"9" * 5000])
async def test_entry_of_a_name_with_an_invalid_id_is_ignored(
    api: Api, services: Services, cache_servers: tuple[str, ...], lead: bytes
) -> None:
    ada = await api.create("Ada")
    for through_handler in (False, True):
        headers = {"If-Match": "*"} if through_handler else {}
        async with asyncio.timeout(60):
            while status(await api("GET", "/members/by-name/Ada")) != HIT:
                pass
        changed = partial(re.compile(rb"\n.*\n").sub, b"\n%b\n" % lead)
        rewrite(services, cache_servers[0], name_key("Ada"), changed)
        services.directory._look_ups._ids.clear()  # as in a process that did not read the name yet
        for _ in range(3):
            assert parsed(await api("GET", "/members/by-name/Ada", headers=headers)) == ada
        assert status(await api("GET", "/members/by-name/Ada")) == HIT


def rewrite(services: Services, address: str, key: bytes, change: Callable[[bytes], bytes]) -> None:
    """Change the stored value of a key."""
    cache = services.directory._cache
    assert isinstance(cache, LeaseCache)
    full_key = cache._prefix + key
    reply = send_to_memcached(address, b"get %b\r\n" % full_key)
    stored = reply.partition(b"\r\n")[2].removesuffix(b"\r\nEND\r\n")
    changed = change(stored)
    assert changed != stored
    send_to_memcached(address, b"set %b 0 60 %d\r\n%b\r\n" % (full_key, len(changed), changed))

"""The fast path answers as the handlers do, and only what they would answer from the cache."""

import asyncio
import itertools
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from tornado.httpclient import HTTPResponse

from tests.support.api import Api, Fetching, parsed, problem, token_of
from tests.support.fast_path import Counting, make_counting_app, masked, response_to, undated
from tests.support.tokens import ISSUER, make_token
from tests.support.wire import AnyServer, bare_connection, on_both
from tornado_members.auth.caller import Caller
from tornado_members.auth.revocations import TokenRevocations
from tornado_members.cached_members import CachedMembers, CacheMiss
from tornado_members.errors import DependencyUnavailable, Overloaded, TokenInvalid
from tornado_members.handlers.member_cache import MemberCacheApplication
from tornado_members.lease_cache.coalescing import Batcher
from tornado_members.lease_cache.connection import MemcachedConnection
from tornado_members.lease_cache.get_commands import Get
from tornado_members.lease_cache.memcached import MemcachedNode
from tornado_members.lease_cache.protocol import LeaseProtocol
from tornado_members.member_entries import Representation, id_key, represent_loaded
from tornado_members.model.member import MemberDraft
from tornado_members.services import Services
from tornado_members.settings import Settings
from tornado_members.storage.members import MemberStore
from tornado_members.storage.users import UserStore

pytestmark = pytest.mark.shared_services

ADA = {"name": "Ada Lovelace", "email": "ada@example.org", "phone": "+44 20 7946 0018"}


@pytest.fixture
def app(services: Services) -> MemberCacheApplication:
    return make_counting_app(services)


@pytest.fixture
def handlers(app: MemberCacheApplication) -> Counting:
    """The application behind the fast path."""
    assert isinstance(app.application, Counting)
    return app.application


async def cache_ada(api: Api) -> None:
    """Cache the member Ada, and have the token remembered."""
    await api.create(**ADA)
    await api("GET", "/members/1")


# Requests by name: their headers, and whether the fast path answers them.
VARIANTS: list[tuple[str, dict[str, str], bool]] = [
    ("plain", {}, True),
    ("any type", {"Accept": "*/*"}, True),
    ("JSON", {"Accept": "application/json"}, True),
    ("JSON first", {"Accept": "application/json, */*"}, True),
    ("several types", {"Accept": "text/html, application/json;q=0.5"}, True),
    ("another type", {"Accept": "text/html"}, False),
    ("no such type as JSON", {"Accept": "application/json;q=0"}, False),
    ("known already", {"If-None-Match": '"1"'}, True),
    ("known weakly", {"If-None-Match": 'W/"1"'}, True),
    ("anything is known", {"If-None-Match": "*"}, True),
    ("another one is known", {"If-None-Match": '"2", "7"'}, True),
    ("nonsense is known", {"If-None-Match": "1"}, True),
    ("known since then", {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, True),
    ("known before", {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, True),
    ("a tag counts for more", {"If-None-Match": '"2"', "If-Modified-Since": "x"}, True),
    ("if it is still this one", {"If-Match": '"1"'}, False),
    ("if it is another one", {"If-Match": '"2"'}, False),
    ("unless it is newer", {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, False),
    ("not from the cache", {"Cache-Control": "no-cache"}, False),
    ("not from the cache, among others", {"Cache-Control": "max-age=0, No-Cache"}, False),
    ("fresh", {"Cache-Control": "max-age=0"}, True),
    ("a script's", {"Origin": "https://app.example"}, True),
    ("another script's", {"Origin": "https://elsewhere.example"}, True),
    ("a script's, known", {"Origin": "https://app.example", "If-None-Match": "*"}, True),
    (
        "behind a proxy",
        {
            "X-Forwarded-For": "203.0.113.7",
            "X-Forwarded-Proto": "https",
            "X-Real-Ip": "203.0.113.7",
            "Forwarded": "for=203.0.113.7;proto=https",
            "Via": "1.1 proxy",
        },
        True,
    ),
    ("a given id", {"X-Request-Id": "abc-1"}, True),
    ("an invalid id", {"X-Request-Id": 'a"b c'}, True),
    ("unknown headers", {"X-Whatever": "1", "Range": "bytes=0-3", "Cookie": "a=b"}, True),
    ("gzip", {"Accept-Encoding": "gzip"}, True),
    ("a trace", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, True),
]
# Under other settings and transports: the variants whose responses depend on these.
SOME_VARIANTS = {
    *("plain", "another type", "known already", "not from the cache", "a script's"),
    *("another script's", "a script's, known", "behind a proxy", "an invalid id", "gzip"),
    "a trace",
}
# The batch is long enough for compression.
BATCH = "/members?memberId=1," + "%2C".join(str(10**15 - i) for i in range(1, 90))
PATHS = (
    "/members/1",
    "/members/by-name/Ada%20Lovelace",
    "/members/by-name?name=Ada%20Lovelace",
    BATCH,
)
# Long enough for compression, and with a next page.
LIST = "/members?q=lovelace&sort=-name&limit=12"
# Settings that a service in production has. Half of its requests are traced.
PRODUCTION = {
    "cors": {"origins": ["https://app.example", "http://localhost:3000"]},
    "rate_limit": {"requests_per_minute": 100_000},
    "telemetry": {"otlp_endpoint": "http://127.0.0.1:9", "sample_ratio": 0.5},
}
ANY_ORIGIN = {"cors": {"origins": ["*"]}}


class TestBytes:
    """The fast path and the handlers send the same bytes, whatever the settings are."""

    @pytest.fixture
    def more(self) -> dict[str, Any]:
        return {}

    @pytest.fixture
    def settings(self, settings: Settings, more: dict[str, Any]) -> Settings:
        return Settings.model_validate({**settings.model_dump(), **more})

    @pytest.mark.parametrize(
        ("transport", "more", "names"),
        [
            ("http1", {}, {name for name, _, _ in VARIANTS}),
            ("tornado", {}, SOME_VARIANTS),
            ("http1", PRODUCTION, SOME_VARIANTS),
            ("http1", ANY_ORIGIN, SOME_VARIANTS),
        ],
        ids=["http1", "tornado", "production", "any origin"],
    )
    async def test_fast_path_answers_as_the_handlers_do(
        self,
        api: Api,
        http_server: AnyServer,
        app: MemberCacheApplication,
        handlers: Counting,
        *,
        services: Services,
        names: set[str],
        subtests: pytest.Subtests,
    ) -> None:
        variants = [one for one in VARIANTS if one[0] in names]
        assert len(variants) == len(names)
        await api.create(**ADA)
        for i in range(20):
            await api.create(f"Lovelace {i}", email=f"{i}@example.org")
        # A later change would be settled in the middle of the test, which adds Last-Modified.
        long_ago = {"$set": {"updatedAt": datetime(2026, 1, 1, tzinfo=UTC)}}
        await services.directory._store._members.update_one({"_id": 1}, long_ago)
        for path in PATHS:
            await api("GET", path)
        for path, (name, headers, is_fast) in itertools.product([*PATHS, LIST], variants):
            with subtests.test(f"{name}: {path[:30]}"):
                for _ in range(5):  # on a busy machine, the node may count as away for a moment
                    before = handlers.requests
                    app.is_enabled = True
                    fast = await response_to(http_server, path, headers)
                    was_fast, app.is_enabled = handlers.requests == before, False
                    slow = await response_to(http_server, path, headers)
                    if was_fast is is_fast and b"; fwd=bypass" not in slow:
                        break
                assert was_fast is is_fast
                assert handlers.requests > before
                assert undated(masked(fast)) == undated(masked(slow))
                is_given = headers.get("X-Request-Id") == "abc-1"
                assert (b"X-Request-Id: abc-1\r" in fast) is is_given
                assert (b"X-Request-Id: abc-1\r" in slow) is is_given


class TestRateLimit:
    """Each request is counted once, whether the fast path or a handler answers it."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limit = {"rate_limit": {"requests_per_minute": 8}}
        return Settings.model_validate({**settings.model_dump(), **limit})

    @pytest.fixture
    def services(self, services: Services) -> Services:
        """The minute does not end during the test."""
        assert services.rate_limit
        services.rate_limit._clock = lambda: 60.0
        return services

    async def test_fast_path_counts_each_request_once(
        self, api: Api, http_server: AnyServer, handlers: Counting
    ) -> None:
        await cache_ada(api)  # two requests: the write and the miss
        before = handlers.requests
        hits = [await response_to(http_server, "/members/1", {}) for _ in range(2)]
        assert [one.split(b" ")[1] for one in hits] == [b"200"] * 2
        assert handlers.requests == before
        assert (await api("GET", "/members/2")).code == 404
        together = await asyncio.gather(
            *(response_to(http_server, "/members/1", {}) for _ in range(10))
        )
        assert sorted(one.split(b" ")[1] for one in together) == [b"200"] * 3 + [b"429"] * 7
        problem(await api("GET", "/members/1"), 429, "too-many-requests")

    async def test_rate_limit_sends_one_command_per_turn(
        self, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        real = MemcachedNode.increment_many

        async def increment_many(node: MemcachedNode, amounts: Any, ttl: int) -> Any:
            asked.append(len(amounts))
            return await real(node, amounts, ttl)

        monkeypatch.setattr(MemcachedNode, "increment_many", increment_many)
        limit = services.rate_limit
        assert limit
        callers = [Caller("issuer", name, frozenset()) for name in "abc" * 4]
        await asyncio.gather(*map(limit.check, callers))
        assert asked in ([3], [3, 0])


async def test_fast_path_by_name_asks_the_cache_once(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a name has led to an id, only that member is looked up."""
    await cache_ada(api)
    asked: list[int] = []
    look_up = services.directory._look_ups._look_up

    async def counted(keys: Any) -> Any:
        asked.append(len(keys))
        return await look_up(keys)

    monkeypatch.setattr(services.directory._look_ups, "_look_up", counted)
    for _ in range(3):  # a miss, the first hit, and another one
        assert parsed(await api("GET", PATHS[1]))["memberId"] == 1
    assert asked == [1, 1, 1, 1]


async def test_fast_path_answers_no_name_of_another_member(api: Api, handlers: Counting) -> None:
    """The member that a name led to has another name now, so a handler looks up the name."""
    await cache_ada(api)
    for _ in range(3):  # the process remembers where the name leads
        await api("GET", PATHS[1])
    assert (await api("PUT", "/members/1", {**ADA, "name": "Ada King"})).code == 200
    for _ in range(2):
        await api("GET", "/members/1")
    before = handlers.requests
    problem(await api("GET", PATHS[1]), 404, "member-not-found")
    grace = await api.create("Ada Lovelace")
    found = parsed(await api("GET", PATHS[1]))
    assert (found["memberId"], handlers.requests) == (grace["memberId"], before + 3)


async def test_fast_path_by_name_requires_the_permission_for_all_members(
    api: Api, services: Services, handlers: Counting
) -> None:
    await cache_ada(api)
    await api("GET", PATHS[1])
    own = Caller("issuer", "ada", frozenset({"members:read:own"}), member_id=1)
    before = handlers.requests
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services.tokens, "current_caller", lambda _token: own)
        for path in PATHS:
            assert (await api("GET", path)).code == 200
    assert handlers.requests == before + 3  # the handlers verify the token, which may read all


async def test_fast_path_sends_last_modified_after_two_seconds(
    api: Api, http_server: AnyServer, app: MemberCacheApplication
) -> None:
    await cache_ada(api)
    await asyncio.sleep(3.1)  # dates have whole seconds, and are sent after two
    for path in PATHS[:-1]:
        await api("GET", path)
        app.is_enabled = True
        fast = await response_to(http_server, path, {})
        app.is_enabled = False
        assert b"\r\nLast-Modified: " in fast
        assert masked(fast) == masked(await response_to(http_server, path, {}))


@pytest.mark.own_services
@pytest.mark.parametrize("is_open", [True, False])
async def test_fast_path_leaves_other_requests_to_the_handlers(
    api: Api,
    app: MemberCacheApplication,
    handlers: Counting,
    is_open: bool,
    subtests: pytest.Subtests,
) -> None:
    await cache_ada(api)
    app.is_enabled = is_open
    for method, path, status in [
        ("HEAD", "/members/1", 200),
        ("OPTIONS", "/members/1", 204),
        ("GET", "/members/1?verbose=1", 400),
        ("GET", "/members/2", 404),  # there is no such member
        ("GET", "/members/2", 404),  # now the cache knows that, too
        ("GET", "/members/01", 404),
        ("GET", "/members/%31", 200),
        ("GET", "/members/9999999999999999", 404),
        ("GET", "/members/1/", 404),
        ("GET", "/members?limit=1&limit=1", 400),
        ("GET", "/members/by-name/Ada%20Lovelace", 200),
        ("GET", "/members/by-name/..", 400),
        ("GET", "/members/by-name/a%2Fb", 400),
        ("GET", "/members/by-name?name=%FF", 400),
        ("GET", "/members/by-name?name=Ada%20Lovelace&name=b", 400),
        ("GET", "/members/by-name?name=Ada%20Lovelace&", 200),
        ("GET", "/members/by-name?name=", 400),
    ]:
        with subtests.test(method + path):
            before = handlers.requests
            assert (await api(method, path)).code == status
            assert handlers.requests == before + 1


async def test_fast_path_leaves_refusals_to_the_handlers(api: Api, handlers: Counting) -> None:
    await cache_ada(api)
    before = handlers.requests
    nobody = make_token(access_rights=0)
    for authorization, status, code in [
        (None, 401, "token-missing"),
        ("Basic YTpi", 401, "token-missing"),
        ("Bearer nonsense", 401, "token-invalid"),
        (f"Bearer {nobody}", 403, "permission-missing"),
        (f"Bearer {nobody}", 403, "permission-missing"),  # by now, the token is remembered
    ]:
        headers = {"Authorization": authorization} if authorization else {}
        problem(await api("GET", "/members/1", rights=None, headers=headers), status, code)
        before += 1
    assert handlers.requests == before


async def test_fast_path_refuses_a_token_that_expires(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cache_ada(api)
    token = token_of(3)
    assert services.tokens.get_cached(token)
    now = services.tokens._clock()
    monkeypatch.setattr(services.tokens, "_clock", lambda: now + 365 * 86400)
    assert services.tokens.get_cached(token) is None
    problem(await api("GET", "/members/1"), 401, "token-invalid")


@on_both
@pytest.mark.parametrize("condition", ["", "If-Match: *\r\n"])
async def test_repeated_head_does_not_outlive_its_token(
    api: Api,
    http_server: AnyServer,
    services: Services,
    condition: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the fast path, and in a handler."""
    await cache_ada(api)
    head = f"GET /members/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token_of(3)}\r\n"

    def refuse(_caller: Caller) -> Caller:
        raise TokenInvalid("was revoked", "revoked")

    async with bare_connection(http_server) as (reader, writer):

        async def status() -> int:
            writer.write(f"{head}{condition}\r\n".encode())
            answered = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", answered)
            assert length
            await reader.readexactly(int(length[1]))
            return int(answered.split(b" ")[1])

        assert [await status() for _ in range(3)] == [200] * 3
        now = services.tokens._clock()
        revocations = TokenRevocations(UserStore(services.dependencies.mongo), ISSUER, 60)
        revocations._current.set()
        monkeypatch.setattr(services.tokens, "_revocations", revocations)
        for target, name, value in (
            (services.tokens, "_clock", lambda: now + 365 * 86400),
            (revocations, "apply", refuse),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(target, name, value)
                assert [await status() for _ in range(2)] == [401] * 2
            assert [await status() for _ in range(2)] == [200] * 2


async def test_fast_path_returns_a_change_at_once(api: Api) -> None:
    await cache_ada(api)
    for number in range(5):
        phone = f"+44 20 7946 00{number}"
        assert (await api("PUT", "/members/1", {**ADA, "phone": phone})).code == 200
        for _ in range(3):
            assert parsed(await api("GET", "/members/1"))["phone"] == phone
    assert (await api("DELETE", "/members/1")).code == 204
    problem(await api("GET", "/members/1"), 404, "member-not-found")


@on_both
async def test_fast_path_looks_up_concurrent_reads_together(
    api: Api,
    http_server: AnyServer,
    services: Services,
    handlers: Counting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await cache_ada(api)
    asked, together = [], services.directory.get_cached

    async def get_cached(member_ids: Any) -> CachedMembers:
        asked.append([*member_ids])
        return await together(asked[-1])

    monkeypatch.setattr(services.directory, "get_cached", get_cached)
    before = handlers.requests
    request = f"GET /members/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token_of(3)}\r\n\r\n"
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(bare_connection(http_server)) for _ in range(30)]
        await asyncio.sleep(0.1)
        for _, writer in opened:
            writer.write(request.encode())
        for reader, _ in opened:
            assert (await reader.readline()).split(b" ")[1] == b"200"
    assert handlers.requests == before
    assert sum(map(len, asked)) == 30
    assert len(asked) < 10


@on_both
async def test_requests_wait_while_two_batches_are_looked_up(
    api: Api, http_server: AnyServer, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cache_ada(api)
    asked: list[int] = []
    may_answer, look_up = asyncio.Event(), services.directory.get_cached

    async def get_cached(member_ids: Any) -> CachedMembers:
        asked.append(len([*member_ids]))
        await may_answer.wait()
        return await look_up([1])

    monkeypatch.setattr(services.directory, "get_cached", get_cached)
    request = f"GET /members/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token_of(3)}\r\n\r\n"
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        opened = [await stack.enter_async_context(bare_connection(http_server)) for _ in range(6)]
        for number, (_, writer) in enumerate(opened, 1):
            writer.write(request.encode())
            while services.requests.in_flight < number:
                await asyncio.sleep(0.001)
        assert asked == [1, 1]
        may_answer.set()
        for reader, _ in opened:
            assert (await reader.readline()).split(b" ")[1] == b"200"
    assert asked == [1, 1, 4]
    assert services.requests.in_flight == 0


@on_both
async def test_fast_path_miss_sends_memcached_three_requests(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cache_ada(api)
    path = f"/members/{(await api.create('Grace Hopper'))['memberId']}"
    asked: list[str] = []
    read_state, send = LeaseProtocol._read_state, MemcachedConnection.send

    async def counted_read(protocol: LeaseProtocol, keys: Any = (), **options: Any) -> Any:
        asked.extend(["look"] if keys else [])  # a probe has no keys
        return await read_state(protocol, keys, **options)

    def counted_command(connection: MemcachedConnection, sent: Any) -> Any:
        asked.extend([] if isinstance(sent, Get) else [type(sent).__name__])
        return send(connection, sent)

    monkeypatch.setattr(LeaseProtocol, "_read_state", counted_read)
    monkeypatch.setattr(MemcachedConnection, "send", counted_command)
    answer = await api("GET", path)
    assert answer.headers["Cache-Status"] == "memcached; fwd=miss; stored"
    assert asked == ["look", "PutMany", "PutMany"]
    answer = await api("GET", path)
    assert answer.headers["Cache-Status"] == "memcached; hit"


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of members that each query of MongoDB asks for."""
    asked, find = [], MemberStore.find_members

    async def find_members(store: MemberStore, member_ids: Any) -> Any:
        asked.append(len(member_ids))
        return await find(store, member_ids)

    monkeypatch.setattr(MemberStore, "find_members", find_members)
    return asked


async def test_fast_path_loads_the_misses_of_a_turn_with_one_query(
    api: Api, handlers: Counting, services: Services, queries: list[int]
) -> None:
    await cache_ada(api)
    ids = [(await api.create(f"Grace {i}"))["memberId"] for i in range(20)]
    cached = await services.directory.get_cached([*ids, 1])
    misses = {one: miss for one in ids if isinstance(miss := cached.find(one), CacheMiss)}
    queries.clear()
    loaded = await services.directory.load_missed(misses)
    assert queries == [20]
    for member_id in ids:
        member = represent_loaded(member_id, loaded)
        assert isinstance(member, Representation)
        assert member.cache_status == "fwd=miss; stored"
        assert (await services.directory.get(member_id)).body == member.body
    before, hits = handlers.requests, services.directory.cache_counts.hits
    await services.directory._cache.invalidate([id_key(one) for one in ids])
    answers = await asyncio.gather(*(api("GET", f"/members/{one}") for one in [*ids, 1]))
    assert [parsed(answer)["memberId"] for answer in answers] == [*ids, 1]
    statuses = [answer.headers["Cache-Status"] for answer in answers]
    assert statuses == ["memcached; fwd=miss; stored"] * 20 + ["memcached; hit"]
    assert sum(queries) == 40
    assert services.directory.cache_counts.hits == hits + 1
    assert handlers.requests == before


@on_both
async def test_fast_path_loads_no_absent_member_twice(
    api: Api,
    handlers: Counting,
    services: Services,
    queries: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await cache_ada(api)
    store = services.directory._store
    monkeypatch.setattr(store, "_batcher", Batcher(store.find_members))
    before = handlers.requests
    queries.clear()
    for status in ("fwd=miss; stored", "hit"):
        answer = await api("GET", "/members/77")
        problem(answer, 404, "member-not-found")
        assert answer.headers["Cache-Status"] == f"memcached; {status}"
    assert queries == [1]
    assert handlers.requests == before + 2


@on_both
async def test_fast_path_reports_an_outage_after_one_query(
    api: Api,
    services: Services,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await cache_ada(api)
    await api.create("Grace Hopper")
    asked = []

    async def find_members(member_ids: Any) -> Any:
        asked.append(member_ids)
        raise DependencyUnavailable

    monkeypatch.setattr(services.directory._store, "find_members", find_members)
    problem(await api("GET", "/members/2"), 503, "dependency-unavailable")
    assert len(asked) == 1
    assert services.requests.in_flight == 0
    monkeypatch.undo()
    assert (await api("GET", "/members/2")).headers["Cache-Status"] == (
        "memcached; fwd=miss; stored"  # the lease was given up
    )
    assert "Traceback" not in caplog.text


@on_both
async def test_fast_path_outcome_does_not_reach_the_next_request(
    api: Api, http_server: AnyServer, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipelined request is read in the task of the handler before it."""
    await cache_ada(api)
    admit = services.admission.admit
    head = f"Host: a.example\r\nAuthorization: Bearer {token_of(3)}\r\n"
    body = b'{"memberIds": [1]}'
    phones = {"/members/77": "+1-555-0101", "/members?memberId=1,78": "+1-555-0102"}

    async def refuse_first(request: Any, operations: Any) -> Any:
        if request.method == "GET":
            path = request.uri
            await services.directory.replace(1, MemberDraft({**ADA, "phone": phones[path]}))
            raise Overloaded
        return await admit(request, operations)

    monkeypatch.setattr(services.admission, "admit", refuse_first)
    for path, phone in phones.items():
        assert (await api("GET", "/members/1")).code == 200
        async with bare_connection(http_server) as (reader, writer):
            writer.write(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
            writer.write(f"POST /members/lookup HTTP/1.1\r\n{head}".encode())
            writer.write(b"Content-Type: application/json\r\nConnection: close\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            answered = await reader.read()
        assert [int(one) for one in re.findall(rb"HTTP/1.1 (\d+)", answered)] == [503, 200]
        assert phone.encode() in answered


@asynccontextmanager
async def cache_that_fails(services: Services, error: Exception) -> AsyncIterator[None]:
    async def get_cached(_member_ids: Any) -> Any:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services.directory, "get_cached", get_cached)
        yield


async def test_fast_path_without_the_cache_leaves_requests_to_the_handlers(
    api: Api, services: Services, handlers: Counting, caplog: pytest.LogCaptureFixture
) -> None:
    await cache_ada(api)
    before = handlers.requests
    async with cache_that_fails(services, RuntimeError("a bug")):
        assert parsed(await api("GET", "/members/1"))["name"] == "Ada Lovelace"
    assert handlers.requests == before + 1
    assert "the cache could not be read" in caplog.text
    assert services.requests.in_flight == 0


async def test_fast_path_failure_does_not_affect_other_requests(
    http_server_client: Fetching,
    api: Api,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await cache_ada(api)
    ids = services.request_ids
    real, numbers = ids.new, iter(range(100))

    def new() -> str:
        if next(numbers) == 1:
            raise RuntimeError("a bug")
        return real()

    monkeypatch.setattr(ids, "new", new)
    headers = {"Authorization": f"Bearer {token_of(3)}"}
    answers = await asyncio.gather(
        *(
            http_server_client.fetch("/members/1", headers=headers, raise_error=False)
            for _ in range(5)
        ),
        return_exceptions=True,
    )
    codes = [answer.code for answer in answers if isinstance(answer, HTTPResponse)]
    (broken_off,) = [answer for answer in answers if not isinstance(answer, HTTPResponse)]
    assert codes == [200, 200, 200, 200]
    assert "closed" in str(broken_off)  # that is, at once
    assert "request failed" in caplog.text
    assert services.requests.in_flight == 0


async def test_fast_path_refuses_too_many_concurrent_requests(api: Api, services: Services) -> None:
    await cache_ada(api)
    services.requests.in_flight += services.most_requests
    try:
        problem(await api("GET", "/members/1"), 503, "overloaded")
    finally:
        services.requests.in_flight -= services.most_requests


@on_both
async def test_fast_path_answers_pipelined_requests_in_order(
    api: Api, http_server: AnyServer, services: Services
) -> None:
    await cache_ada(api)
    grace = await api.create("Grace Hopper")
    head = f"Host: a.example\r\nAuthorization: Bearer {token_of(3)}\r\n\r\n"
    paths = ["/members/1", f"/members/{grace['memberId']}", "/members/77", "/members/1"]
    async with bare_connection(http_server) as (reader, writer):
        writer.write("".join(f"GET {path} HTTP/1.1\r\n{head}" for path in paths).encode())
        answered = []
        for _ in paths:
            top = await reader.readuntil(b"\r\n\r\n")
            length = int(top.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answered.append((top.split(b" ")[1], await reader.readexactly(length)))
    assert [status for status, _ in answered] == [b"200", b"200", b"404", b"200"]
    assert b"Ada" in answered[0][1]
    assert b"Grace" in answered[1][1]
    assert answered[3] == answered[0]
    assert services.requests.in_flight == 0


@on_both
@pytest.mark.parametrize("host", ["", "Host: a b\r\n", "Host: a,b\r\n", "Host: a\r\nHost: b\r\n"])
async def test_fast_path_refuses_an_invalid_host(
    api: Api, http_server: AnyServer, host: str
) -> None:
    await cache_ada(api)
    async with bare_connection(http_server) as (reader, writer):
        request = f"GET /members/1 HTTP/1.1\r\n{host}Authorization: Bearer {token_of(3)}\r\n\r\n"
        writer.write(request.encode())
        assert (await reader.readline()).split(b" ")[1] == b"400"


@on_both
async def test_fast_path_releases_requests_of_disconnected_clients(
    api: Api, http_server: AnyServer, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    await cache_ada(api)
    request = f"GET /members/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token_of(3)}\r\n\r\n"
    for _ in range(10):
        async with bare_connection(http_server) as (_, writer):
            writer.write(request.encode())
            await writer.drain()
            writer.transport.abort()
    async with asyncio.timeout(60):
        await services.requests.idle.wait()
    assert (await api("GET", "/members/1")).code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_fast_path_requests_are_counted_and_logged(
    api: Api, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    await cache_ada(api)
    caplog.set_level(logging.INFO, "tornado_members.requests")
    caplog.clear()
    remembered = services.tokens.counts.remembered
    hits = services.directory.cache_counts.hits
    key = ("/members/{memberId}", "GET", 200)
    before = services.requests.durations[key].count
    answer = await api("GET", "/members/1")
    assert services.requests.durations[key].count == before + 1
    assert services.tokens.counts.remembered == remembered + 1
    assert services.directory.cache_counts.hits == hits + 1
    (line,) = [record for record in caplog.records if record.name == "tornado_members.requests"]
    assert line.getMessage() == "GET /members/1 200"
    said = vars(line)["fields"]
    assert said.pop("seconds") > 0
    assert said == {
        "request_id": answer.headers["X-Request-Id"],
        "method": "GET",
        "route": "/members/{memberId}",
        "path": "/members/1",
        "status": 200,
        "subject": "somebody",
        "cache": "hit",
    }
    through_handler = await api("GET", "/members/1", headers={"If-Match": "*"})
    assert through_handler.headers["Cache-Status"] == "memcached; hit"
    assert services.directory.cache_counts.hits == hits + 2


@on_both
async def test_fast_path_duration_excludes_the_idle_time_before(
    api: Api, http_server: AnyServer, services: Services
) -> None:
    await cache_ada(api)
    times = services.requests.durations["/members/{memberId}", "GET", 200]
    before = times.total
    request = f"GET /members/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token_of(3)}\r\n\r\n"
    seen_by_client = 0.0
    async with bare_connection(http_server) as (reader, writer):
        for _ in range(2):
            await asyncio.sleep(0.3)
            began = time.perf_counter()
            writer.write(request.encode())
            await reader.readuntil(b"}")
            seen_by_client += time.perf_counter() - began
    assert 0 < times.total - before < seen_by_client


@on_both
async def test_request_handed_to_the_handlers_stays_in_flight(
    api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cache_ada(api)
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def get_cached(_member_ids: Any) -> CachedMembers:
        asked.set()
        await may_answer.wait()
        return CachedMembers()

    monkeypatch.setattr(services.directory, "get_cached", get_cached)
    requests = services.requests
    answering = asyncio.create_task(api("GET", "/members/1"))
    await asked.wait()
    in_flight = []
    idle = asyncio.create_task(requests.idle.wait())
    idle.add_done_callback(lambda _: in_flight.append(requests.in_flight))
    await asyncio.sleep(0)
    may_answer.set()
    assert (await answering).code == 200
    await idle
    assert in_flight == [0]

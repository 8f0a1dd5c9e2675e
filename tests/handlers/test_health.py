"""The admin listener, while all is well and while something is not; and what its numbers say."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tornado.httpclient import HTTPResponse
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.ioloop import IOLoop

from tests.support.api import Api, Fetching
from tests.support.memcached import start_memcached
from tests.support.tokens import make_token
from tornado_members.admin import make_admin_app
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.handlers.base import Services
from tornado_members.monitoring.board import OneProcess
from tornado_members.monitoring.exposition import render
from tornado_members.monitoring.health import Health
from tornado_members.settings import Settings


@pytest.fixture
def overview(services: Services) -> OneProcess:
    return OneProcess(services.health, services.metrics)


@pytest.fixture
def admin_app(overview: OneProcess) -> HTTPServerConnectionDelegate:
    return make_admin_app(overview)


class Admin:
    """Asks the admin listener."""

    def __init__(self, client: Fetching) -> None:
        self._client = client

    async def __call__(self, path: str, method: str = "GET", accept: str = "*/*") -> HTTPResponse:
        return await self._client.fetch(
            path, method=method, headers={"Accept": accept}, raise_error=False
        )


def samples(overview: OneProcess) -> dict[tuple[str, ...], float]:
    """Every number by its name and the values of its labels, in the order of their names."""
    text, _ = render(overview.collect())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class TestTheListener:
    """Its pages."""

    @pytest.fixture
    def app(self, admin_app: HTTPServerConnectionDelegate) -> HTTPServerConnectionDelegate:
        return admin_app

    @pytest.fixture
    def admin(self, http_server: object, http_server_client: Fetching) -> Admin:  # noqa: ARG002
        return Admin(http_server_client)

    async def test_it_is_alive_and_ready_in_text_and_in_json(
        self, admin: Admin, cache_servers: tuple[str, ...]
    ) -> None:
        alive = await admin("/livez")
        assert (alive.code, alive.body) == (200, b"alive\n")
        assert json.loads((await admin("/livez", accept="application/json")).body) == {
            "status": "alive"
        }
        ready = await admin("/readyz")
        assert ready.code == 200
        assert ready.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert ready.headers["Cache-Control"] == "no-store"
        assert ready.body.decode().splitlines() == [
            "ready",
            "  ok        mongodb",
            f"  ok        cache {cache_servers[0]}",
            "  ok        keys https://issuer.example",
        ]
        found = json.loads((await admin("/readyz", accept="application/json")).body)
        assert found["status"] == "ready"
        assert found["dependencies"][0] == {"name": "mongodb", "state": "ok", "detail": ""}

    async def test_one_that_drains_is_alive_and_not_ready(
        self, admin: Admin, services: Services
    ) -> None:
        services.health.draining = True
        answer = await admin("/readyz")
        assert answer.code == 503
        assert answer.body.startswith(b"draining\n")
        assert (await admin("/livez")).code == 200

    async def test_metrics_are_what_prometheus_reads(self, admin: Admin) -> None:
        answer = await admin("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.body.startswith(b"# HELP members_")
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
        answer = await admin("/metrics", accept=accept)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.body.endswith(b"# EOF\n")

    async def test_anything_else_is_not_there(self, admin: Admin) -> None:
        assert (await admin("/members/1")).code == 404
        assert (await admin("/readyz", "DELETE")).code == 405
        for path in ("/livez", "/readyz", "/metrics"):
            answer = await admin(path, "HEAD")
            assert (answer.code, answer.body) == (200, b"")
            assert "Server" not in answer.headers


async def test_requests_are_counted_by_route_and_nobody_is_named(
    api: Api, overview: OneProcess
) -> None:
    ada = await api.create("Planted Name")
    for _ in range(3):
        await api("GET", f"/members/{ada['memberId']}")
    await api("GET", "/members/by-name/Planted%20Name")
    await api("GET", "/members/Planted%20Name")
    await api("GET", "/Planted%20Name")
    await api("PLANTED", "/members", raw=b"")
    await api("PUT", "/members", raw=b"x" * (1024 * 1024 + 1))
    found = samples(overview)
    total, member = "members_http_requests_total", "/members/{memberId}"
    assert found[total, "PUT", "/members", "201"] == 1
    assert found[total, "GET", member, "200"] == 3
    assert found[total, "GET", member, "404"] == 1
    assert found[total, "GET", "/members/by-name/{name}", "200"] == 1
    assert found[total, "GET", "none", "404"] == 1
    assert found[total, "other", "/members", "405"] == 1
    assert found[total, "PUT", "too-large", "413"] == 1
    assert found["members_http_request_duration_seconds_count", "GET", member] == 4
    assert found["members_http_requests_in_flight",] == 0
    assert "Planted" not in str(found)
    assert ("members_cache_reads_total", "hit") in found
    assert found["members_mongodb_operation_duration_seconds_count", "MemberStore.insert"] == 1


async def test_tokens_are_counted_by_what_became_of_them(api: Api, overview: OneProcess) -> None:
    before = samples(overview)
    bad = {
        "malformed": "x",
        "issuer": make_token(iss="nobody"),
        "key": make_token(headers={"kid": "none"}),
        "audience": make_token(aud="others"),
        "expired": make_token(iat=1, exp=2),
        "claims": make_token(sub=None),
        "signature": make_token()[:-8] + "AAAAAAAA",
    }
    good = make_token(access_rights=3)
    for token in [*bad.values(), good, good, good]:
        await api("GET", "/members", headers={"Authorization": f"Bearer {token}"})
    found = samples(overview)
    checks = "members_token_checks_total"
    assert found[checks, "verified"] - before[checks, "verified"] == 1
    assert found[checks, "remembered"] - before[checks, "remembered"] == 2
    assert found[checks, "refused"] - before[checks, "refused"] == len(bad)
    for reason in bad:
        assert found["members_token_refusals_total", reason] == 1


class TestFaults:
    """Servers that go away."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        mongodb = settings.mongodb.model_copy(update={"timeout_ms": 500})
        cache = settings.cache.model_copy(update={"timeout_ms": 100, "heartbeat_ms": 400})
        return settings.model_copy(update={"mongodb": mongodb, "cache": cache})

    @pytest.fixture
    def own_memcached(self, io_loop: IOLoop) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        process, address = io_loop.run_sync(start_memcached)
        yield process, address
        process.kill()
        process.wait()

    @pytest.fixture
    def cache_servers(self, own_memcached: tuple[subprocess.Popen[bytes], str]) -> tuple[str, ...]:
        return (own_memcached[1],)

    async def test_a_cache_that_is_away_is_degraded_and_reads_go_on(
        self,
        api: Api,
        overview: OneProcess,
        services: Services,
        own_memcached: tuple[subprocess.Popen[bytes], str],
    ) -> None:
        ada = await api.create("Ada")
        await until(services.health, "ready")
        process, address = own_memcached
        process.kill()
        await until(services.health, "degraded")
        for _ in range(3):
            assert (await api("GET", f"/members/{ada['memberId']}")).code == 200
        report = overview.report()
        assert report.is_ready
        assert [f.name for f in report.findings if f.state] == [f"cache {address}"]
        found = samples(overview)
        assert found["members_ready",] == 1
        assert found["members_dependency_state", f"cache {address}"] == 1
        assert found["members_cache_nodes_unread", address, "node-away"] == 1

    async def test_a_database_that_hangs_is_unready_and_back_with_it(
        self, api: Api, overview: OneProcess, services: Services, servers: PrivateServers
    ) -> None:
        await until(services.health, "ready")
        (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
        mongod.suspend()
        try:
            await until(services.health, "unready")
            answers = await asyncio.gather(*(api("GET", f"/members/{i}") for i in range(1, 31)))
            assert {answer.code for answer in answers} == {503}
            found = samples(overview)
            assert found["members_ready",] == 0
            assert found["members_dependency_state", "mongodb"] == 2
            operation = "MemberStore.find_members"  # of all that asked in one turn of the loop
            assert 1 <= found["members_mongodb_operation_failures_total", operation, "away"] <= 30
        finally:
            mongod.resume()
        await until(services.health, "ready")


async def until(health: Health, status: str) -> None:
    """Wait until it is so, for at most the five seconds that are promised."""
    async with asyncio.timeout(5):
        while health.report().status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_one_question_at_a_time_and_nobody_waits_for_it() -> None:
    asked = 0
    answer = asyncio.Event()

    async def ping() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            await answer.wait()

    health = Health(ping, dict, {}, None)
    async with health.watching():
        assert health.report().is_ready
        async with asyncio.timeout(10):
            while asked < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _ in range(100):
            assert health.report().is_ready
        assert asked == 2


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ({"a": (1, None), "b": (1, None)}, "ready"),
        ({"a": (1, None), "b": (1, "404")}, "degraded"),
        ({"a": (1, None), "b": (0, "404")}, "degraded"),
        ({"a": (0, "404"), "b": (0, "404")}, "unready"),
    ],
)
async def test_keys_of_one_issuer_are_its_own_trouble(
    states: dict[str, tuple[int, str | None]], status: str
) -> None:
    async def ping() -> None:
        """All is well."""

    keys: Any = {
        issuer: SimpleNamespace(
            state=lambda count=count, problem=problem: SimpleNamespace(
                count=count, age=7.0, problem=problem
            )
        )
        for issuer, (count, problem) in states.items()
    }
    health = Health(ping, dict, keys, None)
    async with health.watching():
        assert health.report().status == status

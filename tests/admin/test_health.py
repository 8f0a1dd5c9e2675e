"""The admin listener: probes and metrics, also while a dependency is away."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tornado.httpclient import HTTPResponse
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.ioloop import IOLoop

from tests.support.api import Api, Fetching
from tests.support.memcached import start_memcached
from tests.support.mongodb import locked, read_only
from tests.support.suspension import suspend
from tests.support.tokens import make_token
from tornado_members.admin.app import make_admin_app
from tornado_members.admin.exposition import render
from tornado_members.admin.health import HealthMonitor
from tornado_members.admin.status import ProcessStatus
from tornado_members.auth.keys import KeyState
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.http.allowed_hosts import AllowedHosts
from tornado_members.settings import Settings


@pytest.fixture
def admin_app(process_status: ProcessStatus) -> HTTPServerConnectionDelegate:
    return make_admin_app(process_status, AllowedHosts())


class Admin:
    """A client of the admin listener."""

    def __init__(self, client: Fetching) -> None:
        self._client = client

    async def __call__(
        self, path: str, method: str = "GET", accept: str = "*/*", host: str | None = None
    ) -> HTTPResponse:
        headers = {"Accept": accept} | ({"Host": host} if host else {})
        return await self._client.fetch(path, method=method, headers=headers, raise_error=False)


def samples(process_status: ProcessStatus) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values, ordered by label name."""
    text, _ = render(process_status.collect())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class TestRoutes:
    """The routes of the listener."""

    @pytest.fixture
    def app(self, admin_app: HTTPServerConnectionDelegate) -> HTTPServerConnectionDelegate:
        return admin_app

    @pytest.fixture
    def admin(self, http_server: object, http_server_client: Fetching) -> Admin:
        return Admin(http_server_client)

    async def test_probes_respond_in_text_and_json(
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
            "  ok        lists",
        ]
        found = json.loads((await admin("/readyz", accept="application/json")).body)
        assert found["status"] == "ready"
        assert found["dependencies"][0] == {"name": "mongodb", "state": "ok", "detail": ""}

    async def test_draining_process_is_alive_but_not_ready(
        self, admin: Admin, process_status: ProcessStatus
    ) -> None:
        process_status.health.draining = True
        answer = await admin("/readyz")
        assert answer.code == 503
        assert answer.body.startswith(b"draining\n")
        assert (await admin("/livez")).code == 200

    async def test_metrics_support_both_prometheus_formats(self, admin: Admin) -> None:
        answer = await admin("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.body.startswith(b"# HELP members_")
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
        answer = await admin("/metrics", accept=accept)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert answer.body.endswith(b"# EOF\n")

    async def test_admin_refuses_hosts_that_are_not_allowed(self, admin: Admin) -> None:
        """A web page whose name resolves to this address (DNS rebinding)."""
        for path in ("/livez", "/readyz", "/metrics", "/nothing"):
            answer = await admin(path, host="evil.example:8889")
            assert answer.code == 421
            assert b"admin.hosts" in answer.body
            assert b"members_" not in answer.body
        assert (await admin("/readyz", host="10.244.1.7:8889")).code == 200
        assert (await admin("/metrics", host="localhost")).code == 200

    async def test_admin_refuses_unknown_paths_and_methods(self, admin: Admin) -> None:
        assert (await admin("/members/1")).code == 404
        assert (await admin("/readyz", "DELETE")).code == 405
        for path in ("/livez", "/readyz", "/metrics"):
            answer = await admin(path, "HEAD")
            assert (answer.code, answer.body) == (200, b"")
            assert "Server" not in answer.headers
            answer = await admin(path, "OPTIONS")  # as proxies probe by default
            assert (answer.code, answer.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
        assert (await admin("/nothing", "OPTIONS")).code == 404
        assert (await admin("/livez", "OPTIONS", host="evil.example:8889")).code == 421


async def test_request_metrics_have_routes_but_no_names(
    api: Api, process_status: ProcessStatus
) -> None:
    ada = await api.create("Planted Name")
    for _ in range(3):
        await api("GET", f"/members/{ada['memberId']}")
    await api("GET", "/members/by-name/Planted%20Name")
    await api("GET", "/members/Planted%20Name")
    await api("GET", "/Planted%20Name")
    await api("PLANTED", "/members", raw=b"")
    await api("PUT", "/members", raw=b"x" * (1024 * 1024 + 1))
    found = samples(process_status)
    total, member = "members_http_requests_total", "/members/{memberId}"
    assert found[total, "PUT", "/members", "201"] == 1
    assert found[total, "GET", member, "200"] == 3
    assert found[total, "GET", member, "404"] == 1
    assert found[total, "GET", "/members/by-name/{name}", "200"] == 1
    assert found[total, "GET", "none", "404"] == 1
    assert found[total, "other", "/members", "405"] == 1
    assert found[total, "PUT", "/members", "413"] == 1
    assert found["members_http_request_duration_seconds_count", "GET", member] == 4
    assert found["members_http_requests_in_flight",] == 0
    assert "Planted" not in str(found)
    assert ("members_cache_reads_total", "hit") in found
    assert found["members_mongodb_operation_duration_seconds_count", "MemberStore.insert"] == 1


async def test_token_metrics_count_outcomes_and_reasons(
    api: Api, process_status: ProcessStatus
) -> None:
    before = samples(process_status)
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
    found = samples(process_status)
    checks = "members_token_checks_total"
    assert found[checks, "verified"] - before[checks, "verified"] == 1
    assert found[checks, "cached"] - before[checks, "cached"] == 2
    assert found[checks, "refused"] - before[checks, "refused"] == len(bad)
    for reason in bad:
        assert found["members_token_refusals_total", reason] == 1


class TestFaults:
    """Dependencies that fail."""

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

    async def test_unreachable_cache_degrades_but_reads_succeed(
        self,
        api: Api,
        process_status: ProcessStatus,
        own_memcached: tuple[subprocess.Popen[bytes], str],
    ) -> None:
        ada = await api.create("Ada")
        await until(process_status.health, "ready")
        process, address = own_memcached
        process.kill()
        await until(process_status.health, "degraded")
        for _ in range(3):
            assert (await api("GET", f"/members/{ada['memberId']}")).code == 200
        report = process_status.report()
        assert report.is_ready
        assert [d.name for d in report.dependencies if d.state] == [f"cache {address}"]
        found = samples(process_status)
        assert found["members_ready",] == 1
        assert found["members_dependency_state", f"cache {address}"] == 1
        assert found["members_cache_bypassed_nodes", address, "node-unavailable"] == 1

    async def test_hanging_mongodb_makes_the_service_unready_until_it_responds(
        self, api: Api, process_status: ProcessStatus, servers: PrivateServers
    ) -> None:
        await until(process_status.health, "ready")
        (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
        suspend(mongod)
        try:
            await until(process_status.health, "unready")
            answers = await asyncio.gather(*(api("GET", f"/members/{i}") for i in range(1, 31)))
            assert {answer.code for answer in answers} == {503}
            found = samples(process_status)
            assert found["members_ready",] == 0
            assert found["members_dependency_state", "mongodb"] == 2
            operation = "MemberStore.find_members"  # of all requests of one turn of the loop
            assert (
                1
                <= found["members_mongodb_operation_failures_total", operation, "unavailable"]
                <= 30
            )
        finally:
            mongod.resume()
        await until(process_status.health, "ready")


@pytest.mark.parametrize("unwritable", [read_only, locked])
async def test_mongodb_without_writes_degrades_the_service(
    process_status: ProcessStatus,
    admin: pymongo.MongoClient[dict[str, Any]],
    unwritable: Callable[..., AbstractContextManager[None]],
) -> None:
    await until(process_status.health, "ready")
    assert samples(process_status)["members_writable",] == 1
    with unwritable(admin):
        await until(process_status.health, "degraded")
        report = process_status.report()
        assert report.is_ready
        assert report.dependencies[0].name == "mongodb"
        assert report.dependencies[0].detail.startswith("accepts no writes: ")
        found = samples(process_status)
        assert (found["members_writable",], found["members_ready",]) == (0, 1)
        assert found["members_dependency_state", "mongodb"] == 1
    await until(process_status.health, "ready")


async def succeed() -> None:
    """Ping or write with success."""


async def fail() -> None:
    """Write without success."""
    raise OSError("no disk")


async def until(health: HealthMonitor, status: str) -> None:
    """Wait for a status, for at most the five seconds that operations.md promises."""
    async with asyncio.timeout(60):
        while health.report().status != status:
            await asyncio.sleep(0.02)


async def test_monitor_pings_mongodb_one_at_a_time() -> None:
    pings = 0
    answer = asyncio.Event()

    async def ping() -> None:
        nonlocal pings
        pings += 1
        if pings > 1:
            await answer.wait()

    health = HealthMonitor(ping, fail, dict, lambda: None, {}, None)
    async with health.monitoring():
        assert health.report().is_ready
        async with asyncio.timeout(60):
            while pings < 2:
                await asyncio.sleep(0.01)
        for _ in range(100):
            assert health.report().is_ready
        assert pings == 2


async def test_acknowledged_writes_replace_pings() -> None:
    operations: list[str] = []

    async def ping() -> None:
        operations.append("ping")

    async def write() -> None:
        operations.append("write")

    health = HealthMonitor(ping, write, dict, lambda: None, {}, None)
    async with health.monitoring(), asyncio.timeout(60):
        while operations.count("write") < 3:
            await asyncio.sleep(0.01)
    assert operations.count("ping") <= 2  # the first one, and another if the loop was late


async def test_writes_of_elections_replace_those_of_the_monitor() -> None:
    operations: list[str] = []

    async def ping() -> None:
        operations.append("ping")

    async def write() -> None:
        operations.append("write")

    health = HealthMonitor(ping, write, dict, lambda: None, {}, None)
    loop = asyncio.get_running_loop()
    async with health.monitoring():
        while "write" not in operations:
            await asyncio.sleep(0)
        for _ in range(20):
            health.note_write(loop.time() + 60)
            await asyncio.sleep(0.1)
        assert operations == ["ping", "write"]
        health._note_writes("refuses: Unauthorized")
        assert health.report().status == "degraded"
        health.note_write(loop.time())
        assert health.report().status == "ready"


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ({"a": (1, None), "b": (1, None)}, "ready"),
        ({"a": (1, None), "b": (1, "404")}, "degraded"),
        ({"a": (1, None), "b": (0, "404")}, "degraded"),
        ({"a": (0, "404"), "b": (0, "404")}, "unready"),
        ({"a": (1, None, "left out key 1: weak")}, "degraded"),
    ],
)
async def test_missing_keys_of_one_issuer_degrade(
    states: dict[str, tuple[Any, ...]], status: str
) -> None:
    keys: Any = {
        issuer: SimpleNamespace(state=lambda state=state: KeyState(state[0], 7.0, 0, *state[1:]))
        for issuer, state in states.items()
    }
    health = HealthMonitor(succeed, succeed, dict, lambda: None, keys, None)
    async with health.monitoring():
        assert health.report().status == status

"""Correct responses while a server behind the service is down, and while it fails."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator

import psutil
import pytest
from tornado.ioloop import IOLoop

from tests.support.api import Api, parsed, problem
from tests.support.memcached import start_memcached
from tests.support.suspension import suspend
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With time-outs that a test can wait for."""
    mongodb = settings.mongodb.model_copy(update={"timeout_ms": 500})
    cache = settings.cache.model_copy(update={"timeout_ms": 100, "heartbeat_ms": 400})
    return settings.model_copy(update={"mongodb": mongodb, "cache": cache})


@pytest.fixture
def own_memcached(io_loop: IOLoop) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Memcached that the test may kill."""
    process, address = io_loop.run_sync(start_memcached)
    yield process, address
    process.kill()
    process.wait()


@pytest.fixture(params=["there", "never there"])
def cache_servers(
    request: pytest.FixtureRequest, own_memcached: tuple[subprocess.Popen[bytes], str]
) -> tuple[str, ...]:
    return (own_memcached[1] if request.param == "there" else "127.0.0.1:1",)


async def read_own_writes(api: Api, member_id: int, rounds: int) -> None:
    """Change a member repeatedly as its only writer, and check that each change is visible."""
    for i in range(rounds):
        phone = f"555-{i:04}"
        changed = await api(
            "PUT", f"/members/{member_id}", {"name": str(member_id), "phone": phone}
        )
        assert changed.code == 200, changed.body
        for _ in range(2):
            seen = await api("GET", f"/members/{member_id}")
            assert seen.code == 200, seen.body
            assert parsed(seen)["phone"] == phone
            assert seen.headers["ETag"] == changed.headers["ETag"]


@pytest.mark.parametrize(
    ("cache_servers", "how"),
    [
        ("there", signal.SIGKILL),
        pytest.param("there", signal.SIGTERM, marks=pytest.mark.exhaustive),
        ("never there", signal.SIGKILL),
    ],
    indirect=["cache_servers"],
)
async def test_memcached_killed_under_load_causes_no_wrong_response(
    api: Api, own_memcached: tuple[subprocess.Popen[bytes], str], how: signal.Signals
) -> None:
    members = [await api.create(str(i + 1)) for i in range(8)]
    load = asyncio.gather(*(read_own_writes(api, member["memberId"], 10) for member in members))
    await asyncio.sleep(0.2)
    own_memcached[0].send_signal(how)
    await load


@pytest.mark.parametrize("cache_servers", ["there"], indirect=True)
async def test_hanging_mongodb_is_a_503_in_time_while_cached_reads_continue(
    api: Api, servers: PrivateServers
) -> None:
    cached = await api.create("Ada")
    path = f"/members/{cached['memberId']}"
    await api("GET", path)
    other = await api.create("Grace")
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    suspend(mongod)
    try:
        async with asyncio.timeout(15):  # thirty times the limit of one operation
            answers = await asyncio.gather(
                api("GET", f"/members/{other['memberId']}"),
                api("GET", "/members"),
                api("GET", "/members/by-name/Ada"),
                api("PUT", "/members", {"name": "Edsger"}),
                api("PUT", f"/members/{other['memberId']}", {"name": "Grace"}),
                api("DELETE", f"/members/{other['memberId']}"),
            )
        for answer in answers:
            found = problem(answer, 503, "dependency-unavailable")
            assert answer.headers["Retry-After"] == "1"
            assert "127.0.0.1" not in str(found)
        assert parsed(await api("GET", path)) == cached
    finally:
        mongod.resume()
    await until_well(api)


async def until_well(api: Api) -> None:
    """Wait until the service recovers, without a restart, in at most ten seconds."""
    async with asyncio.timeout(60):
        while (await api("PUT", "/members/by-name/Somebody", {})).code >= 500:
            await asyncio.sleep(0.1)


def test_servers_are_running_after_the_tests(servers: PrivateServers) -> None:
    """Resume the servers that the tests suspended."""
    assert all(process.status() != psutil.STATUS_STOPPED for process in servers.processes())

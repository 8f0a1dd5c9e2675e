"""Slow, silent and many subscribers; drains and revoked tokens."""

import asyncio
import json
import logging
import urllib.request
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.feed.conftest import Follow
from tests.support.api import Api, problem, token_of
from tests.support.feed_client import following
from tests.support.service import Command, Service
from tests.support.tokens import make_token
from tests.support.wire import AnyServer, address_of, bare_connection, on_both
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.feed import change_feed, subscription
from tornado_members.feed.change_feed import ChangeFeed
from tornado_members.feed.subscription import Subscription
from tornado_members.services import Services
from tornado_members.settings import Settings
from tornado_members.telemetry.logs import ACCESS_LOGGER


@pytest.fixture
def settings(settings: Settings) -> Settings:
    feed = settings.feed.model_copy(update={"subscribers": 2, "buffer_mib": 1})
    return settings.model_copy(update={"feed": feed})


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check subscribers more often."""
    monkeypatch.setattr(change_feed, "_TICK_SECONDS", 0.01)


async def until_left(services: Services, count: int = 0) -> None:
    async with asyncio.timeout(60):
        while services.feed.metrics.subscribers > count:
            await asyncio.sleep(0.01)


async def test_slow_subscriber_is_disconnected_and_affects_no_other(
    follow: Follow,
    http_server: AnyServer,
    members: Any,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = replace(services.feed._limits, buffer_bytes=2**17)
    monkeypatch.setattr(services.feed, "_limits", limits)
    count = 1000  # more than the shared buffer, a piece, and the buffers of the kernel
    request = (
        f"GET /members/changes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token_of(1)}\r\n"
        "Connection: close\r\n\r\n"
    )
    async with (
        bare_connection(http_server, limit=4096, buffer=4096) as (reader, writer),
        follow("?fields=none") as fast,
    ):
        writer.write(request.encode())
        text = await reader.readuntil(b"ready")
        await fast.event()
        documents = [
            {"_id": number, "name": f"{number:0200}", "version": 1}
            for number in range(1, count + 1)
        ]
        await asyncio.to_thread(members.insert_many, documents)
        seen = {event.data["memberId"] for event in await fast.events(count, seconds=60)}
        assert len(seen) == count
        text += await reader.read()  # up to the end of the stream
        assert services.feed.metrics.disconnections["lagging"] == 1
        assert b"event: lagging\ndata: {" in text
        cursor = text.rpartition(b"event: lagging")[0].rpartition(b"id: ")[2].strip().decode()
        first = text.count(b"event: created")
        assert 0 < first < count
    async with follow(f"?after={cursor}&fields=none") as stream:
        rest = await stream.events(count - first, seconds=60)
        assert {event.data["memberId"] for event in rest} == set(range(first + 1, count + 1))


@on_both
async def test_subscribers_are_limited_apart_from_requests(
    api: Api, follow: Follow, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, ACCESS_LOGGER)
    async with follow() as one, follow() as other:
        for stream in (one, other):
            assert (await stream.event()).kind == "ready"
        assert services.requests.in_flight == 0
        refused = await api("GET", "/members/changes")
        problem(refused, 503, "overloaded")
        assert refused.headers["Retry-After"]
        await api.create("Ada")
        await one.event()
    await until_left(services)
    assert services.requests.in_flight == 0
    ended = [
        fields
        for record in caplog.records
        if (fields := vars(record).get("fields", {})).get("route") == "/members/changes"
        and fields["status"] == 200
    ]
    assert sorted(fields["events"] for fields in ended) == [1, 1]
    assert {fields["ended_by"] for fields in ended} == {"client"}
    durations = services.requests.durations["/members/changes", "GET", 200]
    assert durations.count == 2


async def test_subject_with_the_most_streams_makes_room_for_others(
    follow: Follow, http_server: AnyServer, services: Services
) -> None:
    other = partial(following, address_of(http_server), make_token(access_rights=1, sub="other"))
    async with follow() as oldest, follow() as newest:
        for stream in (oldest, newest):
            await stream.event()
        async with other() as welcome, other() as greedy, follow() as again:
            assert await newest.end() == []
            assert newest.retry
            assert (await welcome.event()).kind == "ready"
            for refused in (greedy, again):
                assert (refused.status, (await refused.problem())["code"]) == (503, "overloaded")
            await oldest.silence(0.05)
    assert services.feed.metrics.disconnections["displaced"] == 1


async def test_stream_that_ends_before_it_starts_is_refused(
    follow: Follow, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = ChangeFeed._attach

    async def end_and_attach(feed: ChangeFeed, one: Subscription, token: str | None) -> None:
        one.end("drain")
        await attach(feed, one, token)

    monkeypatch.setattr(ChangeFeed, "_attach", end_and_attach)
    async with follow() as stream:
        assert (stream.status, (await stream.problem())["code"]) == (503, "overloaded")
    assert services.feed._live is None


async def test_idle_stream_has_comments(follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "KEEP_ALIVE_SECONDS", 0.1)
    for ndjson in (False, True):
        async with follow(ndjson=ndjson) as stream:
            await stream.event()
            async with asyncio.timeout(60):
                while stream.comments < 2:
                    await stream.silence(0.05)


@on_both
async def test_drain_ends_streams_with_a_time_to_reconnect(
    api: Api, follow: Follow, services: Services
) -> None:
    async with follow() as stream, follow("?memberId=1", ndjson=True) as other:
        cursor = (await stream.event()).id
        await other.event()
        services.feed.drain()
        assert await stream.end() == await other.end() == []
        assert stream.is_complete
        assert other.is_complete
        assert stream.retry
    problem(await api("GET", f"/members/changes?after={cursor}"), 503, "overloaded")
    assert services.feed.metrics.disconnections["drain"] == 2


@on_both
async def test_subscriber_that_reads_nothing_is_disconnected(
    http_server: AnyServer, members: Any, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        services.feed, "_limits", change_feed.FeedLimits(2, 64 * 2**20, write_seconds=0.5)
    )
    request = (
        f"GET /members/changes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token_of(1)}\r\n\r\n"
    )
    async with bare_connection(http_server, limit=4096, buffer=4096) as (reader, writer):
        writer.write(request.encode())
        await reader.readuntil(b"ready")
        documents = [{"_id": number, "name": f"{number:0250}"} for number in range(1, 601)]
        await asyncio.to_thread(members.insert_many, documents)
        await until_left(services)
    assert services.feed.metrics.disconnections["slow"] == 1


def test_stream_ends_when_its_token_is_revoked(folder: Path, servers: PrivateServers) -> None:
    command = Command(
        folder,
        {
            "mongodb": {"uri": servers.mongodb_uri, "database": "revoked"},
            "cache": {"servers": servers.cache_servers},
        },
    )
    added = command.run("users", "add", "ada", "--rights", "1", stdin="long password\n")
    assert added.returncode == 0, added.stderr
    with command.serving() as service:
        asyncio.run(_revoke(command, service))
    command.run("users", "remove", "ada")


async def _revoke(command: Command, service: Service) -> None:
    host, _, port = service.url.removeprefix("http://").rpartition(":")
    token = await asyncio.to_thread(_log_in, service)
    async with following((host, int(port)), token) as stream:
        assert (await stream.event()).kind == "ready"
        revoked = await asyncio.to_thread(command.run_alone, "users", "set-rights", "ada", "0")
        assert revoked.returncode == 0, revoked.stderr
        (last,) = await stream.end()
        assert last.kind == "expired"
        assert stream.is_complete


def _log_in(service: Service) -> str:
    body = json.dumps({"username": "ada", "password": "long password"}).encode()
    request = urllib.request.Request(
        f"{service.url}/login", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return str(json.load(response)["access_token"])

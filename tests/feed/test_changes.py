"""GET /members/changes: its events, cursors, parameters and problems."""

import asyncio
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pymongo
import pytest
from tornado.netutil import bind_sockets

from tests.feed.conftest import Follow
from tests.support.api import Api, parsed, problem, token_of
from tests.support.cases import cases
from tests.support.feed_client import Event, following
from tests.support.mongodb import open_streams
from tests.support.motor_threads import no_free_thread
from tests.support.tokens import make_token
from tests.support.wire import AnyServer, address_of, on_both
from tornado_members.app import make_app
from tornado_members.embedded.programs import find_mongod, free_port
from tornado_members.errors import ChangesLost
from tornado_members.feed import catch_up
from tornado_members.feed.cursors import Cursors
from tornado_members.feed.events import Format
from tornado_members.feed.subscription import Subscription
from tornado_members.services import Services, open_services
from tornado_members.serving.server import make_server
from tornado_members.settings import Settings
from tornado_members.storage import change_reader

both_drivers = pytest.mark.parametrize("driver", ["motor", "pymongo"])


def change(event: Event) -> tuple[str, int, int | None]:
    return event.kind, event.data["memberId"], event.data["version"]


@both_drivers
@on_both
@pytest.mark.usefixtures("collected")
async def test_feed_reports_changes_of_the_service_and_of_other_programs(
    api: Api, follow: Follow, members: Any
) -> None:
    async with follow() as stream:
        ready = await stream.event()
        assert (ready.kind, bool(ready.id), bool(ready.data)) == ("ready", True, True)
        ada = await api.create("Ada")
        created = await stream.event()
        assert created.data == {"memberId": ada["memberId"], "version": 1, "member": ada}
        await api("PUT", f"/members/{ada['memberId']}", {"name": "Ada King"})
        members.insert_one({"_id": 77, "name": "Zoe"})
        members.delete_one({"_id": 77})
        await api("DELETE", f"/members/{ada['memberId']}")
        found = [created]
        while found[-1].kind != "deleted" or found[-1].data["memberId"] != ada["memberId"]:
            found.append(await stream.event())
        assert change(found[0]) == ("created", ada["memberId"], 1)
        assert change(found[-1]) == ("deleted", ada["memberId"], None)
        assert found[-1].data["member"] is None
        assert any(event.kind == "deleted" and event.data["memberId"] == 77 for event in found)
        assert len({event.id for event in found}) == len(found)
    assert stream.headers["content-type"] == "text/event-stream"


async def test_feed_does_not_wait_for_threads_of_motor(follow: Follow, members: Any) -> None:
    async with follow() as stream:
        assert (await stream.event()).kind == "ready"
        async with no_free_thread():
            members.insert_one({"_id": 77, "name": "Zoe"})
            assert (await stream.event()).kind == "created"


async def test_feed_resumes_after_each_cursor(api: Api, follow: Follow) -> None:
    async with follow() as stream:
        ready = await stream.event()
        for name in ("A", "B", "C"):
            await api.create(name)
        events = await stream.events(3)
    names = [event.data["member"]["name"] for event in events]
    assert names == ["A", "B", "C"]
    for count, event in enumerate([ready, *events]):
        rest = 3 - count
        for ndjson in (False, True):
            async with follow(f"?after={event.id}", ndjson=ndjson) as stream:
                assert stream.status == 200
                assert await stream.events(rest) == events[count:]
                await stream.silence(0.1)
    # The header overrides the parameter, as browsers resend the address with a newer cursor.
    header = {"Last-Event-ID": events[1].id}
    async with follow(f"?after={ready.id}", headers=header) as stream:
        assert await stream.events(1) == events[2:]


async def test_feed_serves_all_subscribers_of_a_process_from_one_stream(
    api: Api, follow: Follow, services: Services, admin: pymongo.MongoClient[dict[str, Any]]
) -> None:
    before = open_streams(admin, "test")  # of processes that earlier tests have killed
    async with follow() as one, follow(ndjson=True) as other, follow("?fields=none") as third:
        for stream in (one, other, third):
            assert (await stream.event()).kind == "ready"
        await api.create("Ada")
        seen = [await stream.event() for stream in (one, other, third)]
        assert seen[0] == seen[1]
        assert seen[2].data == {"memberId": seen[0].data["memberId"], "version": 1}
        assert open_streams(admin, "test") <= before + 1
        assert services.feed.metrics.subscribers == 3
    async with asyncio.timeout(60):
        while open_streams(admin, "test") > before or services.feed.metrics.subscribers:
            await asyncio.sleep(0.02)


async def test_feed_narrows_to_members(follow: Follow, members: Any) -> None:
    async with follow("?memberId=1,3&fields=none") as stream:
        await stream.event()
        for member_id in (1, 2, 3):
            members.insert_one({"_id": member_id, "name": f"{member_id}"})
        assert [event.data["memberId"] for event in await stream.events(2)] == [1, 3]


@cases(
    ("query", "parameter"),
    [
        ("after=", "after"),
        ("after=x", "after"),
        ("after=8267", "after"),
        ("after=" + "82" * 30, "after"),
        ("memberId=", "memberId"),
        ("memberId=0", "memberId"),
        ("memberId=1,,2", "memberId"),
        ("memberId=" + "9" * 23, "memberId"),
        ("memberId=1&memberId=2", "memberId"),
        ("memberId=" + ",".join(map(str, range(1, 203))), "memberId"),
        ("fields=all", "fields"),
        ("fields=none%20", "fields"),
        ("fields=%00none", "fields"),
        ("fields=%ff", "fields"),
        ("after=%ff", "after"),
        ("name=Ada", "name"),
        ("limit=1", "limit"),
    ],
)
async def test_malformed_queries_receive_400(api: Api, query: str, parameter: str) -> None:
    for method in ("GET", "HEAD"):
        response = await api(method, f"/members/changes?{query}")
        assert response.code == 400
    assert (
        problem(await api("GET", f"/members/changes?{query}"), 400, "bad-parameter")["parameter"]
        == parameter
    )


async def test_malformed_last_event_id_receives_400(api: Api) -> None:
    response = await api("GET", "/members/changes", headers={"Last-Event-ID": "abc"})
    assert problem(response, 400, "bad-parameter")["parameter"] == "Last-Event-ID"


async def test_cursor_of_another_database_is_lost(api: Api, follow: Follow) -> None:
    async with follow() as stream:
        ready = await stream.event()
    foreign = Cursors("another").encode(ready.id[:-16])
    problem(await api("GET", f"/members/changes?after={foreign}"), 410, "changes-lost")
    altered = ready.id[:10] + ("0" if ready.id[10] != "0" else "1") + ready.id[11:]
    problem(await api("GET", f"/members/changes?after={altered}"), 400, "bad-parameter")


async def test_cursor_that_mongodb_rejects_is_lost(
    api: Api, follow: Follow, services: Services
) -> None:
    """Like a cursor that the oplog no longer holds. Other waiting clients are not affected."""
    old = services.feed.cursors.encode("00" * 30)
    async with follow() as stream:
        ready = await stream.event()
    await api.create("Ada")

    async def resume() -> list[Event]:
        async with follow(f"?after={ready.id}") as stream:
            return await stream.events(1)

    lost, found = await asyncio.gather(api("GET", f"/members/changes?after={old}"), resume())
    problem(lost, 410, "changes-lost")
    assert found[0].data["member"]["name"] == "Ada"


async def until_closed(services: Services) -> None:
    """Wait until the buffer of the live stream is dropped."""
    async with asyncio.timeout(60):
        while services.feed.metrics.subscribers:
            await asyncio.sleep(0.01)


async def test_clients_with_lost_cursors_do_not_delay_others(
    api: Api, follow: Follow, services: Services
) -> None:
    """One of them always waits, with an older cursor than that of the client that resumes."""
    feed = services.feed
    async with follow() as stream:
        ready = await stream.event()
    await until_closed(services)
    await api.create("Ada")

    async def resume_repeatedly() -> None:
        subscription = Subscription(cast(Any, None), feed.cursors, feed.metrics, Format.SSE)
        while True:
            with suppress(ChangesLost):
                await feed._catch_up.join(subscription, "00" * 30)

    resuming = [asyncio.create_task(resume_repeatedly()) for _ in range(2)]
    try:
        async with follow(f"?after={ready.id}") as stream:
            assert (await stream.event(seconds=5)).data["member"]["name"] == "Ada"
    finally:
        for task in resuming:
            task.cancel()
        await asyncio.wait(resuming)


async def test_catching_up_leaves_half_of_the_time_to_others(
    follow: Follow, members: Any, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may resume after an old cursor repeatedly."""
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await asyncio.sleep(seconds)

    monkeypatch.setattr(catch_up, "_rest", rest)
    monkeypatch.setattr(change_reader, "_MOST_CHANGES", 100)  # in one batch
    async with follow() as stream:
        ready = await stream.event()
    await until_closed(services)
    members.insert_many([{"_id": number, "name": f"{number}"} for number in range(1, 301)])
    async with follow(f"?after={ready.id}&fields=none") as stream:
        await stream.events(300, seconds=60)
    assert services.feed.metrics.catch_ups
    assert len([seconds for seconds in rests if seconds > 0]) >= 3  # after each batch


async def test_cursor_in_the_future_is_refused(
    api: Api, follow: Follow, services: Services, members: Any
) -> None:
    """Its client would receive nothing until that time, and miss what happens before it."""
    async with follow() as stream:
        ready = await stream.event()
        token = services.feed.cursors.decode(ready.id)
        for begins in ("82FFFFFFFF00000001", f"{int(token[:10], 16) + 60:010X}00000001", "FF"):
            cursor = services.feed.cursors.encode(begins + token[len(begins) :])
            for method in ("GET", "HEAD"):
                answer = await api(method, f"/members/changes?after={cursor}")
                assert answer.code == 410, method
            problem(
                await api("GET", "/members/changes", headers={"Last-Event-ID": cursor}),
                410,
                "changes-lost",
            )
        # Another service may be ahead of this one.
        members.insert_one({"_id": 1, "name": "Ada"})
        cursor = await services.feed.current_cursor() or ""
        async with follow(f"?after={cursor}") as other:
            members.insert_one({"_id": 2, "name": "Bob"})
            assert (await other.event()).data["memberId"] == 2
            await other.silence(0.1)


async def test_cursors_before_a_drop_of_the_collection_are_lost(
    api: Api, follow: Follow, members: Any
) -> None:
    async with follow() as stream:
        ready = await stream.event()
        members.insert_one({"_id": 1, "name": "Ada"})
        await stream.event()
        members.drop()
        await stream.end()
    path = f"/members/changes?after={ready.id}"
    answer = await api("GET", path)
    if answer.code == 200:  # the drop was read after the insertion: the stream ends, and is resumed
        assert answer.body == b""
        answer = await api("GET", path)
    problem(answer, 410, "changes-lost")
    async with follow() as stream:
        assert (await stream.event()).kind == "ready"


@on_both
async def test_head_is_answered_at_once(api: Api) -> None:
    response = await api("HEAD", "/members/changes")
    assert response.code == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        problem(await api(method, "/members/changes"), 405, "method-not-allowed")
    problem(await api("GET", "/members/changes", rights=0), 403, "permission-missing")
    problem(await api("GET", "/members/changes", rights=None), 401, "token-missing")


async def test_export_has_the_cursor_from_before_its_start(api: Api, follow: Follow) -> None:
    await api.create("Ada")
    export = await api("GET", "/members", headers={"Accept": "text/csv"})
    assert b"Ada" in export.body
    await api.create("Bob")
    cursor = export.headers["Changes-After"]
    async with follow(f"?after={cursor}") as stream:
        assert (await stream.event()).data["member"]["name"] == "Bob"


async def test_feed_invalidates_the_cache_before_it_reports_a_change(
    api: Api, follow: Follow, members: Any
) -> None:
    """No invalidator runs here: only the feed invalidates the cache."""
    ada = await api.create("Ada")
    path = f"/members/{ada['memberId']}"
    async with follow() as stream:
        await stream.event()
        for number in range(8):
            for _ in range(2):
                read = await api("GET", path)
            assert read.headers["Cache-Status"] == "memcached; hit"
            assert (await api("GET", f"/members/by-name/new{number}")).code == 404
            members.update_one(
                {"_id": ada["memberId"]}, {"$set": {"name": f"new{number}"}, "$inc": {"version": 1}}
            )
            event = await stream.event()
            assert event.data["member"]["name"] == f"new{number}"
            assert parsed(await api("GET", path))["name"] == f"new{number}"
            assert (await api("GET", f"/members/by-name/new{number}")).code == 200


@pytest.fixture
def leeway() -> int:
    return 60


@pytest.fixture
def settings(settings: Settings, leeway: int) -> Settings:
    issuer = settings.auth.issuers[0].model_copy(update={"member_claim": ("member",)})
    auth = settings.auth.model_copy(update={"issuers": (issuer,), "leeway_seconds": leeway})
    return settings.model_copy(update={"auth": auth})


async def test_caller_of_its_own_member_sees_its_own_changes_only(
    api: Api, http_server: AnyServer, members: Any
) -> None:
    token = make_token(scope="members:read:own", member=1)
    address = address_of(http_server)
    async with (
        following(address, token) as one,
        following(address, token, "?memberId=1,1") as other,
    ):
        for stream in (one, other):
            assert (await stream.event()).kind == "ready"
        for member_id in (2, 1):
            members.insert_one({"_id": member_id, "name": f"{member_id}"})
        for stream in (one, other):
            assert (await stream.event()).data["memberId"] == 1
    headers = {"Authorization": f"Bearer {token}", "X-Request-Id": "fixed"}
    refused = [
        await api("GET", f"/members/changes?memberId={ids}", rights=None, headers=headers)
        for ids in ("2", "999", "abc", "1,2", "1&memberId=2")
    ]
    for response in refused:
        problem(response, 403, "permission-missing")
        assert response.body == refused[0].body


@pytest.mark.parametrize("leeway", [0])
async def test_stream_ends_when_the_token_expires(http_server: AnyServer) -> None:
    token = make_token(access_rights=1, exp=int(time.time()) + 2)
    async with following(address_of(http_server), token) as stream:
        ready, last = await stream.end(seconds=60)
        assert (ready.kind, last.kind) == ("ready", "expired")
        assert stream.is_complete
        assert last.data
    async with following(address_of(http_server), token_of(1), f"?after={last.id}") as stream:
        assert stream.status == 200


async def test_feed_of_a_standalone_mongodb_is_not_implemented(
    folder: Path, settings: Settings
) -> None:
    port = free_port()
    arguments = ["--dbpath", str(folder), "--bind_ip", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [find_mongod(), *arguments, "--nounixsocket"], stdout=subprocess.DEVNULL
    ) as mongod:
        try:
            uri = f"mongodb://127.0.0.1:{port}"
            with pymongo.MongoClient[dict[str, Any]](uri) as client:
                await asyncio.to_thread(client.admin.command, "ping")
            async with open_services(settings, uri, (), tail_changes=False) as services:
                server = make_server(make_app(services), settings.server.limits)
                server.add_sockets(bind_sockets(0, "127.0.0.1"))
                address = address_of(server)
                for method in ("GET", "HEAD"):
                    async with following(address, token_of(1), method=method) as stream:
                        assert stream.status == 501
                async with following(address, token_of(1)) as stream:
                    assert (await stream.problem())["code"] == "changes-unavailable"
                assert await services.feed.current_cursor() is None  # so exports have none
                server.stop()
                await server.close_all_connections()
        finally:
            mongod.kill()

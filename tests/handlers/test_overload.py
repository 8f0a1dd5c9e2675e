"""Too many concurrent requests, too many of one subject, and responses that take too long."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.support.api import Api, parsed
from tests.support.suspension import suspend
from tests.support.wire import AnyServer, bare_connection, on_both, small_connection
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.services import Services
from tornado_members.settings import Settings


@pytest.fixture
def limits() -> dict[str, Any]:
    return {}


@pytest.fixture
def settings(settings: Settings, limits: dict[str, Any]) -> Settings:
    server = {"limits": {**settings.server.limits.model_dump(), **limits}}
    return Settings.model_validate({**settings.model_dump(), "server": server})


@pytest.fixture
def hung(servers: PrivateServers) -> Iterator[psutil.Process]:
    """A MongoDB that accepts connections and does not respond."""
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    suspend(mongod)
    yield mongod
    mongod.send_signal(signal.SIGCONT)


class TestInFlight:
    """More concurrent requests than the limit."""

    @pytest.fixture
    def limits(self) -> dict[str, Any]:
        return {"requests": 2}

    async def test_excess_requests_are_refused_at_once(
        self, api: Api, services: Services, hung: psutil.Process
    ) -> None:
        waiting = [asyncio.create_task(api("PUT", "/members", {"name": n})) for n in ("A", "B")]
        while services.requests.in_flight < 2:
            await asyncio.sleep(0.01)
        answer = await api("GET", "/members/1", headers={"X-Request-Id": "third"})
        assert not any(task.done() for task in waiting)
        assert answer.headers["Retry-After"] == "1"
        problem = parsed(answer)
        assert (answer.code, problem["code"], problem["requestId"]) == (503, "overloaded", "third")
        hung.resume()
        assert sorted([(await task).code for task in waiting]) == [201, 201]
        assert (await api("GET", "/members")).code == 200

    async def test_unread_responses_do_not_count_as_in_flight(
        self, api: Api, http_server: AnyServer, services: Services
    ) -> None:
        request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
        async with AsyncExitStack() as stack:
            for _ in range(4):
                reader, writer = await stack.enter_async_context(small_connection(http_server))
                writer.write(request)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            assert (await api("GET", "/members")).code == 200
            assert services.requests.in_flight == 0


class TestShedding:
    """More requests than the service can serve in time."""

    @pytest.fixture
    def cors(self) -> dict[str, Any]:
        return {"origins": []}

    @pytest.fixture
    def settings(self, settings: Settings, cors: dict[str, Any]) -> Settings:
        return Settings.model_validate({**settings.model_dump(), "cors": cors})

    @pytest.fixture
    def overloaded(self, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
        many = SimpleNamespace(in_flight=500)
        monkeypatch.setattr(services.load_shedder, "_requests", many)
        monkeypatch.setattr(services.load_shedder, "_database_wait", lambda: 60.0)
        monkeypatch.setattr(services.load_shedder, "is_shedding", True)
        services.load_shedder.observe(60.0)

    @pytest.mark.shared_services
    @on_both
    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("GET", "/members", None),
            ("HEAD", "/members/1", None),
            ("GET", "/members/2?x=1", None),
            ("PUT", "/members", {"name": "Bob"}),
            ("POST", "/members/import", {"name": "Bob"}),
        ],
    )
    async def test_refused_request_has_no_effect_and_a_retry_after(
        self,
        api: Api,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
        method: str,
        path: str,
        body: Any,
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(services.load_shedder, "refuses", lambda: True)
            answer = await api(method, path, body, headers={"X-Request-Id": "mine"})
        assert (answer.code, answer.reason) == (503, "Service Unavailable")
        assert (answer.headers["Retry-After"], answer.headers["X-Request-Id"]) == ("1", "mine")
        assert answer.headers["Cache-Control"] == "no-store"
        if method != "HEAD":
            assert (parsed(answer)["code"], parsed(answer)["requestId"]) == ("overloaded", "mine")
        assert parsed(await api("GET", "/members"))["items"] == []

    @pytest.mark.usefixtures("overloaded")
    async def test_cached_members_are_read_while_all_else_is_refused(
        self, api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(services.load_shedder, "refuses", lambda: False)
            await api.create(name="Ada")
            await api.create(name="Bob")  # who is not cached
            await api("GET", "/members/1")
        services.load_shedder.observe(60.0)
        assert (await api("GET", "/members/1")).code == 200
        assert (await api("GET", "/members/2")).code == 503
        assert services.load_shedder.refused == 1

    @pytest.mark.parametrize("cors", [{"origins": ["https://app.example"]}])
    async def test_refusal_can_be_read_by_scripts_of_an_allowed_origin(
        self, api: Api, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(services.load_shedder, "refuses", lambda: True)
        answer = await api("GET", "/members", headers={"Origin": "https://app.example"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"

    async def test_connection_can_be_used_again_after_a_refused_body(
        self, http_server: AnyServer, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = b"PUT /members HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        monkeypatch.setattr(services.load_shedder, "refuses", lambda: True)
        async with bare_connection(http_server) as (reader, writer):
            for _ in range(2):
                writer.write(request)
                assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"Connection: close" not in head
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r")[0])
                await reader.readexactly(length)
                writer.write(bytes(100_000))


class TestDeadline:
    """Responses that take longer than the limit."""

    @pytest.fixture
    def limits(self) -> dict[str, Any]:
        return {"request_seconds": 0.2}

    async def test_slow_response_is_a_503_while_its_write_continues(
        self, api: Api, services: Services, hung: psutil.Process, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = await api("PUT", "/members", {"name": "Ada"})
        assert (answer.code, parsed(answer)["code"]) == (503, "response-timeout")
        assert answer.headers["Retry-After"] == "1"
        assert services.requests.in_flight == 0
        hung.resume()
        async with asyncio.timeout(60):
            while (await api("GET", "/members/by-name/Ada")).code != 200:
                await asyncio.sleep(0.05)
        assert "Traceback" not in caplog.text
        assert "finish() called" not in caplog.text

    async def test_slow_read_of_the_fast_path_is_a_503(
        self, api: Api, services: Services, hung: psutil.Process, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = await api("GET", "/members/1")
        assert (answer.code, parsed(answer)["code"]) == (503, "response-timeout")
        hung.resume()
        async with asyncio.timeout(60):
            await services.requests.idle.wait()
            while (await api("GET", "/members/1")).code != 404:
                await asyncio.sleep(0.05)
        assert "Traceback" not in caplog.text


class TestRateLimit:
    """More requests of one subject than the limit."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limit = {"requests_per_minute": 3}
        return Settings.model_validate({**settings.model_dump(), "rate_limit": limit})

    async def test_requests_per_minute_of_a_subject_are_limited(self, api: Api) -> None:
        answers = [await api("GET", "/members") for _ in range(8)]
        codes = [answer.code for answer in answers]
        assert codes[:3] == [200, 200, 200]
        assert 429 in codes[3:]  # the minute may have ended just now, but not twice
        refused = answers[codes.index(429)]
        assert parsed(refused)["code"] == "too-many-requests"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert (await api("GET", "/members", rights=None)).code == 401

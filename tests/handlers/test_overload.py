"""Too many requests at once, too many of one subject, and answers that take too long."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import psutil
import pytest

from tests.support.api import Api, parsed
from tests.support.wire import AnyServer, small_connection
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
    """MongoDB, which takes connections and answers nothing."""
    (mongod,) = [process for process in servers.processes() if process.name() == "mongod"]
    mongod.suspend()
    yield mongod
    mongod.send_signal(signal.SIGCONT)


class TestInFlight:
    """More at once than there may be."""

    @pytest.fixture
    def limits(self) -> dict[str, Any]:
        return {"requests": 2}

    async def test_what_is_too_much_is_refused_at_once(
        self, api: Api, services: Services, hung: psutil.Process
    ) -> None:
        waiting = [asyncio.create_task(api("PUT", "/members", {"name": n})) for n in ("A", "B")]
        while services.requests.in_flight < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        answer = await api("GET", "/members/1", headers={"X-Request-Id": "third"})
        assert not any(task.done() for task in waiting)
        assert answer.headers["Retry-After"] == "1"
        problem = parsed(answer)
        assert (answer.code, problem["code"], problem["requestId"]) == (503, "overloaded", "third")
        hung.resume()
        assert sorted([(await task).code for task in waiting]) == [201, 201]
        assert (await api("GET", "/members")).code == 200

    async def test_responses_that_nobody_reads_take_no_place(
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


class TestDeadline:
    """Longer than an answer may take."""

    @pytest.fixture
    def limits(self) -> dict[str, Any]:
        return {"request_seconds": 0.2}

    async def test_an_answer_that_takes_too_long_is_a_503_and_what_it_did_goes_on(
        self, api: Api, services: Services, hung: psutil.Process, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = await api("PUT", "/members", {"name": "Ada"})
        assert (answer.code, parsed(answer)["code"]) == (503, "response-timeout")
        assert answer.headers["Retry-After"] == "1"
        assert services.requests.in_flight == 0
        hung.resume()
        async with asyncio.timeout(10):
            while (await api("GET", "/members/by-name/Ada")).code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert "Traceback" not in caplog.text
        assert "finish() called" not in caplog.text


class TestRateLimit:
    """More often than one subject may ask."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        limit = {"requests_per_minute": 3}
        return Settings.model_validate({**settings.model_dump(), "rate_limit": limit})

    async def test_one_subject_may_ask_so_often_in_a_minute(self, api: Api) -> None:
        answers = [await api("GET", "/members") for _ in range(8)]
        codes = [answer.code for answer in answers]
        assert codes[:3] == [200, 200, 200]
        assert 429 in codes[3:]  # the minute may have ended just now, but not twice
        refused = answers[codes.index(429)]
        assert parsed(refused)["code"] == "too-many-requests"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert (await api("GET", "/members", rights=None)).code == 401

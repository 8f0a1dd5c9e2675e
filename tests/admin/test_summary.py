"""GET /status: the summary of a service, and its way from the supervisor to the workers."""

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tornado.httputil import HTTPServerConnectionDelegate

from tests.support.api import Api, parsed, problem
from tests.support.contract import Contract, contract_of
from tests.support.service import Command
from tornado_members.admin.status import ProcessStatus
from tornado_members.admin.summary import summarize
from tornado_members.app import make_app, openapi_document
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.services import Services
from tornado_members.settings import Console, Settings


@pytest.fixture
def has_status() -> list[bool]:
    """True once the supervisor has sent the status."""
    return [True]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"console": Console(status=True)})


@pytest.fixture
def app(
    services: Services, process_status: ProcessStatus, has_status: list[bool]
) -> HTTPServerConnectionDelegate:
    return make_app(services, lambda: summarize(process_status) if has_status[0] else None)


@pytest.fixture
def contract(services: Services) -> Contract:
    """The description of a service that has its status."""
    return contract_of(openapi_document(services, lambda: None).plain)


async def test_status_has_dependencies_and_totals(api: Api) -> None:
    await api.create("Ada")
    for _ in range(3):
        await api("GET", "/members/1")
    before = parsed(await api("GET", "/status"))
    assert before["status"] == "ready"
    assert "mongodb" in [dependency["name"] for dependency in before["dependencies"]]
    assert sum(before["requests"]["durations"]) == 4
    assert before["cache"] == {"hit": 2, "miss": 1, "bypass": 0}
    assert len(before["requests"]["durations"]) == len(before["requests"]["bounds"]) + 1
    after = parsed(await api("GET", "/status"))
    assert sum(after["requests"]["durations"]) == 5


async def test_status_is_for_callers_with_members_delete(api: Api, has_status: list[bool]) -> None:
    for rights in (0, 1, 2):
        problem(await api("GET", "/status", rights=rights), 403, "permission-missing")
    problem(await api("GET", "/status", rights=None), 401, "token-missing")
    has_status[0] = False
    problem(await api("GET", "/status"), 503, "dependency-unavailable")


class TestWithoutTheSetting:
    """console.status is off by default, and so is its route."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"console": Console(enabled=False)})

    async def test_paths_do_not_exist(self, api: Api) -> None:
        for path in ("/status", "/console", "/console/main.js"):
            problem(await api("GET", path), 404, "not-found")
        document = parsed(await api("GET", "/openapi.json"))
        assert not [path for path in document["paths"] if path.startswith(("/status", "/console"))]


async def test_status_counts_the_requests_of_all_workers(
    folder: Path, servers: PrivateServers, database_name: str
) -> None:
    settings: dict[str, Any] = {
        "mongodb": {"uri": servers.mongodb_uri, "database": database_name},
        "cache": {"servers": servers.cache_servers},
        "server": {"port": 0, "processes": 2},
        "console": {"status": True},
    }
    command = Command(folder, settings)
    with command.serving() as service:
        token = command.token("--rights", "3")

        def fetch(path: str) -> Any:
            headers = {"Authorization": f"Bearer {token}"}
            request = urllib.request.Request(service.url + path, headers=headers)
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read())

        for _ in range(20):  # each on a connection of its own
            await asyncio.to_thread(fetch, "/members?limit=1")
        async with asyncio.timeout(60):
            while True:
                found = await asyncio.to_thread(fetch, "/status")
                # The status is up to a second old, and a service that just started is degraded.
                is_complete = found["workers"] == 2 and found["status"] == "ready"
                if is_complete and sum(found["requests"]["durations"]) >= 20:
                    break
                await asyncio.sleep(0.1)

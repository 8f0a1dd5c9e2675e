"""Imports whose results are not read, over real connections."""

import asyncio
import json
import resource
from typing import Any

import pytest

from tests.handlers.test_importing import head
from tests.support.api import Api
from tests.support.waiting import until
from tests.support.wire import small_connection
from tornado_members.http.spool_budget import SpoolBudget
from tornado_members.services import Services
from tornado_members.settings import Settings

_MIB = 2**20
ROWS = 12_000
_ROWS = b",x\n" * ROWS  # about 1.6 MiB of results, more than one caller may spool


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A small spool, and time-outs for clients that do not read.

    A busy machine needs seconds to fill the spool.
    """
    limits = settings.server.limits.model_copy(update={"write_seconds": 0.5})
    server = settings.server.model_copy(update={"limits": limits})
    update = {
        "import_spool_mib": 2,
        "import_spool_mib_per_caller": 1,
        "import_unread_seconds": 5,
    }
    members = settings.members.model_copy(update=update)
    return settings.model_copy(update={"server": server, "members": members})


async def send_unread(http_server: Any, seconds: float) -> None:
    """Send rows for some seconds, or until the service closes the connection; read nothing."""
    async with small_connection(http_server) as (_, writer):
        writer.write(head(10 * _MIB, "Content-Type: text/csv") + b"name,email\n")
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            writer.write(_ROWS[:3000])
            await writer.drain()
            await asyncio.sleep(0.02)


async def test_spool_is_bounded_while_other_imports_complete(
    http_server: Any, services: Services, api: Api
) -> None:
    """The caller that does not read is disconnected, and its bytes are returned."""
    held = []

    async def watch() -> None:
        while True:
            held.append(services.spool_budget.held)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    greedy = [asyncio.create_task(send_unread(http_server, 60)) for _ in range(3)]
    await until(lambda: max(held, default=0) > _MIB * 0.9)
    headers = {"Content-Type": "text/csv"}
    answer = await api("POST", "/members/import", raw=b"name,email\n" + _ROWS, headers=headers)
    *results, summary = [json.loads(line) for line in answer.body.splitlines()]
    assert [result["status"] for result in results] == [422] * ROWS
    assert summary == {"summary": {"refused": {"invalid-member": ROWS}}}
    done = await asyncio.gather(*greedy, return_exceptions=True)
    watching.cancel()
    assert all(isinstance(error, ConnectionError) for error in done)
    assert max(held) <= _MIB
    await asyncio.wait_for(services.requests.idle.wait(), 30)
    assert services.spool_budget.held == 0


@pytest.mark.parametrize("limit", [0, 100_001], ids=["no file", "a part of a write"])
async def test_full_disk_is_like_an_exhausted_spool(
    limit: int, services: Services, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """The service waits until the client reads; no result is lost or cut."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # of every file of this process
    try:
        headers = {"Content-Type": "text/csv"}
        path = "/members/import?results=after"
        answer = await api("POST", path, raw=b"name,email\n" + _ROWS, headers=headers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    *results, summary = [json.loads(line) for line in answer.body.splitlines()]
    assert [result["line"] for result in results] == [*range(2, ROWS + 2)]
    assert summary == {"summary": {"refused": {"invalid-member": ROWS}}}
    assert services.spool_budget.held == 0
    assert caplog.text.count("the temporary file of an import cannot be written") == 1


async def trickle(writer: asyncio.StreamWriter) -> None:
    for _ in range(3000):
        writer.write(_ROWS[:60])
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_sending_does_not_count_as_reading(http_server: Any, services: Services) -> None:
    """The spool has room for these results, but the client must read them in time."""
    async with small_connection(http_server) as (_, writer):
        writer.write(head(_MIB, "Content-Type: text/csv") + b"name,email\n")
        with pytest.raises(ConnectionError):
            await trickle(writer)
    await asyncio.wait_for(services.requests.idle.wait(), 30)


def test_budget_is_shared_by_the_accounts_of_a_caller() -> None:
    budget = SpoolBudget(total=100, per_caller=60)
    first, second, other = (budget.open_account(caller) for caller in "aab")
    assert first.reserve(40)
    assert not second.reserve(30)
    assert second.reserve(20)
    assert other.reserve(40)
    assert not other.reserve(1)  # the limit of the process is reached
    first.close()
    assert other.reserve(20)
    second.close()
    other.close()
    assert budget.held == 0

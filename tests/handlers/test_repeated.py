"""A connection breaks after a request, and the client repeats it: nothing is done twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.api import Api, parsed, token_of
from tests.support.fault_proxy import FaultProxy
from tests.support.http_client import HttpClient, NoResponse, Reply
from tests.support.mongodb import Admin
from tests.support.wire import AnyServer, address_of
from tornado_members.settings import Settings

pytestmark = pytest.mark.shared_services

ADA = b'{"name": "Ada", "phone": "555-0100"}'
IF_MATCH = b'If-Match: "1"\r\n'


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return Settings.model_validate({**settings.model_dump(), "audit": {"enabled": True}})


@pytest.fixture(autouse=True)
def _no_history(admin: Admin, database_name: str) -> None:
    admin[database_name]["audit"].delete_many({})


class ClientWithLostResponse:
    """A client whose first response is lost, and which then repeats its request."""

    def __init__(self, proxy: FaultProxy) -> None:
        host, _, port = proxy.address.rpartition(":")
        self._client = HttpClient(host, int(port), token_of(3))
        self._proxy = proxy

    async def __call__(
        self, method: bytes, path: bytes, body: bytes = b"", headers: bytes = b""
    ) -> Reply:
        lost = self._proxy.dropped
        self._proxy.drop_response_to(method + b" " + path)
        with pytest.raises(NoResponse):
            await self._client(method, path, body, headers)
        assert self._proxy.dropped == lost + 1
        reply = await self._client(method, path, body, headers)
        self._client.close()
        return reply


@asynccontextmanager
async def client_with_lost_response(server: AnyServer) -> AsyncIterator[ClientWithLostResponse]:
    host, port = address_of(server)
    async with FaultProxy(f"{host}:{port}") as proxy:
        yield ClientWithLostResponse(proxy)


async def history(api: Api) -> list[tuple[str, int]]:
    """Return the changes of the first member."""
    records: list[dict[str, Any]] = parsed(await api("GET", "/members/1/history"))["items"]
    return [(record["kind"], record["version"]) for record in reversed(records)]


@pytest.mark.parametrize("method", [b"POST", b"PUT"])
async def test_repeated_create_names_the_member_that_it_created(
    api: Api, http_server: AnyServer, method: bytes
) -> None:
    async with client_with_lost_response(http_server) as send:
        reply = await send(method, b"/members", ADA)
    assert reply.status == 409
    assert b'"member": "/members/1"' in reply.body
    assert len(parsed(await api("GET", "/members"))["items"]) == 1
    assert await history(api) == [("created", 1)]


PHONE = b'{"phone": "555-0100"}'
MERGE = b"Content-Type: application/merge-patch+json\r\n"


@pytest.mark.parametrize(("headers", "status"), [(b"", 200), (IF_MATCH, 412)])
@pytest.mark.parametrize(
    "request_line",
    [
        (b"PUT", b"/members/1", ADA),
        (b"PATCH", b"/members/1", PHONE),
        (b"PUT", b"/members/by-name/Ada", PHONE),
    ],
    ids=["PUT", "PATCH", "PUT by name"],
)
async def test_repeated_change_is_made_once(
    api: Api,
    http_server: AnyServer,
    request_line: tuple[bytes, bytes, bytes],
    headers: bytes,
    status: int,
) -> None:
    """A conditional request fails on its own earlier change, which it cannot recognize."""
    await api.create("Ada")
    async with client_with_lost_response(http_server) as send:
        merge = MERGE if request_line[0] == b"PATCH" else b""
        reply = await send(*request_line, headers + merge)
    assert reply.status == status, reply.body
    found = await api("GET", "/members/1")
    assert (parsed(found)["phone"], found.headers["ETag"]) == ("555-0100", '"2"')
    assert await history(api) == [("created", 1), ("changed", 2)]


@pytest.mark.parametrize(("headers", "status"), [(b"", 404), (IF_MATCH, 412)])
async def test_repeated_delete_is_a_404(
    api: Api, http_server: AnyServer, headers: bytes, status: int
) -> None:
    await api.create("Ada")
    async with client_with_lost_response(http_server) as send:
        assert (await send(b"DELETE", b"/members/1", headers=headers)).status == status
    assert await history(api) == [("created", 1), ("deleted", 2)]


async def test_repeated_put_by_name_changes_nothing(api: Api, http_server: AnyServer) -> None:
    """Clients that repeat requests use this form."""
    async with client_with_lost_response(http_server) as send:
        reply = await send(b"PUT", b"/members/by-name/Ada", b'{"phone": "555-0100"}')
    assert (reply.status, reply.headers[b"etag"]) == (200, b'"1"')
    assert await history(api) == [("created", 1)]

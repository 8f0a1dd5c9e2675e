"""Memcached hangs and keeps its memory while all processes that recorded its outage are replaced.

The new processes must not serve what Memcached kept.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from tests.support.cluster import Cluster
from tests.support.following import followed
from tests.support.http_client import HttpClient, NoResponse
from tests.support.programs import REPLACEMENTS, Replacement, ServiceProgram
from tornado_members.embedded.private_servers import PrivateServers

Document = dict[str, Any]

SECONDS_AT_MOST = 30  # for operations that take about five
OLD, NEW = "555-1", "555-2"


class Member:
    """A member, as seen through one service."""

    def __init__(self, service: ServiceProgram, token: str, name: str) -> None:
        self._service = service
        self._token = token
        self._name = name
        self._path = b""

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[HttpClient]:
        client = self._service.client(self._token)
        try:
            yield client
        finally:
            client.close()

    async def put(self, phone: str) -> None:
        """Create or replace it; the write is acknowledged."""
        body = json.dumps({"name": self._name, "phone": phone}).encode()
        async with self._client() as client:
            reply = await client(b"PUT", self._path or b"/members", body)
        assert reply.status in (200, 201), reply
        self._path = self._path or b"/members/%d" % json.loads(reply.body)["memberId"]

    async def read_until_hit(self) -> set[str]:
        """Return the phone numbers in responses, up to the first hit."""
        phones = set()
        async with asyncio.timeout(SECONDS_AT_MOST), self._client() as client:
            while True:
                try:
                    reply = await client(b"GET", self._path)
                except NoResponse:  # the worker that a reload retires
                    continue
                assert reply.status == 200, reply
                phones.add(json.loads(reply.body)["phone"])
                if b"; hit" in reply.headers[b"cache-status"]:
                    return phones
                await asyncio.sleep(0.03)


async def replace_while_memcached_hangs(
    folder: Path, mongodb_uri: str, database: Database[Document], hows: Sequence[Replacement]
) -> list[set[str]]:
    """Replace one service in each way; return the responses of each when Memcached continues."""
    cluster = Cluster(
        folder,
        mongodb_uri,
        database="replaced",
        processes=len(hows),
        nodes=1,
        cache={"return_ms": 500},
    )
    async with cluster:
        services = cluster.services
        members = [Member(service, cluster.token, service.name) for service in services]
        for member in members:
            await member.put(OLD)
        for phones in await asyncio.gather(*(member.read_until_hit() for member in members)):
            assert phones == {OLD}
        async with cluster.nodes[0].paused():
            async with followed(database):
                await asyncio.gather(*(member.put(NEW) for member in members))
            await asyncio.gather(
                *(service.replace(how) for service, how in zip(services, hows, strict=True))
            )
        answered = await asyncio.gather(*(member.read_until_hit() for member in members))
        async with asyncio.timeout(SECONDS_AT_MOST):
            while database["cache_pending_flushes"].find_one():
                await asyncio.sleep(0.1)
    return list(answered)


@pytest.fixture
def database(admin: pymongo.MongoClient[Document]) -> Database[Document]:
    """An empty Memcached for these tests."""
    for name in admin["replaced"].list_collection_names():
        admin["replaced"][name].delete_many({})
    return admin["replaced"]


def test_replaced_processes_flush_nodes_that_missed_an_invalidation(
    folder: Path, servers: PrivateServers, database: Database[Document]
) -> None:
    """Replace each service in a different way."""
    answered = asyncio.run(
        replace_while_memcached_hangs(folder, servers.mongodb_uri, database, REPLACEMENTS)
    )
    assert answered == [{NEW}] * len(REPLACEMENTS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", REPLACEMENTS)
def test_processes_replaced_in_any_way_flush_nodes_that_missed_an_invalidation(
    folder: Path, servers: PrivateServers, database: Database[Document], how: Replacement
) -> None:
    answered = asyncio.run(
        replace_while_memcached_hangs(folder, servers.mongodb_uri, database, [how, how])
    )
    assert answered == [{NEW}] * 2

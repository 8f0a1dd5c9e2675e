"""Faults exactly between the tombstones of a group of writes and its command.

Another process is stopped there. This one reads and writes the same members meanwhile, through the
same cache, and does not follow the change stream, which would hide what is wrong in the cache.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from tests.support.members import make_draft
from tests.support.stopped_writer import StoppedWriter, stopped_writer
from tests.support.tokens import AUDIENCE, ISSUER, public_jwk
from tornado_members.directory import MemberDirectory
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.errors import MemberNotFound
from tornado_members.member_entries import CACHE_HIT
from tornado_members.services import open_services
from tornado_members.settings import Settings

pytestmark = pytest.mark.exhaustive

COUNT = 4
LONGEST = 30.0  # seconds until a member is a hit again; its tombstones last for seven
SETTINGS = {
    "mongodb": {"database": "stopped", "timeout_ms": 1000},
    "cache": {"timeout_ms": 200, "heartbeat_ms": 200, "return_ms": 700},
    "auth": {
        "issuers": [
            {"issuer": ISSUER, "audience": AUDIENCE, "jwks": {"keys": [public_jwk("RS256")]}}
        ]
    },
}


class Reader:
    """The service of this process, beside the one that is stopped."""

    def __init__(self, directory: MemberDirectory, servers: PrivateServers) -> None:
        self.directory = directory
        self.servers = servers
        self.ids: Sequence[int] = []

    async def create(self) -> None:
        """Create the members, each with version 1, and let the cache have them."""
        created = [await self.directory.create(make_draft(name=f"Ada {i}")) for i in range(COUNT)]
        self.ids = [member.member_id for member in created]
        await self.until_hits()

    async def versions(self) -> list[int]:
        """Read each member twice, in case the first read stores what it finds; also its names."""
        for member_id in self.ids:
            for name in (f"Grace {member_id}", f"Edith {member_id}"):
                try:
                    await self.directory.get_by_name(name)
                except MemberNotFound:
                    continue
        first = [(await self.directory.get(member_id)).version for member_id in self.ids]
        second = [(await self.directory.get(member_id)).version for member_id in self.ids]
        assert all(map(int.__le__, first, second)), "reads went backward"
        return second

    async def names_lead_to_members(self, first_name: str) -> bool:
        """True if the cache leads from each new name to its member."""
        found = [
            await self.directory.get_by_name(f"{first_name} {member_id}") for member_id in self.ids
        ]
        return [member.member_id for member in found] == self.ids

    async def are_hits(self) -> list[bool]:
        """For each member, True if it was read from the cache."""
        return [
            (await self.directory.get(member_id)).cache_status == CACHE_HIT
            for member_id in self.ids
        ]

    async def until_hits(self) -> None:
        """Wait until the cache has every member."""
        async with asyncio.timeout(LONGEST):
            while not all(await self.are_hits()):
                await asyncio.sleep(0.05)

    async def rename(self, first_name: str) -> list[int]:
        """Rename all members in one group; return their versions."""
        renamed = await asyncio.gather(
            *(
                self.directory.replace(member_id, self.draft(first_name, member_id))
                for member_id in self.ids
            )
        )
        return [member.version for member in renamed]

    def draft(self, first_name: str, member_id: int) -> Any:
        """Return the new fields of a member."""
        return make_draft(name=f"{first_name} {member_id}")

    def stored(self) -> list[int]:
        """Return the versions in MongoDB."""
        with pymongo.MongoClient[dict[str, Any]](self.servers.mongodb_uri) as client:
            return [
                document["version"] for document in client["stopped"]["members"].find().sort("_id")
            ]

    async def restart(self, program: str) -> None:
        """Kill a server and start it again."""
        (server,) = (process for process in self.servers.processes() if process.name() == program)
        server.kill()
        await asyncio.to_thread(psutil.wait_procs, [server])
        assert await asyncio.to_thread(self.servers.restart_dead) == [program]

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[StoppedWriter]:
        """Stop another process that renames the members, where it has placed its tombstones."""
        names = {member_id: f"Grace {member_id}" for member_id in self.ids}
        uri, cache = self.servers.mongodb_uri, self.servers.cache_servers
        async with stopped_writer(SETTINGS, uri, cache, names) as writer:
            assert await self.versions() == [1] * COUNT
            assert await self.are_hits() == [False] * COUNT
            yield writer


@pytest.fixture
def own_servers(folder: Path) -> Any:
    """MongoDB and Memcached that a test may kill."""
    with PrivateServers(folder, die_with_parent=True) as servers:
        yield servers


@pytest.fixture
def reader(io_loop: Any, own_servers: PrivateServers, folder: Path) -> Any:
    """The service of this process, with members in the cache."""
    settings = Settings.model_validate({**SETTINGS, "data_dir": folder})

    async def enter() -> tuple[AsyncExitStack, Reader]:
        stack = AsyncExitStack()
        opening = open_services(
            settings, own_servers.mongodb_uri, own_servers.cache_servers, tail_changes=False
        )
        services = await stack.enter_async_context(opening)
        reader = Reader(services.directory, own_servers)
        await reader.create()
        return stack, reader

    stack, opened = io_loop.run_sync(enter, timeout=60)
    yield opened
    io_loop.run_sync(stack.aclose)


async def test_reads_return_a_group_at_once_when_it_is_acknowledged(reader: Reader) -> None:
    async with reader.stopped() as writer:
        assert await writer.proceed() == [2] * COUNT
        assert await reader.versions() == [2] * COUNT
        assert await reader.names_lead_to_members("Grace")
        await reader.until_hits()
        assert await reader.versions() == [2] * COUNT


async def test_group_does_not_overwrite_what_was_written_after_its_tombstones(
    reader: Reader,
) -> None:
    """Its command refuses each member, which is then written alone."""
    async with reader.stopped() as writer:
        assert await reader.rename("Edith") == [2] * COUNT
        assert await reader.versions() == [2] * COUNT
        assert await writer.proceed() == [3] * COUNT
        assert await reader.versions() == [3] * COUNT
        assert await reader.names_lead_to_members("Grace")


async def test_group_of_a_killed_service_is_not_written_and_its_members_become_hits(
    reader: Reader,
) -> None:
    async with reader.stopped() as writer:
        writer.kill()
        assert await reader.versions() == [1] * COUNT
        await reader.until_hits()
        assert reader.stored() == [1] * COUNT
        assert await reader.rename("Edith") == [2] * COUNT
        assert await reader.versions() == [2] * COUNT


async def test_group_is_not_written_after_its_tombstones_have_expired(reader: Reader) -> None:
    async with reader.stopped() as writer:
        await reader.until_hits()  # of version 1
        assert await writer.proceed() == [None] * COUNT
        assert reader.stored() == [1] * COUNT
        assert await reader.versions() == [1] * COUNT


@pytest.mark.parametrize("program", ["mongod", "memcached"])
async def test_reads_return_a_group_at_once_although_a_server_restarted_before_its_command(
    reader: Reader, program: str
) -> None:
    """Memcached loses the tombstones with all entries; the primary does not know of the group."""
    async with reader.stopped() as writer:
        await reader.restart(program)
        if program == "memcached":
            assert await reader.versions() == [1] * COUNT
        versions = await writer.proceed()
        assert versions == [2] * COUNT
        assert await reader.versions() == versions
        await reader.until_hits()
        assert await reader.versions() == versions

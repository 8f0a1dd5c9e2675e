"""Two clusters whose databases have one name, on one Memcached."""

import asyncio
from pathlib import Path
from typing import Any

import pymongo

from tests.support.members import make_draft
from tests.support.memcached import flush_cache
from tests.support.namespace import namespace_of
from tornado_members.directory import MemberDirectory
from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.member_entries import Representation
from tornado_members.services import open_directory
from tornado_members.settings import Settings
from tornado_members.storage.stores import open_stores


async def read_until_hit(directory: MemberDirectory, member_id: int) -> Representation:
    async with asyncio.timeout(60):
        while True:
            found = await directory.get(member_id)
            if found.cache_status == "hit":
                return found
            await asyncio.sleep(0.01)


async def test_clusters_do_not_read_each_others_members(
    settings: Settings, servers: PrivateServers, folder: Path
) -> None:
    """Member 1 is Ada in one cluster, and Bob in the other."""
    with PrivateServers(folder / "another", memcached=False, die_with_parent=True) as another:
        uris = {"Ada": servers.mongodb_uri, "Bob": another.mongodb_uri}
        namespaces = set()
        for uri in uris.values():
            with pymongo.MongoClient[dict[str, Any]](uri) as client:
                namespaces.add(namespace_of(client[settings.mongodb.database], uri))
        assert len(namespaces) == 2
        flush_cache(servers.cache_servers[0], *namespaces)
        for creates in (True, False):
            for name, uri in uris.items():
                async with (
                    open_stores(settings, uri) as stores,
                    open_directory(settings, stores, servers.cache_servers) as directory,
                ):
                    if creates:
                        await directory.create(make_draft(name=name))
                    found = await read_until_hit(directory, 1)
                    assert name.encode() in found.body

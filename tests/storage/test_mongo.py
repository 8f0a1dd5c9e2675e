"""The MongoDB client."""

import linecache
from typing import Any

from tornado_members.embedded.private_servers import PrivateServers
from tornado_members.storage.mongo import open_mongo


async def test_open_client_keeps_no_source_file_in_memory(
    servers: PrivateServers, driver: Any
) -> None:
    mongo = open_mongo(servers.mongodb_uri, "test", driver, timeout=1)
    cached = [*linecache.cache]
    await mongo.close()
    assert not cached

"""Fixtures of the tests of the cache on a real Memcached."""

import pytest

from tests.support.memcached import flush_cache
from tornado_members.embedded.private_servers import PrivateServers


@pytest.fixture
def address(servers: PrivateServers, database_name: str) -> str:
    """The address of a node that has been in use, and is empty but for the epoch."""
    flush_cache(servers.cache_servers[0], "test")
    return servers.cache_servers[0]

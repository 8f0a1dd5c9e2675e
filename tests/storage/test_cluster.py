"""The id of a cluster, from a real MongoDB."""

import asyncio
from typing import Any

import pytest

from tests.support.mongodb import Admin
from tornado_members.storage.cluster import ClusterIdentity
from tornado_members.storage.mongo import Mongo


@pytest.fixture
def documents(admin: Admin, database_name: str) -> Any:
    """The collection itself, empty."""
    admin[database_name]["cluster"].delete_many({})
    return admin[database_name]["cluster"]


async def test_cluster_identity_is_the_same_for_all_processes(mongo: Mongo, documents: Any) -> None:
    assert await ClusterIdentity(mongo).find() is None
    ids = await asyncio.gather(*(ClusterIdentity(mongo).create() for _ in range(20)))
    assert len({*ids}) == 1
    assert await ClusterIdentity(mongo).find() == ids[0]
    documents.delete_many({})
    assert await ClusterIdentity(mongo).create() != ids[0]

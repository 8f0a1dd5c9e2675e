"""The cache of the services on a database: its namespace in Memcached, its state in MongoDB."""

from typing import Any

import pymongo
from pymongo.database import Database

from tornado_members.services import cache_namespace


def namespace_of(database: Database[dict[str, Any]], cluster_id: str = "tests") -> str:
    """Return the namespace; a cluster without an id gets this one."""
    document = database["cluster"].find_one_and_update(
        {"_id": "cluster"},
        {"$setOnInsert": {"id": cluster_id}},
        upsert=True,
        return_document=pymongo.ReturnDocument.AFTER,
    )
    assert document
    return cache_namespace(database.name, document["id"])


def forget_cache_processes(database: Database[dict[str, Any]]) -> None:
    """Forget the processes of earlier tests, some of them killed, and their list of servers."""
    database["cache_processes"].delete_many({})
    database["cluster"].delete_one({"_id": "cache-servers"})

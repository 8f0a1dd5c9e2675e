"""The namespace in which services on a database keep their keys in Memcached."""

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

"""The identity of a cluster: a random id, kept in its database.

It is a part of every key in Memcached, so that clusters whose databases have one name can share
their servers. It also shows a worker whether it uses the database of the other workers.
"""

import secrets

from pymongo import ReturnDocument

from tornado_members.storage.mongo import Mongo
from tornado_members.storage.operations import translate_outages

_KEY = "cluster"


class ClusterIdentity:
    """The document of the collection `cluster`."""

    def __init__(self, mongo: Mongo) -> None:
        self.mongo = mongo
        self._documents = mongo.database["cluster"]

    @translate_outages
    async def find(self) -> str | None:
        """Return the id; None if it was not created yet. Raises DependencyUnavailable."""
        document = await self._documents.find_one({"_id": _KEY})
        return None if document is None else str(document["id"])

    @translate_outages
    async def create(self) -> str:
        """Return the id, which the first caller generates. Raises DependencyUnavailable."""
        document = await self._documents.find_one_and_update(
            {"_id": _KEY},
            {"$setOnInsert": {"id": secrets.token_hex(8)}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise LookupError("the id of the cluster was neither found nor created")
        return str(document["id"])

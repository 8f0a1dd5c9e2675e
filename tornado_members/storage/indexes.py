"""Making indexes, which on a million documents takes longer than any other operation may."""

from collections.abc import Sequence
from logging import getLogger

import pymongo
from pymongo import IndexModel

from tornado_members.storage.mongo import Mongo
from tornado_members.storage.outages import translate_outages

log = getLogger(__name__)

_PATIENCE_SECONDS = 3600


class Indexes:
    """The indexes of one collection."""

    def __init__(self, mongo: Mongo, collection: str) -> None:
        self.mongo = mongo.with_timeout(_PATIENCE_SECONDS)
        self._timeout = mongo.timeout
        self._name = collection
        self._collection = mongo.database[collection]

    @translate_outages
    async def make(self, wanted: Sequence[IndexModel]) -> None:
        """Make those that are missing, and say so if that may take a while.

        Raises pymongo.errors.OperationFailure for documents that contradict a unique one, and for
        an index that is there with other options.
        """
        with pymongo.timeout(self._timeout):  # a MongoDB that is away is noticed soon
            present = await self._collection.index_information()
            missing = [
                index.document["name"] for index in wanted if index.document["name"] not in present
            ]
            documents = await self._collection.estimated_document_count() if missing else 0
        if documents:
            log.info(
                "making indexes of the %d documents in %s: %s",
                documents,
                self._name,
                ", ".join(missing),
            )
        await self._collection.create_indexes(list(wanted))
        if documents:
            log.info("made the indexes")

"""Creation of indexes, which may take longer than any other operation."""

import re
from collections.abc import Sequence
from logging import getLogger

import pymongo
from pymongo import IndexModel
from pymongo.errors import OperationFailure

from tornado_members.storage.mongo import Mongo
from tornado_members.storage.operations import translate_outages

log = getLogger(__name__)

_TIMEOUT_SECONDS = 3600
_INDEX_NOT_FOUND = 27


class Indexes:
    """The indexes of one collection."""

    def __init__(self, mongo: Mongo, collection: str) -> None:
        self.mongo = mongo.with_timeout(_TIMEOUT_SECONDS)
        self._timeout = mongo.timeout
        self._name = collection
        self._collection = mongo.database[collection]

    @translate_outages
    async def create(self, indexes: Sequence[IndexModel]) -> None:
        """Create the missing indexes. Log it if the collection has documents.

        Raises pymongo.errors.OperationFailure if documents violate a unique index, and if an index
        exists with other options.
        """
        with pymongo.timeout(self._timeout):  # so that an unavailable MongoDB is noticed soon
            present = await self._collection.index_information()
            missing = [
                index.document["name"] for index in indexes if index.document["name"] not in present
            ]
            documents = await self._collection.estimated_document_count() if missing else 0
        if documents:
            log.info(
                "creating indexes of the %d documents in %s: %s",
                documents,
                self._name,
                ", ".join(missing),
            )
        await self._collection.create_indexes(list(indexes))
        if documents:
            log.info("created the indexes")

    @translate_outages
    async def drop_unused(
        self, wanted: Sequence[IndexModel], belonging: re.Pattern[str], *, dry_run: bool
    ) -> None:
        """Drop the indexes whose names match and that are not wanted; with `dry_run`, log them."""
        names = {index.document["name"] for index in wanted}
        present = await self._collection.index_information()
        unused = [name for name in present if belonging.fullmatch(name) and name not in names]
        if not unused:
            return
        if dry_run:
            log.info(
                "no indexed attribute is declared for these indexes of %s, and each write updates "
                "them; start with --drop-unused-indexes to drop them: %s",
                self._name,
                ", ".join(unused),
            )
            return
        for name in unused:
            try:
                await self._collection.drop_index(name)
            except OperationFailure as error:
                if error.code != _INDEX_NOT_FOUND:  # another service dropped it first
                    raise
            log.info("dropped the index %s of %s", name, self._name)

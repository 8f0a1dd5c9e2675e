"""Writes of members' documents, without records of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from tornado_members.errors import DependencyUnavailable
from tornado_members.model.history import Actor
from tornado_members.storage.mongo import Document, Mongo

_DUPLICATE_KEY = 11000


class Writes(Protocol):
    """Methods of PlainWrites and RecordedWrites. `by` is the caller who makes the change."""

    async def insert(self, document: Document, by: Actor | None) -> None:
        """Insert a document. Raises DuplicateKeyError."""

    async def insert_many(self, documents: Sequence[Document], by: Actor | None) -> set[int]:
        """Insert the documents whose name is free. Return the indexes of the others."""

    async def update(
        self,
        member_id: int,
        matching: Mapping[str, Any],
        update: Sequence[Document],
        by: Actor | None,
    ) -> Document | None:
        """Update the document that matches. Return the new document, or None if none matches.

        Raises DuplicateKeyError.
        """

    async def delete(self, member_id: int, matching: Mapping[str, Any], by: Actor | None) -> bool:
        """Delete the document that matches. False if none matches."""


class PlainWrites:
    """Writes of matching nothing is recorded. Each is one operation."""

    def __init__(self, mongo: Mongo) -> None:
        self._members = mongo.database["members"]

    async def insert(self, document: Document, _by: Actor | None) -> None:
        """Implement Writes."""
        await self._members.insert_one(document)

    async def insert_many(self, documents: Sequence[Document], _by: Actor | None) -> set[int]:
        """Implement Writes."""
        try:
            await self._members.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise DependencyUnavailable from error
            return indexes_of_taken_names(error)
        return set()

    async def update(
        self,
        _member_id: int,
        matching: Mapping[str, Any],
        update: Sequence[Document],
        _by: Actor | None,
    ) -> Document | None:
        """Implement Writes."""
        return await self._members.find_one_and_update(
            matching, update, return_document=ReturnDocument.AFTER
        )

    async def delete(self, _member_id: int, matching: Mapping[str, Any], _by: Actor | None) -> bool:
        """Implement Writes."""
        return (await self._members.delete_one(matching)).deleted_count == 1


def indexes_of_taken_names(error: BulkWriteError) -> set[int]:
    """Return the indexes of documents whose names are taken. Raises the error if it has others."""
    faults = error.details["writeErrors"]
    if not faults or not all(map(is_name_taken, faults)):
        raise error
    return {fault["index"] for fault in faults}


def is_name_taken(details: Mapping[str, Any]) -> bool:
    """True if the unique index of names indexes_of_taken_names a write."""
    return details.get("code") == _DUPLICATE_KEY and "name" in details.get("keyPattern", {})

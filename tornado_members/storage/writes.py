"""Writes of members' documents, without records of them."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, Protocol

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from tornado_members.errors import DependencyUnavailable
from tornado_members.model.history import Actor
from tornado_members.storage.mongo import Document, Mongo

_DUPLICATE_KEY = 11000


class Duplicates(NamedTuple):
    """The indexes of documents that were not inserted."""

    names: AbstractSet[int] = frozenset()  # another document has the name
    ids: AbstractSet[int] = frozenset()  # another program's document has the id


class Writes(Protocol):
    """Methods of PlainWrites and RecordedWrites. `by` is the caller who makes the change."""

    async def insert(self, document: Document, by: Actor | None) -> None:
        """Insert a document. Raises DuplicateKeyError."""

    async def insert_many(self, documents: Sequence[Document], by: Actor | None) -> Duplicates:
        """Insert the documents whose id and name are free. Return the others."""

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
    """Writes of which nothing is recorded. Each is one operation."""

    def __init__(self, mongo: Mongo) -> None:
        self._members = mongo.database["members"]

    async def insert(self, document: Document, _by: Actor | None) -> None:
        """Implement Writes."""
        await self._members.insert_one(document)

    async def insert_many(self, documents: Sequence[Document], _by: Actor | None) -> Duplicates:
        """Implement Writes."""
        try:
            await self._members.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise DependencyUnavailable from error
            return duplicates_in(error)
        return Duplicates()

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


def duplicates_in(error: BulkWriteError) -> Duplicates:
    """Return the documents that a unique index refused. Raises the error if it has others."""
    faults = error.details["writeErrors"]
    names = {fault["index"] for fault in faults if is_name_taken(fault)}
    ids = {fault["index"] for fault in faults if is_id_taken(fault)}
    if not faults or len(names) + len(ids) < len(faults):
        raise error
    return Duplicates(names, ids)


def is_name_taken(details: Mapping[str, Any]) -> bool:
    """True if the unique index of names refused a write."""
    return details.get("code") == _DUPLICATE_KEY and "name" in details.get("keyPattern", {})


def is_id_taken(details: Mapping[str, Any]) -> bool:
    """True if the index of ids refused a write."""
    return details.get("code") == _DUPLICATE_KEY and "_id" in details.get("keyPattern", {})

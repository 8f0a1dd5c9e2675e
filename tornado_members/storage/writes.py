"""How a change of members gets into their collection."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from tornado_members.errors import DependencyUnavailable
from tornado_members.model.history import Actor
from tornado_members.storage.mongo import Document, Mongo

_DUPLICATE_KEY = 11000


class Writes(Protocol):
    """PlainWrites, or RecordedWrites; `by` is whoever makes the change, where that is known."""

    async def insert(self, document: Document, by: Actor | None) -> None:
        """Raises DuplicateKeyError."""

    async def insert_many(self, documents: Sequence[Document], by: Actor | None) -> set[int]:
        """Insert those whose name is free; returns the indexes of the others."""

    async def update(
        self,
        member_id: int,
        which: Mapping[str, Any],
        update: Sequence[Document],
        by: Actor | None,
    ) -> Document | None:
        """The document as it is afterwards, if there was such a one. Raises DuplicateKeyError."""

    async def delete(self, member_id: int, which: Mapping[str, Any], by: Actor | None) -> bool:
        """Whether there was such a one."""


class PlainWrites:
    """Each change is one operation, and nothing is kept of it."""

    def __init__(self, mongo: Mongo) -> None:
        self._members = mongo.database["members"]

    async def insert(self, document: Document, _by: Actor | None) -> None:
        """As Writes has it."""
        await self._members.insert_one(document)

    async def insert_many(self, documents: Sequence[Document], _by: Actor | None) -> set[int]:
        """As Writes has it."""
        try:
            await self._members.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise DependencyUnavailable from error
            return refused(error)
        return set()

    async def update(
        self,
        _member_id: int,
        which: Mapping[str, Any],
        update: Sequence[Document],
        _by: Actor | None,
    ) -> Document | None:
        """As Writes has it."""
        return await self._members.find_one_and_update(
            which, update, return_document=ReturnDocument.AFTER
        )

    async def delete(self, _member_id: int, which: Mapping[str, Any], _by: Actor | None) -> bool:
        """As Writes has it."""
        return (await self._members.delete_one(which)).deleted_count == 1


def refused(error: BulkWriteError) -> set[int]:
    """Which documents were not inserted, since their names are taken. Raises for other reasons."""
    faults = error.details["writeErrors"]
    if not faults or not all(map(is_name_taken, faults)):
        raise error
    return {fault["index"] for fault in faults}


def is_name_taken(details: Mapping[str, Any]) -> bool:
    """Whether it was the index of names that refused a write."""
    return details.get("code") == _DUPLICATE_KEY and "name" in details.get("keyPattern", {})

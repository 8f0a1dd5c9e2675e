"""The collection `audit`: a record of each change of a member."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Int64, ObjectId
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import OperationFailure

from tornado_members.errors import OperatorError
from tornado_members.model.history import Actor, Kind, Position, Record
from tornado_members.model.member import Member
from tornado_members.storage.mongo import Document, Mongo, Session
from tornado_members.storage.outages import translate_outages

_OTHER_OPTIONS = 85  # IndexOptionsConflict
_EXPIRY = [("at", ASCENDING)]
_LAST_VERSION = 2**63 - 1


class TransactionsMissing(OperatorError):
    """MongoDB is not a replica set. Only replica sets have transactions."""


class AuditLog:
    """Adds and reads records.

    The transaction that changes a member adds the record, and nothing changes it later. Records of
    a member are in the order of its versions. This order needs no clock: no other writer can change
    the member until the transaction ends. MongoDB deletes records by their age.
    """

    def __init__(self, mongo: Mongo, keep: timedelta) -> None:
        self.mongo = mongo
        self._records = mongo.database["audit"]
        self._keep = keep

    @translate_outages
    async def prepare(self) -> None:
        """Create the indexes, and set how long MongoDB keeps records.

        Raises TransactionsMissing.
        """
        hello = await self.mongo.database.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise TransactionsMissing(
                "audit.enabled: transactions need a replica set, and this MongoDB is not one"
            )
        await self._records.create_index(
            [("memberId", ASCENDING), ("version", DESCENDING), ("_id", DESCENDING)]
        )
        seconds = round(self._keep.total_seconds())
        try:
            await self._records.create_index(_EXPIRY, expireAfterSeconds=seconds)
        except OperationFailure as error:
            if error.code != _OTHER_OPTIONS:
                raise
            index = {"keyPattern": dict(_EXPIRY), "expireAfterSeconds": seconds}
            await self.mongo.database.command({"collMod": self._records.name, "index": index})

    async def add(self, records: Sequence[Document], session: Session) -> None:
        """Add records to a transaction."""
        await self._records.insert_many(records, session=session)

    @translate_outages
    async def page(self, member_id: int, *, after: Position | None, limit: int) -> list[Record]:
        """Return at most `limit` records of a member, the newest first, behind `after`."""
        query: Document = {"memberId": member_id}
        if after is not None:
            before = {"_id": {"$lt": ObjectId(after.record_id)}}
            query["version"] = {"$lte": after.version}
            query["$or"] = [{"version": {"$lt": after.version}}, before]
        order = [("version", DESCENDING), ("_id", DESCENDING)]
        cursor = self._records.find(query, sort=order)
        return [_to_record(document) for document in await cursor.limit(limit).to_list(limit)]


def record_of(before: Member | None, after: Member | None, by: Actor | None) -> Document | None:
    """Return the record of a change; None if nothing changed."""
    known = after or before
    if known is None or (before and after and before.version == after.version):
        return None
    version = min(known.version + 1, _LAST_VERSION) if after is None else known.version
    kind: Kind = "deleted" if after is None else "changed" if before else "created"
    fields = [*known.values]
    if before and after:
        fields = [name for name in fields if before.values[name] != after.values[name]]
    return {
        "memberId": Int64(known.member_id),
        "version": Int64(version),
        "kind": kind,
        "at": datetime.now(UTC),
        "by": {"issuer": by.issuer, "subject": by.subject} if by else None,
        "requestId": by.request_id if by else None,
        "before": {name: before.values[name] for name in fields} if before else None,
        "after": {name: after.values[name] for name in fields} if after else None,
    }


def _to_record(document: Mapping[str, Any]) -> Record:
    by = document["by"]
    return Record(
        position=Position(int(document["version"]), str(document["_id"])),
        kind=document["kind"],
        at=document["at"],
        by=Actor(by["issuer"], by["subject"], document["requestId"]) if by else None,
        before=document["before"],
        after=document["after"],
    )

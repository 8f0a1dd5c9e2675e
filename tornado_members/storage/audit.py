"""The collection `audit`: a record of each change of a member."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import Int64, ObjectId
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import OperationFailure

from tornado_members.errors import OperatorError
from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.model.history import Actor, Kind, Position, Record
from tornado_members.model.member import MEMBER_FIELDS, Member
from tornado_members.storage.abandoned_transactions import AbandonedTransactions
from tornado_members.storage.mongo import Document, Mongo, Session
from tornado_members.storage.operations import translate_outages

_OTHER_OPTIONS = 85  # IndexOptionsConflict
_EXPIRY = [("at", ASCENDING)]
_LAST_VERSION = 2**63 - 1


class TransactionsMissing(OperatorError):
    """MongoDB is not a replica set. Only replica sets have transactions."""


class AuditLog:
    """Adds and reads records.

    The transaction that changes a member adds the record. Later, only its values can be erased.
    Records of a member are in the order of its versions. This order needs no clock: no other writer
    can change the member until the transaction ends. MongoDB deletes records by their age.
    """

    def __init__(self, mongo: Mongo, keep: timedelta, fields: FieldTable = MEMBER_FIELDS) -> None:
        self.mongo = mongo
        self._records = mongo.database["audit"]
        self._keep = keep
        self._attributes = fields.attributes.names

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
        await AbandonedTransactions(self.mongo).check()
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
        """Return at most `limit` records of a member, the newest first, beginning after `after`."""
        query: Document = {"memberId": member_id}
        if after is not None:
            before = {"_id": {"$lt": ObjectId(after.record_id)}}
            query["version"] = {"$lte": after.version}
            query["$or"] = [{"version": {"$lt": after.version}}, before]
        order = [("version", DESCENDING), ("_id", DESCENDING)]
        cursor = self._records.find(query, sort=order)
        documents = await cursor.limit(limit).to_list(limit)
        return [_to_record(document, self._attributes) for document in documents]

    @translate_outages
    async def erase(self, member_id: int) -> bool:
        """Remove the values from all records of a member; False if it has none.

        A value that was null stays null: it shows that the member did not exist.
        """
        erased: Document = {
            side: {"$cond": [{"$eq": [{"$type": f"${side}"}, "object"]}, {"$literal": {}}, None]}
            for side in ("before", "after")
        }
        result = await self._records.update_many({"memberId": member_id}, [{"$set": erased}])
        return result.matched_count > 0

    @translate_outages
    async def deletions(self, member_ids: Sequence[int]) -> dict[int, int]:
        """Return the version of the last deletion of each of these members that was deleted."""
        query = {"memberId": {"$in": [Int64(member_id) for member_id in member_ids]}}
        cursor = self._records.find(
            {**query, "kind": "deleted"},
            {"memberId": 1, "version": 1},
            sort=[("version", ASCENDING)],
        )
        return {int(each["memberId"]): int(each["version"]) for each in await cursor.to_list(None)}


def record_of(before: Member | None, after: Member | None, by: Actor | None) -> Document | None:
    """Return the record of a change; None if nothing changed."""
    known = after or before
    if known is None or (before and after and before.version == after.version):
        return None
    version = min(known.version + 1, _LAST_VERSION) if after is None else known.version
    kind: Kind = "deleted" if after is None else "changed" if before else "created"
    old, new = (
        _changed(before.values, after.values)
        if before and after
        else (before and before.values, after and after.values)
    )
    return {
        "memberId": Int64(known.member_id),
        "version": Int64(version),
        "kind": kind,
        "at": datetime.now(UTC),
        "by": {"issuer": by.issuer, "subject": by.subject} if by else None,
        "requestId": by.request_id if by else None,
        "before": old,
        "after": new,
    }


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Document, Document]:
    """Return the fields that differ, before and after. Of attributes, only those that differ."""
    names = [name for name in new if old[name] != new[name]]
    before, after = ({name: values[name] for name in names} for values in (old, new))
    if ATTRIBUTES in names:
        was, becomes = old[ATTRIBUTES], new[ATTRIBUTES]
        differ = [name for name in {**was, **becomes} if was.get(name) != becomes.get(name)]
        before[ATTRIBUTES] = {name: was.get(name) for name in differ}
        after[ATTRIBUTES] = {name: becomes.get(name) for name in differ}
    return before, after


def _declared(values: Document | None, attributes: Collection[str]) -> Document | None:
    """Return the values of a record without attributes that are not declared."""
    if values is None or ATTRIBUTES not in values:
        return values
    recorded = values[ATTRIBUTES]
    found = {name: value for name, value in recorded.items() if name in attributes}
    shown = {name: value for name, value in values.items() if name != ATTRIBUTES}
    is_shown = found or (attributes and not recorded)
    return {**shown, ATTRIBUTES: found} if is_shown else shown


def _to_record(document: Mapping[str, Any], attributes: Collection[str]) -> Record:
    by = document["by"]
    return Record(
        position=Position(int(document["version"]), str(document["_id"])),
        kind=document["kind"],
        at=document["at"],
        by=Actor(by["issuer"], by["subject"], document["requestId"]) if by else None,
        before=_declared(document["before"], attributes),
        after=_declared(document["after"], attributes),
    )

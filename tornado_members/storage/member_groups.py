"""Reads and replaces several members by one command each."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from tornado_members.errors import DependencyUnavailable
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS, Member, MemberDraft
from tornado_members.model.precondition import NO_CONDITION, Precondition
from tornado_members.storage.conditions import terms_of
from tornado_members.storage.documents import LAST_VERSION, MemberCodec, version_in
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.operations import translate_outages
from tornado_members.storage.recent_facts import RecentFacts

_LONGEST_TRANSACTION = 60.0  # MongoDB's default for transactionLifetimeLimitSeconds


class Replacement(NamedTuple):
    """New fields of a member that was read, and that must not have changed since."""

    member: Member
    draft: MemberDraft
    condition: Precondition = NO_CONDITION

    def result(self) -> Member:
        """Return the member afterwards. The time of a change is not known."""
        member, draft, _ = self
        if member.agrees_with(draft):
            return member
        return Member(member.member_id, draft.values, member.version + 1)


class MemberGroups:
    """Writes groups of members without attributes. Nothing is recorded of the changes.

    All methods raise DependencyUnavailable if MongoDB does not respond in time.
    """

    def __init__(self, mongo: Mongo, fields: FieldTable = MEMBER_FIELDS) -> None:
        self.mongo = mongo
        self._codec = MemberCodec(fields)
        self._members = mongo.database["members"]
        # Members of groups whose command failed: another program's transaction may have locked one.
        self._slow = RecentFacts(_LONGEST_TRANSACTION)

    def may_have(self, member_id: int) -> bool:
        """True if this member may be in a group; False if it must be written alone."""
        return member_id not in self._slow

    @translate_outages
    async def find(self, member_ids: Sequence[int]) -> list[Member | None]:
        """Return a member for each id; None if no member has it."""
        cursor = self._members.find({"_id": {"$in": list(member_ids)}})
        members = [self._codec.decode(document) for document in await cursor.to_list(None)]
        found = {member.member_id: member for member in members if member is not None}
        return [found.get(member_id) for member_id in member_ids]

    @translate_outages
    async def replace(self, replacements: Sequence[Replacement]) -> list[Member | None]:
        """Replace the fields of several members, which are distinct, by one command.

        None stands for a member that was not written: another writer has changed it since it was
        read, or its new name is taken. The time of a change is not known.
        """
        updates = {
            replacement.member.member_id: self._update_of(replacement)
            for replacement in replacements
            if replacement.member.version < LAST_VERSION
        }
        try:
            failed = await self._update(updates) if updates else frozenset()
        except BaseException:
            for member_id in updates:
                self._slow.add(member_id)
            raise
        written = updates.keys() - failed
        return [
            replacement.result() if replacement.member.member_id in written else None
            for replacement in replacements
        ]

    def _update_of(self, replacement: Replacement) -> Sequence[Document]:
        is_as_read = {
            "$and": [version_in((replacement.member.version,)), *terms_of(replacement.condition)]
        }
        changes = not replacement.member.agrees_with(replacement.draft)
        return self._codec.replacement(
            replacement.draft, replacement.member.version, is_as_read, changes=changes
        )

    async def _update(self, updates: Mapping[int, Sequence[Document]]) -> AbstractSet[int]:
        """Update documents, by their ids. Return the ids of those whose update failed.

        MongoDB reports errors per update, but only the total number of documents that matched. So
        each update is an upsert: it is executed whether the document exists or not, and raises its
        error instead of inserting one.
        """
        ids = [*updates]
        requests = [
            UpdateOne({"_id": member_id}, update, upsert=True)
            for member_id, update in updates.items()
        ]
        result: Mapping[str, Any]
        try:
            result = (await self._members.bulk_write(requests, ordered=False)).bulk_api_result
        except BulkWriteError as error:
            result = error.details
        failed = {ids[fault["index"]] for fault in result["writeErrors"]}
        # Otherwise a majority has not acknowledged all of them.
        if result["writeConcernErrors"] or result["nMatched"] + len(failed) != len(ids):
            raise DependencyUnavailable
        return failed

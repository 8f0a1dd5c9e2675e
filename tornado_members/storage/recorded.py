"""Writes of members' documents, each with a record in the same transaction."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError

from tornado_members.model.fields import FieldTable
from tornado_members.model.history import Actor
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.storage.audit import AuditLog, record_of
from tornado_members.storage.documents import MemberCodec, indexed_names
from tornado_members.storage.mongo import Document, Session
from tornado_members.storage.transactions import Transactions
from tornado_members.storage.writes import Duplicates, duplicates_in


class RecordedWrites:
    """Writes that are recorded in the audit log.

    All raise WriteConflict if other writers conflict with every attempt until the timeout of an
    operation.
    """

    def __init__(self, audit: AuditLog, fields: FieldTable = MEMBER_FIELDS) -> None:
        self._decode = MemberCodec(fields).decode
        self._transactions = Transactions(audit.mongo)
        self._members = audit.mongo.database["members"]
        self._audit = audit

    async def insert(self, document: Document, by: Actor | None) -> None:
        """Implement Writes."""

        async def work(session: Session) -> bool:
            await self._members.insert_one(document, session=session)
            await self._record([(None, document)], by, session)
            return True

        await self._transactions.run(work, key=document["name"])

    async def insert_many(self, documents: Sequence[Document], by: Actor | None) -> Duplicates:
        """Implement Writes.

        A duplicate ends the transaction. The next one leaves that document out.
        """
        deadline = time.monotonic() + self._transactions.mongo.timeout
        names: set[int] = set()
        ids: set[int] = set()
        while wanted := [i for i in range(len(documents)) if i not in names | ids]:

            async def work(session: Session, wanted: Sequence[int] = wanted) -> bool:
                fresh = [documents[i] for i in wanted]
                await self._members.insert_many(fresh, session=session)
                await self._record([(None, document) for document in fresh], by, session)
                return True

            try:
                await self._transactions.run(work, deadline=deadline)
            except BulkWriteError as error:
                found = duplicates_in(error)
                ids |= {wanted[i] for i in found.ids}
                names |= {wanted[i] for i in found.names}
                names |= await self._find_taken(documents)  # so one more transaction is enough
            else:
                break
        return Duplicates(names, ids)

    async def update(
        self,
        member_id: int,
        matching: Mapping[str, Any],
        update: Sequence[Document],
        by: Actor | None,
    ) -> Document | None:
        """Implement Writes."""

        async def work(session: Session) -> Document | None:
            # The write comes first, because it fails at once if another writer conflicts with it.
            before = await self._members.find_one_and_update(
                matching, update, return_document=ReturnDocument.BEFORE, session=session
            )
            if before is None:
                return None
            after = await self._members.find_one({"_id": before["_id"]}, session=session)
            await self._record([(before, after)], by, session)
            return after

        return await self._transactions.run(work, key=member_id)

    async def delete(self, member_id: int, matching: Mapping[str, Any], by: Actor | None) -> bool:
        """Implement Writes."""

        async def work(session: Session) -> Document | None:
            before = await self._members.find_one_and_delete(matching, session=session)
            await self._record([(before, None)], by, session)
            return before

        return await self._transactions.run(work, key=member_id) is not None

    async def _record(
        self,
        changes: Sequence[tuple[Document | None, Document | None]],
        by: Actor | None,
        session: Session,
    ) -> None:
        records = [record_of(self._decode(old), self._decode(new), by) for old, new in changes]
        if added := [record for record in records if record is not None]:
            await self._audit.add(added, session)

    async def _find_taken(self, documents: Sequence[Document]) -> set[int]:
        names = [document["name"] for document in documents]
        cursor = self._members.find({"name": {"$in": names}}, {"name": 1})
        taken = {
            name for document in await cursor.to_list(None) for name in indexed_names(document)
        }
        return {i for i, name in enumerate(names) if name in taken}

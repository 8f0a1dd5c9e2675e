"""The recorded changes of a member."""

from tornado_members.errors import MemberNotFound
from tornado_members.model.history import Position, Record
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.members import MemberStore


class MemberHistory:
    """Reads and erases histories."""

    def __init__(self, store: MemberStore, audit: AuditLog | None) -> None:
        """`audit` reads what the store records, if it records changes."""
        self._store = store
        self._audit = audit

    @property
    def has_history(self) -> bool:
        """True if changes are recorded."""
        return self._audit is not None

    async def history(self, member_id: int, *, after: Position | None, limit: int) -> list[Record]:
        """Return at most `limit` changes of a member, the newest first, beginning after `after`.

        Raises MemberNotFound if neither a member nor a record has this id.
        """
        records: list[Record] = []
        if self._audit is not None:
            records = await self._audit.page(member_id, after=after, limit=limit)
        if not records and after is None and await self._store.find_member(member_id) is None:
            raise MemberNotFound(str(member_id))
        return records

    async def erase_history(self, member_id: int) -> None:
        """Remove the values from the history of a member, which may be deleted.

        Raises MemberNotFound if neither a member nor a record has this id.
        """
        is_recorded = self._audit is not None and await self._audit.erase(member_id)
        if not is_recorded and await self._store.find_member(member_id) is None:
            raise MemberNotFound(str(member_id))

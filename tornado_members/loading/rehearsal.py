"""The members as they would be: what a dry run writes to, and reads again."""

import sqlite3
from collections.abc import Sequence

from tornado_members.audit import Actor
from tornado_members.directory import MemberDirectory
from tornado_members.member import Member, MemberDraft


class Rehearsal:
    """In the place of a MemberDirectory, for a loader: nothing is written.

    The names that would be new are kept in a temporary database on disk, whose memory is bounded
    however many they are. Their members have ids below zero, which nobody is to see.
    """

    def __init__(self, directory: MemberDirectory) -> None:
        self._directory = directory
        self._names = sqlite3.connect("", isolation_level=None)  # gone as soon as it is closed
        self._names.execute("PRAGMA journal_mode = OFF")
        self._names.execute("CREATE TABLE names (name TEXT PRIMARY KEY, id INTEGER) WITHOUT ROWID")
        self._last = 0

    def close(self) -> None:
        self._names.close()

    async def find_by_names(self, names: Sequence[str]) -> dict[str, Member]:
        """Those that there are, and those that there would be by now."""
        places = ",".join("?" * len(names))
        query = f"SELECT name, id FROM names WHERE name IN ({places})"  # noqa: S608
        found = {
            name: Member(member_id, name, None, None, version=1)
            for name, member_id in self._names.execute(query, tuple(names))
        }
        return {**await self._directory.find_by_names(names), **found}

    async def take_ids(self, count: int) -> int:
        self._last -= count
        return self._last

    async def create_many(
        self,
        drafts: Sequence[MemberDraft],
        first: int,
        *,
        by: Actor | None,  # noqa: ARG002
    ) -> Sequence[Member | None]:
        members = [Member.from_draft(first + i, draft) for i, draft in enumerate(drafts)]
        self._names.execute("BEGIN")
        self._names.executemany(
            "INSERT INTO names VALUES (?, ?)", [(m.name, m.member_id) for m in members]
        )
        self._names.execute("COMMIT")
        return members

    async def replace_if_unchanged(
        self,
        member: Member,  # noqa: ARG002
        draft: MemberDraft,  # noqa: ARG002
        *,
        by: Actor | None,  # noqa: ARG002
    ) -> bool:
        """Write nothing, and report success."""
        return True
